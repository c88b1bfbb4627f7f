/*
 * The library's own thread.
 *
 * Posted work is a list under a mutex with an eventfd. Timers are a sorted list: there are a few
 * per extension at most. A watch that is removed while its batch of events is being handled is
 * freed after the batch, so that a callback may remove any watch, its own too.
 */
#include "loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#define BATCH 32

typedef struct task {
    void (*fn)(void *arg);
    void *arg;
    struct task *next;
} task;

struct pyi_watch {
    pyi_loop *loop;
    int fd;
    bool dead;
    void (*fn)(void *arg, uint32_t events);
    void *arg;
    pyi_watch *dead_next;
};

struct pyi_timer {
    pyi_loop *loop;
    int64_t due;
    void (*fn)(void *arg);
    void *arg;
    pyi_timer *next;
};

struct pyi_loop {
    pthread_t thread;
    int epfd, efd;
    bool stopping;
    pyi_timer *timers;    /* soonest first */
    pyi_watch *dead;      /* to be freed after the batch */
    pthread_mutex_t lock; /* the two below */
    task *first, **last;
};

static task *new_task(void (*fn)(void *arg), void *arg) {
    task *t = malloc(sizeof(*t));
    if (t == NULL) {
        fputs("pyisolate: out of memory\n", stderr);
        abort();
    }
    *t = (task){.fn = fn, .arg = arg};
    return t;
}

static void run_posted(pyi_loop *l) {
    pthread_mutex_lock(&l->lock);
    task *t = l->first;
    l->first = NULL;
    l->last = &l->first;
    pthread_mutex_unlock(&l->lock);
    while (t != NULL) {
        task *next = t->next;
        t->fn(t->arg);
        free(t);
        t = next;
    }
}

static void run_timers(pyi_loop *l) {
    int64_t now = pyi_now_ns();
    while (l->timers != NULL && l->timers->due <= now) {
        pyi_timer *t = l->timers;
        l->timers = t->next;
        t->fn(t->arg);
        free(t);
    }
}

static int wait_ms(const pyi_loop *l) {
    if (l->timers == NULL) {
        return -1;
    }
    int64_t left = l->timers->due - pyi_now_ns();
    return left <= 0 ? 0 : (int)((left + PYI_NS_PER_MS - 1) / PYI_NS_PER_MS);
}

static void free_dead(pyi_loop *l) {
    while (l->dead != NULL) {
        pyi_watch *w = l->dead;
        l->dead = w->dead_next;
        free(w);
    }
}

static void handle(pyi_loop *l, const struct epoll_event *events, int n) {
    for (int i = 0; i < n; i++) {
        pyi_watch *w = events[i].data.ptr;
        if (w == NULL) {
            eventfd_t ignored;
            (void)eventfd_read(l->efd, &ignored);
        } else if (!w->dead) {
            w->fn(w->arg, events[i].events);
        }
    }
}

static void *run(void *arg) {
    pyi_loop *l = arg;
    prctl(PR_SET_NAME, "pyisolate-loop");
    while (!l->stopping) {
        struct epoll_event events[BATCH];
        int n = epoll_wait(l->epfd, events, BATCH, wait_ms(l));
        handle(l, events, n);
        run_posted(l);
        run_timers(l);
        free_dead(l);
    }
    return NULL;
}

static void stop(void *arg) {
    pyi_loop *l = arg;
    l->stopping = true;
}

/* Signals belong to the application's threads. */
static int start_thread(pyi_loop *l) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&l->thread, NULL, run, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

static void release(pyi_loop *l) {
    pyi_fd_close(&l->epfd);
    pyi_fd_close(&l->efd);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

pyi_err pyi_loop_new(pyi_loop **ret, pyi_error *e) {
    pyi_loop *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "loop.start", "out of memory");
    }
    pthread_mutex_init(&l->lock, NULL);
    l->last = &l->first;
    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    l->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN};
    if (l->epfd < 0 || l->efd < 0 || epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->efd, &ev) < 0) {
        pyi_error_sys(e, errno, "loop.start", "make the event loop");
        release(l);
        return e->code;
    }
    int rc = start_thread(l);
    if (rc != 0) {
        pyi_error_sys(e, rc, "loop.start", "start the loop's thread");
        release(l);
        return e->code;
    }
    *ret = l;
    return PYI_OK;
}

void pyi_loop_free(pyi_loop *l) {
    if (l == NULL) {
        return;
    }
    pyi_loop_post(l, stop, l);
    pthread_join(l->thread, NULL);
    run_posted(l);
    free_dead(l);
    while (l->timers != NULL) {
        pyi_timer *t = l->timers;
        l->timers = t->next;
        free(t);
    }
    release(l);
}

bool pyi_loop_is_current(const pyi_loop *l) {
    return pthread_equal(pthread_self(), l->thread);
}

void pyi_loop_post(pyi_loop *l, void (*fn)(void *arg), void *arg) {
    task *t = new_task(fn, arg);
    pthread_mutex_lock(&l->lock);
    bool was_empty = l->first == NULL;
    *l->last = t;
    l->last = &t->next;
    pthread_mutex_unlock(&l->lock);
    if (was_empty) {
        eventfd_write(l->efd, 1);
    }
}

typedef struct waited {
    void (*fn)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
} waited;

static void run_waited(void *arg) {
    waited *w = arg;
    w->fn(w->arg);
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

void pyi_loop_run(pyi_loop *l, void (*fn)(void *arg), void *arg) {
    if (pyi_loop_is_current(l)) {
        fn(arg);
        return;
    }
    waited w = {
        .fn = fn, .arg = arg, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    pyi_loop_post(l, run_waited, &w);
    pthread_mutex_lock(&w.lock);
    while (!w.done) {
        pthread_cond_wait(&w.cond, &w.lock);
    }
    pthread_mutex_unlock(&w.lock);
}

pyi_err pyi_loop_watch(pyi_loop *l, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events),
                       void *arg, pyi_watch **ret, pyi_error *e) {
    pyi_watch *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "loop.watch", "out of memory");
    }
    *w = (pyi_watch){.loop = l, .fd = fd, .fn = fn, .arg = arg};
    struct epoll_event ev = {.events = events, .data.ptr = w};
    if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
        int sys = errno;
        free(w);
        return pyi_error_sys(e, sys, "loop.watch", "watch descriptor %d", fd);
    }
    *ret = w;
    return PYI_OK;
}

void pyi_loop_rewatch(pyi_watch *w, uint32_t events) {
    struct epoll_event ev = {.events = events, .data.ptr = w};
    epoll_ctl(w->loop->epfd, EPOLL_CTL_MOD, w->fd, &ev);
}

void pyi_loop_unwatch(pyi_watch *w) {
    if (w == NULL) {
        return;
    }
    epoll_ctl(w->loop->epfd, EPOLL_CTL_DEL, w->fd, NULL);
    w->dead = true;
    w->dead_next = w->loop->dead;
    w->loop->dead = w;
}

pyi_timer *pyi_loop_after(pyi_loop *l, int64_t ms, void (*fn)(void *arg), void *arg) {
    pyi_timer *t = malloc(sizeof(*t));
    if (t == NULL) {
        fputs("pyisolate: out of memory\n", stderr);
        abort();
    }
    *t = (pyi_timer){.loop = l, .due = pyi_now_ns() + ms * PYI_NS_PER_MS, .fn = fn, .arg = arg};
    pyi_timer **at = &l->timers;
    while (*at != NULL && (*at)->due <= t->due) {
        at = &(*at)->next;
    }
    t->next = *at;
    *at = t;
    return t;
}

void pyi_loop_cancel(pyi_timer *t) {
    if (t == NULL) {
        return;
    }
    for (pyi_timer **at = &t->loop->timers; *at != NULL; at = &(*at)->next) {
        if (*at == t) {
            *at = t->next;
            free(t);
            return;
        }
    }
}

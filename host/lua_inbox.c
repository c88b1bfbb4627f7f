/*
 * Where records come back to: a list under a lock, with one eventfd wake-up for each batch.
 * Counted, because a record may still be in flight on another thread when the loop is gone.
 */
#include "lua_task.h"
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>

struct pyi_inbox {
    pthread_mutex_t lock;
    pyi_record *first, **last;
    int fd;        /* eventfd */
    unsigned refs; /* the loop, and each record in flight */
};

pyi_inbox *pyi_inbox_new(void) {
    pyi_inbox *i = calloc(1, sizeof(*i));
    if (i == NULL || (i->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
        free(i);
        return NULL;
    }
    pthread_mutex_init(&i->lock, NULL);
    i->last = &i->first;
    i->refs = 1;
    return i;
}

void pyi_inbox_unref(pyi_inbox *i) {
    pthread_mutex_lock(&i->lock);
    bool last = --i->refs == 0;
    pthread_mutex_unlock(&i->lock);
    if (!last) {
        return;
    }
    while (i->first != NULL) {
        pyi_record *r = i->first;
        i->first = r->next;
        r->inbox = NULL;
        pyi_record_free(r);
    }
    close(i->fd);
    pthread_mutex_destroy(&i->lock);
    free(i);
}

void pyi_inbox_push(pyi_record *r) {
    pyi_inbox *i = r->inbox;
    static const uint64_t one = 1;
    pthread_mutex_lock(&i->lock);
    bool was_empty = i->first == NULL;
    r->next = NULL;
    *i->last = r;
    i->last = &r->next;
    r->inbox = NULL; /* the list holds it now; the reference goes below */
    if (was_empty && write(i->fd, &one, sizeof(one)) < 0 && errno != EAGAIN) {
        abort(); /* an eventfd of ours: cannot be */
    }
    pthread_mutex_unlock(&i->lock);
    pyi_inbox_unref(i);
}

pyi_record *pyi_inbox_take(pyi_inbox *i) {
    uint64_t count;
    pthread_mutex_lock(&i->lock);
    pyi_record *all = i->first;
    i->first = NULL;
    i->last = &i->first;
    bool was_set = read(i->fd, &count, sizeof(count)) > 0;
    (void)was_set; /* nothing to read means nothing to take */
    pthread_mutex_unlock(&i->lock);
    return all;
}

pyi_inbox *pyi_inbox_ref(pyi_inbox *i) {
    pthread_mutex_lock(&i->lock);
    i->refs++;
    pthread_mutex_unlock(&i->lock);
    return i;
}

int pyi_inbox_fd(const pyi_inbox *i) {
    return i->fd;
}

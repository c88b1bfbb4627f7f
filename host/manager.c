/*
 * The manager: the loop, the folder of sockets, the list of extensions.
 *
 * The host's socket folder is <runtime>/host-XXXXXX with a locked file in it. A folder whose lock
 * can be had belongs to a host that is gone, and is removed by the next start.
 */
#include "extension.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define BUILDS_AT_ONCE 4
#define HOST_PREFIX    "host-"

struct pyi_manager {
    pyi_manager_config *config; // owned
    pyi_loop *loop;
    pyi_paths paths;
    char socket_dir[1024];
    int lock_fd;
    pyi_env_progress progress;
    pyi_manager_services services;
    sem_t builds;
    pthread_mutex_t lock; /* the list */
    pyi_extension **extensions;
    size_t count, cap;
    bool stopping;
};

/* ---- the folder of sockets ------------------------------------------------------------------- */

static bool is_abandoned(const char *dir) {
    char path[1200];
    snprintf(path, sizeof(path), "%s/lock", dir);
    PYI_AUTO_FD int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static void remove_abandoned(const char *runtime) {
    DIR *d = opendir(runtime);
    if (d == NULL) {
        return;
    }
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        char dir[1100];
        pyi_error ignored;
        if (strncmp(entry->d_name, HOST_PREFIX, strlen(HOST_PREFIX)) != 0 ||
            snprintf(dir, sizeof(dir), "%s/%s", runtime, entry->d_name) >= (int)sizeof(dir)) {
            continue;
        }
        if (is_abandoned(dir)) {
            (void)!pyi_remove_tree(dir, &ignored);
        }
    }
    closedir(d);
}

static pyi_err make_socket_dir(pyi_manager *m, pyi_error *e) {
    char runtime[900], path[1200];
    if (pyi_runtime_dir(runtime, sizeof(runtime), e) != PYI_OK) {
        return e->code;
    }
    remove_abandoned(runtime);
    snprintf(m->socket_dir, sizeof(m->socket_dir), "%s/" HOST_PREFIX "XXXXXX", runtime);
    if (mkdtemp(m->socket_dir) == NULL) {
        return pyi_error_sys(e, errno, "start.sockets", "make a folder in \"%s\"", runtime);
    }
    snprintf(path, sizeof(path), "%s/lock", m->socket_dir);
    m->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (m->lock_fd < 0 || flock(m->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        return pyi_error_sys(e, errno, "start.sockets", "lock \"%s\"", path);
    }
    return PYI_OK;
}

/* ---- new ------------------------------------------------------------------------------------- */

static pyi_err open_manager(pyi_manager *m, pyi_error *e) {
    if (pyi_paths_find(&m->paths, e) != PYI_OK || make_socket_dir(m, e) != PYI_OK) {
        return e->code;
    }
    return pyi_loop_new(&m->loop, e);
}

static void release(pyi_manager *m) {
    pyi_error ignored;
    pyi_loop_free(m->loop);
    if (m->lock_fd >= 0) {
        (void)!pyi_remove_tree(m->socket_dir, &ignored);
        pyi_fd_close(&m->lock_fd);
    }
    for (size_t i = 0; i < m->count; i++) {
        pyi_extension_free(m->extensions[i]);
    }
    free(m->extensions);
    sem_destroy(&m->builds);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

pyi_err pyi_manager_new(pyi_manager_config *config, pyi_manager **ret, pyi_error *e) {
    pyi_manager *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "start", "out of memory");
    }
    m->lock_fd = -1;
    sem_init(&m->builds, 0, BUILDS_AT_ONCE);
    pthread_mutex_init(&m->lock, NULL);
    if (open_manager(m, e) != PYI_OK) {
        release(m);
        return e->code;
    }
    m->config = config;
    m->services = (pyi_manager_services){.loop = m->loop,
                                         .config = config,
                                         .paths = &m->paths,
                                         .socket_dir = m->socket_dir,
                                         .progress = &m->progress};
    *ret = m;
    return PYI_OK;
}

const pyi_manager_config *pyi_manager_config_of(const pyi_manager *m) {
    return m->config;
}

const pyi_manager_services *pyi_manager_services_of(const pyi_manager *m) {
    return &m->services;
}

void pyi_manager_on_progress(pyi_manager *m, const pyi_env_progress *progress) {
    m->progress = *progress;
}

struct pyi_loop *pyi_manager_loop(pyi_manager *m) {
    return m->loop;
}

void pyi_manager_enter_build(pyi_manager *m) {
    while (sem_wait(&m->builds) != 0) {
    }
}

void pyi_manager_leave_build(pyi_manager *m) {
    sem_post(&m->builds);
}

/* ---- extensions ------------------------------------------------------------------------------ */

static pyi_extension *find(const pyi_manager *m, const char *name) {
    for (size_t i = 0; i < m->count; i++) {
        if (strcmp(pyi_extension_config_of(m->extensions[i])->name, name) == 0) {
            return m->extensions[i];
        }
    }
    return NULL;
}

static pyi_err add(pyi_manager *m, pyi_extension *x, pyi_error *e) {
    const char *name = pyi_extension_config_of(x)->name;
    if (m->stopping) {
        return pyi_error_set(e, PYI_ESTOPPED, "load", "the host is being stopped");
    }
    if (find(m, name) != NULL) {
        return pyi_error_set(e, PYI_EINVAL, "load", "there is an extension \"%s\" already", name);
    }
    if (m->count == m->cap) {
        size_t cap = m->cap != 0 ? 2 * m->cap : 8;
        pyi_extension **grown = reallocarray(m->extensions, cap, sizeof(*grown));
        if (grown == NULL) {
            return pyi_error_set(e, PYI_ENOMEM, "load", "out of memory");
        }
        m->extensions = grown;
        m->cap = cap;
    }
    m->extensions[m->count++] = x;
    return PYI_OK;
}

static void do_start(void *arg) {
    pyi_extension_start(arg);
}

pyi_err pyi_manager_load(pyi_manager *m, pyi_extension_config *config, pyi_extension **ret,
                         pyi_error *e) {
    pyi_extension *x;
    if (pyi_extension_available(config, e) != PYI_OK ||
        pyi_extension_new(m, config, &x, e) != PYI_OK) {
        return e->code;
    }
    pthread_mutex_lock(&m->lock);
    pyi_err err = add(m, x, e);
    pthread_mutex_unlock(&m->lock);
    if (err != PYI_OK) {
        x->config = NULL; /* stays the caller's */
        pyi_extension_free(x);
        return err;
    }
    pyi_loop_post(m->loop, do_start, x);
    *ret = x;
    return PYI_OK;
}

pyi_extension **pyi_manager_extensions(pyi_manager *m, size_t *ret_count) {
    pthread_mutex_lock(&m->lock);
    pyi_extension **copy = malloc((m->count + 1) * sizeof(*copy));
    *ret_count = copy != NULL ? m->count : 0;
    if (copy != NULL && m->count > 0) {
        memcpy(copy, m->extensions, m->count * sizeof(*copy));
    }
    pthread_mutex_unlock(&m->lock);
    return copy;
}

pyi_extension *pyi_manager_find(pyi_manager *m, const char *name) {
    pthread_mutex_lock(&m->lock);
    pyi_extension *x = find(m, name);
    pthread_mutex_unlock(&m->lock);
    return x;
}

/* ---- stop ------------------------------------------------------------------------------------ */

typedef struct order {
    pyi_manager *m;
    int64_t grace_ms;
    bool kill;
} order;

static void do_order(void *arg) {
    order *o = arg;
    size_t count;
    pyi_extension **all = pyi_manager_extensions(o->m, &count);
    for (size_t i = 0; i < count; i++) {
        if (o->kill) {
            pyi_extension_kill(all[i]);
        } else {
            pyi_extension_ask_stop(all[i], o->grace_ms);
        }
    }
    free(all);
}

static void await_all_down(pyi_manager *m) {
    size_t count;
    pyi_extension **all = pyi_manager_extensions(m, &count);
    for (size_t i = 0; i < count; i++) {
        pyi_extension_await_down(all[i]);
    }
    free(all);
}

bool pyi_manager_is_stopping(pyi_manager *m) {
    pthread_mutex_lock(&m->lock);
    bool stopping = m->stopping;
    pthread_mutex_unlock(&m->lock);
    return stopping;
}

static void refuse_loads(pyi_manager *m) {
    pthread_mutex_lock(&m->lock);
    m->stopping = true;
    pthread_mutex_unlock(&m->lock);
}

void pyi_manager_stop(pyi_manager *m, int64_t grace_ms) {
    order o = {.m = m, .grace_ms = grace_ms};
    refuse_loads(m);
    pyi_loop_run(m->loop, do_order, &o);
    await_all_down(m);
}

void pyi_manager_kill(pyi_manager *m) {
    order o = {.m = m, .kill = true};
    refuse_loads(m);
    pyi_loop_run(m->loop, do_order, &o);
}

void pyi_manager_free(pyi_manager *m) {
    if (m == NULL) {
        return;
    }
    pyi_manager_stop(m, 0);
    pyi_manager_config *config = m->config;
    release(m);
    pyi_manager_config_free(config);
}

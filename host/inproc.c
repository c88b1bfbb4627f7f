/*
 * One interpreter for all extensions with `isolated = false`: the first one's environment decides
 * which libpython is loaded; another that wants a different one is refused, since two cannot live
 * in one process.
 */
#include "inproc.h"

#include "core.h"
#include "spec.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct pyi_inproc {
    pthread_t thread;
    pyi_spec spec;
    pyi_core_host_fn serve;
    void (*on_end)(void *arg, int status);
    void *arg;
    pthread_mutex_t lock; /* the two below */
    bool ended, abandoned;
};

static struct {
    pthread_mutex_t lock;
    char libpython[4096]; /* what is loaded, "" before the first */
    pyi_core_host_fn serve;
} loaded = {.lock = PTHREAD_MUTEX_INITIALIZER};

static pyi_err dl_failed(pyi_error *e, const char *path) {
    const char *why = dlerror();
    return pyi_error_set(e, PYI_EUNAVAILABLE, "python.load", "load \"%s\": %s", path,
                         why != NULL ? why : "unknown error");
}

static pyi_err load_first(const char *libpython, const char *core, const char *sys_version,
                          pyi_error *e) {
    void *python = dlopen(libpython, RTLD_NOW | RTLD_GLOBAL);
    if (python == NULL) {
        return dl_failed(e, libpython);
    }
    const char *(*version)(void) = (const char *(*)(void))dlsym(python, "Py_GetVersion");
    if (version == NULL || strcmp(version(), sys_version) != 0) {
        return pyi_error_set(e, PYI_EUNAVAILABLE, "python.load",
                             "\"%s\" is not the library of the environment's Python %.20s",
                             libpython, sys_version);
    }
    void *lib = dlopen(core, RTLD_NOW | RTLD_LOCAL);
    if (lib == NULL) {
        return dl_failed(e, core);
    }
    loaded.serve = (pyi_core_host_fn)dlsym(lib, "pyi_core_host");
    if (loaded.serve == NULL) {
        return dl_failed(e, core);
    }
    snprintf(loaded.libpython, sizeof(loaded.libpython), "%s", libpython);
    return PYI_OK;
}

static pyi_err load(const pyi_paths *paths, const pyi_interpreter *i, pyi_error *e) {
    if (i->libpython == NULL) {
        return pyi_error_set(e, PYI_EUNAVAILABLE, "python.load",
                             "\"%s\" has no shared libpython, which isolated = false needs; name "
                             "another with manager { python = ... }",
                             i->executable);
    }
    pyi_err err = PYI_OK;
    pthread_mutex_lock(&loaded.lock);
    if (loaded.serve == NULL) {
        err = load_first(i->libpython, paths->core, i->sys_version, e);
    } else if (strcmp(loaded.libpython, i->libpython) != 0) {
        err = pyi_error_set(e, PYI_EINVAL, "python.load",
                            "this process runs \"%s\"; a second Python, \"%s\", cannot be loaded",
                            loaded.libpython, i->libpython);
    }
    pthread_mutex_unlock(&loaded.lock);
    return err;
}

static void destroy(pyi_inproc *p) {
    pyi_spec_fini(&p->spec);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static void *run(void *arg) {
    pyi_inproc *p = arg;
    int status = p->serve(&p->spec);
    pthread_mutex_lock(&p->lock);
    p->ended = true;
    bool abandoned = p->abandoned;
    pthread_mutex_unlock(&p->lock);
    if (abandoned) {
        destroy(p); /* nobody knows of it any more */
    } else {
        p->on_end(p->arg, status);
    }
    return NULL;
}

bool pyi_inproc_abandon(pyi_inproc *p) {
    pthread_mutex_lock(&p->lock);
    bool ended = p->ended;
    p->abandoned = !ended;
    if (!ended) {
        pthread_detach(p->thread);
    }
    pthread_mutex_unlock(&p->lock);
    return !ended;
}

/* Signals belong to the application's main thread, also those that Python would take. */
static int start_thread(pyi_inproc *p) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&p->thread, NULL, run, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

pyi_err pyi_inproc_start(const pyi_paths *paths, const pyi_env *env, const void *spec,
                         size_t spec_len, void (*on_end)(void *arg, int status), void *arg,
                         pyi_inproc **ret, pyi_error *e) {
    if (load(paths, env->interpreter, e) != PYI_OK) {
        return e->code;
    }
    pyi_inproc *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "python.load", "out of memory");
    }
    pthread_mutex_init(&p->lock, NULL);
    p->serve = loaded.serve;
    p->on_end = on_end;
    p->arg = arg;
    pyi_err err = pyi_spec_parse(spec, spec_len, &p->spec, e);
    if (err == PYI_OK) {
        int rc = start_thread(p);
        err = rc == 0 ? PYI_OK : pyi_error_sys(e, rc, "python.load", "start a thread");
    }
    if (err != PYI_OK) {
        destroy(p);
        return err;
    }
    *ret = p;
    return PYI_OK;
}

void pyi_inproc_free(pyi_inproc *p) {
    if (p == NULL) {
        return;
    }
    pthread_join(p->thread, NULL);
    destroy(p);
}

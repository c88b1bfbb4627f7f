/*
 * The runtime's own Python package is imported by every child, and children write no bytecode. So
 * it is compiled here, once for each version of Python, whenever a source is newer than its
 * compiled file, beside the work on an environment. Best effort: where the folder is not ours to
 * write, an installation compiled it or imports are slower.
 */
#include "env_backend.h"
#include "paths.h"
#include "process.h"
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define COMPILE_TIMEOUT_MS 60000

static bool is_stale(const char *dir, const char *name, const pyi_interpreter *python) {
    PYI_AUTO_FREE char *source = NULL;
    PYI_AUTO_FREE char *compiled = NULL;
    struct stat s, c;
    size_t stem = strlen(name) - 3;
    if (asprintf(&source, "%s/%s", dir, name) < 0 ||
        asprintf(&compiled, "%s/__pycache__/%.*s.cpython-%d%d.pyc", dir, (int)stem, name,
                 python->major, python->minor) < 0) {
        return false;
    }
    return stat(source, &s) == 0 && (stat(compiled, &c) != 0 || c.st_mtime < s.st_mtime);
}

/* Whether any source of the package itself lacks a fresh compiled file. Sub-packages follow suit.
 */
static bool needs_compiling(const char *dir, const pyi_interpreter *python) {
    DIR *d = opendir(dir);
    bool stale = false;
    struct dirent *entry;
    while (d != NULL && !stale && (entry = readdir(d)) != NULL) {
        size_t len = strlen(entry->d_name);
        stale = len > 3 && strcmp(entry->d_name + len - 3, ".py") == 0 &&
                is_stale(dir, entry->d_name, python);
    }
    if (d != NULL) {
        closedir(d);
    }
    return stale;
}

static char *runtime_dir(void) {
    pyi_paths paths;
    pyi_error ignored;
    char *dir = NULL;
    pyi_error_init(&ignored);
    if (pyi_paths_find(&paths, &ignored) != PYI_OK ||
        asprintf(&dir, "%s/pyisolate", paths.python) < 0) {
        return NULL;
    }
    return dir;
}

/* Several extensions that start at once have it done once. */
static void *compile(void *arg) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    const pyi_env_warming *w = arg;
    const char *const argv[] = {
        w->plan->interpreter->executable, "-I", "-m", "compileall", "-q", w->dir, NULL};
    pyi_process p = {
        .argv = argv, .timeout_ms = COMPILE_TIMEOUT_MS, .cancel_fd = w->plan->cancel_fd};
    pyi_process_result result = {0};
    pyi_error ignored;
    pyi_error_init(&ignored);
    pthread_mutex_lock(&lock);
    if (needs_compiling(w->dir, w->plan->interpreter) &&
        pyi_process_run(&p, &result, &ignored) == PYI_OK) {
        pyi_process_result_fini(&result);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

void pyi_env_warm_begin(pyi_env_warming *w, const pyi_env_plan *plan) {
    *w = (pyi_env_warming){.plan = plan, .dir = runtime_dir()};
    if (w->dir != NULL && access(w->dir, W_OK) == 0 && needs_compiling(w->dir, plan->interpreter)) {
        w->running = pthread_create(&w->thread, NULL, compile, w) == 0;
    }
}

void pyi_env_warm_end(pyi_env_warming *w) {
    if (w->running) {
        pthread_join(w->thread, NULL);
    }
    free(w->dir);
    *w = (pyi_env_warming){0};
}

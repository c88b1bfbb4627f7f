/*
 * The runtime's own Python package is imported by every child, and children write no bytecode. So
 * it is compiled here, once for each version of Python, whenever a source is newer than its
 * compiled file. Best effort: where the folder is not ours to write, an installation compiled it or
 * imports are slower.
 */
#include "env_backend.h"
#include "paths.h"
#include "process.h"
#include <dirent.h>
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

void pyi_env_warm_runtime(const pyi_env_plan *plan, const char *python) {
    pyi_paths paths;
    pyi_error ignored;
    PYI_AUTO_FREE char *dir = NULL;
    pyi_error_init(&ignored);
    if (pyi_paths_find(&paths, &ignored) != PYI_OK ||
        asprintf(&dir, "%s/pyisolate", paths.python) < 0 || access(dir, W_OK) != 0 ||
        !needs_compiling(dir, plan->interpreter)) {
        return;
    }
    const char *const argv[] = {python, "-I", "-m", "compileall", "-q", dir, NULL};
    pyi_process p = {.argv = argv, .timeout_ms = COMPILE_TIMEOUT_MS, .cancel_fd = plan->cancel_fd};
    pyi_process_result result = {0};
    if (pyi_process_run(&p, &result, &ignored) == PYI_OK) {
        pyi_process_result_fini(&result);
    }
}

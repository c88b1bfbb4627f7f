/*
 * What environments and children are made of: our own pieces, the Pythons, uv, where packages come
 * from.
 */
#include "doctor_checks.h"
#include "env_backend.h"
#include "interpreter.h"
#include "paths.h"
#include "process.h"
#include <stdio.h>
#include <string.h>

enum { HELPER_MS = 10000 };

/* ---- child and core -------------------------------------------------------------------------- */

static bool is_elf(const char *path) {
    char magic[4] = "";
    FILE *f = fopen(path, "re");
    bool yes = f != NULL && fread(magic, 1, 4, f) == 4 && memcmp(magic, "\177ELF", 4) == 0;
    if (f != NULL) {
        fclose(f);
    }
    return yes;
}

/* Started without a spec it says so and exits with 70: that proves that it can be loaded and run
 * here. */
static bool child_runs(const char *path, pyi_error *e) {
    const char *const argv[] = {path, NULL};
    pyi_process p = {.argv = argv, .timeout_ms = HELPER_MS, .cancel_fd = -1};
    pyi_process_result result = {0};
    if (pyi_process_run(&p, &result, e) != PYI_OK) {
        return false;
    }
    bool runs = result.status == 70 && strstr(result.err, "pyisolate-child") != NULL;
    if (!runs) {
        pyi_error_set(e, PYI_EUNAVAILABLE, "doctor.child", "it ends with status %d: %.150s",
                      result.status, result.err);
    }
    pyi_process_result_fini(&result);
    return runs;
}

void pyi_check_child(pyi_findings *f) {
    pyi_paths paths = {0};
    pyi_error e = {0};
    if (pyi_paths_find(&paths, &e) != PYI_OK) {
        pyi_finding_remedy(
            pyi_finding_add(f, "child", PYI_LACK, "%s", e.msg),
            "install pyisolate-host again, or set PYISOLATE_LIBDIR to the folder of its parts");
        return;
    }
    if (!child_runs(paths.child, &e)) {
        pyi_finding_remedy(
            pyi_finding_add(f, "child", PYI_LACK, "'%.300s' does not run: %s", paths.child, e.msg),
            "install pyisolate-host again");
    } else {
        pyi_finding_add(f, "child", PYI_FINE, "%.480s", paths.child);
    }
    if (!is_elf(paths.core)) {
        pyi_finding_remedy(
            pyi_finding_add(f, "core", PYI_LACK, "'%.400s' is not a library", paths.core),
            "install pyisolate-host again");
    } else {
        pyi_finding_add(f, "core", PYI_FINE, "%.480s", paths.core);
    }
}

/* ---- Pythons --------------------------------------------------------------------------------- */

static void add_python(pyi_findings *f, const pyi_interpreter *p) {
    const char *base = p->libpython != NULL ? strrchr(p->libpython, '/') : NULL;
    bool old = p->major != 3 || p->minor < 9;
    pyi_finding *item = pyi_finding_add(
        f, "python", old || p->free_threaded ? PYI_WARN : PYI_FINE, "%-8s %s, %s%s%s%s", p->version,
        p->executable, base != NULL ? "embedded by " : "runs the child itself",
        base != NULL ? base + 1 : "", p->free_threaded ? ", free-threaded" : "",
        p->debug ? ", debug build" : "");
    if (old) {
        pyi_finding_remedy(item, "extensions need Python 3.9 or newer");
    } else if (p->free_threaded) {
        pyi_finding_remedy(item,
                           "free-threaded builds have another binary interface: not supported");
    }
}

void pyi_check_pythons(pyi_findings *f) {
    char cache[4096];
    pyi_error e = {0};
    pyi_interpreter **list = NULL;
    size_t count = 0;
    if (pyi_cache_dir(cache, sizeof cache, &e) != PYI_OK) {
        pyi_finding_remedy(pyi_finding_add(f, "cache", PYI_LACK, "%s", e.msg),
                           "set XDG_CACHE_HOME");
        return;
    }
    if (pyi_interpreter_list(cache, &list, &count, &e) != PYI_OK || count == 0) {
        pyi_finding_remedy(
            pyi_finding_add(f, "python", PYI_LACK, "%s", count == 0 ? "none found" : e.msg),
            "apt-get install python3, or: uv python install 3.12");
    }
    for (size_t i = 0; i < count; i++) {
        add_python(f, list[i]);
        pyi_interpreter_free(list[i]);
    }
    free(list);
}

/* ---- uv -------------------------------------------------------------------------------------- */

void pyi_check_uv(pyi_findings *f) {
    PYI_AUTO_FREE char *uv = pyi_uv_find();
    if (uv == NULL) {
        const char *given = getenv("PYISOLATE_UV");
        pyi_finding_remedy(pyi_finding_add(f, "uv", PYI_LACK, "not found%s%.200s%s",
                                           given != NULL ? ": PYISOLATE_UV is '" : "",
                                           given != NULL ? given : "", given != NULL ? "'" : ""),
                           "pip install uv, or put uv on PATH, or set PYISOLATE_UV");
        return;
    }
    const char *const argv[] = {uv, "--version", NULL};
    pyi_process p = {.argv = argv, .timeout_ms = HELPER_MS, .cancel_fd = -1};
    pyi_process_result result = {0};
    pyi_error e = {0};
    if (pyi_process_run(&p, &result, &e) != PYI_OK || result.status != 0) {
        pyi_finding_remedy(pyi_finding_add(f, "uv", PYI_LACK, "'%.300s' does not run: %.150s", uv,
                                           e.code != PYI_OK ? e.msg : result.err),
                           "install uv again");
    } else {
        pyi_finding_add(f, "uv", PYI_FINE, "%.*s, %.400s", (int)strcspn(result.out, "\n"),
                        result.out, uv);
    }
    pyi_process_result_fini(&result);
}

/* ---- where packages come from ---------------------------------------------------------------- */

/* Variables that may hold a secret as such are named, not shown. */
static bool is_secret(const char *name, size_t len) {
    static const char *const words[] = {"PASSWORD", "TOKEN", "SECRET", "KEY", "CREDENTIAL"};
    for (size_t i = 0; i < PYI_COUNT(words); i++) {
        if (memmem(name, len, words[i], strlen(words[i])) != NULL) {
            return true;
        }
    }
    return false;
}

void pyi_check_indexes(pyi_findings *f) {
    size_t shown = 0;
    for (char **entry = environ; *entry != NULL; entry++) {
        size_t len = strcspn(*entry, "=");
        if ((strncmp(*entry, "PIP_", 4) != 0 && strncmp(*entry, "UV_", 3) != 0) ||
            (*entry)[len] == '\0') {
            continue;
        }
        char masked[400];
        pyi_mask_credentials(*entry + len + 1, masked, sizeof masked);
        pyi_finding_add(f, "packages", PYI_FINE, "%.*s=%s", (int)len, *entry,
                        is_secret(*entry, len) ? "***" : masked);
        shown++;
    }
    if (shown == 0) {
        pyi_finding_add(f, "packages", PYI_FINE,
                        "no PIP_* or UV_* variable: the files' settings, or the defaults");
    }
}

/*
 * Probing one Python, and remembering what it said.
 *
 * A cache file is named by a hash of the executable's resolved path, size, mtime and inode, so a
 * replaced Python is a new question. It holds the probe's own JSON and a stamp of the libpython
 * that was chosen: the library can change or appear (`apt install libpython3.11`) while the
 * executable stays, and then the Python is asked again. Resolving links first lets every virtual
 * environment share its base's answer.
 */
#include "interpreter.h"
#include "hash.h"
#include "interpreter_probe.h"
#include "paths.h"
#include "process.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PROBE_TIMEOUT_MS 20000
#define STAMP_SIZE       96

static void json_fini(json_t **j) {
    json_decref(*j);
}
#define AUTO_JSON __attribute__((cleanup(json_fini)))

static void result_fini(pyi_process_result *r) {
    pyi_process_result_fini(r);
}

/* Tells one state of a file from another; "" where there is none. */
static void stamp(const char *path, char ret[STAMP_SIZE]) {
    struct stat st;
    ret[0] = '\0';
    if (path != NULL && stat(path, &st) == 0) {
        snprintf(ret, STAMP_SIZE, "%lld:%lld.%09ld:%llu", (long long)st.st_size,
                 (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (unsigned long long)st.st_ino);
    }
}

/* The first candidate that is there. Borrowed from `probe`. */
static const char *choose_libpython(const json_t *probe) {
    const json_t *candidates = json_object_get(probe, "libpython");
    for (size_t i = 0; i < json_array_size(candidates); i++) {
        const char *path = json_string_value(json_array_get(candidates, i));
        if (path != NULL && path[0] == '/' && access(path, R_OK) == 0) {
            return path;
        }
    }
    return NULL;
}

static char *copy_of(const json_t *probe, const char *key, bool *ok) {
    const char *s = json_string_value(json_object_get(probe, key));
    char *copy = s == NULL ? NULL : strdup(s);
    *ok = *ok && copy != NULL;
    return copy;
}

static int part_of(const json_t *probe, size_t index) {
    return (int)json_integer_value(json_array_get(json_object_get(probe, "info"), index));
}

static pyi_err fill(const json_t *probe, const char *executable, pyi_interpreter *i, pyi_error *e) {
    bool ok = true;
    const char *libpython = choose_libpython(probe);
    const char *name = json_string_value(json_object_get(probe, "implementation"));
    i->executable = copy_of(probe, "executable", &ok);
    i->version = copy_of(probe, "version", &ok);
    i->sys_version = copy_of(probe, "sys_version", &ok);
    i->base_prefix = copy_of(probe, "base_prefix", &ok);
    i->platform = copy_of(probe, "platform", &ok);
    i->libpython = libpython == NULL ? NULL : strdup(libpython);
    i->major = part_of(probe, 0);
    i->minor = part_of(probe, 1);
    i->micro = part_of(probe, 2);
    i->free_threaded = json_is_true(json_object_get(probe, "free_threaded"));
    i->debug = json_is_true(json_object_get(probe, "debug"));
    if (!ok || i->executable[0] != '/' || i->major < 2) {
        return pyi_error_set(e, PYI_EUNAVAILABLE, "python.probe",
                             "'%s' did not answer like a Python 3", executable);
    }
    if (name == NULL || strcmp(name, "cpython") != 0) {
        return pyi_error_set(e, PYI_EUNAVAILABLE, "python.probe",
                             "'%s' is %s, extensions need CPython", executable,
                             name == NULL ? "not CPython" : name);
    }
    return PYI_OK;
}

static pyi_err from_json(const json_t *probe, const char *executable, pyi_interpreter **ret,
                         pyi_error *e) {
    pyi_interpreter *i = calloc(1, sizeof(*i));
    if (i == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "python.probe", "out of memory");
    }
    if (fill(probe, executable, i, e) != PYI_OK) {
        pyi_interpreter_free(i);
        return e->code;
    }
    *ret = i;
    return PYI_OK;
}

/* The cache file of an executable, or NULL if there is no cache or no such executable. */
static char *cache_file(const char *cache_dir, const char *executable) {
    char text[STAMP_SIZE], hex[33];
    stamp(executable, text);
    pyi_hash *h = cache_dir == NULL || text[0] == '\0' ? NULL : pyi_hash_new();
    if (h == NULL) {
        return NULL;
    }
    pyi_hash_field(h, "probe", pyi_interpreter_probe_source);
    pyi_hash_field(h, "executable", executable);
    pyi_hash_field(h, "stamp", text);
    pyi_hash_hex(h, hex, sizeof(hex));
    pyi_hash_free(h);
    char *path = NULL;
    return asprintf(&path, "%s/python-%s.json", cache_dir, hex) < 0 ? NULL : path;
}

/* What the cache holds, if the libpython that it speaks of is as it was. */
static json_t *cache_load(const char *file) {
    char now[STAMP_SIZE];
    AUTO_JSON json_t *entry = file == NULL ? NULL : json_load_file(file, 0, NULL);
    json_t *probe = json_object_get(entry, "probe");
    const char *then = json_string_value(json_object_get(entry, "libpython_stamp"));
    stamp(choose_libpython(probe), now);
    if (probe == NULL || then == NULL || strcmp(then, now) != 0) {
        return NULL;
    }
    return json_incref(probe);
}

/* Best effort: without a cache each start asks again, and that is all. */
static void cache_save(const char *cache_dir, const char *file, json_t *probe) {
    char now[STAMP_SIZE];
    pyi_error ignored;
    PYI_AUTO_FREE char *temp = NULL;
    pyi_error_init(&ignored);
    if (file == NULL || pyi_mkdirs(cache_dir, 0700, &ignored) != PYI_OK ||
        asprintf(&temp, "%s.%d-XXXXXX", file, (int)getpid()) < 0) {
        return;
    }
    stamp(choose_libpython(probe), now);
    AUTO_JSON json_t *entry = json_pack("{s:O, s:s}", "probe", probe, "libpython_stamp", now);
    PYI_AUTO_FD int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    if (entry == NULL || json_dumpfd(entry, fd, JSON_COMPACT) != 0 || rename(temp, file) != 0) {
        (void)unlink(temp);
    }
}

static void first_line(const char *text, char *ret, size_t size) {
    const char *last = text; /* Python says why in its last line */
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\n' && p[1] != '\0') {
            last = p + 1;
        }
    }
    snprintf(ret, size, "%.*s", (int)strcspn(last, "\n"), last);
}

static pyi_err run_probe(const char *executable, json_t **ret, pyi_error *e) {
    const char *const argv[] = {executable, "-I", "-S", "-c", pyi_interpreter_probe_source, NULL};
    pyi_process p = {.argv = argv, .timeout_ms = PROBE_TIMEOUT_MS, .cancel_fd = -1};
    __attribute__((cleanup(result_fini))) pyi_process_result result = {0};
    if (pyi_process_run(&p, &result, e) != PYI_OK) {
        return pyi_error_wrap(e, "ask '%s' for its version", executable);
    }
    if (result.status != 0) {
        char why[120];
        first_line(result.err, why, sizeof(why));
        return pyi_error_set(e, PYI_EUNAVAILABLE, "python.probe",
                             "'%s' does not run as Python (status %d): %s", executable,
                             result.status, why);
    }
    *ret = json_loads(result.out, 0, NULL);
    if (!json_is_object(*ret)) {
        json_decref(*ret);
        return pyi_error_set(e, PYI_EUNAVAILABLE, "python.probe",
                             "'%s' did not answer like a Python 3", executable);
    }
    return PYI_OK;
}

pyi_err pyi_interpreter_probe(const char *executable, const char *cache_dir, pyi_interpreter **ret,
                              pyi_error *e) {
    PYI_AUTO_FREE char *resolved = realpath(executable, NULL);
    if (resolved == NULL) {
        pyi_error_set(e, PYI_ENOTFOUND, "python.probe", "no Python at '%s': %s", executable,
                      strerror(errno));
        return e->code;
    }
    PYI_AUTO_FREE char *file = cache_file(cache_dir, resolved);
    AUTO_JSON json_t *probe = cache_load(file);
    if (probe == NULL) {
        if (run_probe(resolved, &probe, e) != PYI_OK) {
            probe = NULL;
            return e->code;
        }
        cache_save(cache_dir, file, probe);
    }
    return from_json(probe, executable, ret, e);
}

void pyi_interpreter_free(pyi_interpreter *i) {
    if (i != NULL) {
        free(i->executable);
        free(i->version);
        free(i->sys_version);
        free(i->libpython);
        free(i->base_prefix);
        free(i->platform);
        free(i);
    }
}

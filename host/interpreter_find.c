/*
 * Finding the interpreter that a configuration asks for.
 *
 * Candidates come in this order: PATH, /usr/bin, /usr/local/bin, then pyenv's and uv's versions,
 * newest first. In PATH and the bin folders `python3` counts before `python3.N`, so the default is
 * what typing `python3` runs. Scripts are left out: pyenv's and asdf's shims choose by the current
 * folder, and fail where no version is chosen. The first candidate that meets the request is taken.
 */
#include "interpreter.h"
#include "list.h"
#include "version.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LEAST        ">=3.9"
#define NEWEST_MINOR 30
#define LEAST_MINOR  9
#define MICROS       40 /* more than any version has had */

static void auto_interpreter(pyi_interpreter **i) {
    pyi_interpreter_free(*i);
}
#define AUTO_INTERPRETER __attribute__((cleanup(auto_interpreter)))

static bool is_program(const char *path) {
    char magic[2] = "";
    if (access(path, X_OK) != 0) {
        return false;
    }
    PYI_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return fd >= 0 && read(fd, magic, sizeof(magic)) == (ssize_t)sizeof(magic) &&
           !(magic[0] == '#' && magic[1] == '!');
}

/* Adds a Python by its resolved path, so that links to the same one count once. */
static void add(pyi_list *found, const char *path) {
    PYI_AUTO_FREE char *resolved = is_program(path) ? realpath(path, NULL) : NULL;
    if (resolved != NULL && !pyi_list_has(found, resolved)) {
        pyi_list_push(found, resolved);
    }
}

static void add_named(pyi_list *found, const char *dir, size_t len, const char *suffix) {
    PYI_AUTO_FREE char *path = NULL;
    if (asprintf(&path, "%.*s/python%s", (int)len, dir, suffix) > 0) {
        add(found, path);
    }
}

static void add_bin(pyi_list *found, const char *dir, size_t len) {
    add_named(found, dir, len, "3");
    for (int minor = NEWEST_MINOR; minor >= LEAST_MINOR; minor--) {
        char suffix[16];
        snprintf(suffix, sizeof(suffix), "3.%d", minor);
        add_named(found, dir, len, suffix);
    }
}

/* The version in a folder's name: "3.12.1", "cpython-3.12.1-linux-x86_64-gnu". */
static pyi_version named_version(const char *name) {
    pyi_version v = {0};
    char text[32];
    const char *p = strpbrk(name, "0123456789");
    if (p != NULL) {
        snprintf(text, sizeof(text), "%.*s", (int)strcspn(p, "-+"), p);
        (void)pyi_version_parse(text, &v);
    }
    return v;
}

static int newest_first(const struct dirent **a, const struct dirent **b) {
    pyi_version x = named_version((*a)->d_name), y = named_version((*b)->d_name);
    return -pyi_version_compare(&x, &y);
}

/* Every <root>/<version>/bin. Links beside the folders (uv's "cpython-3.12-...") add nothing new.
 */
static void add_versions(pyi_list *found, const char *root) {
    struct dirent **entries = NULL;
    int n = scandir(root, &entries, NULL, newest_first);
    for (int i = 0; i < n; i++) {
        PYI_AUTO_FREE char *bin = NULL;
        if (entries[i]->d_name[0] != '.' &&
            asprintf(&bin, "%s/%s/bin", root, entries[i]->d_name) > 0) {
            add_named(found, bin, strlen(bin), "3");
        }
        free(entries[i]);
    }
    free(entries);
}

/* `variable`'s folder, else one below the home folder; then `below` that. */
static void add_versions_of(pyi_list *found, const char *variable, const char *in_home,
                            const char *below) {
    PYI_AUTO_FREE char *root = NULL;
    const char *given = getenv(variable), *home = getenv("HOME");
    int n = -1;
    if (given != NULL && given[0] == '/') {
        n = asprintf(&root, "%s%s", given, below);
    } else if (home != NULL && in_home != NULL) {
        n = asprintf(&root, "%s%s%s", home, in_home, below);
    }
    if (n > 0) {
        add_versions(found, root);
    }
}

static void add_path(pyi_list *found) {
    const char *dirs = getenv("PATH");
    while (dirs != NULL && *dirs != '\0') {
        size_t len = strcspn(dirs, ":");
        if (len > 0 && dirs[0] == '/') { /* a relative folder would depend on where we stand */
            add_bin(found, dirs, len);
        }
        dirs += len + (dirs[len] == ':' ? 1 : 0);
    }
}

static pyi_err candidates(pyi_list *found, pyi_error *e) {
    add_path(found);
    add_bin(found, "/usr/bin", strlen("/usr/bin"));
    add_bin(found, "/usr/local/bin", strlen("/usr/local/bin"));
    add_versions_of(found, "PYENV_ROOT", "/.pyenv", "/versions");
    add_versions_of(found, "UV_PYTHON_INSTALL_DIR", NULL, "");
    add_versions_of(found, "XDG_DATA_HOME", "/.local/share", "/uv/python");
    return found->failed ? pyi_error_set(e, PYI_ENOMEM, "python.find", "out of memory") : PYI_OK;
}

static pyi_err refuse_old(const pyi_interpreter *i, const char *request, pyi_error *e) {
    if (pyi_version_meets(i->version, LEAST)) {
        return PYI_OK;
    }
    return pyi_error_set(e, PYI_EUNAVAILABLE, "python.find",
                         "'%s' is Python %s; extensions need 3.9 or newer", request, i->version);
}

/* An executable, or a folder that has bin/python3 (an environment, an installation). */
char *pyi_interpreter_path(const char *request) {
    struct stat st;
    char *path = NULL, *inside = NULL;
    const char *home = getenv("HOME");
    bool tilde = request[0] == '~' && request[1] == '/' && home != NULL;
    if (asprintf(&path, "%s%s", tilde ? home : "", request + (tilde ? 1 : 0)) < 0) {
        return NULL;
    }
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return path;
    }
    int n = asprintf(&inside, "%s/bin/python3", path);
    free(path);
    return n < 0 ? NULL : inside;
}

static pyi_err find_path(const char *request, const char *cache_dir, pyi_interpreter **ret,
                         pyi_error *e) {
    PYI_AUTO_FREE char *path = pyi_interpreter_path(request);
    if (path == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "python.find", "out of memory");
    }
    AUTO_INTERPRETER pyi_interpreter *i = NULL;
    if (pyi_interpreter_probe(path, cache_dir, &i, e) != PYI_OK ||
        refuse_old(i, request, e) != PYI_OK) {
        return e->code;
    }
    *ret = pyi_steal(&i);
    return PYI_OK;
}

static bool a_minor_meets(int minor, const char *request) {
    char version[32];
    for (int micro = 0; micro < MICROS; micro++) {
        snprintf(version, sizeof(version), "3.%d.%d", minor, micro);
        if (pyi_version_meets(version, request)) {
            return true;
        }
    }
    return false;
}

/* Whether only versions that extensions do not run on meet it: advice to install one would be
 * wrong. */
static bool asks_for_old(const char *request) {
    bool old = pyi_version_meets("2.7.18", request);
    for (int minor = 0; minor <= NEWEST_MINOR; minor++) {
        bool meets = a_minor_meets(minor, request);
        if (meets && minor >= LEAST_MINOR) {
            return false;
        }
        old |= meets;
    }
    return old;
}

static pyi_err none_found(const char *request, pyi_list *seen, pyi_error *e) {
    PYI_AUTO_FREE char *names = pyi_list_join(seen, ", ");
    const char *wanted = strcmp(request, LEAST) == 0 ? "3.12" : request;
    if (asks_for_old(request)) {
        return pyi_error_set(e, PYI_ENOTFOUND, "python.find",
                             "no Python meets '%.60s' and runs extensions: they need 3.9 or newer "
                             "(found: %.90s)",
                             request, names == NULL || *names == '\0' ? "none" : names);
    }
    return pyi_error_set(e, PYI_ENOTFOUND, "python.find",
                         "no Python meets '%.60s' (found: %.90s); install it: uv python install "
                         "'%.60s'",
                         request, names == NULL || *names == '\0' ? "none" : names, wanted);
}

/* The first candidate that meets a version request. A broken Python on PATH is passed over. */
static pyi_err find_version(const char *request, const char *cache_dir, pyi_interpreter **ret,
                            pyi_error *e) {
    PYI_AUTO_LIST pyi_list paths = {0};
    PYI_AUTO_LIST pyi_list seen = {0};
    if (pyi_version_check_request(request, e) != PYI_OK || candidates(&paths, e) != PYI_OK) {
        return e->code;
    }
    for (size_t n = 0; n < paths.count; n++) {
        AUTO_INTERPRETER pyi_interpreter *i = NULL;
        pyi_error passed;
        pyi_error_init(&passed);
        if (pyi_interpreter_probe(paths.items[n], cache_dir, &i, &passed) != PYI_OK) {
            continue;
        }
        if (pyi_version_meets(i->version, LEAST) && pyi_version_meets(i->version, request)) {
            *ret = pyi_steal(&i);
            return PYI_OK;
        }
        pyi_list_push(&seen, i->version);
    }
    return none_found(request, &seen, e);
}

pyi_err pyi_interpreter_find(const char *request, const char *cache_dir, pyi_interpreter **ret,
                             pyi_error *e) {
    const char *by_user = getenv("PYISOLATE_PYTHON");
    if (request == NULL) {
        request = by_user != NULL && *by_user != '\0' ? by_user : LEAST;
    }
    bool path = strchr(request, '/') != NULL;
    return path ? find_path(request, cache_dir, ret, e) : find_version(request, cache_dir, ret, e);
}

pyi_err pyi_interpreter_list(const char *cache_dir, pyi_interpreter ***ret_list, size_t *ret_count,
                             pyi_error *e) {
    PYI_AUTO_LIST pyi_list paths = {0};
    if (candidates(&paths, e) != PYI_OK) {
        return e->code;
    }
    pyi_interpreter **list = calloc(paths.count + 1, sizeof(pyi_interpreter *));
    size_t count = 0;
    if (list == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "python.find", "out of memory");
    }
    for (size_t n = 0; n < paths.count; n++) {
        pyi_error passed;
        pyi_error_init(&passed);
        if (pyi_interpreter_probe(paths.items[n], cache_dir, &list[count], &passed) == PYI_OK &&
            pyi_version_meets(list[count]->version, LEAST)) {
            count++;
        } else {
            pyi_interpreter_free(list[count]);
            list[count] = NULL;
        }
    }
    *ret_list = list;
    *ret_count = count;
    return PYI_OK;
}

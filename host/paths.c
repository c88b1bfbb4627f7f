/*
 * Where things are. The pieces of an installation are found from /proc/self/exe alone, so that a
 * build tree can be moved and an installed binary knows of no build machine:
 *
 *   build/pyisolate-host, build/pyisolate-child, build/libpyisolate-core.abi3.so,
 * build/python/pyisolate build/tests/<test>                          up to two folders above the
 * executable <prefix>/bin/pyisolate-host,
 * <prefix>/lib/pyisolate/{pyisolate-child,...,python/pyisolate}
 */
#include "paths.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SOCKET_DIR_MAX 70 /* sun_path has 108 bytes; our names below the folder take the rest */
#define REMOVE_TRIES   5  /* a straggler of a killed installer may still write for a moment */

static pyi_err too_long(const char *path, pyi_error *e) {
    return pyi_error_set(e, PYI_ETOOBIG, "paths", "the path '%s' is too long", path);
}

static bool fits(int n, size_t size) {
    return n >= 0 && (size_t)n < size;
}

/* Cuts the last component off; false when nothing is left but the root. */
static bool to_parent(char *path) {
    char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path) {
        return false;
    }
    *slash = '\0';
    return true;
}

static bool is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* True when `dir` has pyisolate-child; fills all three. */
static bool child_is_in(const char *dir, pyi_paths *ret) {
    return fits(snprintf(ret->child, sizeof(ret->child), "%s/pyisolate-child", dir),
                sizeof(ret->child)) &&
           fits(snprintf(ret->core, sizeof(ret->core), "%s/libpyisolate-core.abi3.so", dir),
                sizeof(ret->core)) &&
           fits(snprintf(ret->python, sizeof(ret->python), "%s/python", dir),
                sizeof(ret->python)) &&
           access(ret->child, X_OK) == 0;
}

static pyi_err check_pieces(const pyi_paths *found, pyi_error *e) {
    char package[sizeof(found->python) + 16];
    snprintf(package, sizeof(package), "%s/pyisolate", found->python);
    const char *lacks = access(found->core, R_OK) != 0 ? found->core : NULL;
    lacks = lacks == NULL && !is_folder(package) ? package : lacks;
    if (lacks != NULL) {
        return pyi_error_set(
            e, PYI_EUNAVAILABLE, "paths",
            "'%s' is missing: the installation is not whole, build or install again", lacks);
    }
    return PYI_OK;
}

static bool search(char *dir, pyi_paths *ret) {
    static const char *const beside[] = {"", "/lib/pyisolate", "/lib64/pyisolate"};
    for (int up = 0; up < 3; up++) {
        for (size_t i = 0; i < PYI_COUNT(beside); i++) {
            char at[4096];
            if (fits(snprintf(at, sizeof(at), "%s%s", dir, beside[i]), sizeof(at)) &&
                child_is_in(at, ret)) {
                return true;
            }
        }
        if (!to_parent(dir)) {
            return false;
        }
    }
    return false;
}

pyi_err pyi_paths_find(pyi_paths *ret, pyi_error *e) {
    pyi_paths found = {0};
    const char *given = getenv("PYISOLATE_LIBDIR");
    if (given != NULL && *given != '\0') {
        if (!child_is_in(given, &found)) {
            return pyi_error_set(e, PYI_EUNAVAILABLE, "paths",
                                 "PYISOLATE_LIBDIR is '%s', which has no 'pyisolate-child'", given);
        }
    } else {
        char dir[4096];
        ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
        if (n < 0) {
            return pyi_error_sys(e, errno, "paths", "cannot read '/proc/self/exe'");
        }
        dir[n] = '\0';
        (void)to_parent(dir);
        if (!search(dir, &found)) {
            return pyi_error_set(e, PYI_EUNAVAILABLE, "paths",
                                 "no 'pyisolate-child' in '%s', nor beside this program; set "
                                 "PYISOLATE_LIBDIR to the folder that has it",
                                 dir);
        }
    }
    if (check_pieces(&found, e) != PYI_OK) {
        return e->code;
    }
    *ret = found;
    return PYI_OK;
}

/* Opened without following a link and checked on the descriptor, so nobody can swap it in between.
 */
static pyi_err make_private(const char *path, pyi_error *e) {
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return pyi_error_sys(e, errno, "paths.runtime", "cannot make '%s'", path);
    }
    PYI_AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        return pyi_error_sys(e, errno, "paths.runtime", "cannot open '%s' as a folder", path);
    }
    if (st.st_uid != geteuid()) {
        return pyi_error_set(e, PYI_EPERM, "paths.runtime",
                             "'%s' belongs to uid %u, not to you; set XDG_RUNTIME_DIR", path,
                             st.st_uid);
    }
    if ((st.st_mode & 077) != 0 && fchmod(fd, 0700) < 0) {
        return pyi_error_sys(e, errno, "paths.runtime", "cannot make '%s' private", path);
    }
    return PYI_OK;
}

/* $XDG_RUNTIME_DIR counts only if it is there and ours: under sudo it is another user's. */
static bool xdg_runtime(char *ret, size_t size) {
    const char *dir = getenv("XDG_RUNTIME_DIR");
    struct stat st;
    return dir != NULL && dir[0] == '/' && stat(dir, &st) == 0 && S_ISDIR(st.st_mode) &&
           st.st_uid == geteuid() && fits(snprintf(ret, size, "%s/pyisolate", dir), size) &&
           strlen(ret) <= SOCKET_DIR_MAX;
}

static bool systemd_runtime(char *ret, size_t size) {
    const char *dirs = getenv("RUNTIME_DIRECTORY"); /* several are separated by colons */
    int len = dirs == NULL ? 0 : (int)strcspn(dirs, ":");
    return len > 0 && len <= SOCKET_DIR_MAX && dirs[0] == '/' &&
           fits(snprintf(ret, size, "%.*s", len, dirs), size);
}

pyi_err pyi_runtime_dir(char *ret, size_t size, pyi_error *e) {
    char dir[128];
    if (!systemd_runtime(dir, sizeof(dir)) && !xdg_runtime(dir, sizeof(dir))) {
        snprintf(dir, sizeof(dir), "/tmp/pyisolate-%u", geteuid());
    }
    if (make_private(dir, e) != PYI_OK) {
        return e->code;
    }
    return fits(snprintf(ret, size, "%s", dir), size) ? PYI_OK : too_long(dir, e);
}

static pyi_err home(char *ret, size_t size, pyi_error *e) {
    const char *dir = getenv("HOME");
    struct passwd entry, *found = NULL;
    char text[4096];
    if (dir == NULL || dir[0] != '/') {
        (void)getpwuid_r(geteuid(), &entry, text, sizeof(text), &found);
        dir = found == NULL ? NULL : entry.pw_dir;
    }
    if (dir == NULL) {
        return pyi_error_set(e, PYI_ENOTFOUND, "paths.cache", "no home folder; set XDG_CACHE_HOME");
    }
    return fits(snprintf(ret, size, "%s", dir), size) ? PYI_OK : too_long(dir, e);
}

pyi_err pyi_cache_dir(char *ret, size_t size, pyi_error *e) {
    const char *xdg = getenv("XDG_CACHE_HOME");
    char base[3072];
    int n;
    if (xdg != NULL && xdg[0] == '/') {
        n = snprintf(ret, size, "%s/pyisolate", xdg);
    } else if (home(base, sizeof(base), e) == PYI_OK) {
        n = snprintf(ret, size, "%s/.cache/pyisolate", base);
    } else {
        return e->code;
    }
    return fits(n, size) ? pyi_mkdirs(ret, 0700, e) : too_long("cache", e);
}

pyi_err pyi_mkdirs(const char *path, int mode, pyi_error *e) {
    char part[4096];
    if (is_folder(path)) {
        return PYI_OK;
    }
    if (!fits(snprintf(part, sizeof(part), "%s", path), sizeof(part))) {
        return too_long(path, e);
    }
    for (char *p = part + 1;; p++) {
        char was = *p;
        if (was != '/' && was != '\0') {
            continue;
        }
        *p = '\0';
        if (mkdir(part, (mode_t)mode) < 0 && errno != EEXIST && !is_folder(part)) {
            return pyi_error_sys(e, errno, "paths.mkdir", "cannot make the folder '%s'", part);
        }
        *p = was;
        if (was == '\0') {
            break;
        }
    }
    return is_folder(path) ? PYI_OK
                           : pyi_error_sys(e, ENOTDIR, "paths.mkdir", "'%s' is in the way", path);
}

static int remove_at(int parent, const char *name);

/* Takes the descriptor. Entries that vanish meanwhile are fine. */
static int remove_entries(int fd) {
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return errno;
    }
    int failed = 0;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            int why = remove_at(dirfd(dir), entry->d_name);
            failed = failed == 0 ? why : failed;
        }
    }
    closedir(dir);
    return failed;
}

/* Returns an errno, or 0. */
static int remove_at(int parent, const char *name) {
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM && errno != EACCES) {
        return errno;
    }
    int why = errno;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(parent, name, 0700, 0) == 0) {
        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (fd < 0) {
        return errno == ENOTDIR || errno == ELOOP ? why : errno;
    }
    (void)fchmod(fd, 0700); /* a folder that an installer made read-only */
    int inner = remove_entries(fd);
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) {
        return 0;
    }
    return inner != 0 ? inner : errno;
}

pyi_err pyi_remove_tree(const char *path, pyi_error *e) {
    int why = 0;
    for (int i = 0; i < REMOVE_TRIES; i++) {
        why = remove_at(AT_FDCWD, path);
        if (why != ENOTEMPTY && why != EEXIST) {
            break;
        }
    }
    return why == 0 ? PYI_OK : pyi_error_sys(e, why, "paths.remove", "cannot remove '%s'", path);
}

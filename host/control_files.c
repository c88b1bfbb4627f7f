/*
 * Locks that outlive nothing: an open-file-description lock goes when the host dies, whatever way,
 * and can be asked about without being taken. A lock file may be removed only by who holds its
 * lock, and who has just taken a lock checks that the file is still the one in the folder:
 * otherwise two hosts could hold "the" lock.
 */
#include "control_files.h"
#include "paths.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { LOCK_TRIES = 20, LOCK_PAUSE_US = 5000, LOCK_TEXT = PATH_MAX + 32 };

static uint64_t fnv1a(const char *text) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
    }
    return hash;
}

pyi_err pyi_control_path(const char *config, char *ret, size_t size, pyi_error *e) {
    char resolved[PATH_MAX];
    if (realpath(config, resolved) == NULL && errno == ENOENT) {
        return pyi_error_set(e, PYI_ENOTFOUND, "control.find", "'%s' does not exist", config);
    }
    if (realpath(config, resolved) == NULL) {
        return pyi_error_sys(e, errno, "control.find", "configuration '%s'", config);
    }
    char dir[PATH_MAX];
    pyi_err err = pyi_runtime_dir(dir, sizeof dir, e);
    if (err != PYI_OK) {
        return err;
    }
    int len =
        snprintf(ret, size, "%s/control-%016llx.sock", dir, (unsigned long long)fnv1a(resolved));
    if (len < 0 || (size_t)len >= size || len >= 108) {
        return pyi_error_set(
            e, PYI_ETOOBIG, "control.find",
            "runtime folder '%s' is too long for a socket path; set XDG_RUNTIME_DIR to "
            "a shorter one",
            dir);
    }
    return PYI_OK;
}

static void lock_path(const char *socket_path, char *ret, size_t size) {
    snprintf(ret, size, "%s.lock", socket_path);
}

static void read_lock(int fd, int *ret_pid, char *ret_config, size_t size) {
    char text[LOCK_TEXT];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    char *line = strchr(text, '\n');
    *ret_pid = atoi(text);
    ret_config[0] = '\0';
    if (line != NULL) {
        line[1 + strcspn(line + 1, "\n")] = '\0';
        snprintf(ret_config, size, "%s", line + 1);
    }
}

static bool take_lock(int fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static bool is_locked(int fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* Whether fd is (still) the file at `path`. */
static bool same_file(int fd, const char *path) {
    struct stat a, b;
    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino &&
           a.st_dev == b.st_dev;
}

static pyi_err held_by_another(int fd, pyi_error *e) {
    int pid = 0;
    char config[PATH_MAX];
    read_lock(fd, &pid, config, sizeof config);
    return pyi_error_set(
        e, PYI_EUNAVAILABLE, "control.lock",
        "a host already runs '%.120s' (pid %d); stop it first: pyisolate-host stop", config, pid);
}

static pyi_err write_lock(int fd, const char *config, pyi_error *e) {
    char text[LOCK_TEXT];
    int len = snprintf(text, sizeof text, "%d\n%s\n", (int)getpid(), config != NULL ? config : "");
    if (len >= (int)sizeof text || ftruncate(fd, 0) != 0 ||
        pwrite(fd, text, (size_t)len, 0) != len) {
        return pyi_error_sys(e, errno, "control.lock", "write the lock file");
    }
    return PYI_OK;
}

pyi_err pyi_control_lock(const char *socket_path, const char *config, int *ret_fd, pyi_error *e) {
    char path[PATH_MAX];
    lock_path(socket_path, path, sizeof path);
    for (int i = 0; i < LOCK_TRIES; i++) {
        PYI_AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) {
            return pyi_error_sys(e, errno, "control.lock", "open '%s'", path);
        }
        if (!take_lock(fd)) {
            if (i == LOCK_TRIES - 1) {
                return held_by_another(fd, e);
            }
            usleep(
                LOCK_PAUSE_US); // it may be another host that sweeps, which holds it for a moment
        } else if (same_file(fd, path)) {
            pyi_err err = write_lock(fd, config, e);
            if (err == PYI_OK) {
                *ret_fd = pyi_steal_fd(&fd);
            }
            return err;
        } // else swept away between open and lock: again
    }
    return pyi_error_set(e, PYI_EINTERNAL, "control.lock", "'%s' is removed again and again", path);
}

void pyi_control_unlock(const char *socket_path, int *fd) {
    if (*fd < 0) {
        return;
    }
    char path[PATH_MAX];
    lock_path(socket_path, path, sizeof path);
    unlink(socket_path);
    unlink(path);
    pyi_fd_close(fd);
}

/* ---- the runtime folder ---------------------------------------------------------------------- */

/* "control-<hash>.sock.lock" to the socket's path; false for any other name. */
static bool socket_of(const char *dir, const char *name, char *ret, size_t size) {
    size_t len = strlen(name);
    if (strncmp(name, "control-", 8) != 0 || len < 10 || strcmp(name + len - 5, ".lock") != 0) {
        return false;
    }
    int written = snprintf(ret, size, "%s/%.*s", dir, (int)(len - 5), name);
    return written > 0 && (size_t)written < size;
}

static void each_lock(void (*fn)(void *arg, const char *socket_path, int fd), void *arg) {
    char dir[PATH_MAX];
    pyi_error ignored = {0};
    DIR *d = pyi_runtime_dir(dir, sizeof dir, &ignored) == PYI_OK ? opendir(dir) : NULL;
    for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
        char socket_path[108], path[PATH_MAX];
        if (!socket_of(dir, entry->d_name, socket_path, sizeof socket_path)) {
            continue;
        }
        lock_path(socket_path, path, sizeof path);
        PYI_AUTO_FD int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0) {
            fn(arg, socket_path, fd);
        }
    }
    if (d != NULL) {
        closedir(d);
    }
}

static void sweep_one(void *arg, const char *socket_path, int fd) {
    (void)arg;
    char path[PATH_MAX];
    lock_path(socket_path, path, sizeof path);
    if (take_lock(fd) && same_file(fd, path)) {
        unlink(socket_path);
        unlink(path);
    }
}

void pyi_control_sweep(void) {
    each_lock(sweep_one, NULL);
}

typedef struct host_list {
    pyi_control_host *hosts; // owned
    size_t count;
    bool failed;
} host_list;

static void list_one(void *arg, const char *socket_path, int fd) {
    host_list *list = arg;
    if (!is_locked(fd)) {
        return; // killed, or just starting
    }
    pyi_control_host *grown = realloc(list->hosts, (list->count + 1) * sizeof *grown);
    if (grown == NULL) {
        list->failed = true;
        return;
    }
    list->hosts = grown;
    pyi_control_host *host = &list->hosts[list->count++];
    snprintf(host->socket, sizeof host->socket, "%s", socket_path);
    read_lock(fd, &host->pid, host->config, sizeof host->config);
}

pyi_err pyi_control_list(pyi_control_host **ret_hosts, size_t *ret_count, pyi_error *e) {
    host_list list = {0};
    each_lock(list_one, &list);
    if (list.failed) {
        free(list.hosts);
        return pyi_error_set(e, PYI_ENOMEM, "control.list", "out of memory");
    }
    *ret_hosts = list.hosts;
    *ret_count = list.count;
    return PYI_OK;
}

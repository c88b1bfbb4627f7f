/*
 * Running a helper to its end.
 *
 *   caller's thread                      helper (a process group of its own)
 *   fork  ------------------------------> pgid, PDEATHSIG, 0/1/2, cwd, execve
 *   read errno from a CLOEXEC pipe <----- only if something of that failed; EOF: exec worked
 *   poll {stdout, stderr, pidfd, cancel}
 *   pidfd readable: drain what lies in the pipes, kill the rest of the group, reap
 *
 * The pidfd tells the end, not EOF on the pipes: a grandchild may hold those open for ever. The
 * group is killed before its leader is reaped, because until then the kernel cannot give the number
 * away.
 */
#include "process.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define KEEP_DEFAULT ((size_t)1 << 20)
#define PATH_DEFAULT "/usr/local/bin:/usr/bin:/bin"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* One captured stream. */
typedef struct stream {
    int fd;
    char *data;
    size_t len, cap, keep;
    size_t line;             /* where the line begins that has not been told yet */
    const pyi_process *told; /* NULL: nobody is told of its lines */
} stream;

typedef struct run {
    const pyi_process *p;
    pid_t pid, guard;
    int pidfd, lifeline; /* the guard watches for the end of this one */
    int exec_error;      /* what the child reports of its way to execve */
    stream out, err;
} run;

static void tell_lines(stream *s, bool ended) {
    while (s->told != NULL && s->line < s->len) {
        char *start = s->data + s->line, *end = start;
        while (end < s->data + s->len && *end != '\n' && *end != '\r') {
            end++;
        }
        if (end == s->data + s->len && !ended) {
            return;
        }
        char was = *end;
        *end = '\0';
        if (end > start) {
            s->told->on_line(s->told->arg, start);
        }
        *end = was;
        s->line = (size_t)(end - s->data) + (end < s->data + s->len ? 1 : 0);
    }
}

/* Only the last `keep` bytes matter; twice that is kept so that moving them is rare. */
static void forget_old(stream *s, size_t keep) {
    if (s->len <= keep) {
        return;
    }
    size_t drop = s->len - keep;
    memmove(s->data, s->data + drop, keep + 1);
    s->len = keep;
    s->line = s->line > drop ? s->line - drop : 0;
}

static bool append(stream *s, const char *bytes, size_t n) {
    if (s->len >= 2 * s->keep) {
        forget_old(s, s->keep);
    }
    if (s->len + n + 1 > s->cap) {
        size_t cap = (s->len + n + 1) * 2;
        char *grown = realloc(s->data, cap);
        if (grown == NULL) {
            return false;
        }
        s->data = grown;
        s->cap = cap;
    }
    memcpy(s->data + s->len, bytes, n);
    s->len += n;
    s->data[s->len] = '\0';
    return true;
}

/* Reads what is there; closes the stream at its end. */
static pyi_err drain(stream *s, pyi_error *e) {
    char block[8192];
    while (s->fd >= 0) {
        ssize_t n = read(s->fd, block, sizeof(block));
        if (n > 0) {
            if (!append(s, block, (size_t)n)) {
                return pyi_error_set(e, PYI_ENOMEM, "process.read", "out of memory");
            }
            tell_lines(s, false);
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            return PYI_OK;
        } else {
            pyi_fd_close(&s->fd);
        }
    }
    return PYI_OK;
}

/* The program's path as execve wants it: looked up on the caller's PATH before the fork. */
static char *resolve(const char *name) {
    if (strchr(name, '/') != NULL) {
        return strdup(name);
    }
    const char *dirs = getenv("PATH");
    for (dirs = dirs == NULL ? PATH_DEFAULT : dirs; *dirs != '\0';) {
        size_t len = strcspn(dirs, ":");
        char *path = NULL;
        if (len > 0 && asprintf(&path, "%.*s/%s", (int)len, dirs, name) > 0) {
            if (access(path, X_OK) == 0) {
                return path;
            }
            free(path);
        }
        dirs += len + (dirs[len] == ':' ? 1 : 0);
    }
    return NULL;
}

/* In the forked child: only async-signal-safe calls from here on. */
static void reset_signals(void) {
    sigset_t none;
    struct sigaction plain = {.sa_handler = SIG_DFL};
    for (int sig = 1; sig < 32; sig++) {
        (void)sigaction(sig, &plain, NULL);
    }
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool enter(const pyi_process *p, pid_t parent, int null_fd, int out_fd, int err_fd) {
    (void)setpgid(0, 0);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent) {
        return false; /* the parent died before the signal was armed */
    }
    reset_signals();
    if (dup2(null_fd, 0) < 0 || dup2(out_fd, 1) < 0 || dup2(err_fd, 2) < 0) {
        return false;
    }
    (void)syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
    return p->cwd == NULL || chdir(p->cwd) == 0;
}

static void child(const pyi_process *p, const char *path, pid_t parent, const int fds[4]) {
    if (enter(p, parent, fds[0], fds[1], fds[2])) {
        execve(path, (char *const *)p->argv, p->envp == NULL ? environ : (char *const *)p->envp);
    }
    int why = errno;
    ssize_t told = write(fds[3], &why, sizeof(why));
    _exit(told == (ssize_t)sizeof(why) ? 127 : 126);
}

static pyi_err make_pipe(int *ret_read, int *ret_write, int flags, pyi_error *e) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0 || (flags != 0 && fcntl(fds[0], F_SETFL, flags) < 0)) {
        return pyi_error_sys(e, errno, "process.pipe", "cannot make a pipe");
    }
    *ret_read = fds[0];
    *ret_write = fds[1];
    return PYI_OK;
}

/* Waits for the child's report on execve: EOF is success. */
static int read_report(int fd) {
    int why = 0;
    ssize_t n;
    while ((n = read(fd, &why, sizeof(why))) < 0 && errno == EINTR) {
    }
    return n == (ssize_t)sizeof(why) ? why : 0;
}

static pyi_err fork_child(run *r, const char *path, int null_fd, pyi_error *e) {
    PYI_AUTO_FD int out_fd = -1;
    PYI_AUTO_FD int err_fd = -1;
    PYI_AUTO_FD int report = -1;
    PYI_AUTO_FD int report_w = -1;
    if (make_pipe(&r->out.fd, &out_fd, O_NONBLOCK, e) != PYI_OK ||
        make_pipe(&r->err.fd, &err_fd, O_NONBLOCK, e) != PYI_OK ||
        make_pipe(&report, &report_w, 0, e) != PYI_OK) {
        return e->code;
    }
    pid_t parent = getpid();
    r->pid = fork();
    if (r->pid < 0) {
        return pyi_error_sys(e, errno, "process.fork", "cannot start '%s'", path);
    }
    if (r->pid == 0) {
        child(r->p, path, parent, (const int[4]){null_fd, out_fd, err_fd, report_w});
    }
    (void)setpgid(r->pid, r->pid); /* also from here: whoever is first */
    pyi_fd_close(&report_w);
    r->pidfd = (int)syscall(SYS_pidfd_open, r->pid, 0);
    int sys = errno;
    r->exec_error = read_report(report);
    return r->pidfd >= 0 ? PYI_OK : pyi_error_sys(e, sys, "process.pidfd", "start '%s'", path);
}

static void guard(pid_t group, int watched) {
    char byte;
    reset_signals();
    if (setpgid(0, group) < 0 || dup2(watched, 0) < 0) {
        _exit(1);
    }
    (void)syscall(SYS_close_range, 1u, ~0u, 0u); /* the caller's sockets and pipes are not ours */
    while (read(0, &byte, 1) < 0 && errno == EINTR) {
    }
    (void)kill(-group, SIGKILL);
    _exit(0);
}

static pyi_err fork_guard(run *r, pyi_error *e) {
    PYI_AUTO_FD int watched = -1;
    if (make_pipe(&watched, &r->lifeline, 0, e) != PYI_OK) {
        return e->code;
    }
    r->guard = fork();
    if (r->guard < 0) {
        return pyi_error_sys(e, errno, "process.fork", "cannot guard '%s'", r->p->argv[0]);
    }
    if (r->guard == 0) {
        guard(r->pid, watched);
    }
    (void)setpgid(r->guard,
                  r->pid); /* also from here, so that end() surely meets it in the group */
    return PYI_OK;
}

static int reap(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

/* Kills what is left of the group and reaps the leader and the guard. */
static int end(run *r) {
    if (r->pid <= 0) {
        return 0;
    }
    (void)kill(-r->pid, SIGKILL);
    (void)kill(r->pid, SIGKILL); /* a leader that never reached its own group */
    if (r->guard > 0) {
        (void)kill(r->guard, SIGKILL);
        (void)reap(r->guard);
    }
    int status = reap(r->pid);
    r->pid = 0;
    r->guard = 0;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static pyi_err poll_once(run *r, int64_t deadline, bool *ret_ended, pyi_error *e) {
    struct pollfd fds[4] = {{.fd = r->out.fd, .events = POLLIN},
                            {.fd = r->err.fd, .events = POLLIN},
                            {.fd = r->pidfd, .events = POLLIN},
                            {.fd = r->p->cancel_fd, .events = POLLIN}};
    int64_t left = deadline == 0 ? -1 : (deadline - pyi_now_ns()) / PYI_NS_PER_MS + 1;
    int n = poll(fds, PYI_COUNT(fds), left > INT32_MAX ? INT32_MAX : (int)left);
    if (n < 0 && errno != EINTR) {
        return pyi_error_sys(e, errno, "process.poll", "cannot wait for '%s'", r->p->argv[0]);
    }
    if (n > 0 && fds[3].revents != 0) {
        return pyi_error_set(e, PYI_ECANCELLED, "process.run", "'%s' was cancelled", r->p->argv[0]);
    }
    if (drain(&r->out, e) != PYI_OK || drain(&r->err, e) != PYI_OK) {
        return e->code;
    }
    *ret_ended = n > 0 && fds[2].revents != 0;
    if (!*ret_ended && deadline != 0 && pyi_now_ns() >= deadline) {
        return pyi_error_set(e, PYI_EDEADLINE, "process.run", "'%s' did not end within %lld ms",
                             r->p->argv[0], (long long)r->p->timeout_ms);
    }
    return PYI_OK;
}

/* Until the process has ended; then what its pipes still hold is read by one more round of drains.
 */
static pyi_err watch(run *r, pyi_error *e) {
    int64_t deadline = r->p->timeout_ms > 0 ? pyi_now_ns() + r->p->timeout_ms * PYI_NS_PER_MS : 0;
    bool ended = false;
    while (!ended) {
        if (poll_once(r, deadline, &ended, e) != PYI_OK) {
            return e->code;
        }
    }
    if (drain(&r->out, e) != PYI_OK || drain(&r->err, e) != PYI_OK) {
        return e->code;
    }
    tell_lines(&r->err, true);
    return PYI_OK;
}

static char *take(stream *s, size_t *ret_len) {
    if (s->data != NULL) {
        forget_old(s, s->keep);
    }
    *ret_len = s->len;
    return s->data == NULL ? strdup("") : pyi_steal(&s->data);
}

static void run_fini(run *r) {
    (void)end(r);
    pyi_fd_close(&r->pidfd);
    pyi_fd_close(&r->lifeline);
    pyi_fd_close(&r->out.fd);
    pyi_fd_close(&r->err.fd);
    free(r->out.data);
    free(r->err.data);
}

static pyi_err missing(const char *name, int sys, pyi_error *e) {
    if (sys == ENOENT || sys == ENOTDIR) {
        pyi_error_set(e, PYI_ENOTFOUND, "process.exec", "no program '%s'", name);
        e->sys = sys;
        return e->code;
    }
    return pyi_error_sys(e, sys, "process.exec", "cannot run '%s'", name);
}

pyi_err pyi_process_run(const pyi_process *p, pyi_process_result *ret, pyi_error *e) {
    PYI_AUTO_FREE char *path = resolve(p->argv[0]);
    if (path == NULL) {
        return missing(p->argv[0], ENOENT, e);
    }
    PYI_AUTO_FD int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0) {
        return pyi_error_sys(e, errno, "process.open", "cannot open '/dev/null'");
    }
    size_t keep = p->keep > 0 ? p->keep : KEEP_DEFAULT;
    __attribute__((cleanup(run_fini)))
    run r = {.p = p,
             .pidfd = -1,
             .lifeline = -1,
             .out = {.fd = -1, .keep = keep},
             .err = {.fd = -1, .keep = keep, .told = p->on_line != NULL ? p : NULL}};
    if (fork_child(&r, path, null_fd, e) != PYI_OK) {
        return e->code;
    }
    if (r.exec_error != 0) {
        return missing(p->argv[0], r.exec_error, e);
    }
    if (fork_guard(&r, e) != PYI_OK || watch(&r, e) != PYI_OK) {
        return e->code;
    }
    *ret = (pyi_process_result){.status = end(&r)};
    ret->out = take(&r.out, &ret->out_len);
    ret->err = take(&r.err, &ret->err_len);
    if (ret->out == NULL || ret->err == NULL) {
        pyi_process_result_fini(ret);
        return pyi_error_set(e, PYI_ENOMEM, "process.run", "out of memory");
    }
    return PYI_OK;
}

void pyi_process_result_fini(pyi_process_result *r) {
    free(r->out);
    free(r->err);
    *r = (pyi_process_result){0};
}

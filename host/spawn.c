/*
 * Starting a child process. Between fork and exec only async-signal-safe calls are made; what fails
 * there is told through a close-on-exec pipe, whose end means that exec worked.
 */
#include "spawn.h"

#include "spec.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define FIRST_FREE_FD 16 /* above every fixed descriptor of the child */

/* The child's ends, in the order of their numbers in the child. */
typedef struct ends {
    int in, out, err, lane, log, spec;
    int report;
} ends;

static void ends_close(ends *p) {
    int *all[] = {&p->in, &p->out, &p->err, &p->lane, &p->log, &p->spec, &p->report};
    for (size_t i = 0; i < PYI_COUNT(all); i++) {
        pyi_fd_close(all[i]);
    }
}

void pyi_spawned_close(pyi_spawned *s) {
    int *all[] = {&s->pidfd, &s->out_fd, &s->err_fd, &s->log_fd, &s->lane_fd};
    for (size_t i = 0; i < PYI_COUNT(all); i++) {
        pyi_fd_close(all[i]);
    }
}

static int sealed_memfd(const void *data, size_t len) {
    PYI_AUTO_FD int fd = memfd_create("pyisolate-spec", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || write(fd, data, len) != (ssize_t)len ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
        return -1;
    }
    return pyi_steal_fd(&fd);
}

/* The host's end does not block; the child's does, so that a writer in the child waits for the
 * host. */
static bool one_way(int *ret_host, int *ret_child) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return false;
    }
    *ret_host = fds[0];
    *ret_child = fds[1];
    return fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0;
}

static bool packets(int *ret_host, int *ret_child) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
        return false;
    }
    *ret_host = fds[0];
    *ret_child = fds[1];
    return fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0;
}

static bool open_ends(ends *child, pyi_spawned *host, int *ret_report, const void *spec,
                      size_t len) {
    int report[2];
    child->in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    child->spec = sealed_memfd(spec, len);
    if (child->in < 0 || child->spec < 0 || !one_way(&host->out_fd, &child->out) ||
        !one_way(&host->err_fd, &child->err) || !packets(&host->log_fd, &child->log) ||
        !packets(&host->lane_fd, &child->lane) || pipe2(report, O_CLOEXEC) < 0) {
        return false;
    }
    *ret_report = report[0];
    child->report = report[1];
    return true;
}

/* ---- in the child, before exec --------------------------------------------------------------- */

static int place_descriptors(ends *p) {
    int *from[] = {&p->in, &p->out, &p->err, &p->lane, &p->log, &p->spec, &p->report};
    const int to[] = {0, 1, 2, PYI_LANE_FD, PYI_LOG_FD, PYI_SPEC_FD};
    for (size_t i = 0; i < PYI_COUNT(from); i++) { /* out of the way of the fixed numbers */
        int fd = fcntl(*from[i], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
        if (fd < 0) {
            return -1;
        }
        *from[i] = fd;
    }
    for (size_t i = 0; i < PYI_COUNT(to); i++) {
        if (dup2(*from[i], to[i]) < 0) {
            return -1;
        }
    }
    return (int)syscall(SYS_close_range, PYI_SPEC_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC);
}

static void reset_signals(void) {
    for (int sig = 1; sig < NSIG; sig++) {
        if (sig != SIGKILL && sig != SIGSTOP) {
            signal(sig, SIG_DFL);
        }
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void become_child(const char *executable, char *const *envp, ends *p, pid_t host) {
    char *argv[] = {(char *)"pyisolate-child", NULL};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == host) { /* else the host has died in between */
        setsid();
        reset_signals();
        if (place_descriptors(p) == 0) {
            execve(executable, argv, envp);
        }
        int sys = errno;
        (void)!write(p->report, &sys, sizeof(sys));
    }
    _exit(127);
}

/* ---- in the host ----------------------------------------------------------------------------- */

static pyi_err await_exec(int report, pid_t pid, const char *executable, pyi_error *e) {
    int sys = 0;
    ssize_t n;
    do {
        n = read(report, &sys, sizeof(sys));
    } while (n < 0 && errno == EINTR);
    if (n == 0) {
        return PYI_OK;
    }
    waitpid(pid, NULL, 0);
    return pyi_error_sys(e, n == sizeof(sys) ? sys : EIO, "spawn.exec", "execute \"%s\"",
                         executable);
}

pyi_err pyi_spawn_child(const char *executable, char *const *envp, const void *spec,
                        size_t spec_len, pyi_spawned *ret, pyi_error *e) {
    ends child = {-1, -1, -1, -1, -1, -1, -1};
    pyi_spawned host = {.pidfd = -1, .out_fd = -1, .err_fd = -1, .log_fd = -1, .lane_fd = -1};
    PYI_AUTO_FD int report = -1;
    pid_t self = getpid();
    pid_t pid = -1;
    if (open_ends(&child, &host, &report, spec, spec_len)) {
        pid = fork();
    }
    if (pid == 0) {
        become_child(executable, envp, &child, self);
    }
    int sys = errno;
    ends_close(&child);
    if (pid < 0) {
        pyi_spawned_close(&host);
        return pyi_error_sys(e, sys, "spawn.fork", "start a child process");
    }
    pyi_err err = await_exec(report, pid, executable, e);
    host.pid = pid;
    if (err == PYI_OK && (host.pidfd = (int)syscall(SYS_pidfd_open, pid, 0)) < 0) {
        err = pyi_error_sys(e, errno, "spawn.pidfd", "watch the child process");
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    if (err != PYI_OK) {
        pyi_spawned_close(&host);
        return err;
    }
    *ret = host;
    return PYI_OK;
}

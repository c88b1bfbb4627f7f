/*
 * The handler writes the signal's number into a pipe; the thread reads it. The pipe's writing end
 * is a static variable, because a handler has no argument.
 */
#include "signals.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

static const int caught[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2, SIGPIPE};

struct pyi_signals {
    int read_fd, write_fd;
    pthread_t thread;
    void (*fn)(void *arg, int sig);
    void *arg;
    struct sigaction before[PYI_COUNT(caught)];
};

static volatile int handler_fd = -1;

static void on_signal(int sig) {
    int saved = errno;
    unsigned char byte = (unsigned char)sig;
    if (sig != SIGPIPE && write(handler_fd, &byte, 1) < 0) {
        // full: a hundred unread signals say the same as one more
    }
    errno = saved;
}

static void *run(void *arg) {
    pyi_signals *s = arg;
    unsigned char byte = 0;
    prctl(PR_SET_NAME, "pyisolate-signl");
    for (;;) {
        ssize_t n = read(s->read_fd, &byte, 1);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0 || byte == 0) { // 0: stop
            return NULL;
        }
        s->fn(s->arg, byte);
    }
}

pyi_err pyi_signals_start(void (*fn)(void *arg, int sig), void *arg, pyi_signals **ret,
                          pyi_error *e) {
    int fds[2];
    pyi_signals *s = calloc(1, sizeof *s);
    if (s == NULL || pipe2(fds, O_CLOEXEC) != 0) {
        free(s);
        return pyi_error_sys(e, errno, "signals.start", "make a pipe");
    }
    *s = (pyi_signals){.read_fd = fds[0], .write_fd = fds[1], .fn = fn, .arg = arg};
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    handler_fd = fds[1];
    int sys = pthread_create(&s->thread, NULL, run, s);
    if (sys != 0) {
        pyi_fd_close(&s->read_fd);
        pyi_fd_close(&s->write_fd);
        free(s);
        return pyi_error_sys(e, sys, "signals.start", "start a thread");
    }
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    for (size_t i = 0; i < PYI_COUNT(caught); i++) {
        sigaction(caught[i], &action, &s->before[i]);
    }
    *ret = s;
    return PYI_OK;
}

void pyi_signals_stop(pyi_signals *s) {
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < PYI_COUNT(caught); i++) {
        sigaction(caught[i], &s->before[i], NULL);
    }
    fcntl(s->write_fd, F_SETFL, 0);
    unsigned char stop = 0;
    while (write(s->write_fd, &stop, 1) < 0 && errno == EINTR) {
    }
    pthread_join(s->thread, NULL);
    handler_fd = -1;
    pyi_fd_close(&s->read_fd);
    pyi_fd_close(&s->write_fd);
    free(s);
}

/*
 * A blocking client. A request is one line; the answer's line may be long, so it is read into a
 * buffer that doubles. The host's process is held by a pidfd from the start, so that "stopped"
 * means that it is gone.
 */
#include "control_client.h"
#include "json.h"
#include "json_text.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

struct pyi_client {
    int fd, pidfd, pid;
    char *line; // owned
    size_t len, cap;
    uint8_t *answer; // owned
};

/* ---- finding --------------------------------------------------------------------------------- */

static pyi_err find_only(char *ret_path, size_t size, pyi_control_host **ret_hosts,
                         size_t *ret_count, pyi_error *e) {
    PYI_AUTO_FREE pyi_control_host *hosts = NULL;
    size_t count = 0;
    pyi_err err = pyi_control_list(&hosts, &count, e);
    if (err != PYI_OK) {
        return err;
    }
    if (count == 1) {
        snprintf(ret_path, size, "%s", hosts[0].socket);
        return PYI_OK;
    }
    if (count == 0) {
        return pyi_error_set(e, PYI_EUNAVAILABLE, "control.find",
                             "no host of yours is running; start one: pyisolate-host CONFIG.lua");
    }
    if (ret_hosts != NULL) {
        *ret_hosts = pyi_steal(&hosts);
        *ret_count = count;
    }
    return pyi_error_set(e, PYI_EUNAVAILABLE, "control.find",
                         "%zu hosts of yours are running; say which with -c FILE or --socket PATH",
                         count);
}

pyi_err pyi_client_find(const char *socket, const char *config, char *ret_path, size_t size,
                        pyi_control_host **ret_hosts, size_t *ret_count, pyi_error *e) {
    if (socket != NULL) {
        int len = snprintf(ret_path, size, "%s", socket);
        if (len < 0 || (size_t)len >= size) {
            return pyi_error_set(e, PYI_EINVAL, "control.find", "socket path '%.100s' is too long",
                                 socket);
        }
        return PYI_OK;
    }
    if (config != NULL) {
        return pyi_control_path(config, ret_path, size, e);
    }
    return find_only(ret_path, size, ret_hosts, ret_count, e);
}

/* ---- connection ------------------------------------------------------------------------------ */

static pyi_err cannot_connect(int sys, const char *path, pyi_error *e) {
    if (sys == EACCES || sys == EPERM) {
        pyi_error_sys(e, sys, "control.connect", "the control socket '%s' belongs to another user",
                      path);
        e->code = PYI_EPERM;
        return PYI_EPERM;
    }
    if (sys == ENOENT || sys == ECONNREFUSED) {
        return pyi_error_set(e, PYI_EUNAVAILABLE, "control.connect",
                             "no host is running at '%s'; start it: pyisolate-host CONFIG.lua",
                             path);
    }
    return pyi_error_sys(e, sys, "control.connect", "connect to '%s'", path);
}

static void learn_peer(pyi_client *c) {
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0) {
        c->pid = peer.pid;
        c->pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
    }
}

pyi_err pyi_client_open(const char *path, pyi_client **ret, pyi_error *e) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int written = snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (written < 0 || (size_t)written >= sizeof address.sun_path) {
        return pyi_error_set(e, PYI_EINVAL, "control.connect", "socket path '%.100s' is too long",
                             path);
    }
    PYI_AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        return cannot_connect(errno, path, e);
    }
    pyi_client *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "control.connect", "out of memory");
    }
    c->fd = pyi_steal_fd(&fd);
    c->pidfd = -1;
    learn_peer(c);
    *ret = c;
    return PYI_OK;
}

int pyi_client_peer(const pyi_client *c) {
    return c->pid;
}

void pyi_client_close(pyi_client *c) {
    if (c == NULL) {
        return;
    }
    pyi_fd_close(&c->fd);
    pyi_fd_close(&c->pidfd);
    free(c->line);
    free(c->answer);
    free(c);
}

/* ---- request and answer ---------------------------------------------------------------------- */

static pyi_err host_gone(pyi_error *e) {
    return pyi_error_set(e, PYI_EDIED, "control.request", "the host ended before it answered");
}

static pyi_err send_all(pyi_client *c, const char *text, size_t len, pyi_error *e) {
    while (len > 0) {
        ssize_t n = send(c->fd, text, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EPIPE || errno == ECONNRESET
                       ? host_gone(e)
                       : pyi_error_sys(e, errno, "control.request", "send to the host");
        }
        text += n;
        len -= (size_t)n;
    }
    return PYI_OK;
}

static pyi_err read_line(pyi_client *c, pyi_error *e) {
    c->len = 0;
    for (;;) {
        if (c->len == c->cap) {
            size_t cap = c->cap > 0 ? c->cap * 2 : 65536;
            char *line = realloc(c->line, cap);
            if (line == NULL) {
                return pyi_error_set(e, PYI_ENOMEM, "control.request", "out of memory");
            }
            c->line = line;
            c->cap = cap;
        }
        ssize_t n = recv(c->fd, c->line + c->len, c->cap - c->len, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return host_gone(e);
        }
        c->len += (size_t)n;
        if (c->line[c->len - 1] == '\n') { // one answer for one request: nothing follows it
            return PYI_OK;
        }
    }
}

static pyi_err take_apart(pyi_client *c, pyi_answer *ret, pyi_error *e) {
    const char *ok = NULL, *text = NULL;
    size_t ok_len = 0, len = 0;
    c->line[c->len - 1] = '\0';
    bool good = pyi_json_member(c->line, "ok", &ok, &ok_len);
    good = good && pyi_json_member(c->line, *ok == 't' ? "value" : "error", &text, &len);
    if (!good) {
        return pyi_error_set(e, PYI_EPROTO, "control.request",
                             "the host's answer is not one: %.100s", c->line);
    }
    *ret = (pyi_answer){*ok == 't', text};
    c->line[(size_t)(text - c->line) + len] = '\0';
    return PYI_OK;
}

pyi_err pyi_client_read(pyi_client *c, const pyi_answer *answer, pyi_reader *ret, pyi_error *e) {
    pyi_writer w;
    pyi_writer_init(&w, SIZE_MAX / 2);
    pyi_err err = pyi_json_to_wire(answer->text, strlen(answer->text), &w, e);
    free(c->answer);
    c->answer = w.data;
    if (err != PYI_OK) {
        return pyi_error_wrap(e, "the host's answer");
    }
    *ret = pyi_reader_on(w.data, w.len);
    return PYI_OK;
}

pyi_err pyi_client_request(pyi_client *c, const pyi_writer *request, pyi_answer *ret,
                           pyi_error *e) {
    pyi_err err = pyi_writer_error(request, e);
    if (err != PYI_OK) {
        return err;
    }
    PYI_AUTO_FREE char *text = NULL;
    size_t len = 0;
    pyi_reader r = pyi_reader_on(request->data, request->len);
    err = pyi_wire_to_json(&r, &text, &len, e);
    if (err != PYI_OK) {
        return err;
    }
    text[len] = '\n'; // in place of its NUL
    err = send_all(c, text, len + 1, e);
    if (err == PYI_OK) {
        err = read_line(c, e);
    }
    return err == PYI_OK ? take_apart(c, ret, e) : err;
}

pyi_err pyi_client_wait_end(pyi_client *c, int64_t timeout_ms, pyi_error *e) {
    struct pollfd poll_fd = {.fd = c->pidfd, .events = POLLIN};
    if (c->pidfd < 0) { // no pidfds here: the end of the stream is the next best
        poll_fd.fd = c->fd;
    }
    int64_t end = pyi_now_ns() + timeout_ms * PYI_NS_PER_MS;
    for (;;) {
        int64_t left = timeout_ms < 0 ? -1 : (end - pyi_now_ns()) / PYI_NS_PER_MS;
        int n = poll(&poll_fd, 1, timeout_ms < 0 ? -1 : left > 0 ? (int)left : 0);
        if (n > 0) {
            return PYI_OK;
        }
        if (n == 0) {
            return pyi_error_set(e, PYI_EDEADLINE, "control.stop", "the host (pid %d) still runs",
                                 c->pid);
        }
        if (errno != EINTR) {
            return pyi_error_sys(e, errno, "control.stop", "wait for the host");
        }
    }
}

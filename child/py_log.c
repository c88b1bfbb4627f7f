/*
 * Writing log records. A blocking send on a SOCK_SEQPACKET socket keeps records whole and in order,
 * from any number of threads and from forked processes. When the socket's buffer cannot take a
 * record of that size at all (EMSGSIZE), the record is halved.
 */
#include "py_log.h"
#include "pyi_limits.h"
#include "spec.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

static bool wait_writable(void) {
    struct pollfd p = {.fd = PYI_LOG_FD, .events = POLLOUT};
    return poll(&p, 1, -1) >= 0 || errno == EINTR;
}

/* 0, or an errno. */
static int send_record(const struct iovec *parts) {
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = 3};
    for (;;) {
        if (sendmsg(PYI_LOG_FD, &m, MSG_NOSIGNAL) >= 0) {
            return 0;
        }
        if (errno == EAGAIN && wait_writable()) {
            continue;
        }
        if (errno != EINTR) {
            return errno;
        }
    }
}

/* Not in the middle of a UTF-8 character, as long as there is a character's start near. */
static size_t cut(const char *text, size_t len, size_t most) {
    if (len <= most) {
        return len;
    }
    size_t at = most;
    while (at > most - 4 && ((unsigned char)text[at] & 0xC0) == 0x80) {
        at--;
    }
    return at;
}

bool pyi_child_log(char level, char stream, const char *name, size_t name_len, const char *text,
                   size_t len) {
    size_t most = PYI_MAX_LOG_RECORD;
    name_len = name_len > 255 ? 255 : name_len;
    uint8_t head[3] = {(uint8_t)level, (uint8_t)stream, (uint8_t)name_len};
    while (len > 0) {
        size_t n = cut(text, len, most);
        struct iovec parts[3] = {
            {head, sizeof head}, {(char *)(uintptr_t)name, name_len}, {(char *)(uintptr_t)text, n}};
        int sys = send_record(parts);
        if (sys == EMSGSIZE && most > 64) {
            most /= 2;
            continue;
        }
        if (sys != 0) {
            return false;
        }
        text += n;
        len -= n;
    }
    return true;
}

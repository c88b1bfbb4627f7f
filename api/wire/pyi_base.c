/*
 * The two functions of pyi_base.h that are not inline: closing a descriptor, and the clock.
 */
#include "pyi_base.h"
#include <errno.h>
#include <time.h>

void pyi_fd_close(int *fd) {
    if (*fd < 0) {
        return;
    }
    int saved = errno; // runs as a cleanup, often after the failure that errno tells about
    close(pyi_steal_fd(fd));
    errno = saved; // not repeated on EINTR: on Linux the descriptor is gone either way
}

int64_t pyi_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * PYI_NS_PER_S + now.tv_nsec;
}

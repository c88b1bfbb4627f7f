/* See output.h. */
#include "output.h"
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static atomic_int first_error; /* a configuration that is checked anew prints on another thread */

void pyi_output_flush(void) {
    errno = 0;
    if (fflush(stdout) != 0) {
        int none = 0;
        atomic_compare_exchange_strong(&first_error, &none, errno != 0 ? errno : EIO);
    }
}

int pyi_output_error(void) {
    pyi_output_flush();
    int sys = atomic_load(&first_error);
    return sys == 0 && ferror(stdout) ? EIO : sys;
}

void pyi_output_reserve(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) {
            /* the lowest free number is this one */
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        }
    }
}

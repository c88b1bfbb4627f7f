#pragma once
/*
 * What every file of the project may use: attributes, cleanup helpers, steal.
 *
 * Cleanup variables must not be live across anything that can longjmp (a Lua error): see docs/style
 * notes in host/README.md. Nothing in here allocates, blocks or knows of Lua, Python or nng.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define PYI_MUST_CHECK        __attribute__((warn_unused_result))
#define PYI_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define PYI_UNUSED            __attribute__((unused))
#define PYI_EXPORT            __attribute__((visibility("default")))

#define PYI_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PYI_LIKELY(x)    __builtin_expect(!!(x), 1)
#define PYI_UNLIKELY(x)  __builtin_expect(!!(x), 0)

/// The struct that contains `member`, given a pointer to the member.
#define PYI_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void pyi_cleanup_free(void *p) {
    free(*(void **)p);
}

/// Closes *fd if it is open and marks it closed. Keeps errno.
void pyi_fd_close(int *fd);

#define PYI_AUTO_FREE __attribute__((cleanup(pyi_cleanup_free)))
#define PYI_AUTO_FD   __attribute__((cleanup(pyi_fd_close)))

/// Takes the value out of *p and leaves NULL, so that a cleanup variable gives up what it owns.
#define pyi_steal(p)                                                                               \
    ({                                                                                             \
        __typeof__(*(p)) stolen_ = *(p);                                                           \
        *(p) = NULL;                                                                               \
        stolen_;                                                                                   \
    })

/// The same for a descriptor: leaves -1.
static inline int pyi_steal_fd(int *fd) {
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

/// Nanoseconds on CLOCK_MONOTONIC: the clock of every deadline, the same in host and children.
int64_t pyi_now_ns(void);

#define PYI_NS_PER_MS INT64_C(1000000)
#define PYI_NS_PER_S  INT64_C(1000000000)

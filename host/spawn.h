#pragma once
/*
 * Starts one pyisolate-child: fork, a session of its own, clean descriptors and environment, exec.
 * Called on the loop thread only, because PDEATHSIG fires when the thread that forked ends.
 */
#include "config.h"
#include "pyi_error.h"
#include <sys/types.h>

typedef struct pyi_spawned {
    pid_t pid;
    int pidfd;
    int out_fd, err_fd; /* pipes: descriptors 1 and 2 of the child, read ends, non-blocking */
    int log_fd;         /* SOCK_SEQPACKET: log records, non-blocking */
    int lane_fd;        /* SOCK_SEQPACKET: descriptors */
} pyi_spawned;

/// `spec` is sealed into a memfd that the child inherits. The descriptors are the caller's.
pyi_err pyi_spawn_child(const char *executable, char *const *envp, const void *spec,
                        size_t spec_len, pyi_spawned *ret, pyi_error *e) PYI_MUST_CHECK;
void pyi_spawned_close(pyi_spawned *s);

/// The child's whole environment: the allow-list and `env_inherit` from the host's, then `env`. One
/// block for pyi_environment_free. NULL: out of memory.
char **pyi_environment_new(const pyi_extension_config *config, const char *prefix);
void pyi_environment_free(char **envp);

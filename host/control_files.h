#pragma once
/*
 * The files by which hosts are found: <runtime dir>/control-<hash>.sock and, beside it, a .lock
 * file that the host holds locked for as long as it lives and that names its pid and its
 * configuration. A lock that can be taken belongs to a host that was killed. Any thread; blocks for
 * file operations only.
 */
#include "control.h"

/// Takes the lock of a socket path and writes pid and configuration into it; *ret_fd holds it.
/// PYI_EUNAVAILABLE: a running host holds it (named).
pyi_err pyi_control_lock(const char *socket_path, const char *config, int *ret_fd,
                         pyi_error *e) PYI_MUST_CHECK;
/// Removes socket and lock file, then gives the lock up. fd -1 is fine.
void pyi_control_unlock(const char *socket_path, int *fd);
/// Removes what killed hosts of this user left in the runtime folder.
void pyi_control_sweep(void);

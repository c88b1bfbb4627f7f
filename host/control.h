#pragma once
/*
 * The control socket of a running host: what `pyisolate-host status|call|stop|restart` talk to.
 *
 * One JSON object a line, both ways; an answer carries the request's "id", and answers come in any
 * order:
 *   {"id":1,"op":"ping"}                         {"id":1,"ok":true,"value":{...}}
 *   {"id":2,"op":"call","extension":"averages","method":"mean","args":[[1,2]],"kwargs":{},"timeout":2.5}
 *   {"id":2,"ok":false,"error":{"code":"remote","type":"TypeError","message":"...","traceback":"..."}}
 * Operations: ping, version, status, call, cancel, restart, stop. docs/control.md has all fields.
 *
 * It runs on a loop thread of its own, so that a large request never delays the supervision of
 * children. The socket is 0600 in the user's 0700 runtime folder, and a peer must have this uid or
 * be root.
 */
#include "manager.h"

typedef struct pyi_control pyi_control;

typedef struct pyi_control_options {
    const char *path;   /* of the socket; its lock file is beside it. Borrowed during start only */
    const char *config; /* the configuration's absolute path, told to clients; or NULL. Likewise */
    /// Somebody asked the host to stop. On the control thread; must not block.
    void (*on_stop)(void *arg, bool now, int64_t grace_ms);
    void *arg;
} pyi_control_options;

/// <runtime dir>/control-<hash of the configuration's resolved path>.sock
pyi_err pyi_control_path(const char *config, char *ret, size_t size, pyi_error *e) PYI_MUST_CHECK;

/// Listens. PYI_EUNAVAILABLE: another host serves this configuration (its pid is named). What a
/// killed host left behind, of this and of other configurations, is cleared. The manager must
/// outlive it.
pyi_err pyi_control_start(pyi_manager *m, const pyi_control_options *o, pyi_control **ret,
                          pyi_error *e) PYI_MUST_CHECK;
/// Cancels the calls of clients, closes all and removes the socket. Blocks until the last call has
/// ended.
void pyi_control_stop(pyi_control *c); /* NULL is fine */

/* ---- which hosts run: for clients ------------------------------------------------------------ */

typedef struct pyi_control_host {
    char socket[108];
    char config[4096];
    int pid;
} pyi_control_host;

/// The hosts of this user that run now; the array is the caller's to free.
pyi_err pyi_control_list(pyi_control_host **ret_hosts, size_t *ret_count,
                         pyi_error *e) PYI_MUST_CHECK;

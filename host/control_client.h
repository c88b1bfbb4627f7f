#pragma once
/*
 * The other end of the control socket: finds a running host, sends one request, waits for the
 * answer. For the commands; one thread; blocks.
 */
#include "control.h"
#include "wire_map.h"

typedef struct pyi_client pyi_client;

/// The socket of the host that is meant: `socket` itself; else the host of `config`; else the
/// user's only running host. PYI_EUNAVAILABLE: there is none, or several (*ret_hosts lists them
/// then; the caller's to free; may be NULL).
pyi_err pyi_client_find(const char *socket, const char *config, char *ret_path, size_t size,
                        pyi_control_host **ret_hosts, size_t *ret_count,
                        pyi_error *e) PYI_MUST_CHECK;

/// PYI_EUNAVAILABLE: nobody listens there. PYI_EPERM: it belongs to somebody else.
pyi_err pyi_client_open(const char *path, pyi_client **ret, pyi_error *e) PYI_MUST_CHECK;
int pyi_client_peer(const pyi_client *c); /* the host's pid, 0: unknown */

/// What the host said. `text` is JSON, as it came: the value, or the error object.
typedef struct pyi_answer {
    bool ok;
    const char *text; // borrowed: until the next request or the close; NUL-terminated
} pyi_answer;

/// Sends a request, a map in `request`, and waits. PYI_EDIED: the host ended meanwhile.
pyi_err pyi_client_request(pyi_client *c, const pyi_writer *request, pyi_answer *ret,
                           pyi_error *e) PYI_MUST_CHECK;
/// The answer's text as values, which live until the next request or the close.
pyi_err pyi_client_read(pyi_client *c, const pyi_answer *answer, pyi_reader *ret,
                        pyi_error *e) PYI_MUST_CHECK;
/// Waits until the host's process has ended. PYI_EDEADLINE after timeout_ms (< 0: no limit).
pyi_err pyi_client_wait_end(pyi_client *c, int64_t timeout_ms, pyi_error *e) PYI_MUST_CHECK;
void pyi_client_close(pyi_client *c); /* NULL is fine */

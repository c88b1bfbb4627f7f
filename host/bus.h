#pragma once
/*
 * The nng sockets of one generation: the host listens, one child dials. The only file of the host
 * that knows nng. Frames go out through pyi_bus_send, which ends exactly once in its callback;
 * requests of the child arrive in on_request and are answered with pyi_bus_answer.
 *
 * Threads: open and close on the loop thread; everything else from any. Callbacks come on nng
 * threads, must not block and must not close the bus.
 */
#include "pyi_wire.h"

typedef struct pyi_bus pyi_bus;
typedef struct pyi_frame pyi_frame;             /* an outgoing frame */
typedef struct pyi_bus_request pyi_bus_request; /* a request of the child, waiting for its answer */

/// A frame to be written. NULL: out of memory. Not bound to a bus until it is sent.
pyi_frame *pyi_frame_new(uint64_t max_payload);
pyi_writer *pyi_frame_writer(pyi_frame *f);
void pyi_frame_free(pyi_frame *f);

typedef struct pyi_bus_config {
    const char *call_url, *service_url;
    uint64_t max_payload;
    /// A whole frame of the child, not validated; borrowed until the answer.
    void (*on_request)(void *arg, pyi_bus_request *rq, const void *frame, size_t len);
    /// The child's connection is gone (its process may live on).
    void (*on_lost)(void *arg);
    void *arg;
} pyi_bus_config;

/// Listens on both URLs. Nobody is let in before pyi_bus_expect.
pyi_err pyi_bus_open(const pyi_bus_config *config, pyi_bus **ret, pyi_error *e) PYI_MUST_CHECK;
/// The one process that may connect; -1: any (a transport within this process).
void pyi_bus_expect(pyi_bus *b, int64_t pid);

/// How a send ended. PYI_OK with the answering frame (not validated; borrowed), or EDEADLINE,
/// ECANCELLED, EDIED (the bus was closed), ENOMEM, ETOOBIG.
typedef void (*pyi_bus_done)(void *arg, pyi_err code, const void *frame, size_t len);

/// What a caller keeps to cancel a send. Stale ones are harmless.
typedef struct pyi_bus_token {
    void *slot;
    uint64_t serial;
} pyi_bus_token;

/// Takes the frame. timeout_ms 0: none. `done` exactly once, on an nng thread or from within.
/// `ret_token` (or NULL) is filled before anything is sent.
void pyi_bus_send(pyi_bus *b, pyi_frame *f, int64_t timeout_ms, pyi_bus_done done, void *arg,
                  pyi_bus_token *ret_token);
/// Ends a send or an exchange as PYI_ECANCELLED, also one that has been reserved and not begun.
void pyi_bus_abort(pyi_bus *b, pyi_bus_token token);

/* The blocking form, for a thread that has nothing else to do: it takes the answer itself, one
 * hand-off less. reserve, then exchange, then release. */
pyi_err pyi_bus_reserve(pyi_bus *b, pyi_bus_token *ret_token) PYI_MUST_CHECK;
/// Takes the frame. Codes as in pyi_bus_done; *ret_frame is borrowed until the release.
pyi_err pyi_bus_exchange(pyi_bus *b, pyi_bus_token token, pyi_frame *f, const void **ret_frame,
                         size_t *ret_len) PYI_MUST_CHECK;
void pyi_bus_release(pyi_bus *b, pyi_bus_token token);

/// Exactly once for each request. Takes the frame.
void pyi_bus_answer(pyi_bus_request *rq, pyi_frame *f);

/// Ends every send with PYI_EDIED. Afterwards no callback comes any more, and sends end at once.
void pyi_bus_close(pyi_bus *b);
/// After close, when nobody sends any more.
void pyi_bus_free(pyi_bus *b);

#pragma once
/*
 * The child's end of the bus: dials the host, says HELLO, and hands frames to one thread (the RPC
 * thread: Python's main thread) through a queue with one eventfd wake-up per batch. link.c and
 * link_pool.c are the only files of the child that include nng.h. No Python in here; nothing takes
 * the GIL.
 *
 * Threads: open, close, handshake, announce and next belong to the RPC thread, called without the
 * GIL where they may block. reply_* may be called by any thread, one at a time for each request.
 * `on_cancel` is called on an nng thread. After fork() the link is dead in the forked process:
 * every function fails with PYI_EUNAVAILABLE and nothing touches nng (pthread_atfork).
 */
#include "pyi_wire.h"

typedef struct pyi_link pyi_link;

/// One request from the host that must get exactly one reply.
typedef struct pyi_request {
    pyi_frame_type type; /* CALL, STOP or PING */
    uint64_t id;
    pyi_reader body; /* at the third field; borrowed until the reply */
    uint32_t fields; /* fields of the frame in all */
} pyi_request;

typedef struct pyi_link_config {
    const char *call_url, *service_url;
    const uint8_t *secret; /* PYI_SECRET_SIZE bytes, copied */
    const char *mode;      /* "embed", "exec" or "host": told in HELLO */
    uint64_t max_payload;
    unsigned max_concurrency;
    /// A CANCEL arrived for call `id` (nng thread; the queue has been told too).
    void (*on_cancel)(void *arg, uint64_t id, int reason);
    void *arg;
} pyi_link_config;

/// Dials in the background and returns at once; the handshake runs while Python starts.
pyi_err pyi_link_open(const pyi_link_config *config, pyi_link **ret, pyi_error *e) PYI_MUST_CHECK;
/// Waits for the handshake (HELLO was sent by open as soon as the socket was up). Blocks.
pyi_err pyi_link_handshake(pyi_link *l, pyi_error *e) PYI_MUST_CHECK;
/// Sends READY or FAILED (a whole frame) and waits for the host's answer. Blocks.
pyi_err pyi_link_announce(pyi_link *l, const void *frame, size_t len, pyi_error *e) PYI_MUST_CHECK;

/// Next request: PYI_OK, or PYI_EDEADLINE after timeout_ms (< 0: no limit; 0: does not block, the
/// fast drain), PYI_EDIED when the host is gone, PYI_ECANCELLED when woken by pyi_link_wake. A
/// cancelled call that was still queued is answered by the link itself and never seen here.
pyi_err pyi_link_next(pyi_link *l, int timeout_ms, pyi_request **ret, pyi_error *e) PYI_MUST_CHECK;
/// Readable while requests wait. Edge is re-armed by a pyi_link_next that returns PYI_EDEADLINE.
int pyi_link_fd(const pyi_link *l);
/// Makes a blocked pyi_link_next return. Any thread, async-signal-safe.
void pyi_link_wake(pyi_link *l);

/// Starts the reply to a request: a writer that writes straight into the outgoing message.
pyi_writer *pyi_link_reply_begin(pyi_link *l, pyi_request *rq);
/// Throws away what was written since begin, to write an error instead. Same writer.
void pyi_link_reply_reset(pyi_link *l, pyi_request *rq);
/// Sends it and frees the request. Never blocks.
void pyi_link_reply_send(pyi_link *l, pyi_request *rq);

void pyi_link_close(pyi_link *l);

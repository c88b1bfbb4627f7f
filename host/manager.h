#pragma once
/*
 * The core that all faces share: a manager owns a loop thread and its extensions. Everything in
 * here may be called from any thread; nothing blocks but what says so.
 */
#include "config.h"
#include "env_store.h"
#include "pyi_wire.h"

typedef struct pyi_manager pyi_manager;
typedef struct pyi_extension pyi_extension;

typedef enum pyi_state {
    PYI_STATE_NEW,
    PYI_STATE_PREPARING, /* its environment is made ready */
    PYI_STATE_STARTING,  /* spawned, not READY yet */
    PYI_STATE_READY,
    PYI_STATE_BACKOFF,  /* crashed; a new generation starts after a delay */
    PYI_STATE_DRAINING, /* stop asked for: calls in flight finish, new ones are refused */
    PYI_STATE_STOPPED,
    PYI_STATE_FAILED /* will not start by itself: bad environment, import error, crash loop ended */
} pyi_state;

const char *pyi_state_name(pyi_state s); /* "ready", ... */

/// Takes the configuration on success. Starts the loop thread; starts nothing else.
pyi_err pyi_manager_new(pyi_manager_config *config, pyi_manager **ret, pyi_error *e) PYI_MUST_CHECK;
const pyi_manager_config *pyi_manager_config_of(const pyi_manager *m);

/// Told about environment progress (any thread). Set before the first load.
void pyi_manager_on_progress(pyi_manager *m, const pyi_env_progress *progress);

/// Adds an extension (takes the configuration on success) and starts preparing it in the
/// background. PYI_EUNAVAILABLE: it asks for something that is not built yet. PYI_EINVAL: the name
/// is taken. The handle lives as long as the manager.
pyi_err pyi_manager_load(pyi_manager *m, pyi_extension_config *config, pyi_extension **ret,
                         pyi_error *e) PYI_MUST_CHECK;
/// What `load` would refuse with "not available yet", without loading. For `check`.
pyi_err pyi_extension_available(const pyi_extension_config *config, pyi_error *e) PYI_MUST_CHECK;

/// The extensions in the order of loading; *ret_count of them; the array is the caller's to free.
pyi_extension **pyi_manager_extensions(pyi_manager *m, size_t *ret_count);
pyi_extension *pyi_manager_find(pyi_manager *m, const char *name); /* NULL: no such */

/// Stops all: calls in flight have `grace_ms` to finish, stop() hooks run, then SIGTERM, SIGKILL.
/// Blocks until all are down. May be called twice, from several threads.
void pyi_manager_stop(pyi_manager *m, int64_t grace_ms);
/// SIGKILLs everything now; wakes a pyi_manager_stop that waits.
void pyi_manager_kill(pyi_manager *m);
/// Stops what still runs (no grace) and frees all. No call may be running on any thread.
void pyi_manager_free(pyi_manager *m);
/// The loop thread, for the control socket.
struct pyi_loop *pyi_manager_loop(pyi_manager *m);

/* ---- one extension --------------------------------------------------------------------------- */

const pyi_extension_config *pyi_extension_config_of(const pyi_extension *x);

/// Waits until it is READY (PYI_OK) or cannot become so (its error). timeout_ms < 0: no limit.
/// Blocks. *ret_detail (may be NULL): longer text, such as the installer's words or a traceback;
/// caller frees.
pyi_err pyi_extension_wait_ready(pyi_extension *x, int64_t timeout_ms, char **ret_detail,
                                 pyi_error *e) PYI_MUST_CHECK;
/// fn(arg) once, as soon as wait_ready would return; from an internal thread, must not block.
void pyi_extension_when_settled(pyi_extension *x, void (*fn)(void *arg), void *arg);

/// A new generation with new sockets; the old one drains. Also brings FAILED and STOPPED ones back.
/// Blocks until READY or failed.
pyi_err pyi_extension_restart(pyi_extension *x, int64_t grace_ms, pyi_error *e) PYI_MUST_CHECK;
/// Blocks until down. Idempotent.
void pyi_extension_stop(pyi_extension *x, int64_t grace_ms);

typedef struct pyi_status {
    pyi_state state;
    int pid; /* 0: none */
    unsigned generation;
    uint64_t calls, errors;      /* ended, and of these with an error, over all generations */
    unsigned in_flight, waiting; /* sent; waiting for READY */
    unsigned restarts, crashes_in_row;
    bool crash_loop;
    int64_t up_ms;         /* since READY; 0 if not */
    int64_t next_start_ms; /* BACKOFF: until the next start */
    uint64_t rss;          /* bytes, 0 if unknown */
    char python[32];       /* "3.11.2" */
    char env_id[40];
    char env_prefix[1024];
    char transport[8];    /* "nng" */
    char mode[8];         /* "embed", "exec", "host" */
    char sandbox[32];     /* "none" */
    pyi_error last_error; /* code PYI_OK: none */
    char *detail;         /* longer text of the last error or NULL; freed by pyi_status_fini */
} pyi_status;

void pyi_extension_status(pyi_extension *x, pyi_status *ret);
void pyi_status_fini(pyi_status *s);
/// The served methods of the READY generation: names in an array of strings; free() it (one block).
char **pyi_extension_methods(pyi_extension *x, size_t *ret_count);

/* ---- calls ----------------------------------------------------------------------------------- */

/// How a call ended. Borrowed: valid only during the callback.
typedef struct pyi_reply {
    pyi_err code; /* PYI_OK; PYI_EREMOTE; or how it failed: DEADLINE CANCELLED DIED STOPPED ETOOBIG
                     ... */
    pyi_reader value; /* PYI_OK: at the result. PYI_EREMOTE: at the error array (pyi_wire.h) */
    const pyi_error *error; /* not OK: always filled */
    const char *detail;     /* DIED, ESTART, EENV: last lines of stderr, tracebacks; or NULL */
} pyi_reply;

typedef void (*pyi_call_done)(void *arg, const pyi_reply *reply);

/// A call being built. begin -> put args (array) and kwargs (map) with the writer -> send or
/// abandon.
typedef struct pyi_call pyi_call;

/// Starts a CALL frame for `method` (of `object`, or NULL for the extension itself).
/// timeout_ms: < 0 the extension's call_timeout; 0 none.
pyi_err pyi_call_begin(pyi_extension *x, const char *object, const char *method, int64_t timeout_ms,
                       pyi_call **ret, pyi_error *e) PYI_MUST_CHECK;
/// Where to put first one array (the arguments), then one map (the keyword arguments).
pyi_writer *pyi_call_writer(pyi_call *c);
void pyi_call_abandon(pyi_call *c); /* instead of send */
/// Sends it, or keeps it until the extension is READY. `done` is called exactly once, from an
/// internal thread or from within send; it must not block. Always takes `c`. Returns the id for
/// cancel.
uint64_t pyi_call_send(pyi_call *c, pyi_call_done done, void *arg);
/// The call ends with PYI_ECANCELLED unless it has ended already. Unknown ids are fine.
void pyi_call_cancel(pyi_extension *x, uint64_t id);
/// Sends and waits. The reply is copied: free with pyi_result_free.
typedef struct pyi_result {
    pyi_err code;
    pyi_reader value; /* into `bytes` */
    pyi_error error;
    char *detail;
    uint8_t *bytes; // owned
} pyi_result;
pyi_result *pyi_call_wait(pyi_call *c);
void pyi_result_free(pyi_result *r);

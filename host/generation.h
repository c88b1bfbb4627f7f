#pragma once
/*
 * One child of one extension, from spawn to the end of its process: its sockets, its process, its
 * output. It is never restarted; the extension makes another one. Counted: who uses the bus holds a
 * reference.
 *
 *     STARTING --READY--> READY --stop--> STOPPING --exit--> ENDED
 *         \________________\_______________\___exit____________/
 *
 * Loop thread only, but for what says "any thread".
 */
#include "bus.h"
#include "env_store.h"
#include "loop.h"
#include "paths.h"

typedef struct pyi_generation pyi_generation;

typedef struct pyi_generation_config {
    pyi_loop *loop;
    const pyi_extension_config *extension; /* borrowed, outlives the generation */
    const pyi_env *env;                    /* borrowed during start */
    const pyi_paths *paths;                /* borrowed during start */
    const char *socket_dir;                /* the host's: the generation makes a folder in it */
    unsigned number;
    uint64_t max_payload;
    void (*on_ready)(void *arg, pyi_generation *g);
    void (*on_end)(void *arg, pyi_generation *g); /* once, always, when start succeeded */
    void *arg;
} pyi_generation_config;

/// What the child said of itself in READY.
typedef struct pyi_generation_info {
    char **methods; /* one block; NULL: none */
    size_t method_count;
    char kind[16], type[PYI_MAX_NAME + 1], python[32], mode[8];
} pyi_generation_info;

/// Spawns the child. on_end follows when it ends, however.
pyi_err pyi_generation_start(const pyi_generation_config *config, pyi_generation **ret,
                             pyi_error *e) PYI_MUST_CHECK;
/// Lets calls in flight finish for `grace_ms`, runs the child's stop() hooks, then ends it: SIGKILL
/// where it does not end by itself within the extension's stop_timeout. A second call with a
/// shorter grace shortens it.
void pyi_generation_stop(pyi_generation *g, int64_t grace_ms);
/// SIGKILL now. `why` (or NULL) becomes the reason that callers get.
void pyi_generation_kill(pyi_generation *g, const pyi_error *why);

pyi_generation *pyi_generation_ref(pyi_generation *g); /* any thread */
void pyi_generation_unref(pyi_generation *g);          /* any thread */

/* Any thread, with a reference. */
pyi_bus *pyi_generation_bus(const pyi_generation *g);
unsigned pyi_generation_number(const pyi_generation *g);
int pyi_generation_pid(const pyi_generation *g); /* 0: in the host's process */
const pyi_generation_info *pyi_generation_info_of(const pyi_generation *g); /* after on_ready */
int64_t pyi_generation_ready_at(const pyi_generation *g);                   /* ns; 0: not yet */
/// A call enters and leaves; stop waits for those inside.
void pyi_generation_enter(pyi_generation *g);
void pyi_generation_leave(pyi_generation *g);
/// Tells the child that call `id` is given up. A child whose RPC thread does not come by within the
/// grace time is stuck and is killed.
void pyi_generation_cancel(pyi_generation *g, uint64_t id, bool deadline);

/// The router has told the calls that died with it; one that comes too late is told at once. Any
/// thread with a reference.
void pyi_generation_calls_told(pyi_generation *g);
bool pyi_generation_were_calls_told(const pyi_generation *g);
/* After its end. Any thread with a reference. */
bool pyi_generation_was_ready(const pyi_generation *g);
bool pyi_generation_was_stopped(const pyi_generation *g); /* because it was asked to */
const pyi_error *pyi_generation_error(const pyi_generation *g);
const char *pyi_generation_detail(const pyi_generation *g); /* "" or last words, traceback */

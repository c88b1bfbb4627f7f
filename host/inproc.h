#pragma once
/*
 * `isolated = false`: the child's core on a thread of the host's process, with the host's one
 * CPython. The interpreter is loaded once and never unloaded.
 */
#include "env_store.h"
#include "paths.h"

typedef struct pyi_inproc pyi_inproc;

/// Starts the thread. `on_end` comes from it as its last act.
pyi_err pyi_inproc_start(const pyi_paths *paths, const pyi_env *env, const void *spec,
                         size_t spec_len, void (*on_end)(void *arg, int status), void *arg,
                         pyi_inproc **ret, pyi_error *e) PYI_MUST_CHECK;
/// Joins the thread: after on_end.
void pyi_inproc_free(pyi_inproc *p);
/// Leaves a thread to itself that does not end (it is stuck in C code): it frees what it has when
/// it ends, and on_end does not come. False: it has ended, on_end comes or came.
bool pyi_inproc_abandon(pyi_inproc *p);

#pragma once
/*
 * A child's output on its way into the host's log: descriptors 1 and 2 (C code, subprocesses) and
 * the log records of its Python (docs/protocol.md). Order holds within a stream. Loop thread only.
 */
#include "loop.h"
#include "spawn.h"

typedef struct pyi_childlog pyi_childlog;

/// Takes out_fd, err_fd and log_fd of `s`. `name` is borrowed.
pyi_err pyi_childlog_new(pyi_loop *loop, const char *name, unsigned generation, pyi_spawned *s,
                         pyi_childlog **ret, pyi_error *e) PYI_MUST_CHECK;
/// Reads all that is there and logs unfinished lines: after the child's end, so that nothing is
/// lost.
void pyi_childlog_drain(pyi_childlog *c);
/// The last lines of stderr, "" if there were none.
const char *pyi_childlog_tail(const pyi_childlog *c);
void pyi_childlog_free(pyi_childlog *c);

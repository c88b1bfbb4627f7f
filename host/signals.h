#pragma once
/*
 * Signals as calls of a function on a thread of its own. By handlers and a pipe, not by blocking: a
 * blocked or ignored signal is inherited by what the process executes (uv, a child), a handler is
 * not. One at a time in a process.
 */
#include "pyi_error.h"

typedef struct pyi_signals pyi_signals;

/// Catches SIGTERM, SIGINT, SIGHUP and SIGUSR2, and makes SIGPIPE harmless. fn may block.
pyi_err pyi_signals_start(void (*fn)(void *arg, int sig), void *arg, pyi_signals **ret,
                          pyi_error *e) PYI_MUST_CHECK;
/// Waits for a running fn, ends the thread, restores what was. NULL is fine.
void pyi_signals_stop(pyi_signals *s);

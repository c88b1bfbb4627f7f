#pragma once
/*
 * The Lua face at run time: binds the handles of a loaded configuration to a running manager and
 * runs its `main`. All on one thread (the one that loaded the configuration); calls wait as
 * coroutines, and their replies come back from the manager's threads through a queue and an
 * eventfd.
 */
#include "config.h"
#include "manager.h"

/// Binds the configuration's handles: by_index[i] is the i-th extension of the configuration
/// (copied; NULL where it could not be loaded: calls to it then raise). The manager must outlive
/// every call that is made.
pyi_err pyi_lua_attach(pyi_config *c, pyi_manager *m, pyi_extension *const *by_index,
                       pyi_error *e) PYI_MUST_CHECK;

/// How main is told to stop. Calls in flight then have the grace time to end before they are
/// cancelled; what wants to wait for anything else gets an error at once.
typedef struct pyi_lua_stop {
    int fd;                         /* readable: stop. Polled, never read; -1: never */
    int64_t (*grace_ms)(void *arg); /* asked once, then; NULL: no grace */
    void *arg;
} pyi_lua_stop;

/// Runs `main(args)`: args[1..argc] are argv[0..argc-1] (the arguments after the configuration),
/// args[0] its path. Returns the exit status: what main returned (a whole number of 0..255; nothing
/// or true: 0; false: 1; anything else is told on stderr and is 1), or 1 after an uncaught error,
/// whose message and traceback have been printed to stderr. When main has ended, tasks it spawned
/// are cancelled. *e: PYI_OK, or why it did not end by itself: PYI_ESTOPPED when a stop was asked
/// for (nothing is printed), PYI_EREMOTE and others after an uncaught error. `stop` may be NULL.
/// Blocks. Once per configuration.
int pyi_lua_run_main(pyi_config *c, int argc, char *const *argv, const pyi_lua_stop *stop,
                     pyi_error *e);
/// After the stop's descriptor has become readable: tells Lua code that computes and does not wait.
/// Any thread, does not block.
void pyi_lua_interrupt(void);

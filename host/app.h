#pragma once
/*
 * A configuration that runs: manager, extensions, control socket, progress, and how it is told to
 * stop. What cli_run.c puts the command line and the signals around. Main thread, but for what says
 * otherwise.
 */
#include "config.h"
#include "manager.h"

typedef struct pyi_app pyi_app;

typedef struct pyi_app_options {
    const char *path;         /* the configuration file */
    const char *control_path; /* of the control socket, or NULL: by the configuration's path */
    bool quiet;               /* no progress */
} pyi_app_options;

/// Starts everything that the configuration (borrowed) describes, in the background.
/// PYI_EUNAVAILABLE: another host runs it. On an error nothing is left running.
pyi_err pyi_app_start(pyi_config *config, const pyi_app_options *o, pyi_app **ret,
                      pyi_error *e) PYI_MUST_CHECK;

/// Waits until each extension is ready or has failed, or a stop is asked for. Returns how many are
/// ready.
size_t pyi_app_settle(pyi_app *a, size_t *ret_failed);
/// The exit status that the extensions' failures mean together. For a host without main.
pyi_err pyi_app_first_failure(const pyi_app *a);
/// Runs the configuration's main and returns its exit status.
int pyi_app_main(pyi_app *a, int argc, char *const *argv);
/// Waits until a stop is asked for.
void pyi_app_serve(pyi_app *a);

/// The first time: graceful, with grace_ms (< 0: the longest stop_timeout). Then, or with `now`: at
/// once. Any thread, does not block. Returns how often it has been asked, this time included.
unsigned pyi_app_ask_stop(pyi_app *a, bool now, int64_t grace_ms);
bool pyi_app_stopping(const pyi_app *a);
/// Writes the state of each extension to the log. Any thread.
void pyi_app_dump(pyi_app *a);

/// Stops the extensions. Blocks for the grace time at most, and a little; a pyi_app_ask_stop cuts
/// it short.
void pyi_app_finish(pyi_app *a);
/// Frees everything; finishes first if that was not done. No other thread may use it any more.
void pyi_app_free(pyi_app *a); /* NULL is fine */

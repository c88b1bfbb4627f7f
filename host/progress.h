#pragma once
/*
 * Shows how environments come along: on a terminal one line per extension with a bar, redrawn in
 * place; elsewhere one plain line per step. An environment that was there already is not shown at
 * all. The step function of pyi_progress_hooks may be called from any thread; the rest from one.
 */
#include "env_store.h"

typedef struct pyi_progress pyi_progress;

/// Writes to `fd` (borrowed). `quiet`: shows nothing.
pyi_err pyi_progress_new(int fd, bool quiet, pyi_progress **ret, pyi_error *e) PYI_MUST_CHECK;
/// What pyi_manager_on_progress and pyi_env_prepare take; valid until the free.
const pyi_env_progress *pyi_progress_hooks(pyi_progress *p);
/// Says that an extension's environment will not come: its bar ends.
void pyi_progress_failed(pyi_progress *p, const char *extension);
/// Removes the bars and stops drawing; what is told later is not shown.
void pyi_progress_end(pyi_progress *p);
void pyi_progress_free(pyi_progress *p); /* NULL is fine */

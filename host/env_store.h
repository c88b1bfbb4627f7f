#pragma once
/*
 * Environments: immutable folders under <venv_root>/.envs/<hash>, built at their final path,
 * published by a marker file; <venv_root>/<name> is a symlink to the one in use. Safe under
 * concurrent hosts (a lock per hash) and a kill at any moment: without the marker a folder is
 * rubbish and is rebuilt. Any thread; blocks while it builds (a worker thread per extension calls
 * it).
 */
#include "interpreter.h"

typedef struct pyi_env {
    char *id;     /* hex, 32 digits */
    char *prefix; /* the folder, absolute, resolved */
    char *python; /* <prefix>/bin/python */
    pyi_interpreter *interpreter;
    bool built; /* by this call; false: it was there */
    int64_t took_ns;
} pyi_env;

typedef enum pyi_env_step {
    PYI_STEP_RESOLVE,
    PYI_STEP_DOWNLOAD,
    PYI_STEP_BUILD,
    PYI_STEP_INSTALL,
    PYI_STEP_DONE
} pyi_env_step;

/// Told about progress, on the thread that prepares. `text` is one line.
typedef struct pyi_env_progress {
    void (*step)(void *arg, const char *extension, pyi_env_step step, const char *text);
    void *arg;
} pyi_env_progress;

/// Makes the environment of an extension ready. `cancel_fd` (or -1) becoming readable ends it.
/// On PYI_EENV, *ret_detail (or NULL) is the installer's own words, to be freed by the caller.
pyi_err pyi_env_prepare(const pyi_manager_config *manager, const pyi_extension_config *extension,
                        const pyi_env_progress *progress, int cancel_fd, pyi_env **ret_env,
                        char **ret_detail, pyi_error *e) PYI_MUST_CHECK;
void pyi_env_free(pyi_env *env);

/// The Python of an environment that is used as it is, without preparing anything; PYI_EENV: the
/// folder has none. `cache_dir` as for pyi_interpreter_find.
pyi_err pyi_env_existing(const char *folder, const char *cache_dir, pyi_interpreter **ret,
                         pyi_error *e) PYI_MUST_CHECK;

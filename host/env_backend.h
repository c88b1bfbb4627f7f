#pragma once
/*
 * What builds environments: uv now, conda later. The store decides what is built where and when; a
 * backend only fills one new folder. Any thread; blocks.
 */
#include "env_sources.h"
#include "env_store.h"
#include "requirement_file.h"
#include <pthread.h>

typedef struct pyi_env_plan {
    const pyi_extension_config *extension;
    const pyi_interpreter *interpreter;
    const pyi_env_sources *sources;
    const pyi_list *requirements; /* what is to be installed: pyisolate itself is not among it */
    const char *prefix;           /* the folder to make; absolute; not there yet */
    const char *scratch; /* a private folder for files of this build; there; removed after it */
    const char *cwd;     /* where to stand, or NULL */
    const pyi_env_progress *progress;
    int cancel_fd;
} pyi_env_plan;

typedef struct pyi_env_backend {
    const char *name;
    /// Fills the prefix. On PYI_EENV *ret_detail is the installer's own words, without credentials.
    pyi_err (*build)(const pyi_env_plan *plan, char **ret_detail, pyi_error *e);
} pyi_env_backend;

extern const pyi_env_backend pyi_env_uv;

/// The path of uv, to be freed: $PYISOLATE_UV, PATH, the usual folders. NULL: none.
char *pyi_uv_find(void);

/// Tells progress, if anybody listens. The text is one line.
void pyi_env_tell(const pyi_env_plan *plan, pyi_env_step step, const char *fmt, ...)
    PYI_PRINTF(3, 4);

/// The id of what `plan` would build: 32 hex digits of a hash over all that decides its contents.
pyi_err pyi_env_key(const pyi_env_plan *plan, const char *backend, char ret_id[33],
                    pyi_error *e) PYI_MUST_CHECK;

/// What the extension's requirement files include and name. To be freed by
/// pyi_requirement_set_fini.
void pyi_env_requirement_files(const pyi_env_plan *plan, pyi_requirement_set *ret);

/// The runtime's Python package is compiled for the interpreter of `plan`, if that is due and
/// possible: begun on a thread of its own, since it takes as long as making an environment does.
/// The plan must stay until the end.
typedef struct pyi_env_warming {
    const pyi_env_plan *plan;
    char *dir; // owned
    pthread_t thread;
    bool running;
} pyi_env_warming;

void pyi_env_warm_begin(pyi_env_warming *w, const pyi_env_plan *plan);
/// Waits for it.
void pyi_env_warm_end(pyi_env_warming *w);

/// The Python that `request` names, fit to run extensions. NULL: the machine's default.
pyi_err pyi_env_find_python(const char *request, pyi_interpreter **ret,
                            pyi_error *e) PYI_MUST_CHECK;

/// `isolated = false`: the environment is the manager's Python itself. Nothing is made or
/// installed; on PYI_EENV its packages lack something, *ret_detail lists all of it.
pyi_err pyi_env_host(const pyi_env_plan *plan, const pyi_manager_config *manager, pyi_env **ret_env,
                     char **ret_detail, pyi_error *e) PYI_MUST_CHECK;

#define PYI_AUTO_WARMING __attribute__((cleanup(pyi_env_warm_end)))

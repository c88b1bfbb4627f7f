#pragma once
/*
 * CPython interpreters of this machine: found, probed by running them once, and remembered in a
 * cache file keyed by path, size, mtime and inode. Any thread; may block (runs a process).
 */
#include "config.h"

typedef struct pyi_interpreter {
    char *executable;  /* resolved path of the base interpreter */
    char *version;     /* "3.11.2" */
    char *sys_version; /* whole sys.version: what Py_GetVersion() must return */
    char *libpython;   /* absolute path of the shared libpython, or NULL: there is none */
    char *base_prefix;
    char *platform; /* sysconfig.get_platform() */
    int major, minor, micro;
    bool free_threaded, debug;
} pyi_interpreter;

/// Finds the interpreter that `request` names: a path, "3.12", ">=3.10,<3.13", or NULL for the
/// default. Searched: PATH (pyenv's shims left out), ~/.pyenv/versions/*/bin, uv's own, /usr/bin,
/// /usr/local/bin. PYI_ENOTFOUND names what was found and the command that installs the missing
/// one.
pyi_err pyi_interpreter_find(const char *request, const char *cache_dir, pyi_interpreter **ret,
                             pyi_error *e) PYI_MUST_CHECK;
/// Probes one python executable (a venv's own too: then base paths are of its base).
pyi_err pyi_interpreter_probe(const char *executable, const char *cache_dir, pyi_interpreter **ret,
                              pyi_error *e) PYI_MUST_CHECK;
/// Where the Python lies that a request with a '/' names, its links not followed: a virtual
/// environment is known by the path it is started with. NULL on out-of-memory; to be freed.
char *pyi_interpreter_path(const char *request);
/// All that are found, best default first. For doctor.
pyi_err pyi_interpreter_list(const char *cache_dir, pyi_interpreter ***ret_list, size_t *ret_count,
                             pyi_error *e) PYI_MUST_CHECK;
void pyi_interpreter_free(pyi_interpreter *i);

#pragma once
/* Where the pieces of an installation and of a user's machine are. Any thread. */
#include "pyi_error.h"

typedef struct pyi_paths {
    char child[4096];  /* pyisolate-child */
    char core[4096];   /* libpyisolate-core.abi3.so */
    char python[4096]; /* the folder that contains the Python package `pyisolate` */
} pyi_paths;

/// PYISOLATE_LIBDIR, else beside the executable (build tree), else <prefix>/lib/pyisolate.
pyi_err pyi_paths_find(pyi_paths *ret, pyi_error *e) PYI_MUST_CHECK;

/// The user's private runtime folder for sockets, made 0700 and checked for owner:
/// $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/pyisolate, else /tmp/pyisolate-UID. Short enough for socket
/// paths (108 bytes).
pyi_err pyi_runtime_dir(char *ret, size_t size, pyi_error *e) PYI_MUST_CHECK;
/// $XDG_CACHE_HOME/pyisolate or ~/.cache/pyisolate; made.
pyi_err pyi_cache_dir(char *ret, size_t size, pyi_error *e) PYI_MUST_CHECK;
/// mkdir -p with this mode for what is new.
pyi_err pyi_mkdirs(const char *path, int mode, pyi_error *e) PYI_MUST_CHECK;
/// rm -rf, does not follow links. A missing path is fine.
pyi_err pyi_remove_tree(const char *path, pyi_error *e) PYI_MUST_CHECK;

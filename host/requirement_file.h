#pragma once
/*
 * Requirement files, read only for what they include and which local projects they name: both are
 * part of an environment's identity. All else in them is the installer's. Any thread; reads files.
 */
#include "list.h"

typedef struct pyi_requirement_set {
    pyi_list files; /* every file that was read or should have been, absolute or as included */
    pyi_list local; /* local requirements, made absolute: "/a/b[extra]", "-e /a/b", "file:///a" */
} pyi_requirement_set;

/// Adds what `path` holds, with all that it includes. Relative projects lie below `cwd`, where the
/// installer will stand; relative includes lie beside the file that includes them.
void pyi_requirement_set_add(pyi_requirement_set *set, const char *path, const char *cwd);
void pyi_requirement_set_fini(pyi_requirement_set *set);

#pragma once
/*
 * Versions of Python as PEP 440 compares them, as far as an interpreter's version goes: up to three
 * numbers and a pre-release mark. Any thread; never blocks.
 */
#include "pyi_error.h"

typedef struct pyi_version {
    int part[3];
    int parts; /* how many numbers were written: "3.12" has 2 */
    int pre;   /* orders a1 < a2 < b1 < rc1 < final */
    bool any;  /* ended in ".*" */
} pyi_version;

/// "3", "3.12", "3.12.1", "3.14.0rc1", "3.12.*"; a trailing "+" (a build from a checkout) is
/// ignored.
bool pyi_version_parse(const char *text, pyi_version *ret);
int pyi_version_compare(const pyi_version *a, const pyi_version *b);

/// PYI_OK if `request` can be understood: "3.12", "python3.12", "cpython@3.12", ">=3.10,<3.13".
pyi_err pyi_version_check_request(const char *request, pyi_error *e) PYI_MUST_CHECK;
/// Whether a version meets a request that was checked. A bare version is a prefix: "3.12"
/// takes 3.12.7.
bool pyi_version_meets(const char *version, const char *request);

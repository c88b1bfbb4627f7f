#pragma once
/*
 * The error array of the wire, taken apart: what every face needs to raise, print or convert it.
 * The parts are borrowed from the frame. Any thread; allocates nothing.
 */
#include "pyi_wire.h"

typedef struct pyi_span {
    const char *text; /* not NUL-terminated; NULL: absent */
    size_t len;
} pyi_span;

typedef struct pyi_remote_error {
    pyi_err code;
    pyi_span type, module, message, traceback;
    pyi_reader notes; /* at an array of str */
    pyi_reader args;  /* at an array, or at nil */
    pyi_reader cause; /* at an error array, or at nil */
    bool has_cause, has_args;
} pyi_remote_error;

/// Reads one error array and leaves `r` behind it.
pyi_err pyi_remote_error_read(pyi_reader *r, pyi_remote_error *ret, pyi_error *e) PYI_MUST_CHECK;
/// "TYPE: message" as one pyi_error (cut if long), with `where`.
void pyi_remote_error_describe(const pyi_remote_error *x, const char *where, pyi_error *e);

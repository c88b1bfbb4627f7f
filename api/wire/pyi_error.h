#pragma once
/*
 * One error type for all of it: fixed size, so that it can be filled after out-of-memory and copied
 * freely. A fallible function returns pyi_err and, where the OS, Lua, Python or the wire is met,
 * takes a `pyi_error *e` last (never NULL). First cause wins; callers add context with
 * pyi_error_wrap. A function returns an error or logs it, never both. Any thread.
 */
#include "pyi_base.h"

typedef enum pyi_err {
    PYI_OK = 0,
    PYI_EINVAL,       /* an argument is wrong */
    PYI_ENOMEM,       /* out of memory */
    PYI_ESYS,         /* the OS refused: see .sys */
    PYI_EPROTO,       /* the peer broke the protocol */
    PYI_ETOOBIG,      /* over a limit */
    PYI_ETYPE,        /* a value that cannot be sent */
    PYI_ENOTFOUND,    /* no such extension, object, method, file */
    PYI_EPERM,        /* refused by policy or permission */
    PYI_EDEADLINE,    /* the deadline passed */
    PYI_ECANCELLED,   /* the caller cancelled */
    PYI_EDIED,        /* the extension died in mid-call */
    PYI_ESTOPPED,     /* the extension or the host was stopped */
    PYI_EREMOTE,      /* the extension raised an exception */
    PYI_ECONFIG,      /* the configuration is wrong */
    PYI_EENV,         /* an environment could not be built */
    PYI_ESTART,       /* the extension could not be started */
    PYI_EUNAVAILABLE, /* something this needs is missing on this machine, or not built yet */
    PYI_EINTERNAL,    /* a bug of ours */
    PYI_ERR_COUNT
} pyi_err;

typedef struct pyi_error {
    pyi_err code;
    int sys;        /* errno, or 0 */
    char where[32]; /* a step: "python.import", "env.install" */
    char msg[256];  /* the value in quotes, what was expected, what to do next; cut with "..." */
} pyi_error;

/// Clears *e.
void pyi_error_init(pyi_error *e);

/// Fills *e and returns `code`, for `return pyi_error_set(e, ...)`.
pyi_err pyi_error_set(pyi_error *e, pyi_err code, const char *where, const char *fmt, ...)
    PYI_PRINTF(4, 5);

/// The same with errno: appends ": " and its text.
pyi_err pyi_error_sys(pyi_error *e, int sys, const char *where, const char *fmt, ...)
    PYI_PRINTF(4, 5);

/// Puts "CONTEXT: " before the message; returns e->code.
pyi_err pyi_error_wrap(pyi_error *e, const char *fmt, ...) PYI_PRINTF(2, 3);

/// A short stable name: "deadline", "died", ... never NULL.
const char *pyi_err_name(pyi_err code);

/// The Python exception that stands for a code: "TimeoutError", "ConnectionError", ... All are
/// built-in but "CancelledError", which is asyncio's. Never NULL.
const char *pyi_err_python_type(pyi_err code);

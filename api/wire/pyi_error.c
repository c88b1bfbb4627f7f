/*
 * Filling pyi_error. Texts are formatted on the stack first, so that an argument may point into the
 * error itself, and are cut at a whole UTF-8 character with "..." where they don't fit: a cut
 * message must still be a valid string on the wire. Nothing allocates.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE // strerrordesc_np
#endif
#include "pyi_error.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct err_info {
    const char *name;
    const char *python_type;
} err_info;

static const err_info infos[PYI_ERR_COUNT] = {
    [PYI_OK] = {"ok", "RuntimeError"},
    [PYI_EINVAL] = {"invalid", "ValueError"},
    [PYI_ENOMEM] = {"memory", "MemoryError"},
    [PYI_ESYS] = {"system", "OSError"},
    [PYI_EPROTO] = {"protocol", "ConnectionError"},
    [PYI_ETOOBIG] = {"too-big", "ValueError"},
    [PYI_ETYPE] = {"type", "TypeError"},
    [PYI_ENOTFOUND] = {"not-found", "AttributeError"},
    [PYI_EPERM] = {"denied", "PermissionError"},
    [PYI_EDEADLINE] = {"deadline", "TimeoutError"},
    [PYI_ECANCELLED] = {"cancelled", "CancelledError"},
    [PYI_EDIED] = {"died", "ConnectionError"},
    [PYI_ESTOPPED] = {"stopped", "ConnectionError"},
    [PYI_EREMOTE] = {"remote", "RuntimeError"},
    [PYI_ECONFIG] = {"config", "ValueError"},
    [PYI_EENV] = {"environment", "EnvironmentError"},
    [PYI_ESTART] = {"start", "RuntimeError"},
    [PYI_EUNAVAILABLE] = {"unavailable", "RuntimeError"},
    [PYI_EINTERNAL] = {"internal", "RuntimeError"},
};

static bool is_continuation(char c) {
    return ((unsigned char)c & 0xC0) == 0x80;
}

/// Copies `text` (whose full length is `len`; it may be cut already) into dst[size].
static void copy_cut(char *dst, size_t size, const char *text, size_t len) {
    if (len < size) {
        memcpy(dst, text, len + 1);
        return;
    }
    size_t keep = size - sizeof("...");
    for (int back = 0; back < 3 && is_continuation(text[keep]); back++) {
        keep--;
    }
    memcpy(dst, text, keep);
    memcpy(dst + keep, "...", sizeof("..."));
}

static void set_where(pyi_error *e, const char *where) {
    const char *text = where ? where : "";
    char copy[sizeof(e->where)];
    copy_cut(copy, sizeof(copy), text, strlen(text));
    memcpy(e->where, copy, sizeof(copy));
}

/// Formats into dst[size]; a longer text is cut.
static void format(char *dst, size_t size, const char *fmt, va_list args) {
    char text[1024];
    int len = vsnprintf(text, sizeof(text), fmt, args);
    if (len < 0) {
        (void)snprintf(text, sizeof(text), "(message could not be formatted)");
        len = (int)strlen(text);
    }
    copy_cut(dst, size, text, (size_t)len);
}

void pyi_error_init(pyi_error *e) {
    *e = (pyi_error){.code = PYI_OK};
}

pyi_err pyi_error_set(pyi_error *e, pyi_err code, const char *where, const char *fmt, ...) {
    char msg[sizeof(e->msg)];
    va_list args;
    va_start(args, fmt);
    format(msg, sizeof(msg), fmt, args);
    va_end(args);
    e->code = code;
    e->sys = 0;
    set_where(e, where);
    memcpy(e->msg, msg, sizeof(msg));
    return code;
}

pyi_err pyi_error_sys(pyi_error *e, int sys, const char *where, const char *fmt, ...) {
    char what[sizeof(e->msg)];
    va_list args;
    va_start(args, fmt);
    format(what, sizeof(what), fmt, args);
    va_end(args);
    const char *why = strerrordesc_np(sys); // thread safe and unlocalized, unlike strerror
    if (why) {
        pyi_error_set(e, PYI_ESYS, where, "%s: %s", what, why);
    } else {
        pyi_error_set(e, PYI_ESYS, where, "%s: error %d", what, sys);
    }
    e->sys = sys;
    return PYI_ESYS;
}

pyi_err pyi_error_wrap(pyi_error *e, const char *fmt, ...) {
    char context[sizeof(e->msg)];
    char text[2 * sizeof(e->msg) + 2];
    va_list args;
    va_start(args, fmt);
    format(context, sizeof(context), fmt, args);
    va_end(args);
    int len = snprintf(text, sizeof(text), "%s: %s", context, e->msg);
    copy_cut(e->msg, sizeof(e->msg), text, (size_t)len);
    return e->code;
}

static const err_info *info_of(pyi_err code) {
    bool known = (int)code >= 0 && code < PYI_ERR_COUNT; // a code may come from the wire
    return &infos[known ? code : PYI_EINTERNAL];
}

const char *pyi_err_name(pyi_err code) {
    return info_of(code)->name;
}

const char *pyi_err_python_type(pyi_err code) {
    return info_of(code)->python_type;
}

/* Reads the fixed array [code, type, module, message, traceback, notes, args, cause]. */
#include "remote_error.h"

static pyi_err malformed(pyi_error *e) {
    return pyi_error_set(e, PYI_EPROTO, "wire.error", "an error on the wire is malformed");
}

static bool read_span(pyi_reader *r, pyi_span *ret) {
    pyi_token t;
    if (pyi_read(r, &t) != PYI_OK || (t.kind != PYI_STR && t.kind != PYI_NIL)) {
        return false;
    }
    *ret = t.kind == PYI_STR ? (pyi_span){(const char *)t.data, t.len} : (pyi_span){NULL, 0};
    return true;
}

/* A value of this kind, or nil; `ret` is at it, `r` behind it. */
static bool read_part(pyi_reader *r, pyi_kind kind, pyi_reader *ret, bool *ret_there) {
    pyi_reader at = *r;
    pyi_token t;
    if (pyi_read(&at, &t) != PYI_OK || (t.kind != kind && t.kind != PYI_NIL)) {
        return false;
    }
    *ret = *r;
    *ret_there = t.kind == kind;
    return pyi_skip(r) == PYI_OK;
}

pyi_err pyi_remote_error_read(pyi_reader *r, pyi_remote_error *ret, pyi_error *e) {
    pyi_token t;
    bool has_notes;
    pyi_remote_error x = {0};
    if (pyi_read_kind(r, PYI_ARRAY, &t) != PYI_OK || t.count != PYI_ERROR_FIELDS ||
        pyi_read_kind(r, PYI_INT, &t) != PYI_OK) {
        return malformed(e);
    }
    x.code = t.i > PYI_OK && t.i < PYI_ERR_COUNT ? (pyi_err)t.i : PYI_EREMOTE;
    if (!read_span(r, &x.type) || !read_span(r, &x.module) || !read_span(r, &x.message) ||
        !read_span(r, &x.traceback) || !read_part(r, PYI_ARRAY, &x.notes, &has_notes) ||
        !read_part(r, PYI_ARRAY, &x.args, &x.has_args) ||
        !read_part(r, PYI_ARRAY, &x.cause, &x.has_cause)) {
        return malformed(e);
    }
    *ret = x;
    return PYI_OK;
}

void pyi_remote_error_describe(const pyi_remote_error *x, const char *where, pyi_error *e) {
    pyi_error_set(e, PYI_EREMOTE, where, "%.*s%s%.*s", (int)x->type.len,
                  x->type.text != NULL ? x->type.text : "", x->message.len > 0 ? ": " : "",
                  (int)x->message.len, x->message.text != NULL ? x->message.text : "");
}

/*
 * pyi_validate: one pass over a whole value, with a stack of its own and so no recursion that a
 * peer could drive. Arrays, maps and the extension types that hold any values (tuple, set,
 * frozenset) are walked; the payload of every other extension type has a fixed shape and is checked
 * on the spot. What passes here can be read by anybody without a further check but of kinds and
 * depth.
 */
#include "pyi_wire.h"

#define MAX_DEPTH (PYI_MAX_DEPTH + PYI_FRAME_DEPTH)

#define MICROSECONDS 999999
#define DAY_SECONDS  86400

/// A container that is open.
typedef struct level {
    uint64_t left;      /* values still to come */
    const uint8_t *end; /* of a tuple or set: where the bytes round its payload end; else NULL */
    bool map;
    bool in_key; /* it is a map's key, or part of one */
} level;

typedef struct walk {
    pyi_reader r;
    size_t depth;
    const char *problem;         /* what is wrong, for the message */
    level levels[MAX_DEPTH + 1]; /* [0] is the value itself */
} walk;

static bool bad(walk *w, const char *problem) {
    w->problem = problem;
    return false;
}

/* ---- payloads -------------------------------------------------------------------------------- */

/// Opens a payload that must be an array of `count` values. at_end tells that nothing follows them.
static bool open_array(pyi_reader *r, const pyi_token *ext, uint32_t count) {
    pyi_token t;
    *r = pyi_reader_on(ext->data, ext->len);
    return pyi_read_kind(r, PYI_ARRAY, &t) == PYI_OK && t.count == count;
}

static bool at_end(const pyi_reader *r) {
    return r->p == r->end;
}

static bool int_between(pyi_reader *r, int64_t least, int64_t most) {
    pyi_token t;
    return pyi_read_kind(r, PYI_INT, &t) == PYI_OK && t.i >= least && t.i <= most;
}

static bool float_next(pyi_reader *r) {
    pyi_token t;
    return pyi_read_kind(r, PYI_FLOAT, &t) == PYI_OK;
}

/// A str, or the extension type for one that has lone surrogates.
static bool text_next(pyi_reader *r) {
    pyi_token t;
    if (pyi_read(r, &t) != PYI_OK) {
        return false;
    }
    if (t.kind == PYI_STR) {
        return pyi_utf8_valid(t.data, t.len);
    }
    return t.kind == PYI_EXT && t.ext == PYI_EXT_SURROGATE &&
           pyi_utf8_valid_surrogates(t.data, t.len);
}

static bool nil_or_text(pyi_reader *r) {
    pyi_reader ahead = *r;
    pyi_token t;
    if (pyi_read(&ahead, &t) == PYI_OK && t.kind == PYI_NIL) {
        *r = ahead;
        return true;
    }
    return text_next(r);
}

/// Seconds east of UTC, less than a day either way; a float if it has a fraction.
static bool nil_or_offset(pyi_reader *r) {
    pyi_token t;
    if (pyi_read(r, &t) != PYI_OK) {
        return false;
    }
    if (t.kind == PYI_INT) {
        return t.i > -DAY_SECONDS && t.i < DAY_SECONDS;
    }
    return t.kind == PYI_NIL || (t.kind == PYI_FLOAT && t.f > -DAY_SECONDS && t.f < DAY_SECONDS);
}

static bool date_fields(pyi_reader *r) {
    return int_between(r, 1, 9999) && int_between(r, 1, 12) && int_between(r, 1, 31);
}

static bool time_fields(pyi_reader *r) {
    return int_between(r, 0, 23) && int_between(r, 0, 59) && int_between(r, 0, 59) &&
           int_between(r, 0, MICROSECONDS) && int_between(r, 0, 1) && nil_or_offset(r) &&
           nil_or_text(r);
}

static bool complex_ok(const pyi_token *ext) {
    pyi_reader r;
    return open_array(&r, ext, 2) && float_next(&r) && float_next(&r) && at_end(&r);
}

static bool datetime_ok(const pyi_token *ext) {
    pyi_reader r;
    return open_array(&r, ext, 10) && date_fields(&r) && time_fields(&r) && at_end(&r);
}

static bool date_ok(const pyi_token *ext) {
    pyi_reader r;
    return open_array(&r, ext, 3) && date_fields(&r) && at_end(&r);
}

static bool time_ok(const pyi_token *ext) {
    pyi_reader r;
    return open_array(&r, ext, 7) && time_fields(&r) && at_end(&r);
}

static bool timedelta_ok(const pyi_token *ext) {
    pyi_reader r;
    return open_array(&r, ext, 3) && int_between(&r, -999999999, 999999999) &&
           int_between(&r, 0, DAY_SECONDS - 1) && int_between(&r, 0, MICROSECONDS) && at_end(&r);
}

static bool path_ok(const pyi_token *ext) {
    pyi_reader r = pyi_reader_on(ext->data, ext->len);
    return text_next(&r) && at_end(&r);
}

/// Reads a shape and gives the number of items, if it can be told in 64 bits.
static bool shape_next(pyi_reader *r, uint64_t *ret_items) {
    pyi_token t;
    uint64_t items = 1;
    bool none = false; // a shape with a 0 has no items, however large the rest of it is
    if (pyi_read_kind(r, PYI_ARRAY, &t) != PYI_OK || t.count > PYI_MAX_NDIM) {
        return false;
    }
    for (uint32_t left = t.count; left > 0; left--) {
        if (pyi_read_kind(r, PYI_UINT, &t) != PYI_OK || t.u > INT64_MAX) {
            return false;
        }
        none = none || t.u == 0;
        if (t.u > 0 && __builtin_mul_overflow(items, t.u, &items)) {
            return false;
        }
    }
    *ret_items = none ? 0 : items;
    return true;
}

static bool ndarray_ok(const pyi_token *ext) {
    pyi_reader r;
    pyi_token data;
    uint64_t items;
    if (!open_array(&r, ext, 3) || !text_next(&r) || !shape_next(&r, &items)) {
        return false;
    }
    if (pyi_read_kind(&r, PYI_BIN, &data) != PYI_OK || !at_end(&r)) {
        return false;
    }
    return items == 0 ? data.len == 0 : data.len % items == 0;
}

static bool npscalar_ok(const pyi_token *ext) {
    pyi_reader r;
    pyi_token data;
    return open_array(&r, ext, 2) && text_next(&r) && pyi_read_kind(&r, PYI_BIN, &data) == PYI_OK &&
           at_end(&r);
}

/// The extension types of a fixed shape. NULL: fine.
static const char *payload_problem(const pyi_token *ext) {
    switch ((int)ext->ext) {
    case PYI_EXT_COMPLEX:
        return complex_ok(ext) ? NULL : "a complex must be an array of 2 floats";
    case PYI_EXT_BIGINT:
        return ext->len >= 9 ? NULL : "a big integer must have at least 9 bytes";
    case PYI_EXT_DATETIME:
        return datetime_ok(ext) ? NULL : "a datetime has wrong fields";
    case PYI_EXT_DATE:
        return date_ok(ext) ? NULL : "a date has wrong fields";
    case PYI_EXT_TIME:
        return time_ok(ext) ? NULL : "a time has wrong fields";
    case PYI_EXT_TIMEDELTA:
        return timedelta_ok(ext) ? NULL : "a timedelta has wrong fields";
    case PYI_EXT_UUID:
        return ext->len == 16 ? NULL : "a UUID must have 16 bytes";
    case PYI_EXT_PATH:
        return path_ok(ext) ? NULL : "a path must be one str";
    case PYI_EXT_NDARRAY:
        return ndarray_ok(ext) ? NULL : "an array's shape does not fit its data";
    case PYI_EXT_NPSCALAR:
        return npscalar_ok(ext) ? NULL : "a numpy scalar must be [dtype, bytes]";
    case PYI_EXT_SURROGATE:
        return pyi_utf8_valid_surrogates(ext->data, ext->len) ? NULL : "a str is not UTF-8";
    default:
        return "an extension type is unknown to this protocol version";
    }
}

/* ---- the walk -------------------------------------------------------------------------------- */

/// Whether the value that comes next is a map's key or lies in one.
static bool next_in_key(const level *l) {
    return l->in_key || (l->map && l->left % 2 == 0);
}

static bool enter(walk *w, level inner, bool in_key) {
    if (w->depth == MAX_DEPTH) {
        return bad(w, "it is nested too deeply");
    }
    if (in_key && inner.map) {
        return bad(w, "a map is part of a map's key"); // no key can be a dict; JSON relies on it
    }
    inner.in_key = in_key;
    w->levels[++w->depth] = inner;
    return true;
}

/// Steps back into the payload that the reader has passed.
static bool enter_payload(walk *w, const pyi_token *ext, bool in_key) {
    pyi_token array;
    const uint8_t *outer = w->r.end;
    w->r = pyi_reader_on(ext->data, ext->len);
    if (pyi_read_kind(&w->r, PYI_ARRAY, &array) != PYI_OK) {
        return bad(w, "the payload of a tuple or set must be an array");
    }
    return enter(w, (level){.left = array.count, .end = outer}, in_key);
}

static bool check_ext(walk *w, const pyi_token *ext, bool in_key) {
    switch ((int)ext->ext) {
    case PYI_EXT_TUPLE:
    case PYI_EXT_SET:
    case PYI_EXT_FROZENSET:
        return enter_payload(w, ext, in_key);
    default:
        w->problem = payload_problem(ext);
        return w->problem == NULL;
    }
}

static bool check_next(walk *w) {
    level *l = &w->levels[w->depth];
    bool in_key = next_in_key(l);
    pyi_token t;
    if (pyi_read(&w->r, &t) != PYI_OK) {
        return bad(w, "it ends too early, or is not msgpack");
    }
    l->left--;
    switch (t.kind) {
    case PYI_STR:
        return pyi_utf8_valid(t.data, t.len) || bad(w, "a str is not UTF-8");
    case PYI_ARRAY:
        return enter(w, (level){.left = t.count}, in_key);
    case PYI_MAP:
        return enter(w, (level){.left = (uint64_t)t.count * 2, .map = true}, in_key);
    case PYI_EXT:
        return check_ext(w, &t, in_key);
    case PYI_NIL:
    case PYI_BOOL:
    case PYI_INT:
    case PYI_UINT:
    case PYI_FLOAT:
    case PYI_BIN:
        break;
    }
    return true;
}

/// Closes the innermost container, whose values have all come.
static bool leave(walk *w) {
    const uint8_t *outer = w->levels[w->depth--].end;
    if (!outer) {
        return true;
    }
    if (!at_end(&w->r)) {
        return bad(w, "bytes are left over behind a payload");
    }
    w->r.end = outer;
    return true;
}

static bool check_all(walk *w) {
    for (;;) {
        while (w->levels[w->depth].left == 0) {
            if (w->depth == 0) {
                return at_end(&w->r) || bad(w, "bytes are left over behind the value");
            }
            if (!leave(w)) {
                return false;
            }
        }
        if (!check_next(w)) {
            return false;
        }
    }
}

pyi_err pyi_validate(const void *data, size_t len, pyi_error *e) {
    walk w;
    w.r = pyi_reader_on(data, len);
    w.depth = 0;
    w.problem = NULL;
    w.levels[0] = (level){.left = 1};
    if (check_all(&w)) {
        return PYI_OK;
    }
    size_t at = (size_t)(w.r.p - (const uint8_t *)data);
    return pyi_error_set(e, PYI_EPROTO, "wire.validate",
                         "the value is not valid: %s (near byte %zu of %zu)", w.problem, at, len);
}

/*
 * JSON to wire goes through jansson, which checks the text and keeps the order of keys. Wire to
 * JSON is a stream with a stack of its own, so that a hostile value can neither exhaust the C stack
 * nor make a tree in memory. A key that is not a str becomes the text of its JSON: it is written
 * like any value, and made a string when it is complete. No map can be part of a key (pyi_validate
 * refuses it, and so does this), so a key's text is escaped once and never again and again.
 */
#include "json.h"
#include "json_bigint.h"
#include "json_ext.h"
#include "pyi_escape.h"
#include <jansson.h>

#define MAX_DEPTH (PYI_MAX_DEPTH + PYI_FRAME_DEPTH) /* as pyi_validate */

/* ---- JSON to wire ---------------------------------------------------------------------------- */

static void cleanup_json(json_t **j) {
    json_decref(*j);
}

/// From where to where.
typedef struct parse {
    pyi_writer *w;
    pyi_json_bigints bigints;
} parse;

static void cleanup_parse(parse *p) {
    pyi_json_bigints_fini(&p->bigints);
}

static pyi_err put_json(parse *p, const json_t *j, unsigned depth, pyi_error *e);

static pyi_err put_list(parse *p, const json_t *list, unsigned depth, pyi_error *e) {
    size_t count = json_array_size(list);
    pyi_put_array(p->w, count);
    for (size_t i = 0; i < count; i++) {
        pyi_err err = put_json(p, json_array_get(list, i), depth + 1, e);
        if (err != PYI_OK) {
            return err;
        }
    }
    return PYI_OK;
}

static pyi_err put_object(parse *p, json_t *object, unsigned depth, pyi_error *e) {
    pyi_put_map(p->w, json_object_size(object));
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
        pyi_put_cstr(p->w, json_object_iter_key(it));
        pyi_err err = put_json(p, json_object_iter_value(it), depth + 1, e);
        if (err != PYI_OK) {
            return err;
        }
    }
    return PYI_OK;
}

static pyi_err put_number(parse *p, const json_t *j, pyi_error *e) {
    bool put = false;
    pyi_err err = pyi_json_bigints_put(&p->bigints, p->w, &put, e);
    if (err != PYI_OK || put) {
        return err;
    }
    if (json_is_integer(j)) {
        pyi_put_int(p->w, json_integer_value(j));
    } else {
        pyi_put_float(p->w, json_real_value(j));
    }
    return PYI_OK;
}

/// Recursion is bounded by PYI_MAX_DEPTH.
static pyi_err put_json(parse *p, const json_t *j, unsigned depth, pyi_error *e) {
    bool container = json_is_array(j) || json_is_object(j);
    if (container && depth == PYI_MAX_DEPTH) {
        return pyi_error_set(e, PYI_ETOOBIG, "json.parse",
                             "the value is nested more than %u deep; make it flatter",
                             PYI_MAX_DEPTH);
    }
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return put_object(p, (json_t *)j, depth, e); // jansson's iterators take no const
    case JSON_ARRAY:
        return put_list(p, j, depth, e);
    case JSON_INTEGER:
    case JSON_REAL:
        return put_number(p, j, e);
    case JSON_STRING:
        pyi_put_str(p->w, json_string_value(j), json_string_length(j));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        pyi_put_bool(p->w, json_is_true(j));
        break;
    case JSON_NULL:
        pyi_put_nil(p->w);
        break;
    }
    return PYI_OK;
}

/// What to do about it, where jansson's own words leave that open.
static const char *remedy(const json_error_t *why) {
    switch ((int)json_error_code(why)) {
    case json_error_numeric_overflow:
        return "; send it as a string";
    case json_error_duplicate_key:
        return "; a key may come once";
    case json_error_invalid_syntax:
    case json_error_premature_end_of_input:
    case json_error_end_of_input_expected:
        return "; a string needs double quotes: '\"text\"' in a shell";
    default:
        return "";
    }
}

pyi_err pyi_json_to_wire(const char *text, size_t len, pyi_writer *w, pyi_error *e) {
    json_error_t why;
    size_t flags = JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
    __attribute__((cleanup(cleanup_parse))) parse p = {.w = w};
    pyi_err err = pyi_json_bigints_find(&p.bigints, text, len, e);
    if (err != PYI_OK) {
        return err;
    }
    const char *source = p.bigints.text != NULL ? p.bigints.text : text;
    __attribute__((cleanup(cleanup_json))) json_t *j = json_loadb(source, len, flags, &why);
    if (!j) {
        bool memory = json_error_code(&why) == json_error_out_of_memory;
        return pyi_error_set(e, memory ? PYI_ENOMEM : PYI_EINVAL, "json.parse",
                             "not JSON at line %d, column %d: %s%s", why.line, why.column, why.text,
                             remedy(&why));
    }
    err = put_json(&p, j, 0, e);
    return err != PYI_OK ? err : pyi_writer_error(w, e);
}

/* ---- wire to JSON ---------------------------------------------------------------------------- */

/// A container that is open.
typedef struct level {
    uint64_t left;      /* values still to come */
    const uint8_t *end; /* of a tuple or set: where the bytes round its payload end; else NULL */
    size_t key_at;      /* of a map: where the text of the last key begins */
    bool map, first, in_key;
} level;

typedef struct stream {
    pyi_reader r;
    pyi_writer out;
    size_t depth;
    const char *problem;
    level levels[MAX_DEPTH + 1]; /* [0] is the value itself */
} stream;

static bool bad(stream *s, const char *problem) {
    s->problem = problem;
    return false;
}

static void put(stream *s, const char *text) {
    pyi_put_raw(&s->out, text, strlen(text));
}

/// Makes the JSON text behind `at` a JSON string, if it is not one already.
static bool quote_key(stream *s, size_t at) {
    if (s->out.err != PYI_OK || s->out.data[at] == '"') {
        return true;
    }
    size_t len = s->out.len - at;
    PYI_AUTO_FREE char *text = malloc(len);
    if (!text) {
        return bad(s, "out of memory");
    }
    memcpy(text, s->out.data + at, len);
    s->out.len = at;
    pyi_escape_json(&s->out, text, len);
    return true;
}

/// Punctuation before the next value; counts it.
static void before_value(stream *s) {
    level *l = &s->levels[s->depth];
    bool value = l->map && l->left % 2 == 1;
    if (value) {
        put(s, ":");
    } else if (!l->first) {
        put(s, ",");
    }
    if (l->map && !value) {
        l->key_at = s->out.len;
    }
    l->first = false;
    l->left--;
}

/// A value is complete: was it a key?
static bool after_value(stream *s) {
    const level *l = &s->levels[s->depth];
    return l->map && l->left % 2 == 1 ? quote_key(s, l->key_at) : true;
}

static bool enter(stream *s, level inner) {
    const level *l = &s->levels[s->depth];
    // `left` counts the value that is entered no longer: odd means that it is a key
    inner.in_key = l->in_key || (l->map && l->left % 2 == 1);
    inner.first = true;
    if (s->depth == MAX_DEPTH) {
        return bad(s, "it is nested too deeply");
    }
    if (inner.in_key && inner.map) {
        return bad(s, "a map is part of a map's key");
    }
    s->levels[++s->depth] = inner;
    put(s, inner.map ? "{" : "[");
    return true;
}

static bool enter_payload(stream *s, const pyi_token *ext) {
    pyi_token array;
    const uint8_t *outer = s->r.end;
    s->r = pyi_reader_on(ext->data, ext->len);
    if (pyi_read_kind(&s->r, PYI_ARRAY, &array) != PYI_OK) {
        return bad(s, "the payload of a tuple or set must be an array");
    }
    return enter(s, (level){.left = array.count, .end = outer});
}

static bool leave(stream *s) {
    level l = s->levels[s->depth--];
    put(s, l.map ? "}" : "]");
    if (l.end) {
        if (s->r.p != s->r.end) {
            return bad(s, "bytes are left over behind a payload");
        }
        s->r.end = l.end;
    }
    return after_value(s);
}

static void put_bin(stream *s, const pyi_token *t) {
    put(s, "{\"$bytes\":");
    pyi_json_base64(&s->out, t->data, t->len);
    put(s, "}");
}

static bool put_ext(stream *s, const pyi_token *t) {
    if (t->ext == PYI_EXT_TUPLE || t->ext == PYI_EXT_SET || t->ext == PYI_EXT_FROZENSET) {
        return enter_payload(s, t);
    }
    return (pyi_json_ext(&s->out, t) || bad(s, "an extension value is not well-formed")) &&
           after_value(s);
}

/// A flat switch over the kinds of value.
static bool put_next(stream *s) {
    pyi_token t;
    before_value(s);
    if (pyi_read(&s->r, &t) != PYI_OK) {
        return bad(s, "it ends too early, or is not msgpack");
    }
    switch (t.kind) {
    case PYI_NIL:
        put(s, "null");
        break;
    case PYI_BOOL:
        put(s, t.b ? "true" : "false");
        break;
    case PYI_INT:
        pyi_json_int(&s->out, t.i);
        break;
    case PYI_UINT:
        pyi_json_uint(&s->out, t.u);
        break;
    case PYI_FLOAT:
        pyi_json_float(&s->out, t.f);
        break;
    case PYI_STR:
        pyi_escape_json(&s->out, t.data, t.len);
        break;
    case PYI_BIN:
        put_bin(s, &t);
        break;
    case PYI_ARRAY:
        return enter(s, (level){.left = t.count});
    case PYI_MAP:
        return enter(s, (level){.left = (uint64_t)t.count * 2, .map = true});
    case PYI_EXT:
        return put_ext(s, &t);
    }
    return after_value(s);
}

static bool put_all(stream *s) {
    for (;;) {
        while (s->levels[s->depth].left == 0) {
            if (s->depth == 0) {
                return true;
            }
            if (!leave(s)) {
                return false;
            }
        }
        if (!put_next(s)) {
            return false;
        }
    }
}

pyi_err pyi_wire_to_json(pyi_reader *r, char **ret_text, size_t *ret_len, pyi_error *e) {
    stream s = {.r = *r, .levels = {{.left = 1, .first = true}}};
    pyi_writer_init(&s.out, SIZE_MAX / 2); // the text is at most some times as long as the value
    pyi_err err = PYI_OK;
    if (!put_all(&s)) {
        err =
            pyi_error_set(e, PYI_EPROTO, "json.write", "the value cannot be shown: %s", s.problem);
    } else {
        pyi_put_raw(&s.out, "", 1);
        err = pyi_writer_error(&s.out, e);
    }
    if (err == PYI_OK) {
        *r = s.r;
        *ret_text = (char *)pyi_steal(&s.out.data);
        *ret_len = s.out.len - 1;
    }
    pyi_writer_fini(&s.out);
    return err;
}

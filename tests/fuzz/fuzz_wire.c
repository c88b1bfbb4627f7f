/*
 * Fuzzes what a peer can send: any bytes to the reader, to skip, to a frame's head, to
 * pyi_validate; and holds the promise of pyi_validate: what it lets pass can be read to the last
 * value by a reader that checks nothing but kinds, can be skipped, written again, and shown as
 * JSON.
 */
#include "json.h"
#include "pyi_wire.h"
#include <jansson.h>

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_value(pyi_reader *r, pyi_writer *copy, unsigned depth);

static void read_values(pyi_reader *r, pyi_writer *copy, uint64_t count, unsigned depth) {
    for (; count > 0; count--) {
        read_value(r, copy, depth + 1);
    }
}

/// Whether the payload is itself a value: the others are raw bytes.
static bool holds_value(int8_t type) {
    return type != PYI_EXT_BIGINT && type != PYI_EXT_UUID && type != PYI_EXT_SURROGATE;
}

static void read_ext(const pyi_token *t, pyi_writer *copy, unsigned depth) {
    if (!holds_value(t->ext)) {
        pyi_put_ext_raw(copy, (pyi_ext)t->ext, t->data, t->len);
        return;
    }
    pyi_reader inner = pyi_reader_on(t->data, t->len);
    size_t mark = pyi_put_ext_begin(copy, (pyi_ext)t->ext);
    read_value(&inner, copy, depth);
    MUST(inner.p == inner.end);
    pyi_put_ext_end(copy, mark);
}

/// Recursion on purpose: the depth that pyi_validate lets pass must be one that a C stack can take.
static void read_value(pyi_reader *r, pyi_writer *copy, unsigned depth) {
    pyi_token t;
    MUST(depth <= 2 * (PYI_MAX_DEPTH + PYI_FRAME_DEPTH));
    MUST(pyi_read(r, &t) == PYI_OK);
    switch (t.kind) {
    case PYI_NIL:
        pyi_put_nil(copy);
        break;
    case PYI_BOOL:
        pyi_put_bool(copy, t.b);
        break;
    case PYI_INT:
        pyi_put_int(copy, t.i);
        break;
    case PYI_UINT:
        MUST(t.u > INT64_MAX);
        pyi_put_uint(copy, t.u);
        break;
    case PYI_FLOAT:
        pyi_put_float(copy, t.f);
        break;
    case PYI_STR:
        MUST(pyi_utf8_valid(t.data, t.len));
        pyi_put_str(copy, (const char *)t.data, t.len);
        break;
    case PYI_BIN:
        pyi_put_bin(copy, t.data, t.len);
        break;
    case PYI_ARRAY:
        pyi_put_array(copy, t.count);
        read_values(r, copy, t.count, depth);
        break;
    case PYI_MAP:
        pyi_put_map(copy, t.count);
        read_values(r, copy, (uint64_t)t.count * 2, depth);
        break;
    case PYI_EXT:
        read_ext(&t, copy, depth);
        break;
    }
}

/// What jansson cannot read though it is JSON: integers without bound, NUL in a key, lone
/// surrogates.
static bool beyond_jansson(const char *text, const json_error_t *why) {
    return json_error_code(why) == json_error_numeric_overflow ||
           json_error_code(why) == json_error_null_byte_in_key || strstr(text, "\\ud") != NULL;
}

static void show(const uint8_t *data, size_t size) {
    char *text = NULL;
    size_t len = 0;
    pyi_error e;
    json_error_t why;
    pyi_reader r = pyi_reader_on(data, size);
    MUST(pyi_wire_to_json(&r, &text, &len, &e) == PYI_OK);
    MUST(r.p == r.end && strlen(text) == len);
    json_t *j = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    MUST(j || beyond_jansson(text, &why));
    json_decref(j);
    free(text);
}

/// Writes it again in the shortest form: that must be valid too, and stay as it is from then on.
static void write_again(const uint8_t *data, size_t size) {
    pyi_writer first, second;
    pyi_error e;
    pyi_writer_init(&first, SIZE_MAX / 2);
    pyi_writer_init(&second, SIZE_MAX / 2);
    pyi_reader r = pyi_reader_on(data, size);
    read_value(&r, &first, 0);
    MUST(r.p == r.end);
    MUST(pyi_writer_error(&first, &e) == PYI_OK);
    MUST(pyi_validate(first.data, first.len, &e) == PYI_OK);
    r = pyi_reader_on(first.data, first.len);
    read_value(&r, &second, 0);
    MUST(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
    pyi_writer_fini(&first);
    pyi_writer_fini(&second);
}

/// Nothing is promised for these bytes but that nothing crashes.
static void read_unchecked(const uint8_t *data, size_t size) {
    pyi_token t, slow;
    pyi_error e;
    pyi_frame_type type;
    uint64_t id;
    uint32_t count;
    pyi_reader r = pyi_reader_on(data, size);
    (void)pyi_read_head(&r, &type, &id, &count, &e);
    r = pyi_reader_on(data, size);
    for (;;) {
        pyi_reader again = r;
        pyi_err err = pyi_read(&r, &t);
        MUST(err == pyi_read_any(&again, &slow) && r.p == again.p);
        if (err != PYI_OK) {
            break;
        }
        MUST(t.kind == slow.kind);
    }
    char *text = NULL;
    size_t len = 0;
    r = pyi_reader_on(data, size);
    if (pyi_wire_to_json(&r, &text, &len, &e) == PYI_OK) {
        free(text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pyi_error e;
    pyi_error_init(&e);
    read_unchecked(data, size);
    pyi_reader r = pyi_reader_on(data, size);
    pyi_err skipped = pyi_skip(&r);
    if (pyi_validate(data, size, &e) == PYI_OK) {
        MUST(skipped == PYI_OK && r.p == r.end);
        write_again(data, size);
        show(data, size);
    } else {
        MUST(e.code == PYI_EPROTO && e.msg[0] != '\0');
    }
    return 0;
}

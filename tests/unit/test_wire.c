/* pyi_wire: every put has its read, and nothing that a peer sends gets past the checks. */
#include "pyi_wire.h"
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static int open_writer(void **state) {
    static pyi_writer w;
    pyi_writer_init(&w, 1u << 28);
    *state = &w;
    return 0;
}

static int close_writer(void **state) {
    pyi_writer_fini(*state);
    return 0;
}

/// Reads the one value that the writer holds, and starts the writer anew.
static pyi_token only_token(pyi_writer *w) {
    pyi_token t, again;
    pyi_reader r = pyi_reader_on(w->data, w->len);
    pyi_reader slow = r;
    assert_int_equal(w->err, PYI_OK);
    assert_int_equal(pyi_read(&r, &t), PYI_OK);
    assert_int_equal(pyi_read_any(&slow, &again),
                     PYI_OK); // the fast path reads what the slow one does
    assert_int_equal(t.kind, again.kind);
    assert_ptr_equal(r.p, slow.p);
    assert_ptr_equal(r.p, r.end);
    w->len = 0;
    return t;
}

static pyi_err validate(const void *data, size_t len) {
    pyi_error e;
    pyi_error_init(&e);
    pyi_err err = pyi_validate(data, len, &e);
    assert_int_equal(err, e.code);
    return err;
}

/// A literal's bytes, without its NUL.
#define BYTES(literal) literal, sizeof(literal) - 1

/* ---- every put and its read ------------------------------------------------------------------ */

static void nil_and_bools_come_back(void **state) {
    pyi_writer *w = *state;
    pyi_put_nil(w);
    assert_int_equal(only_token(w).kind, PYI_NIL);
    for (int v = 0; v < 2; v++) {
        pyi_put_bool(w, v);
        pyi_token t = only_token(w);
        assert_int_equal(t.kind, PYI_BOOL);
        assert_int_equal(t.b, v);
    }
}

static void check_int(pyi_writer *w, int64_t v, size_t size) {
    pyi_put_int(w, v);
    assert_int_equal(w->len, size);
    assert_int_equal(validate(w->data, w->len), PYI_OK);
    pyi_token t = only_token(w);
    assert_int_equal(t.kind, PYI_INT);
    assert_true(t.i == v);
}

static void ints_come_back_and_take_the_fewest_bytes(void **state) {
    static const struct {
        int64_t v;
        size_t size;
    } edges[] = {
        {0, 1},         {1, 1},      {127, 1},    {128, 2},        {255, 2},
        {256, 3},       {65535, 3},  {65536, 5},  {UINT32_MAX, 5}, {INT64_C(1) << 32, 9},
        {INT64_MAX, 9}, {-1, 1},     {-32, 1},    {-33, 2},        {-128, 2},
        {-129, 3},      {-32768, 3}, {-32769, 5}, {INT32_MIN, 5},  {INT32_MIN - INT64_C(1), 9},
        {INT64_MIN, 9}};
    for (size_t i = 0; i < PYI_COUNT(edges); i++) {
        check_int(*state, edges[i].v, edges[i].size);
    }
}

static void unsigned_ints_above_int64_come_back_as_uint(void **state) {
    pyi_writer *w = *state;
    static const uint64_t above[] = {(uint64_t)INT64_MAX + 1, UINT64_MAX};
    for (size_t i = 0; i < PYI_COUNT(above); i++) {
        pyi_put_uint(w, above[i]);
        pyi_token t = only_token(w);
        assert_int_equal(t.kind, PYI_UINT);
        assert_true(t.u == above[i]);
    }
    pyi_put_uint(w, INT64_MAX);
    assert_int_equal(only_token(w).kind, PYI_INT);
}

static void floats_come_back_bit_by_bit(void **state) {
    pyi_writer *w = *state;
    const double values[] = {0.0,    -0.0,     1.5,       DBL_MAX, DBL_MIN,
                             5e-324, INFINITY, -INFINITY, NAN,     0.1};
    for (size_t i = 0; i < PYI_COUNT(values); i++) {
        pyi_put_float(w, values[i]);
        pyi_token t = only_token(w);
        assert_int_equal(t.kind, PYI_FLOAT);
        assert_memory_equal(&t.f, &values[i], sizeof(double));
    }
    pyi_put_raw(w, BYTES("\xca\x3f\xc0\x00\x00")); // a peer may send 32-bit ones
    assert_true(only_token(w).f == 1.5);
}

static void check_bytes(pyi_writer *w, pyi_kind kind, const uint8_t *data, size_t len,
                        size_t head) {
    assert_int_equal(w->len, head + len);
    assert_int_equal(validate(w->data, w->len), PYI_OK);
    pyi_token t = only_token(w);
    assert_int_equal(t.kind, kind);
    assert_int_equal(t.len, len);
    assert_memory_equal(t.data, data, len);
}

static void strings_and_bytes_of_each_size_class_come_back(void **state) {
    static uint8_t data[70000];
    memset(data, 'x', sizeof(data));
    static const struct {
        size_t len, str_head, bin_head;
    } sizes[] = {{0, 1, 2},   {1, 1, 2},   {31, 1, 2},    {32, 2, 2},
                 {255, 2, 2}, {256, 3, 3}, {65535, 3, 3}, {65536, 5, 5}};
    for (size_t i = 0; i < PYI_COUNT(sizes); i++) {
        pyi_put_str(*state, (const char *)data, sizes[i].len);
        check_bytes(*state, PYI_STR, data, sizes[i].len, sizes[i].str_head);
        pyi_put_bin(*state, data, sizes[i].len);
        check_bytes(*state, PYI_BIN, data, sizes[i].len, sizes[i].bin_head);
    }
}

static void a_null_c_string_is_nil(void **state) {
    pyi_put_cstr(*state, NULL);
    assert_int_equal(only_token(*state).kind, PYI_NIL);
    pyi_put_cstr(*state, "abc");
    assert_int_equal(only_token(*state).len, 3);
    pyi_put_str(*state, NULL, 0);
    assert_int_equal(only_token(*state).len, 0);
}

static void counts_of_each_size_class_come_back(void **state) {
    pyi_writer *w = *state;
    static const size_t counts[] = {0, 1, 15, 16, 65535, 65536};
    for (size_t i = 0; i < PYI_COUNT(counts); i++) {
        for (int map = 0; map < 2; map++) {
            size_t values = map ? counts[i] * 2 : counts[i];
            w->len = 0;
            map ? pyi_put_map(w, counts[i]) : pyi_put_array(w, counts[i]);
            for (size_t n = 0; n < values; n++) {
                pyi_put_nil(w);
            }
            pyi_token t;
            pyi_reader r = pyi_reader_on(w->data, w->len);
            assert_int_equal(pyi_read(&r, &t), PYI_OK);
            assert_int_equal(t.kind, map ? PYI_MAP : PYI_ARRAY);
            assert_int_equal(t.count, counts[i]);
            assert_int_equal(r.end - r.p, values);
            assert_int_equal(validate(w->data, w->len), PYI_OK);
        }
    }
}

static void extension_values_of_each_size_class_come_back(void **state) {
    pyi_writer *w = *state;
    static uint8_t data[70000];
    memset(data, 7, sizeof(data));
    static const size_t sizes[] = {0, 1, 2, 3, 4, 8, 9, 15, 16, 17, 255, 256, 65535, 65536};
    for (size_t i = 0; i < PYI_COUNT(sizes); i++) {
        pyi_put_ext_raw(w, PYI_EXT_BIGINT, data, sizes[i]);
        pyi_token t = only_token(w);
        assert_int_equal(t.kind, PYI_EXT);
        assert_int_equal(t.ext, PYI_EXT_BIGINT);
        assert_int_equal(t.len, sizes[i]);
        assert_memory_equal(t.data, data, sizes[i]);
    }
    pyi_put_raw(w, BYTES("\xd4\xff\x00")); // negative types are msgpack's own
    assert_int_equal(only_token(w).ext, -1);
}

static void nested_extension_payloads_get_their_lengths(void **state) {
    pyi_writer *w = *state;
    size_t outer = pyi_put_ext_begin(w, PYI_EXT_TUPLE);
    pyi_put_array(w, 2);
    pyi_put_int(w, 1);
    size_t inner = pyi_put_ext_begin(w, PYI_EXT_FROZENSET);
    pyi_put_array(w, 0);
    pyi_put_ext_end(w, inner);
    pyi_put_ext_end(w, outer);
    assert_int_equal(validate(w->data, w->len), PYI_OK);
    pyi_token t = only_token(w);
    assert_int_equal(t.ext, PYI_EXT_TUPLE);
    pyi_reader r = pyi_reader_on(t.data, t.len);
    assert_int_equal(pyi_read_kind(&r, PYI_ARRAY, &t), PYI_OK);
    assert_int_equal(pyi_read_kind(&r, PYI_INT, &t), PYI_OK);
    assert_int_equal(pyi_read_kind(&r, PYI_EXT, &t), PYI_OK);
    assert_int_equal(t.ext, PYI_EXT_FROZENSET);
    assert_int_equal(t.len, 1);
    assert_ptr_equal(r.p, r.end);
}

static void a_token_of_another_kind_leaves_the_reader_where_it_was(void **state) {
    pyi_writer *w = *state;
    pyi_token t;
    pyi_put_int(w, 7);
    pyi_reader r = pyi_reader_on(w->data, w->len);
    assert_int_equal(pyi_read_kind(&r, PYI_STR, &t), PYI_EPROTO);
    assert_int_equal(pyi_read_kind(&r, PYI_UINT, &t), PYI_OK); // 7 is unsigned as well
    assert_int_equal(t.kind, PYI_UINT);
    assert_true(t.u == 7);
    w->len = 0;
    pyi_put_int(w, -7);
    r = pyi_reader_on(w->data, w->len);
    assert_int_equal(pyi_read_kind(&r, PYI_UINT, &t), PYI_EPROTO);
    assert_int_equal(pyi_read_kind(&r, PYI_INT, &t), PYI_OK);
}

/* ---- the writer's limits --------------------------------------------------------------------- */

static void a_frame_may_reach_its_limit_but_not_pass_it(void **state) {
    (void)state;
    pyi_writer w;
    pyi_error e;
    pyi_error_init(&e);
    pyi_writer_init(&w, 1000);
    for (int i = 0; i < 1000; i++) {
        pyi_put_nil(&w);
    }
    assert_int_equal(pyi_writer_error(&w, &e), PYI_OK);
    pyi_put_nil(&w);
    pyi_put_nil(&w);
    assert_int_equal(pyi_writer_error(&w, &e), PYI_ETOOBIG);
    assert_non_null(strstr(e.msg, "1001 bytes"));
    assert_non_null(strstr(e.msg, "limit is 1000"));
    assert_int_equal(w.len, 1000);
    pyi_writer_fini(&w);
}

static void the_first_error_sticks(void **state) {
    (void)state;
    pyi_writer w;
    pyi_error e;
    pyi_error_init(&e);
    pyi_writer_init(&w, 10);
    pyi_put_str(&w, "01234567890123456789", 20);
    size_t mark = pyi_put_ext_begin(&w, PYI_EXT_TUPLE); // all harmless now
    pyi_put_array(&w, 1);
    pyi_put_int(&w, 1);
    pyi_put_float(&w, 1);
    pyi_put_map(&w, 70000);
    pyi_put_array(&w, 70000);
    pyi_put_bin(&w, "x", 1);
    pyi_put_ext_end(&w, mark);
    pyi_put_ext_raw(&w, PYI_EXT_UUID, "0123456789abcdef", 16);
    assert_int_equal(w.len, 0);
    assert_int_equal(pyi_writer_error(&w, &e), PYI_ETOOBIG);
    assert_non_null(strstr(e.msg, "21 bytes"));
    pyi_writer_fini(&w);
}

static void a_reset_writer_works_again(void **state) {
    (void)state;
    pyi_writer w;
    pyi_error e;
    pyi_error_init(&e);
    pyi_writer_init(&w, 100);
    pyi_put_int(&w, 1);
    pyi_put_bin(&w, NULL, 1000);
    assert_int_equal(w.err, PYI_ETOOBIG);
    w.len = 0; // what child/link.c does to send an error in place of a reply
    w.err = PYI_OK;
    for (int i = 0; i < 100; i++) {
        pyi_put_int(&w, 1);
    }
    assert_int_equal(pyi_writer_error(&w, &e), PYI_OK);
    assert_int_equal(w.len, 100);
    pyi_writer_fini(&w);
}

static void counts_beyond_32_bits_are_too_big(void **state) {
    (void)state;
    static const size_t huge = (size_t)UINT32_MAX + 1;
    for (int i = 0; i < 5; i++) {
        pyi_writer w;
        pyi_error e;
        pyi_error_init(&e);
        pyi_writer_init(&w, SIZE_MAX);
        switch (i) {
        case 0:
            pyi_put_array(&w, huge);
            break;
        case 1:
            pyi_put_map(&w, huge);
            break;
        case 2:
            pyi_put_str(&w, NULL, huge);
            break;
        case 3:
            pyi_put_bin(&w, NULL, huge);
            break;
        default:
            pyi_put_ext_raw(&w, PYI_EXT_BIGINT, NULL, huge);
            break;
        }
        assert_int_equal(pyi_writer_error(&w, &e), PYI_ETOOBIG);
        assert_non_null(strstr(e.msg, "4294967296"));
        pyi_writer_fini(&w);
    }
}

static bool grow_never(pyi_writer *w, size_t need) {
    (void)w;
    (void)need;
    return false;
}

static void out_of_memory_is_told(void **state) {
    (void)state;
    pyi_error e;
    pyi_error_init(&e);
    uint8_t small[2];
    pyi_writer w = {.data = small, .cap = sizeof(small), .limit = 100, .grow = grow_never};
    pyi_put_nil(&w);
    pyi_put_nil(&w);
    assert_int_equal(pyi_writer_error(&w, &e), PYI_OK);
    pyi_put_nil(&w);
    assert_int_equal(pyi_writer_error(&w, &e), PYI_ENOMEM);
}

static void an_impossible_size_does_not_wrap_round(void **state) {
    (void)state;
    pyi_writer w;
    pyi_writer_init(&w, SIZE_MAX);
    pyi_put_nil(&w);
    assert_null(pyi_writer_room(&w, SIZE_MAX));
    assert_int_equal(w.err, PYI_ETOOBIG);
    pyi_writer_fini(&w);
}

/* ---- hostile input --------------------------------------------------------------------------- */

static void assert_refused(const char *bytes, size_t len) {
    pyi_token t;
    pyi_reader r = pyi_reader_on(bytes, len);
    assert_int_equal(pyi_read(&r, &t), PYI_EPROTO);
    assert_ptr_equal(r.p, bytes); // it has not moved
    assert_int_equal(pyi_skip(&r), PYI_EPROTO);
    assert_ptr_equal(r.p, bytes);
    assert_int_equal(validate(bytes, len), PYI_EPROTO);
}

static void counts_and_lengths_beyond_the_bytes_are_refused(void **state) {
    (void)state;
    assert_refused(BYTES(""));
    assert_refused(BYTES("\xc1"));                 // not msgpack
    assert_refused(BYTES("\x91"));                 // 1 item, none there
    assert_refused(BYTES("\x81\xc0"));             // 1 pair, half of it there
    assert_refused(BYTES("\xdd\xff\xff\xff\xff")); // 4 Gi items
    assert_refused(BYTES("\xdd\xff\xff\xff\xff\xc0\xc0"));
    assert_refused(BYTES("\xdf\xff\xff\xff\xff\xc0\xc0"));
    assert_refused(BYTES("\xdf\x80\x00\x00\x00\xc0\xc0")); // times 2 is beyond 32 bits
    assert_refused(BYTES("\xdb\xff\xff\xff\xff\x61"));     // 4 GiB of str
    assert_refused(BYTES("\xc6\xff\xff\xff\xff\x61"));
    assert_refused(BYTES("\xc9\xff\xff\xff\xff\x01\x61"));
    assert_refused(BYTES("\xa2\x61"));
    assert_refused(BYTES("\xd9\x02\x61"));
    assert_refused(BYTES("\xd8\x0a\x00"));
    assert_refused(BYTES("\xdc\x00"));
}

/// Puts one of everything.
static void put_everything(pyi_writer *w) {
    pyi_put_array(w, 14);
    pyi_put_int(w, 70000);
    pyi_put_int(w, INT64_MIN);
    pyi_put_uint(w, UINT64_MAX);
    pyi_put_float(w, 0.5);
    pyi_put_str(w, "gr\xc3\xbc\xc3\x9f", 6);
    pyi_put_bin(w, "\0\1", 2);
    pyi_put_map(w, 1);
    pyi_put_str(w, "0123456789012345678901234567890123456789", 40);
    pyi_put_bool(w, true);
    size_t mark = pyi_put_ext_begin(w, PYI_EXT_TUPLE);
    pyi_put_array(w, 2);
    pyi_put_nil(w);
    pyi_put_int(w, -100);
    pyi_put_ext_end(w, mark);
    mark = pyi_put_ext_begin(w, PYI_EXT_COMPLEX);
    pyi_put_array(w, 2);
    pyi_put_float(w, 1);
    pyi_put_float(w, 2);
    pyi_put_ext_end(w, mark);
    pyi_put_ext_raw(w, PYI_EXT_BIGINT, "\0\0\0\0\0\0\0\0\1", 9);
    pyi_put_ext_raw(w, PYI_EXT_UUID, "0123456789abcdef", 16);
    mark = pyi_put_ext_begin(w, PYI_EXT_PATH);
    pyi_put_cstr(w, "/tmp");
    pyi_put_ext_end(w, mark);
    mark = pyi_put_ext_begin(w, PYI_EXT_NDARRAY);
    pyi_put_array(w, 3);
    pyi_put_cstr(w, "<i2");
    pyi_put_array(w, 2);
    pyi_put_int(w, 1);
    pyi_put_int(w, 2);
    pyi_put_bin(w, "\1\0\2\0", 4);
    pyi_put_ext_end(w, mark);
    pyi_put_ext_raw(w, PYI_EXT_SURROGATE, "\xed\xa0\x80", 3);
}

static void a_value_cut_at_any_byte_is_refused(void **state) {
    pyi_writer *w = *state;
    put_everything(w);
    assert_int_equal(validate(w->data, w->len), PYI_OK);
    for (size_t len = 0; len < w->len; len++) {
        uint8_t *exact = malloc(len + 1); // of its own, so that a sanitizer sees a byte too far
        memcpy(exact + 1, w->data, len);
        assert_int_equal(validate(exact + 1, len), PYI_EPROTO);
        pyi_reader r = pyi_reader_on(exact + 1, len);
        assert_int_equal(pyi_skip(&r), PYI_EPROTO);
        free(exact);
    }
}

static void bytes_behind_the_value_are_refused(void **state) {
    pyi_writer *w = *state;
    put_everything(w);
    pyi_put_nil(w);
    assert_int_equal(validate(w->data, w->len), PYI_EPROTO);
    pyi_reader r = pyi_reader_on(w->data, w->len);
    assert_int_equal(pyi_skip(&r), PYI_OK); // but skip leaves the reader before them
    assert_int_equal(r.end - r.p, 1);
}

static void a_flipped_byte_never_crashes(void **state) {
    pyi_writer *w = *state;
    put_everything(w);
    size_t refused = 0;
    for (size_t at = 0; at < w->len; at++) {
        uint8_t kept = w->data[at];
        for (int v = 0; v < 256; v++) {
            w->data[at] = (uint8_t)v;
            refused += validate(w->data, w->len) != PYI_OK;
        }
        w->data[at] = kept;
    }
    assert_true(refused > w->len * 64);
}

/// `depth` containers in each other: arrays, maps (value side), or tuples.
static pyi_err validate_nested(pyi_writer *w, size_t depth, int kind) {
    static size_t marks[20000];
    w->len = 0;
    for (size_t i = 0; i < depth; i++) {
        if (kind == 1) {
            pyi_put_map(w, 1);
            pyi_put_int(w, 1);
            continue;
        }
        marks[i] = kind == 2 ? pyi_put_ext_begin(w, PYI_EXT_TUPLE) : 0;
        pyi_put_array(w, 1);
    }
    pyi_put_nil(w);
    for (size_t i = depth; kind == 2 && i-- > 0;) {
        pyi_put_ext_end(w, marks[i]);
    }
    return validate(w->data, w->len);
}

static void nesting_is_allowed_to_the_limit_and_refused_beyond(void **state) {
    static const size_t most = PYI_MAX_DEPTH + PYI_FRAME_DEPTH;
    for (int kind = 0; kind < 3; kind++) {
        assert_int_equal(validate_nested(*state, most, kind), PYI_OK);
        assert_int_equal(validate_nested(*state, most + 1, kind), PYI_EPROTO);
        assert_int_equal(validate_nested(*state, most + 2, kind), PYI_EPROTO);
        assert_int_equal(validate_nested(*state, 10000, kind), PYI_EPROTO);
    }
}

static void skip_refuses_ten_thousand_levels(void **state) {
    pyi_writer *w = *state;
    for (int i = 0; i < 10000; i++) {
        pyi_put_array(w, 1);
    }
    pyi_put_nil(w);
    pyi_reader r = pyi_reader_on(w->data, w->len);
    assert_int_equal(pyi_skip(&r), PYI_ETOOBIG);
    r = pyi_reader_on(w->data + 10000 - PYI_MAX_DEPTH, w->len - 10000 + PYI_MAX_DEPTH);
    assert_int_equal(pyi_skip(&r), PYI_OK);
    assert_ptr_equal(r.p, r.end);
}

static void skip_passes_exactly_one_value(void **state) {
    pyi_writer *w = *state;
    put_everything(w);
    size_t one = w->len;
    put_everything(w);
    pyi_reader r = pyi_reader_on(w->data, w->len);
    assert_int_equal(pyi_skip(&r), PYI_OK);
    assert_int_equal(r.p - w->data, one);
    assert_int_equal(pyi_skip(&r), PYI_OK);
    assert_ptr_equal(r.p, r.end);
    assert_int_equal(pyi_skip(&r), PYI_EPROTO);
}

static void a_map_in_a_key_is_refused(void **state) {
    (void)state;
    assert_int_equal(validate(BYTES("\x81\x80\x01")), PYI_EPROTO);
    assert_int_equal(validate(BYTES("\x81\x91\x80\x01")), PYI_EPROTO);         // [{}] as a key
    assert_int_equal(validate(BYTES("\x81\xd5\x01\x91\x80\x01")), PYI_EPROTO); // ({},) as a key
    assert_int_equal(validate(BYTES("\x81\x01\x80")), PYI_OK);                 // as a value
    assert_int_equal(validate(BYTES("\x81\x91\x01\x80")), PYI_OK);
    assert_int_equal(validate(BYTES("\x81\xd5\x01\x91\x01\x80")), PYI_OK);
}

/* ---- payloads of extension types ------------------------------------------------------------- */

static pyi_err validate_ext(pyi_writer *w, pyi_ext type, const char *payload, size_t len) {
    w->len = 0;
    pyi_put_ext_raw(w, type, payload, len);
    return validate(w->data, w->len);
}

static void unknown_and_reserved_extension_types_are_refused(void **state) {
    static const int types[] = {0, 15, 19, PYI_EXT_OBJECT, PYI_EXT_TENSOR, 99, 127, -1, -128};
    for (size_t i = 0; i < PYI_COUNT(types); i++) {
        assert_int_equal(validate_ext(*state, (pyi_ext)types[i], BYTES("\xc0")), PYI_EPROTO);
    }
}

static void payloads_of_the_wrong_shape_are_refused(void **state) {
    static const struct {
        pyi_ext type;
        const char *payload;
        size_t len;
    } wrong[] = {
        {PYI_EXT_TUPLE, BYTES("")},
        {PYI_EXT_TUPLE, BYTES("\x01")},
        {PYI_EXT_TUPLE, BYTES("\x90\xc0")}, // a byte too much
        {PYI_EXT_TUPLE, BYTES("\x92\xc0")}, // a value too few: must not read on behind the payload
        {PYI_EXT_SET, BYTES("\x80")},
        {PYI_EXT_FROZENSET, BYTES("\x91\xc1")},
        {PYI_EXT_COMPLEX, BYTES("\x92\x01\x02")},
        {PYI_EXT_BIGINT, BYTES("\1\2\3\4\5\6\7\x08")},
        {PYI_EXT_DATE, BYTES("\x93\xcd\x07\xea\x0d\x01")}, // month 13
        {PYI_EXT_DATE, BYTES("\x93\x00\x01\x01")},         // year 0
        {PYI_EXT_DATE, BYTES("\x92\x01\x01")},
        {PYI_EXT_TIME, BYTES("\x97\x18\x00\x00\x00\x00\xc0\xc0")},                 // hour 24
        {PYI_EXT_TIME, BYTES("\x97\x00\x00\x00\x00\x00\xce\x00\x01\x51\x80\xc0")}, // a whole day
        {PYI_EXT_TIME, BYTES("\x97\x00\x00\x00\x00\x00\xc0\x01")}, // a name that is no str
        {PYI_EXT_TIMEDELTA, BYTES("\x93\x00\xff\x00")},
        {PYI_EXT_TIMEDELTA, BYTES("\x93\xce\x3b\x9a\xca\x00\x00\x00")}, // 1e9 days
        {PYI_EXT_UUID, BYTES("0123456789abcde")},
        {PYI_EXT_PATH, BYTES("\x01")},
        {PYI_EXT_PATH, BYTES("\xa1\xff")},
        {PYI_EXT_NDARRAY, BYTES("\x93\xa3<i2\x91\x02\xc4\x03\1\2\3")}, // 2 items in 3 bytes
        {PYI_EXT_NDARRAY, BYTES("\x93\xa3<i2\x91\xff\xc4\x00")},
        {PYI_EXT_NDARRAY, BYTES("\x93\xa3<i2\x92\xcf\x7f\xff\xff\xff\xff\xff\xff\xff\x04\xc4\x00")},
        {PYI_EXT_NPSCALAR, BYTES("\x92\xa3<i2\x01")},
        {PYI_EXT_SURROGATE, BYTES("\xff")},
    };
    for (size_t i = 0; i < PYI_COUNT(wrong); i++) {
        if (validate_ext(*state, wrong[i].type, wrong[i].payload, wrong[i].len) != PYI_EPROTO) {
            fail_msg("row %zu passed", i);
        }
    }
}

static void payloads_of_the_right_shape_pass(void **state) {
    static const struct {
        pyi_ext type;
        const char *payload;
        size_t len;
    } right[] = {
        {PYI_EXT_SET, BYTES("\x91\x01")},
        {PYI_EXT_DATE, BYTES("\x93\xcd\x27\x0f\x0c\x1f")},
        {PYI_EXT_TIME, BYTES("\x97\x17\x3b\x3b\xce\x00\x0f\x42\x3f\x01\xc0\xc0")},
        {PYI_EXT_TIME, BYTES("\x97\x00\x00\x00\x00\x00\xcd\x0e\x10\xa3"
                             "CET")},
        {PYI_EXT_TIME, BYTES("\x97\x00\x00\x00\x00\x00\xcb\x3f\xe0\x00\x00\x00\x00\x00\x00\xc0")},
        {PYI_EXT_DATETIME, BYTES("\x9a\xcd\x07\xea\x0b\x17\x0f\x04\x05\x00\x00\xc0\xc0")},
        {PYI_EXT_TIMEDELTA, BYTES("\x93\xff\x01\x02")},
        {PYI_EXT_PATH, BYTES("\xc7\x03\x0e\xed\xb3\xbf")},       // a path that is not UTF-8
        {PYI_EXT_NDARRAY, BYTES("\x93\xa3<i2\x90\xc4\x02\1\0")}, // no dimensions: one item
        {PYI_EXT_NDARRAY, BYTES("\x93\xa3<i2\x92\x00\xcf\x7f\xff\xff\xff\xff\xff\xff\xff\xc4\x00")},
        {PYI_EXT_NPSCALAR, BYTES("\x92\xa3<i2\xc4\x02\1\0")},
    };
    for (size_t i = 0; i < PYI_COUNT(right); i++) {
        if (validate_ext(*state, right[i].type, right[i].payload, right[i].len) != PYI_OK) {
            fail_msg("row %zu was refused", i);
        }
    }
}

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

static void utf8_is_checked_as_python_checks_it(void **state) {
    (void)state;
    static const struct {
        const char *s;
        size_t len;
        bool valid, with_surrogates;
    } rows[] = {
        {BYTES(""), true, true},
        {BYTES("ascii that is longer than eight"), true, true},
        {BYTES("\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"), true,
         true},
        {BYTES("01234567\xc3"), false, false},
        {BYTES("\x80"), false, false},
        {BYTES("\xc0\x80"), false, false},
        {BYTES("\xc1\xbf"), false, false},
        {BYTES("\xe0\x9f\xbf"), false, false},
        {BYTES("\xed\xa0\x80"), false, true},
        {BYTES("\xed\xbf\xbf"), false, true},
        {BYTES("\xed\x9f\xbf\xee\x80\x80"), true, true},
        {BYTES("\xf0\x8f\xbf\xbf"), false, false},
        {BYTES("\xf4\x90\x80\x80"), false, false},
        {BYTES("\xf5\x80\x80\x80"), false, false},
        {BYTES("\xe2\x82"), false, false},
        {BYTES("\xf0\x9f\x98"), false, false},
        {BYTES("\xe2\x28\xa1"), false, false},
        {BYTES("a\0b"), true, true},
    };
    for (size_t i = 0; i < PYI_COUNT(rows); i++) {
        const uint8_t *s = (const uint8_t *)rows[i].s;
        assert_int_equal(pyi_utf8_valid(s, rows[i].len), rows[i].valid);
        assert_int_equal(pyi_utf8_valid_surrogates(s, rows[i].len), rows[i].with_surrogates);
    }
}

static void a_str_that_is_not_utf8_is_refused(void **state) {
    (void)state;
    assert_int_equal(validate(BYTES("\xa1\xff")), PYI_EPROTO);
    assert_int_equal(validate(BYTES("\x81\xa1\xff\x01")), PYI_EPROTO);
    assert_int_equal(validate(BYTES("\xc4\x01\xff")), PYI_OK); // bytes may be anything
}

/* ---- frames and errors ----------------------------------------------------------------------- */

static pyi_err head(const char *bytes, size_t len, uint64_t *ret_id) {
    pyi_error e;
    pyi_error_init(&e);
    pyi_frame_type type;
    uint32_t count;
    pyi_reader r = pyi_reader_on(bytes, len);
    pyi_err err = pyi_read_head(&r, &type, ret_id, &count, &e);
    assert_int_equal(err, e.code);
    return err;
}

static void a_head_gives_type_id_and_count(void **state) {
    pyi_writer *w = *state;
    pyi_put_array(w, 3);
    pyi_put_int(w, PYI_FRAME_REPLY);
    pyi_put_uint(w, UINT64_MAX);
    pyi_put_cstr(w, "value");
    pyi_error e;
    pyi_frame_type type;
    uint64_t id;
    uint32_t count;
    pyi_reader r = pyi_reader_on(w->data, w->len);
    assert_int_equal(pyi_read_head(&r, &type, &id, &count, &e), PYI_OK);
    assert_int_equal(type, PYI_FRAME_REPLY);
    assert_true(id == UINT64_MAX);
    assert_int_equal(count, 3);
    pyi_token t;
    assert_int_equal(pyi_read_kind(&r, PYI_STR, &t), PYI_OK);
}

static void a_head_that_is_none_is_refused(void **state) {
    (void)state;
    uint64_t id;
    assert_int_equal(head(BYTES("\x92\x04\x07"), &id), PYI_OK);
    assert_int_equal(head(BYTES(""), &id), PYI_EPROTO);
    assert_int_equal(head(BYTES("\x04"), &id), PYI_EPROTO);
    assert_int_equal(head(BYTES("\x91\x04"), &id), PYI_EPROTO);
    assert_int_equal(head(BYTES("\x92\x00\x07"), &id), PYI_EPROTO);
    assert_int_equal(head(BYTES("\x92\x0b\x07"), &id), PYI_EPROTO);
    assert_int_equal(head(BYTES("\x92\x12\x07"), &id), PYI_EPROTO);
    assert_int_equal(head(BYTES("\x92\xff\x07"), &id), PYI_EPROTO);
    assert_int_equal(head(BYTES("\x92\x04\xff"), &id), PYI_EPROTO);
    assert_int_equal(head(BYTES("\x92\x04\xa1x"), &id), PYI_EPROTO);
    assert_int_equal(head(BYTES("\x92\xa1x\x07"), &id), PYI_EPROTO);
}

static void assert_text(pyi_reader *r, const char *text) {
    pyi_token t;
    assert_int_equal(pyi_read_kind(r, PYI_STR, &t), PYI_OK);
    assert_int_equal(t.len, strlen(text));
    assert_memory_equal(t.data, text, t.len);
}

static void an_error_is_its_eight_fields(void **state) {
    pyi_writer *w = *state;
    pyi_error e;
    (void)pyi_error_set(&e, PYI_ENOTFOUND, "x.y", "no method '%s'", "f\xff\xc3\xbc");
    pyi_put_error(w, &e, NULL);
    assert_int_equal(validate(w->data, w->len), PYI_OK);
    pyi_token t;
    pyi_reader r = pyi_reader_on(w->data, w->len);
    assert_int_equal(pyi_read_kind(&r, PYI_ARRAY, &t), PYI_OK);
    assert_int_equal(t.count, PYI_ERROR_FIELDS);
    assert_int_equal(pyi_read_kind(&r, PYI_INT, &t), PYI_OK);
    assert_int_equal(t.i, PYI_ENOTFOUND);
    assert_text(&r, "AttributeError");
    assert_text(&r, "builtins");
    assert_text(&r, "no method 'f?\xc3\xbc'"); // bytes that are not UTF-8 must not spoil the frame
    assert_int_equal(pyi_read_kind(&r, PYI_NIL, &t), PYI_OK);
    assert_int_equal(pyi_read_kind(&r, PYI_ARRAY, &t), PYI_OK);
    assert_int_equal(pyi_read_kind(&r, PYI_NIL, &t), PYI_OK);
    assert_int_equal(pyi_read_kind(&r, PYI_NIL, &t), PYI_OK);
    assert_ptr_equal(r.p, r.end);
}

static void an_error_has_the_type_that_was_asked_for(void **state) {
    pyi_writer *w = *state;
    static const char *const rows[][3] = {{"KeyError", "KeyError", "builtins"},
                                          {NULL, "CancelledError", "asyncio.exceptions"}};
    pyi_error e;
    (void)pyi_error_set(&e, PYI_ECANCELLED, "x.y", "m");
    for (size_t i = 0; i < PYI_COUNT(rows); i++) {
        w->len = 0;
        pyi_put_error(w, &e, rows[i][0]);
        pyi_token t;
        pyi_reader r = pyi_reader_on(w->data, w->len);
        assert_int_equal(pyi_read(&r, &t), PYI_OK);
        assert_int_equal(pyi_read(&r, &t), PYI_OK);
        assert_text(&r, rows[i][1]);
        assert_text(&r, rows[i][2]);
    }
}

static void the_bytes_are_those_of_docs_protocol(void **state) {
    pyi_writer *w = *state;
    static const char call[] = "\x97\x01\x07\xc0\xa4mean\x00\x91\x92\x01\xcb\x40\x04\0\0\0\0\0\0"
                               "\x81\xa7weights\xc9\0\0\0\x05\x01\x92\x03\xcd\x01\x2c";
    pyi_put_array(w, 7);
    pyi_put_uint(w, PYI_FRAME_CALL);
    pyi_put_uint(w, 7);
    pyi_put_nil(w);
    pyi_put_cstr(w, "mean");
    pyi_put_int(w, 0);
    pyi_put_array(w, 1);
    pyi_put_array(w, 2);
    pyi_put_int(w, 1);
    pyi_put_float(w, 2.5);
    pyi_put_map(w, 1);
    pyi_put_cstr(w, "weights");
    size_t mark = pyi_put_ext_begin(w, PYI_EXT_TUPLE);
    pyi_put_array(w, 2);
    pyi_put_int(w, 3);
    pyi_put_int(w, 300);
    pyi_put_ext_end(w, mark);
    assert_int_equal(w->len, sizeof(call) - 1);
    assert_memory_equal(w->data, call, w->len);
    static const char reply[] = "\x93\x10\x07\xcb\x3f\xfc\0\0\0\0\0";
    w->len = 0;
    pyi_put_array(w, 3);
    pyi_put_uint(w, PYI_FRAME_REPLY);
    pyi_put_uint(w, 7);
    pyi_put_float(w, 1.75);
    assert_int_equal(w->len, sizeof(reply));
    assert_memory_equal(w->data, reply, w->len);
}

/* ---- random values --------------------------------------------------------------------------- */

static uint64_t seed;

static uint64_t next_random(void) { // xorshift64: the same values on every run
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void put_random(pyi_writer *w, unsigned depth);

static void put_random_items(pyi_writer *w, unsigned depth, size_t count) {
    for (size_t i = 0; i < count; i++) {
        put_random(w, depth + 1);
    }
}

static void put_random_map(pyi_writer *w, unsigned depth, size_t pairs) {
    pyi_put_map(w, pairs);
    for (size_t i = 0; i < pairs; i++) {
        pyi_put_uint(w, next_random());
        put_random(w, depth + 1);
    }
}

static void put_random_tuple(pyi_writer *w, unsigned depth, size_t count) {
    size_t mark = pyi_put_ext_begin(w, next_random() % 2 ? PYI_EXT_TUPLE : PYI_EXT_SET);
    pyi_put_array(w, count);
    put_random_items(w, depth, count);
    pyi_put_ext_end(w, mark);
}

static void put_random_text(pyi_writer *w) {
    char text[300];
    size_t len = next_random() % sizeof(text);
    memset(text, 'a' + (int)(next_random() % 26), len);
    next_random() % 2 ? pyi_put_str(w, text, len) : pyi_put_bin(w, text, len);
}

static void put_random(pyi_writer *w, unsigned depth) {
    size_t count = next_random() % 20;
    switch (next_random() % (depth < 5 ? 9 : 6)) {
    case 0:
        pyi_put_nil(w);
        break;
    case 1:
        pyi_put_bool(w, next_random() % 2);
        break;
    case 2:
        pyi_put_int(w, (int64_t)next_random() >> (next_random() % 64));
        break;
    case 3:
        pyi_put_uint(w, next_random() >> (next_random() % 64));
        break;
    case 4:
        pyi_put_float(w, (double)next_random());
        break;
    case 5:
        put_random_text(w);
        break;
    case 6:
        pyi_put_array(w, count);
        put_random_items(w, depth, count);
        break;
    case 7:
        put_random_map(w, depth, count);
        break;
    default:
        put_random_tuple(w, depth, count);
        break;
    }
}

/// Reads a value and puts it again.
static void copy_value(pyi_reader *r, pyi_writer *w) {
    pyi_token t;
    assert_int_equal(pyi_read(r, &t), PYI_OK);
    switch (t.kind) {
    case PYI_NIL:
        pyi_put_nil(w);
        break;
    case PYI_BOOL:
        pyi_put_bool(w, t.b);
        break;
    case PYI_INT:
        pyi_put_int(w, t.i);
        break;
    case PYI_UINT:
        pyi_put_uint(w, t.u);
        break;
    case PYI_FLOAT:
        pyi_put_float(w, t.f);
        break;
    case PYI_STR:
        pyi_put_str(w, (const char *)t.data, t.len);
        break;
    case PYI_BIN:
        pyi_put_bin(w, t.data, t.len);
        break;
    case PYI_ARRAY:
        pyi_put_array(w, t.count);
        for (uint32_t left = t.count; left > 0; left--) {
            copy_value(r, w);
        }
        break;
    case PYI_MAP:
        pyi_put_map(w, t.count);
        for (uint64_t left = (uint64_t)t.count * 2; left > 0; left--) {
            copy_value(r, w);
        }
        break;
    case PYI_EXT: {
        pyi_reader inner = pyi_reader_on(t.data, t.len);
        size_t mark = pyi_put_ext_begin(w, (pyi_ext)t.ext);
        copy_value(&inner, w);
        pyi_put_ext_end(w, mark);
        break;
    }
    }
}

static void random_values_survive_reading_and_writing(void **state) {
    pyi_writer *w = *state;
    pyi_writer copy;
    pyi_writer_init(&copy, 1u << 28);
    seed = UINT64_C(0x9E3779B97F4A7C15);
    for (int round = 0; round < 2000; round++) {
        w->len = copy.len = 0;
        put_random(w, 0);
        assert_int_equal(w->err, PYI_OK);
        assert_int_equal(validate(w->data, w->len), PYI_OK);
        pyi_reader r = pyi_reader_on(w->data, w->len);
        copy_value(&r, &copy);
        assert_ptr_equal(r.p, r.end);
        assert_int_equal(copy.len, w->len);
        assert_memory_equal(copy.data, w->data, w->len);
    }
    pyi_writer_fini(&copy);
}

#define WRITER(test) cmocka_unit_test_setup_teardown(test, open_writer, close_writer)

int main(void) {
    const struct CMUnitTest tests[] = {
        WRITER(nil_and_bools_come_back),
        WRITER(ints_come_back_and_take_the_fewest_bytes),
        WRITER(unsigned_ints_above_int64_come_back_as_uint),
        WRITER(floats_come_back_bit_by_bit),
        WRITER(strings_and_bytes_of_each_size_class_come_back),
        WRITER(a_null_c_string_is_nil),
        WRITER(counts_of_each_size_class_come_back),
        WRITER(extension_values_of_each_size_class_come_back),
        WRITER(nested_extension_payloads_get_their_lengths),
        WRITER(a_token_of_another_kind_leaves_the_reader_where_it_was),
        cmocka_unit_test(a_frame_may_reach_its_limit_but_not_pass_it),
        cmocka_unit_test(the_first_error_sticks),
        cmocka_unit_test(a_reset_writer_works_again),
        cmocka_unit_test(counts_beyond_32_bits_are_too_big),
        cmocka_unit_test(out_of_memory_is_told),
        cmocka_unit_test(an_impossible_size_does_not_wrap_round),
        cmocka_unit_test(counts_and_lengths_beyond_the_bytes_are_refused),
        WRITER(a_value_cut_at_any_byte_is_refused),
        WRITER(bytes_behind_the_value_are_refused),
        WRITER(a_flipped_byte_never_crashes),
        WRITER(nesting_is_allowed_to_the_limit_and_refused_beyond),
        WRITER(skip_refuses_ten_thousand_levels),
        WRITER(skip_passes_exactly_one_value),
        cmocka_unit_test(a_map_in_a_key_is_refused),
        WRITER(unknown_and_reserved_extension_types_are_refused),
        WRITER(payloads_of_the_wrong_shape_are_refused),
        WRITER(payloads_of_the_right_shape_pass),
        cmocka_unit_test(utf8_is_checked_as_python_checks_it),
        cmocka_unit_test(a_str_that_is_not_utf8_is_refused),
        WRITER(a_head_gives_type_id_and_count),
        cmocka_unit_test(a_head_that_is_none_is_refused),
        WRITER(an_error_is_its_eight_fields),
        WRITER(an_error_has_the_type_that_was_asked_for),
        WRITER(the_bytes_are_those_of_docs_protocol),
        WRITER(random_values_survive_reading_and_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

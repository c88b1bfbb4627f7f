/* json: JSON text to values on the wire and back. */
#include "bigint.h"
#include "json.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static int open_writer(void **state) {
    static pyi_writer w;
    pyi_writer_init(&w, 1u << 26);
    *state = &w;
    return 0;
}

static int close_writer(void **state) {
    pyi_writer_fini(*state);
    return 0;
}

#define BYTES(literal) literal, sizeof(literal) - 1

/// What the writer holds, as JSON. Static: valid until the next call.
static const char *as_json(pyi_writer *w) {
    static char *shown;
    char *text = NULL;
    size_t len = 0;
    pyi_error e;
    free(pyi_steal(&shown));
    pyi_error_init(&e);
    pyi_reader r = pyi_reader_on(w->data, w->len);
    if (pyi_validate(w->data, w->len, &e) != PYI_OK ||
        pyi_wire_to_json(&r, &text, &len, &e) != PYI_OK) {
        fail_msg("%s", e.msg);
    }
    assert_ptr_equal(r.p, r.end);
    assert_int_equal(text ? strlen(text) : 0, len);
    w->len = 0;
    shown = text;
    return shown;
}

static void assert_json(pyi_writer *w, const char *expected) {
    assert_string_equal(as_json(w), expected);
}

static pyi_err parse(pyi_writer *w, const char *text, pyi_error *e) {
    pyi_error_init(e);
    w->len = 0;
    return pyi_json_to_wire(text, strlen(text), w, e);
}

/* ---- JSON to wire ---------------------------------------------------------------------------- */

static void json_comes_back_as_it_was(void **state) {
    static const char *const same[] = {
        "null",
        "true",
        "false",
        "0",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "1.5",
        "-0.0",
        "0.1",
        "1e+300",
        "\"\"",
        "\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\"",
        "\"a\\n\\t\\\"\\\\\\u0000\"",
        "[]",
        "{}",
        "[[],{},[1,[2]]]",
        "{\"b\":1,\"a\":{\"c\":[null]}}", // the order of keys stays
    };
    for (size_t i = 0; i < PYI_COUNT(same); i++) {
        pyi_error e;
        assert_int_equal(parse(*state, same[i], &e), PYI_OK);
        assert_json(*state, same[i]);
    }
}

static void blanks_and_escapes_are_read(void **state) {
    pyi_error e;
    assert_int_equal(parse(*state, " [ 1 ,\n\"\\u00fc\\ud83d\\ude00\" , 1E2 ] ", &e), PYI_OK);
    assert_json(*state, "[1,\"\xc3\xbc\xf0\x9f\x98\x80\",100.0]");
}

static void assert_bad(pyi_writer *w, const char *text, const char *where, const char *why) {
    pyi_error e;
    assert_int_equal(parse(w, text, &e), PYI_EINVAL);
    if (!strstr(e.msg, where) || !strstr(e.msg, why)) {
        fail_msg("%s: got %s", text, e.msg);
    }
}

static void bad_json_is_refused_with_line_and_column(void **state) {
    assert_bad(*state, "[1,\n 2,, 3]", "line 2, column 4", "unexpected token");
    assert_bad(*state, "{\"a\": 1, \"a\": 2}", "line 1", "duplicate");
    assert_bad(*state, "99999999999999999999,", "line 1, column 21", "end of file");
    assert_bad(*state, "00000000000000000000001", "line 1", "");
    assert_bad(*state, "1e999", "line 1", "overflow");
    assert_bad(*state, "abc", "line 1, column 3", "double quotes");
    assert_bad(*state, "", "line 1", "expected");
    assert_bad(*state, "1 2", "line 1, column 3", "end of file expected");
    assert_bad(*state, "\"\xff\"", "line 1", "0xff");
    assert_bad(*state, "NaN", "line 1", "invalid token");
}

static void integers_of_any_size_come_back(void **state) {
    static const char *const same[] = {
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "-99999999999999999999",
        "[1,123456789012345678901234567890,2.5,-123456789012345678901234567890,3]",
        "{\"12345678901234567890\":12345678901234567890,\"\\\"1\":[1.5,98765432109876543210]}",
        "1000000000000000000000000000000000000000000000000000000000000000000000000000000",
    };
    for (size_t i = 0; i < PYI_COUNT(same); i++) {
        pyi_error e;
        assert_int_equal(parse(*state, same[i], &e), PYI_OK);
        assert_json(*state, same[i]);
    }
    char digits[6001];
    memset(digits, '7', sizeof(digits) - 1);
    digits[sizeof(digits) - 1] = '\0';
    assert_bad(*state, digits, "6000 digits", "string");
    digits[2000] = '\0';
    pyi_error e;
    assert_int_equal(parse(*state, digits, &e), PYI_OK);
    assert_json(*state, digits);
}

static void nesting_beyond_the_limit_is_refused(void **state) {
    char text[1000];
    for (size_t depth = PYI_MAX_DEPTH; depth < PYI_MAX_DEPTH + 3; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        text[2 * depth] = '\0';
        pyi_error e;
        pyi_err expected = depth > PYI_MAX_DEPTH ? PYI_ETOOBIG : PYI_OK;
        assert_int_equal(parse(*state, text, &e), expected);
    }
}

static void a_value_beyond_the_writers_limit_is_refused(void **state) {
    (void)state;
    pyi_error e;
    pyi_writer w;
    pyi_writer_init(&w, 8);
    assert_int_equal(parse(&w, "\"0123456789\"", &e), PYI_ETOOBIG);
    pyi_writer_fini(&w);
}

/* ---- wire to JSON ---------------------------------------------------------------------------- */

static void what_json_lacks_has_a_documented_form(void **state) {
    pyi_writer *w = *state;
    pyi_put_bin(w, "\0\1\2\3", 4);
    assert_json(w, "{\"$bytes\":\"AAECAw==\"}");
    pyi_put_bin(w, "foobar", 6);
    assert_json(w, "{\"$bytes\":\"Zm9vYmFy\"}");
    pyi_put_bin(w, "fooba", 5);
    assert_json(w, "{\"$bytes\":\"Zm9vYmE=\"}");
    pyi_put_bin(w, "", 0);
    assert_json(w, "{\"$bytes\":\"\"}");
    pyi_put_float(w, NAN);
    assert_json(w, "{\"$float\":\"nan\"}");
    pyi_put_float(w, INFINITY);
    assert_json(w, "{\"$float\":\"inf\"}");
    pyi_put_float(w, -INFINITY);
    assert_json(w, "{\"$float\":\"-inf\"}");
    pyi_put_uint(w, UINT64_MAX);
    assert_json(w, "18446744073709551615");
    size_t mark = pyi_put_ext_begin(w, PYI_EXT_COMPLEX);
    pyi_put_array(w, 2);
    pyi_put_float(w, 1);
    pyi_put_float(w, -INFINITY);
    pyi_put_ext_end(w, mark);
    assert_json(w, "{\"$complex\":[1.0,{\"$float\":\"-inf\"}]}");
}

static void floats_are_the_shortest_text_that_reads_back(void **state) {
    static const struct {
        double v;
        const char *text;
    } rows[] = {{1, "1.0"},
                {0.1, "0.1"},
                {1e22, "1e+22"},
                {1.0 / 3, "0.3333333333333333"},
                {5e-324, "4.94065645841247e-324"},
                {123456789012345680.0, "1.2345678901234568e+17"}};
    for (size_t i = 0; i < PYI_COUNT(rows); i++) {
        pyi_put_float(*state, rows[i].v);
        const char *text = as_json(*state);
        assert_string_equal(text, rows[i].text);
        assert_true(strtod(text, NULL) == rows[i].v);
    }
}

static void big_integers_are_decimal(void **state) {
    static const struct {
        const char *bytes;
        size_t len;
        const char *text;
    } rows[] = {
        {BYTES("\0\0\0\0\0\0\0\x80\0"), "9223372036854775808"},
        {BYTES("\0\0\0\0\0\0\0\0\1"), "18446744073709551616"},
        {BYTES("\xff\xff\xff\xff\xff\xff\xff\x7f\xff"), "-9223372036854775809"},
        {BYTES("\0\0\0\0\0\0\0\0\xff"), "-18446744073709551616"},
        {BYTES("\0\0\0\0\0\0\0\0\x80"), "-2361183241434822606848"},
        {BYTES("\0\0\0\0\0\0\0\0\0"), "0"},
        {BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "-1"},
        {BYTES("\0\0\0\0\x0a\x5b\xc1\x38\x93\x8d\x44\xc6\x4d\x31\0"),
         "1000000000000000000000000000000000"}, // 10^33: inner groups of zeros
    };
    for (size_t i = 0; i < PYI_COUNT(rows); i++) {
        pyi_put_ext_raw(*state, PYI_EXT_BIGINT, rows[i].bytes, rows[i].len);
        assert_json(*state, rows[i].text);
    }
}

static void very_big_integers_are_hexadecimal(void **state) {
    uint8_t bytes[PYI_BIGINT_DECIMAL_BYTES + 1] = {0};
    bytes[PYI_BIGINT_DECIMAL_BYTES - 1] = 0x7f;
    pyi_put_ext_raw(*state, PYI_EXT_BIGINT, bytes, sizeof(bytes) - 1);
    const char *text = as_json(*state);
    assert_int_equal(strspn(text, "0123456789"), 4932); // 127 * 2^16376
    pyi_put_ext_raw(*state, PYI_EXT_BIGINT, bytes, sizeof(bytes));
    text = as_json(*state);
    assert_ptr_equal(strstr(text, "{\"$bigint\":\"0x007f000000"), text);
    assert_int_equal(strlen(text), strlen("{\"$bigint\":\"0x\"}") + 2 * sizeof(bytes));
}

static void tuples_and_sets_are_lists(void **state) {
    pyi_writer *w = *state;
    pyi_put_array(w, 3);
    static const pyi_ext types[] = {PYI_EXT_TUPLE, PYI_EXT_SET, PYI_EXT_FROZENSET};
    for (int i = 0; i < 3; i++) {
        size_t mark = pyi_put_ext_begin(w, types[i]);
        pyi_put_array(w, (size_t)i);
        for (int n = 0; n < i; n++) {
            pyi_put_int(w, n);
        }
        pyi_put_ext_end(w, mark);
    }
    assert_json(w, "[[],[0],[0,1]]");
}

/// An array of ints as an extension value; INT64_MIN stands for nil.
static void put_fields(pyi_writer *w, pyi_ext type, const int64_t *fields, size_t count) {
    size_t mark = pyi_put_ext_begin(w, type);
    pyi_put_array(w, count);
    for (size_t i = 0; i < count; i++) {
        fields[i] == INT64_MIN ? pyi_put_nil(w) : pyi_put_int(w, fields[i]);
    }
    pyi_put_ext_end(w, mark);
}

#define FIELDS(...) (const int64_t[]){__VA_ARGS__}, PYI_COUNT(((const int64_t[]){__VA_ARGS__}))
#define NIL         INT64_MIN

static void dates_and_times_are_iso_8601(void **state) {
    pyi_writer *w = *state;
    put_fields(w, PYI_EXT_DATETIME, FIELDS(2026, 11, 23, 15, 4, 5, 0, 0, NIL, NIL));
    assert_json(w, "\"2026-11-23T15:04:05\"");
    put_fields(w, PYI_EXT_DATETIME, FIELDS(1, 1, 1, 0, 0, 0, 123, 1, 3600, NIL));
    assert_json(w, "\"0001-01-01T00:00:00.000123+01:00\"");
    put_fields(w, PYI_EXT_DATETIME, FIELDS(2026, 1, 1, 0, 0, 0, 0, 0, -34215, NIL));
    assert_json(w, "\"2026-01-01T00:00:00-09:30:15\"");
    put_fields(w, PYI_EXT_DATETIME, FIELDS(2026, 1, 1, 0, 0, 0, 0, 0, 0, NIL));
    assert_json(w, "\"2026-01-01T00:00:00+00:00\"");
    put_fields(w, PYI_EXT_DATE, FIELDS(2026, 2, 3));
    assert_json(w, "\"2026-02-03\"");
    put_fields(w, PYI_EXT_TIME, FIELDS(23, 59, 59, 999999, 0, NIL, NIL));
    assert_json(w, "\"23:59:59.999999\"");
}

static void an_offset_may_have_a_fraction_and_a_name(void **state) {
    pyi_writer *w = *state;
    size_t mark = pyi_put_ext_begin(w, PYI_EXT_TIME);
    pyi_put_array(w, 7);
    for (int i = 0; i < 5; i++) {
        pyi_put_int(w, 0);
    }
    pyi_put_float(w, -0.5);
    pyi_put_cstr(w, "LMT");
    pyi_put_ext_end(w, mark);
    assert_json(w, "\"00:00:00-00:00:00.500000\"");
}

static void durations_are_iso_8601_with_the_sign_in_front(void **state) {
    pyi_writer *w = *state;
    static const struct {
        int64_t fields[3];
        const char *text;
    } rows[] = {{{0, 0, 0}, "\"PT0S\""},
                {{1, 0, 0}, "\"P1D\""},
                {{1, 3, 500000}, "\"P1DT3.500000S\""},
                {{-1, 86399, 0}, "\"-PT1S\""},
                {{-1, 86399, 500000}, "\"-PT0.500000S\""},
                {{-2, 0, 0}, "\"-P2D\""},
                {{-1, 0, 1}, "\"-PT86399.999999S\""}};
    for (size_t i = 0; i < PYI_COUNT(rows); i++) {
        put_fields(w, PYI_EXT_TIMEDELTA, rows[i].fields, 3);
        assert_json(w, rows[i].text);
    }
}

static void uuids_and_paths_are_strings(void **state) {
    pyi_writer *w = *state;
    pyi_put_ext_raw(w, PYI_EXT_UUID,
                    "\x12\x34\x56\x78\x9a\xbc\xde\xf0\x01\x02\x03\x04\x05\x06\x07\x08", 16);
    assert_json(w, "\"12345678-9abc-def0-0102-030405060708\"");
    size_t mark = pyi_put_ext_begin(w, PYI_EXT_PATH);
    pyi_put_cstr(w, "/a \"b\"");
    pyi_put_ext_end(w, mark);
    assert_json(w, "\"/a \\\"b\\\"\"");
    mark = pyi_put_ext_begin(w, PYI_EXT_PATH);
    pyi_put_ext_raw(w, PYI_EXT_SURROGATE, "/\xed\xb3\xbf", 4);
    pyi_put_ext_end(w, mark);
    assert_json(w, "\"/\\udcff\"");
}

static void arrays_of_numpy_keep_type_and_shape(void **state) {
    pyi_writer *w = *state;
    size_t mark = pyi_put_ext_begin(w, PYI_EXT_NDARRAY);
    pyi_put_array(w, 3);
    pyi_put_cstr(w, "<i2");
    pyi_put_array(w, 2);
    pyi_put_int(w, 1);
    pyi_put_int(w, 2);
    pyi_put_bin(w, "\1\0\2\0", 4);
    pyi_put_ext_end(w, mark);
    assert_json(w, "{\"$ndarray\":{\"dtype\":\"<i2\",\"shape\":[1,2],\"data\":\"AQACAA==\"}}");
}

static void scalars_of_numpy_are_numbers_where_json_has_them(void **state) {
    static const struct {
        const char *dtype;
        const char *data;
        size_t len;
        const char *text;
    } rows[] = {
        {"<f8", BYTES("\0\0\0\0\0\0\xf8\x3f"), "1.5"},
        {"<f4", BYTES("\0\0\xc0\xbf"), "-1.5"},
        {"<i8", BYTES("\xff\xff\xff\xff\xff\xff\xff\xff"), "-1"},
        {"<u8", BYTES("\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615"},
        {"<i2", BYTES("\xfe\xff"), "-2"},
        {"|i1", BYTES("\x80"), "-128"},
        {"|u1", BYTES("\x80"), "128"},
        {"|b1", BYTES("\1"), "true"},
        {"<f2", BYTES("\0\x3c"), "{\"$npscalar\":{\"dtype\":\"<f2\",\"data\":\"ADw=\"}}"},
        {">i2", BYTES("\0\1"), "{\"$npscalar\":{\"dtype\":\">i2\",\"data\":\"AAE=\"}}"},
        {"<i4", BYTES("\0\1"), "{\"$npscalar\":{\"dtype\":\"<i4\",\"data\":\"AAE=\"}}"},
        {"<i0", BYTES(""), "{\"$npscalar\":{\"dtype\":\"<i0\",\"data\":\"\"}}"},
    };
    for (size_t i = 0; i < PYI_COUNT(rows); i++) {
        size_t mark = pyi_put_ext_begin(*state, PYI_EXT_NPSCALAR);
        pyi_put_array(*state, 2);
        pyi_put_cstr(*state, rows[i].dtype);
        pyi_put_bin(*state, rows[i].data, rows[i].len);
        pyi_put_ext_end(*state, mark);
        assert_json(*state, rows[i].text);
    }
}

static void lone_surrogates_and_controls_are_escaped(void **state) {
    pyi_put_ext_raw(*state, PYI_EXT_SURROGATE, BYTES("a\xed\xa0\x80\x1b\xc2\x9b\x7f"));
    assert_json(*state, "\"a\\ud800\\u001b\\u009b\\u007f\"");
}

static void keys_that_are_no_str_become_the_text_of_their_json(void **state) {
    pyi_writer *w = *state;
    pyi_put_map(w, 7);
    pyi_put_int(w, 1);
    pyi_put_map(w, 1); // values may be maps with such keys again
    pyi_put_float(w, 0.5);
    pyi_put_int(w, 0);
    pyi_put_nil(w);
    pyi_put_int(w, 1);
    pyi_put_bool(w, true);
    pyi_put_int(w, 2);
    size_t mark = pyi_put_ext_begin(w, PYI_EXT_TUPLE);
    pyi_put_array(w, 2);
    pyi_put_cstr(w, "a");
    size_t inner = pyi_put_ext_begin(w, PYI_EXT_TUPLE);
    pyi_put_array(w, 0);
    pyi_put_ext_end(w, inner);
    pyi_put_ext_end(w, mark);
    pyi_put_int(w, 3);
    put_fields(w, PYI_EXT_DATE, FIELDS(2026, 1, 2));
    pyi_put_int(w, 4);
    pyi_put_bin(w, "x", 1);
    pyi_put_int(w, 5);
    pyi_put_cstr(w, "plain");
    pyi_put_array(w, 0);
    assert_json(w, "{\"1\":{\"0.5\":0},\"null\":1,\"true\":2,\"[\\\"a\\\",[]]\":3,"
                   "\"2026-01-02\":4,\"{\\\"$bytes\\\":\\\"eA==\\\"}\":5,\"plain\":[]}");
}

static void a_reader_is_moved_behind_one_value(void **state) {
    pyi_writer *w = *state;
    pyi_put_int(w, 1);
    pyi_put_int(w, 2);
    pyi_reader r = pyi_reader_on(w->data, w->len);
    for (int i = 1; i <= 2; i++) {
        PYI_AUTO_FREE char *text = NULL;
        size_t len = 0;
        pyi_error e;
        assert_int_equal(pyi_wire_to_json(&r, &text, &len, &e), PYI_OK);
        assert_int_equal(len, 1);
        assert_int_equal(text[0], '0' + i);
    }
}

static void bytes_that_were_never_validated_are_refused_not_trusted(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
        {BYTES("")},
        {BYTES("\x91")},
        {BYTES("\xd4\x01\xc0")},     // a tuple that is no array
        {BYTES("\xd5\x01\x90\xc0")}, // bytes behind the array
        {BYTES("\xd4\x63\xc0")},     // unknown type
        {BYTES("\xd4\x04\x90")},     // complex of nothing
        {BYTES("\xd4\x0a\x00")},     // UUID of a byte
        {BYTES("\xc7\x00\x05")},     // integer of no bytes
        {BYTES("\xd4\x06\x90")},     // datetime of nothing
        {BYTES("\xd6\x09\x93\xff\xff\xff")},
        {BYTES("\x81\x80\x01")}, // {{}: 1}
    };
    for (size_t i = 0; i < PYI_COUNT(rows); i++) {
        char *text = NULL;
        size_t len = 7;
        pyi_error e;
        pyi_reader r = pyi_reader_on(rows[i].bytes, rows[i].len);
        assert_int_equal(pyi_wire_to_json(&r, &text, &len, &e), PYI_EPROTO);
        assert_null(text); // untouched
        assert_int_equal(len, 7);
        assert_ptr_equal(r.p, rows[i].bytes);
    }
}

static void ten_thousand_levels_are_refused(void **state) {
    pyi_writer *w = *state;
    for (int i = 0; i < 10000; i++) {
        pyi_put_array(w, 1);
    }
    pyi_put_nil(w);
    char *text;
    size_t len;
    pyi_error e;
    pyi_reader r = pyi_reader_on(w->data, w->len);
    assert_int_equal(pyi_wire_to_json(&r, &text, &len, &e), PYI_EPROTO);
    assert_non_null(strstr(e.msg, "too deeply"));
}

static void all_that_pyi_validate_lets_pass_can_be_shown(void **state) {
    pyi_writer *w = *state;
    static const size_t most = PYI_MAX_DEPTH + PYI_FRAME_DEPTH;
    for (size_t i = 0; i < most; i++) {
        pyi_put_map(w, 1);
        pyi_put_int(w, 1);
    }
    pyi_put_nil(w);
    assert_int_equal(strlen(as_json(w)), most * 6 + 4);
}

#define WRITER(test) cmocka_unit_test_setup_teardown(test, open_writer, close_writer)

int main(void) {
    const struct CMUnitTest tests[] = {
        WRITER(json_comes_back_as_it_was),
        WRITER(blanks_and_escapes_are_read),
        WRITER(bad_json_is_refused_with_line_and_column),
        WRITER(integers_of_any_size_come_back),
        WRITER(nesting_beyond_the_limit_is_refused),
        cmocka_unit_test(a_value_beyond_the_writers_limit_is_refused),
        WRITER(what_json_lacks_has_a_documented_form),
        WRITER(floats_are_the_shortest_text_that_reads_back),
        WRITER(big_integers_are_decimal),
        WRITER(very_big_integers_are_hexadecimal),
        WRITER(tuples_and_sets_are_lists),
        WRITER(dates_and_times_are_iso_8601),
        WRITER(an_offset_may_have_a_fraction_and_a_name),
        WRITER(durations_are_iso_8601_with_the_sign_in_front),
        WRITER(uuids_and_paths_are_strings),
        WRITER(arrays_of_numpy_keep_type_and_shape),
        WRITER(scalars_of_numpy_are_numbers_where_json_has_them),
        WRITER(lone_surrogates_and_controls_are_escaped),
        WRITER(keys_that_are_no_str_become_the_text_of_their_json),
        WRITER(a_reader_is_moved_behind_one_value),
        cmocka_unit_test(bytes_that_were_never_validated_are_refused_not_trusted),
        WRITER(ten_thousand_levels_are_refused),
        WRITER(all_that_pyi_validate_lets_pass_can_be_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

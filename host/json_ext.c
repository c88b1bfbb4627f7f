/*
 * How each extension type looks in JSON (docs/protocol.md has the table). Payloads are read with
 * checks of their own, though most have passed pyi_validate: what is not well-formed gives false,
 * and what was written of it is thrown away by the caller.
 */
#include "json_ext.h"
#include "bigint.h"
#include "pyi_escape.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static void put(pyi_writer *w, const char *text) {
    pyi_put_raw(w, text, strlen(text));
}

static void put_formatted(pyi_writer *w, const char *fmt, ...) PYI_PRINTF(2, 3);

/// For short texts: 127 bytes at most.
static void put_formatted(pyi_writer *w, const char *fmt, ...) {
    char text[128];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    put(w, text);
}

void pyi_json_int(pyi_writer *w, int64_t v) {
    put_formatted(w, "%lld", (long long)v);
}

void pyi_json_uint(pyi_writer *w, uint64_t v) {
    put_formatted(w, "%llu", (unsigned long long)v);
}

/* ---- floats ---------------------------------------------------------------------------------- */

/// Makes C's text of a number JSON's: a '.' whatever the locale. True: it looks like an integer.
static bool normalize(char *text) {
    bool integer = true;
    for (char *c = text; *c; c++) {
        bool digit = (*c >= '0' && *c <= '9') || *c == '-' || *c == '+';
        if (!digit && *c != 'e') {
            *c = '.';
        }
        integer = integer && digit;
    }
    return integer;
}

void pyi_json_float(pyi_writer *w, double v) {
    char text[40];
    if (!isfinite(v)) {
        const char *name = isnan(v) ? "nan" : v > 0 ? "inf" : "-inf";
        put_formatted(w, "{\"$float\":\"%s\"}", name);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, v);
        if (strtod(text, NULL) == v) {
            break;
        }
    }
    bool integer = normalize(text);
    put(w, text);
    put(w, integer ? ".0" : "");
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static void encode_3(uint8_t out[4], const uint8_t *in, size_t len) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = (uint32_t)in[0] << 16;
    bits |= len > 1 ? (uint32_t)in[1] << 8 : 0;
    bits |= len > 2 ? in[2] : 0;
    out[0] = (uint8_t)digits[bits >> 18];
    out[1] = (uint8_t)digits[bits >> 12 & 63];
    out[2] = len > 1 ? (uint8_t)digits[bits >> 6 & 63] : '=';
    out[3] = len > 2 ? (uint8_t)digits[bits & 63] : '=';
}

void pyi_json_base64(pyi_writer *w, const uint8_t *data, size_t len) {
    size_t size = (len + 2) / 3 * 4; // no overflow: the bytes are within a frame
    uint8_t *out = pyi_writer_room(w, size + 2);
    if (!out) {
        return;
    }
    *out++ = '"';
    for (size_t at = 0; at < len; at += 3, out += 4) {
        encode_3(out, data + at, len - at);
    }
    *out = '"';
    w->len += size + 2;
}

/* ---- big integers ---------------------------------------------------------------------------- */

/// Two's complement, most significant byte first, as it is on the wire but turned round.
static void put_hex(pyi_writer *w, const pyi_token *ext) {
    put(w, "{\"$bigint\":\"0x");
    uint8_t *out = pyi_writer_room(w, ext->len * 2);
    if (!out) {
        return;
    }
    for (size_t i = ext->len; i-- > 0; out += 2) {
        static const char digits[] = "0123456789abcdef";
        out[0] = (uint8_t)digits[ext->data[i] >> 4];
        out[1] = (uint8_t)digits[ext->data[i] & 15];
    }
    w->len += ext->len * 2;
    put(w, "\"}");
}

static bool put_bigint(pyi_writer *w, const pyi_token *ext) {
    if (ext->len > PYI_BIGINT_DECIMAL_BYTES) {
        put_hex(w, ext);
        return true;
    }
    PYI_AUTO_FREE char *text = ext->len > 0 ? pyi_bigint_text(ext->data, ext->len) : NULL;
    if (text != NULL) {
        put(w, text);
    } else if (ext->len > 0) {
        w->err = PYI_ENOMEM;
    }
    return ext->len > 0;
}

/* ---- dates and times ------------------------------------------------------------------------- */

static bool ints_next(pyi_reader *r, int64_t *ret, size_t count) {
    for (size_t i = 0; i < count; i++) {
        pyi_token t;
        if (pyi_read_kind(r, PYI_INT, &t) != PYI_OK) {
            return false;
        }
        ret[i] = t.i;
    }
    return true;
}

static bool open_array(pyi_reader *r, const pyi_token *ext, uint32_t count) {
    pyi_token t;
    *r = pyi_reader_on(ext->data, ext->len);
    return pyi_read_kind(r, PYI_ARRAY, &t) == PYI_OK && t.count == count;
}

static void put_fraction(pyi_writer *w, int64_t us) {
    if (us != 0) {
        put_formatted(w, ".%06lld", (long long)us);
    }
}

/// "+01:00", with seconds and their fraction only where there are any. Nothing for nil.
static bool put_offset(pyi_writer *w, pyi_reader *r) {
    pyi_token t;
    if (pyi_read(r, &t) != PYI_OK) {
        return false;
    }
    if (t.kind == PYI_NIL) {
        return true;
    }
    double seconds = t.kind == PYI_INT ? (double)t.i : t.kind == PYI_FLOAT ? t.f : NAN;
    if (!(seconds > -86400 && seconds < 86400)) { // also what is no number
        return false;
    }
    long long us = llround(fabs(seconds) * 1e6);
    long long whole = us / 1000000;
    put_formatted(w, "%c%02lld:%02lld", seconds < 0 ? '-' : '+', whole / 3600, whole / 60 % 60);
    if (us % 60000000 != 0) {
        put_formatted(w, ":%02lld", whole % 60);
        put_fraction(w, us % 1000000);
    }
    return true;
}

static bool put_date_fields(pyi_writer *w, pyi_reader *r) {
    int64_t f[3];
    if (!ints_next(r, f, PYI_COUNT(f))) {
        return false;
    }
    put_formatted(w, "%04lld-%02lld-%02lld", (long long)f[0], (long long)f[1], (long long)f[2]);
    return true;
}

/// Hour to offset. The zone's name is not shown: the offset says more.
static bool put_time_fields(pyi_writer *w, pyi_reader *r) {
    int64_t f[5]; // the last is fold
    if (!ints_next(r, f, PYI_COUNT(f))) {
        return false;
    }
    put_formatted(w, "%02lld:%02lld:%02lld", (long long)f[0], (long long)f[1], (long long)f[2]);
    put_fraction(w, f[3]);
    return put_offset(w, r);
}

static bool put_datetime(pyi_writer *w, const pyi_token *ext) {
    pyi_reader r;
    if (!open_array(&r, ext, 10)) {
        return false;
    }
    put(w, "\"");
    if (!put_date_fields(w, &r)) {
        return false;
    }
    put(w, "T");
    if (!put_time_fields(w, &r)) {
        return false;
    }
    put(w, "\"");
    return true;
}

static bool put_date(pyi_writer *w, const pyi_token *ext) {
    pyi_reader r;
    put(w, "\"");
    if (!open_array(&r, ext, 3) || !put_date_fields(w, &r)) {
        return false;
    }
    put(w, "\"");
    return true;
}

static bool put_time(pyi_writer *w, const pyi_token *ext) {
    pyi_reader r;
    put(w, "\"");
    if (!open_array(&r, ext, 7) || !put_time_fields(w, &r)) {
        return false;
    }
    put(w, "\"");
    return true;
}

/// Python's timedelta has a sign on the days alone; a reader expects it on the whole.
static bool make_positive(int64_t f[3]) {
    if (f[0] >= 0) {
        return false;
    }
    bool part = f[1] != 0 || f[2] != 0;
    f[0] = -f[0] - (part ? 1 : 0);
    if (part) {
        f[1] = 86400 - f[1] - (f[2] != 0 ? 1 : 0);
        f[2] = f[2] != 0 ? 1000000 - f[2] : 0;
    }
    return true;
}

/// ISO 8601: "P1DT3.500000S", "-PT1S", "PT0S".
static bool put_timedelta(pyi_writer *w, const pyi_token *ext) {
    pyi_reader r;
    int64_t f[3]; // days, seconds, microseconds
    if (!open_array(&r, ext, 3) || !ints_next(&r, f, PYI_COUNT(f))) {
        return false;
    }
    if (f[0] < -999999999 || f[0] > 999999999 || f[1] < 0 || f[1] >= 86400 || f[2] < 0 ||
        f[2] >= 1000000) {
        return false;
    }
    put(w, make_positive(f) ? "\"-P" : "\"P");
    if (f[0] != 0) {
        put_formatted(w, "%lldD", (long long)f[0]);
    }
    if (f[0] == 0 || f[1] != 0 || f[2] != 0) {
        put_formatted(w, "T%lld", (long long)f[1]);
        put_fraction(w, f[2]);
        put(w, "S");
    }
    put(w, "\"");
    return true;
}

/* ---- numbers of numpy ------------------------------------------------------------------------ */

static bool put_complex(pyi_writer *w, const pyi_token *ext) {
    pyi_reader r;
    pyi_token re, im;
    if (!open_array(&r, ext, 2) || pyi_read_kind(&r, PYI_FLOAT, &re) != PYI_OK ||
        pyi_read_kind(&r, PYI_FLOAT, &im) != PYI_OK) {
        return false;
    }
    put(w, "{\"$complex\":[");
    pyi_json_float(w, re.f);
    put(w, ",");
    pyi_json_float(w, im.f);
    put(w, "]}");
    return true;
}

/// A str or its kin with surrogates.
static bool text_next(pyi_reader *r, pyi_token *ret) {
    return pyi_read(r, ret) == PYI_OK &&
           (ret->kind == PYI_STR || (ret->kind == PYI_EXT && ret->ext == PYI_EXT_SURROGATE));
}

static bool put_shape(pyi_writer *w, pyi_reader *r) {
    pyi_token t;
    if (pyi_read_kind(r, PYI_ARRAY, &t) != PYI_OK) {
        return false;
    }
    put(w, "[");
    for (uint32_t i = 0, count = t.count; i < count; i++) {
        if (pyi_read_kind(r, PYI_UINT, &t) != PYI_OK) {
            return false;
        }
        put(w, i > 0 ? "," : "");
        pyi_json_uint(w, t.u);
    }
    put(w, "]");
    return true;
}

static bool put_ndarray(pyi_writer *w, const pyi_token *ext) {
    pyi_reader r;
    pyi_token dtype, data;
    if (!open_array(&r, ext, 3) || !text_next(&r, &dtype)) {
        return false;
    }
    put(w, "{\"$ndarray\":{\"dtype\":");
    pyi_escape_json(w, dtype.data, dtype.len);
    put(w, ",\"shape\":");
    if (!put_shape(w, &r) || pyi_read_kind(&r, PYI_BIN, &data) != PYI_OK) {
        return false;
    }
    put(w, ",\"data\":");
    pyi_json_base64(w, data.data, data.len);
    put(w, "}}");
    return true;
}

static int64_t signed_of(uint64_t bits, size_t size) {
    unsigned unused = (unsigned)(64 - 8 * size);
    return (int64_t)(bits << unused) >> unused;
}

static double float_of(uint64_t bits, size_t size) {
    double wide;
    float narrow;
    uint32_t low = (uint32_t)bits;
    memcpy(&wide, &bits, sizeof(wide));
    memcpy(&narrow, &low, sizeof(narrow));
    return size == 4 ? (double)narrow : wide;
}

/// A little-endian bool, integer or float of up to 64 bits as a plain number. False: it is none.
static bool put_number(pyi_writer *w, const pyi_token *dtype, const pyi_token *data) {
    uint64_t bits = 0;
    if (dtype->len != 3 || (dtype->data[0] != '<' && dtype->data[0] != '|') || data->len > 8 ||
        dtype->data[2] != '0' + data->len) {
        return false;
    }
    memcpy(&bits, data->data, data->len);
    switch (dtype->data[1]) {
    case 'b':
        put(w, bits != 0 ? "true" : "false");
        return true;
    case 'i':
        pyi_json_int(w, signed_of(bits, data->len));
        return true;
    case 'u':
        pyi_json_uint(w, bits);
        return true;
    case 'f':
        if (data->len < 4) {
            return false;
        }
        pyi_json_float(w, float_of(bits, data->len));
        return true;
    default:
        return false;
    }
}

static bool put_npscalar(pyi_writer *w, const pyi_token *ext) {
    pyi_reader r;
    pyi_token dtype, data;
    if (!open_array(&r, ext, 2) || !text_next(&r, &dtype) ||
        pyi_read_kind(&r, PYI_BIN, &data) != PYI_OK) {
        return false;
    }
    if (data.len > 0 && put_number(w, &dtype, &data)) {
        return true;
    }
    put(w, "{\"$npscalar\":{\"dtype\":");
    pyi_escape_json(w, dtype.data, dtype.len);
    put(w, ",\"data\":");
    pyi_json_base64(w, data.data, data.len);
    put(w, "}}");
    return true;
}

/* ---- exported -------------------------------------------------------------------------------- */

static bool put_path(pyi_writer *w, const pyi_token *ext) {
    pyi_reader r = pyi_reader_on(ext->data, ext->len);
    pyi_token text;
    if (!text_next(&r, &text)) {
        return false;
    }
    pyi_escape_json(w, text.data, text.len);
    return true;
}

static bool put_uuid(pyi_writer *w, const pyi_token *ext) {
    if (ext->len != 16) {
        return false;
    }
    put(w, "\"");
    for (size_t i = 0; i < 16; i++) {
        put_formatted(w, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", ext->data[i]);
    }
    put(w, "\"");
    return true;
}

bool pyi_json_ext(pyi_writer *w, const pyi_token *ext) {
    switch ((int)ext->ext) {
    case PYI_EXT_COMPLEX:
        return put_complex(w, ext);
    case PYI_EXT_BIGINT:
        return put_bigint(w, ext);
    case PYI_EXT_DATETIME:
        return put_datetime(w, ext);
    case PYI_EXT_DATE:
        return put_date(w, ext);
    case PYI_EXT_TIME:
        return put_time(w, ext);
    case PYI_EXT_TIMEDELTA:
        return put_timedelta(w, ext);
    case PYI_EXT_UUID:
        return put_uuid(w, ext);
    case PYI_EXT_PATH:
        return put_path(w, ext);
    case PYI_EXT_NDARRAY:
        return put_ndarray(w, ext);
    case PYI_EXT_NPSCALAR:
        return put_npscalar(w, ext);
    case PYI_EXT_SURROGATE:
        pyi_escape_json(w, ext->data, ext->len);
        return true;
    default:
        return false;
    }
}

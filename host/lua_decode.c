/*
 * The wire to Lua. Each value is pushed as it is read. Counts are trusted only as far as the reader
 * has checked them against the bytes that remain. A list or tuple has no holes: a nested nil is
 * pyisolate.null.
 *
 * Pushing may raise on out-of-memory: nothing that needs a release is held across it, but for one
 * text of a big integer, which is pushed under protection.
 */
#include "bigint.h"
#include "lua_value.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static pyi_err push_value(lua_State *L, pyi_reader *r, unsigned depth, pyi_error *e);

static pyi_err malformed(pyi_error *e, const char *what) {
    return pyi_error_set(e, PYI_EPROTO, "lua.decode", "%s", what);
}

static pyi_err not_yet(pyi_error *e, const char *what) {
    return pyi_error_set(e, PYI_EUNAVAILABLE, "lua.decode", "%s is not available yet in Lua", what);
}

/* ---- containers ------------------------------------------------------------------------------ */

static int preallocate(uint32_t count) {
    return count > 1u << 20 ? 1 << 20 : (int)count; /* more grows as it comes */
}

static pyi_err push_items(lua_State *L, pyi_reader *r, uint32_t count, unsigned depth,
                          pyi_error *e) {
    lua_createtable(L, preallocate(count), 0);
    for (uint32_t i = 1; i <= count; i++) {
        pyi_err err = push_value(L, r, depth, e);
        if (err != PYI_OK) {
            return err;
        }
        lua_rawseti(L, -2, (lua_Integer)i);
    }
    return PYI_OK;
}

/* A NaN cannot be a key in Lua. */
static bool is_nan_key(lua_State *L) {
    return lua_type(L, -1) == LUA_TNUMBER && !lua_isinteger(L, -1) && isnan(lua_tonumber(L, -1));
}

static pyi_err push_map(lua_State *L, pyi_reader *r, uint32_t count, unsigned depth, pyi_error *e) {
    lua_createtable(L, 0, preallocate(count));
    for (uint32_t i = 0; i < count; i++) {
        pyi_err err = push_value(L, r, depth, e);
        if (err == PYI_OK && is_nan_key(L)) {
            return pyi_error_set(e, PYI_ETYPE, "lua.decode",
                                 "a dict with the key nan cannot be a Lua table");
        }
        err = err != PYI_OK ? err : push_value(L, r, depth, e);
        if (err != PYI_OK) {
            return err;
        }
        lua_rawset(L, -3);
    }
    pyi_lua_set_kind(L, PYI_LUA_DICT);
    return PYI_OK;
}

static pyi_err push_sequence(lua_State *L, pyi_reader *r, pyi_lua_kind kind, unsigned depth,
                             pyi_error *e) {
    pyi_token t;
    if (pyi_read_kind(r, PYI_ARRAY, &t) != PYI_OK) {
        return malformed(e, "a tuple or set without items");
    }
    pyi_err err = push_items(L, r, t.count, depth, e);
    if (err == PYI_OK) {
        pyi_lua_set_kind(L, kind);
    }
    return err;
}

/* ---- what msgpack lacks ---------------------------------------------------------------------- */

static pyi_err push_text(lua_State *L, char *text, pyi_error *e) {
    if (text == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "lua.decode", "out of memory");
    }
    pyi_err err = pyi_lua_push_bytes(L, text, strlen(text), e);
    free(text);
    return err;
}

static pyi_err push_bigint(lua_State *L, const uint8_t *bytes, size_t len, pyi_error *e) {
    lua_createtable(L, 1, 0);
    pyi_err err = push_text(L, pyi_bigint_text(bytes, len), e);
    if (err == PYI_OK) {
        lua_rawseti(L, -2, 1);
        pyi_lua_set_kind(L, PYI_LUA_INT);
    }
    return err;
}

static pyi_err push_uint(lua_State *L, uint64_t value, pyi_error *e) {
    uint8_t bytes[9] = {0};
    memcpy(bytes, &value, sizeof(value));
    return push_bigint(L, bytes, sizeof(bytes), e);
}

static pyi_err push_fields(lua_State *L, pyi_reader *r, pyi_lua_kind kind, pyi_error *e) {
    const char *const *fields = pyi_lua_fields(kind);
    pyi_token t;
    if (pyi_read_kind(r, PYI_ARRAY, &t) != PYI_OK) {
        return malformed(e, "a date or complex number without fields");
    }
    lua_createtable(L, 0, (int)(t.count < 16 ? t.count : 16));
    for (uint32_t i = 0; i < t.count && fields[i] != NULL; i++) {
        pyi_err err = push_value(L, r, PYI_MAX_DEPTH, e);
        if (err != PYI_OK) {
            return err;
        }
        if (lua_islightuserdata(L, -1)) {
            lua_pop(L, 1); /* no zone: the field stays absent */
        } else {
            lua_setfield(L, -2, fields[i]);
        }
    }
    pyi_lua_set_kind(L, kind);
    return PYI_OK;
}

/* What has a text and is no str. */
static void push_text_kind(lua_State *L, const void *text, size_t len, pyi_lua_kind kind) {
    lua_createtable(L, 1, 0);
    lua_pushlstring(L, text, len);
    lua_rawseti(L, -2, 1);
    pyi_lua_set_kind(L, kind);
}

/* A path whose name is not UTF-8 has surrogates, as a str. */
static pyi_err push_path(lua_State *L, pyi_reader *r, pyi_error *e) {
    pyi_token t;
    if (pyi_read(r, &t) != PYI_OK || (t.kind != PYI_STR && t.kind != PYI_EXT)) {
        return malformed(e, "a path without text");
    }
    push_text_kind(L, t.data, t.len, PYI_LUA_PATH);
    return PYI_OK;
}

static pyi_err push_uuid(lua_State *L, const uint8_t *u, size_t len, pyi_error *e) {
    char text[40];
    if (len != 16) {
        return malformed(e, "a UUID that has not 16 bytes");
    }
    snprintf(text, sizeof(text),
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
             u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
             u[15]);
    push_text_kind(L, text, strlen(text), PYI_LUA_UUID);
    return PYI_OK;
}

/* ---- numpy ----------------------------------------------------------------------------------- */

static pyi_err push_array_fields(lua_State *L, pyi_reader *r, pyi_lua_kind kind, pyi_error *e) {
    static const char *const names[] = {"dtype", "shape"};
    pyi_token t;
    if (pyi_read_kind(r, PYI_ARRAY, &t) != PYI_OK ||
        t.count != (kind == PYI_LUA_NDARRAY ? 3u : 2u)) {
        return malformed(e, "a numpy value with wrong fields");
    }
    lua_createtable(L, 0, 3);
    for (uint32_t i = 0; i + 1 < t.count; i++) {
        pyi_err err = push_value(L, r, PYI_MAX_DEPTH - 1, e);
        if (err != PYI_OK) {
            return err;
        }
        lua_setfield(L, -2, names[i]);
    }
    pyi_token data;
    if (pyi_read_kind(r, PYI_BIN, &data) != PYI_OK) {
        return malformed(e, "a numpy value without data");
    }
    lua_pushlstring(L, (const char *)data.data, data.len);
    lua_setfield(L, -2, "data");
    pyi_lua_set_kind(L, kind);
    return PYI_OK;
}

static double half(uint16_t bits) {
    int exponent = bits >> 10 & 31;
    double fraction = (bits & 1023) / 1024.0, value;
    if (exponent == 31) {
        value = fraction > 0 ? (double)NAN : (double)INFINITY;
    } else {
        value = exponent == 0 ? ldexp(fraction, -14) : ldexp(1 + fraction, exponent - 15);
    }
    return (bits & 0x8000) != 0 ? -value : value;
}

/* Reads `size` bytes in the order that the dtype says; false if it is no plain number. */
static bool scalar_bits(const char *order, size_t size, const uint8_t *data, uint64_t *ret_bits) {
    uint64_t bits = 0;
    if (size == 0 || size > sizeof(bits)) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        bits |= (uint64_t)data[*order == '>' ? size - 1 - i : i] << (8 * i);
    }
    *ret_bits = bits;
    return true;
}

static bool push_float(lua_State *L, uint64_t bits, size_t size) {
    float narrow;
    double wide;
    uint32_t low = (uint32_t)bits;
    switch (size) {
    case 2:
        lua_pushnumber(L, half((uint16_t)bits));
        return true;
    case 4:
        memcpy(&narrow, &low, sizeof(narrow));
        lua_pushnumber(L, (double)narrow);
        return true;
    case 8:
        memcpy(&wide, &bits, sizeof(wide));
        lua_pushnumber(L, wide);
        return true;
    default:
        return false;
    }
}

static int64_t sign_extend(uint64_t bits, size_t size) {
    unsigned shift = 64 - 8 * (unsigned)size;
    return (int64_t)(bits << shift) >> shift;
}

/* Pushes a numpy scalar that is a plain number: "<f8", "|b1", ">i4"; false if it is none. */
static bool push_number(lua_State *L, const char *dtype, size_t dtype_len, const uint8_t *data,
                        size_t len) {
    uint64_t bits;
    char shown[8];
    if (dtype_len != 3 || strchr("<>|=", dtype[0]) == NULL || (size_t)(dtype[2] - '0') != len) {
        return false;
    }
    memcpy(shown, dtype, 3);
    if (!scalar_bits(shown, len, data, &bits)) {
        return false;
    }
    switch (shown[1]) {
    case 'b':
        lua_pushboolean(L, bits != 0);
        return true;
    case 'i':
        lua_pushinteger(L, sign_extend(bits, len));
        return true;
    case 'u':
        if (bits > INT64_MAX) {
            return false;
        }
        lua_pushinteger(L, (lua_Integer)bits);
        return true;
    case 'f':
        return push_float(L, bits, len);
    default:
        return false;
    }
}

static pyi_err push_numpy_scalar(lua_State *L, pyi_reader r, pyi_error *e) {
    pyi_reader again = r;
    pyi_token count, dtype, data;
    if (pyi_read_kind(&r, PYI_ARRAY, &count) != PYI_OK ||
        pyi_read_kind(&r, PYI_STR, &dtype) != PYI_OK ||
        pyi_read_kind(&r, PYI_BIN, &data) != PYI_OK) {
        return malformed(e, "a numpy scalar with wrong fields");
    }
    if (push_number(L, (const char *)dtype.data, dtype.len, data.data, data.len)) {
        return PYI_OK;
    }
    uint64_t bits;
    bool big = dtype.len == 3 && dtype.data[1] == 'u' && data.len == 8;
    if (big && scalar_bits((const char *)dtype.data, data.len, data.data, &bits)) {
        return push_uint(L, bits, e);
    }
    return push_array_fields(L, &again, PYI_LUA_NPSCALAR, e);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static pyi_err push_ext(lua_State *L, const pyi_token *t, unsigned depth, pyi_error *e) {
    pyi_reader r = pyi_reader_on(t->data, t->len);
    switch ((pyi_ext)t->ext) {
    case PYI_EXT_TUPLE:
        return push_sequence(L, &r, PYI_LUA_TUPLE, depth, e);
    case PYI_EXT_SET:
        return push_sequence(L, &r, PYI_LUA_SET, depth, e);
    case PYI_EXT_FROZENSET:
        return push_sequence(L, &r, PYI_LUA_FROZENSET, depth, e);
    case PYI_EXT_COMPLEX:
        return push_fields(L, &r, PYI_LUA_COMPLEX, e);
    case PYI_EXT_BIGINT:
        return push_bigint(L, t->data, t->len, e);
    case PYI_EXT_DATETIME:
        return push_fields(L, &r, PYI_LUA_DATETIME, e);
    case PYI_EXT_DATE:
        return push_fields(L, &r, PYI_LUA_DATE, e);
    case PYI_EXT_TIME:
        return push_fields(L, &r, PYI_LUA_TIME, e);
    case PYI_EXT_TIMEDELTA:
        return push_fields(L, &r, PYI_LUA_TIMEDELTA, e);
    case PYI_EXT_UUID:
        return push_uuid(L, t->data, t->len, e);
    case PYI_EXT_PATH:
        return push_path(L, &r, e);
    case PYI_EXT_NDARRAY:
        return push_array_fields(L, &r, PYI_LUA_NDARRAY, e);
    case PYI_EXT_NPSCALAR:
        return push_numpy_scalar(L, r, e);
    case PYI_EXT_SURROGATE:
        lua_pushlstring(L, (const char *)t->data, t->len);
        return PYI_OK;
    case PYI_EXT_OBJECT:
        return not_yet(e, "an object of the extension");
    case PYI_EXT_CALLBACK:
        return not_yet(e, "a callback");
    case PYI_EXT_REGISTERED:
        return not_yet(e, "a registered type");
    case PYI_EXT_TENSOR:
        return not_yet(e, "a tensor");
    }
    return pyi_error_set(e, PYI_EPROTO, "lua.decode", "unknown type %d on the wire", t->ext);
}

static pyi_err push_value(lua_State *L, pyi_reader *r, unsigned depth, pyi_error *e) {
    pyi_token t;
    if (pyi_read(r, &t) != PYI_OK) {
        return malformed(e, "the value ends too early, or is not msgpack");
    }
    if (depth >= PYI_MAX_DEPTH && (t.kind == PYI_ARRAY || t.kind == PYI_MAP || t.kind == PYI_EXT)) {
        return malformed(e, "the value is nested too deep");
    }
    luaL_checkstack(L, 8, "value");
    switch (t.kind) {
    case PYI_NIL:
        pyi_lua_push_null(L);
        return PYI_OK;
    case PYI_BOOL:
        lua_pushboolean(L, t.b);
        return PYI_OK;
    case PYI_INT:
        lua_pushinteger(L, t.i);
        return PYI_OK;
    case PYI_UINT:
        return push_uint(L, t.u, e);
    case PYI_FLOAT:
        lua_pushnumber(L, t.f);
        return PYI_OK;
    case PYI_STR:
        lua_pushlstring(L, (const char *)t.data, t.len);
        return PYI_OK;
    case PYI_BIN:
        push_text_kind(L, t.data, t.len, PYI_LUA_BYTES);
        return PYI_OK;
    case PYI_ARRAY:
        return push_items(L, r, t.count, depth + 1, e);
    case PYI_MAP:
        return push_map(L, r, t.count, depth + 1, e);
    case PYI_EXT:
        return push_ext(L, &t, depth + 1, e);
    }
    return malformed(e, "unknown token");
}

pyi_err pyi_lua_decode(lua_State *L, pyi_reader *r, pyi_error *e) {
    int top = lua_gettop(L);
    pyi_err err = push_value(L, r, 0, e);
    if (err != PYI_OK) {
        lua_settop(L, top);
        return err;
    }
    if (lua_islightuserdata(L, -1)) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
    return PYI_OK;
}

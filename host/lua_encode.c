/*
 * Lua to the wire. Plain C: only raw access, so that nothing of the script runs and nothing raises
 * (the writer may own a message). A plain table is written as a list first, in one pass; when it
 * turns out to be none, the writer goes back to where it began.
 */
#include "bigint.h"
#include "lua_value.h"
#include <stdio.h>
#include <string.h>

/* The way from the arguments to a value, for messages: a list on the C stack. */
typedef struct step {
    const struct step *up;
    const char *key; /* a field, or NULL: an index */
    lua_Integer index;
    const char *prefix; /* of the first step: "args", "kwargs" */
} step;

static pyi_err put_value(lua_State *L, int index, pyi_writer *w, const step *at, unsigned depth,
                         pyi_error *e);

/* ---- messages -------------------------------------------------------------------------------- */

static size_t add_step(char *text, size_t len, size_t size, const step *at) {
    int more = 0;
    if (at->prefix != NULL) {
        more = snprintf(text + len, size - len, "%s", at->prefix);
    } else if (at->key != NULL) {
        more = snprintf(text + len, size - len, ".%.60s", at->key);
    } else {
        more = snprintf(text + len, size - len, "[%lld]", (long long)at->index);
    }
    len += more > 0 ? (size_t)more : 0;
    return len < size ? len : size - 1;
}

static size_t write_path(char *text, size_t size, const step *at) {
    size_t len = at->up != NULL ? write_path(text, size, at->up) : 0;
    return add_step(text, len, size, at);
}

static pyi_err refuse(const step *at, pyi_error *e, const char *what) {
    char path[120];
    write_path(path, sizeof(path), at);
    return pyi_error_set(e, PYI_ETYPE, "lua.encode", "%s: %s", path, what);
}

static pyi_err refuse_type(lua_State *L, int index, const step *at, pyi_error *e) {
    char what[120];
    snprintf(what, sizeof(what), "a %s cannot be sent", lua_typename(L, lua_type(L, index)));
    return refuse(at, e, what);
}

/* ---- scalars --------------------------------------------------------------------------------- */

/* Python's lone surrogates come as they would be in UTF-8, and go back so. */
static pyi_err put_text(const char *text, size_t len, pyi_writer *w, const step *at, pyi_error *e) {
    if (len > UINT32_MAX) {
        return refuse(at, e, "the string has more than 4 GiB");
    }
    if (pyi_utf8_valid((const uint8_t *)text, len)) {
        pyi_put_str(w, text, len);
    } else if (pyi_utf8_valid_surrogates((const uint8_t *)text, len)) {
        pyi_put_ext_raw(w, PYI_EXT_SURROGATE, text, len);
    } else {
        return refuse(at, e, "the string is not UTF-8: send it as pyisolate.bytes(s), or as text");
    }
    return PYI_OK;
}

static pyi_err put_string(lua_State *L, int index, pyi_writer *w, const step *at, pyi_error *e) {
    size_t len;
    const char *text = lua_tolstring(L, index, &len);
    return put_text(text, len, w, at, e);
}

static void put_number(lua_State *L, int index, pyi_writer *w) {
    if (lua_isinteger(L, index)) {
        pyi_put_int(w, lua_tointeger(L, index));
    } else {
        pyi_put_float(w, lua_tonumber(L, index));
    }
}

/* ---- containers ------------------------------------------------------------------------------ */

/* stack: ..., table. Writes items 1..count. */
static pyi_err put_items(lua_State *L, int table, lua_Integer count, pyi_writer *w, const step *at,
                         unsigned depth, pyi_error *e) {
    pyi_put_array(w, (uint32_t)count);
    for (lua_Integer i = 1; i <= count && w->err == PYI_OK; i++) {
        step item = {.up = at, .index = i};
        if (lua_rawgeti(L, table, i) == LUA_TNIL) {
            lua_pop(L, 1);
            return refuse(&item, e,
                          "is nil: a list has no holes; use pyisolate.null, or pyisolate.dict");
        }
        pyi_err err = put_value(L, lua_gettop(L), w, &item, depth, e);
        lua_pop(L, 1);
        if (err != PYI_OK) {
            return err;
        }
    }
    return PYI_OK;
}

typedef struct shape {
    size_t count;  /* of all keys */
    bool positive; /* all keys are integers from 1 on */
    lua_Integer greatest;
} shape;

static shape measure(lua_State *L, int table) {
    shape s = {.positive = true};
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
        s.count++;
        if (!lua_isinteger(L, -2) || lua_tointeger(L, -2) < 1) {
            s.positive = false;
        } else if (lua_tointeger(L, -2) > s.greatest) {
            s.greatest = lua_tointeger(L, -2);
        }
    }
    return s;
}

/* stack: ..., key, value. */
static pyi_err put_pair(lua_State *L, pyi_writer *w, const step *at, unsigned depth, pyi_error *e) {
    int top = lua_gettop(L);
    step item = {.up = at,
                 .key = lua_type(L, top - 1) == LUA_TSTRING ? lua_tostring(L, top - 1) : NULL};
    if (item.key == NULL) {
        item.index = lua_isinteger(L, top - 1) ? lua_tointeger(L, top - 1) : 0;
        item.key = lua_isinteger(L, top - 1) ? NULL : "(key)";
    }
    pyi_err err = put_value(L, top - 1, w, &item, depth, e);
    return err != PYI_OK ? err : put_value(L, top, w, &item, depth, e);
}

static pyi_err put_map(lua_State *L, int table, size_t count, pyi_writer *w, const step *at,
                       unsigned depth, pyi_error *e) {
    if (count > UINT32_MAX) {
        return refuse(at, e, "the table has too many keys");
    }
    pyi_put_map(w, (uint32_t)count);
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
        pyi_err err = w->err != PYI_OK ? w->err : put_pair(L, w, at, depth, e);
        if (err != PYI_OK) {
            lua_pop(L, 2);
            return w->err != PYI_OK ? PYI_OK : err; /* the writer's own error is told at the end */
        }
    }
    return PYI_OK;
}

static pyi_err put_sequence(lua_State *L, int table, pyi_writer *w, const step *at, unsigned depth,
                            pyi_error *e) {
    shape s = measure(L, table);
    if (!s.positive) {
        return refuse(at, e,
                      "has keys that are no positions: a list, tuple or set has 1, 2, 3 ... only");
    }
    if (s.greatest > UINT32_MAX) {
        return refuse(at, e, "the list is too long");
    }
    return put_items(L, table, s.greatest, w, at, depth, e);
}

/* The usual table: if its keys come as 1, 2, 3 ... it is written as a list while they come. */
static bool put_plain_list(lua_State *L, int table, pyi_writer *w, const step *at, unsigned depth,
                           pyi_err *ret_err, pyi_error *e) {
    size_t mark = w->len;
    lua_Integer expected = (lua_Integer)lua_rawlen(L, table), seen = 0;
    pyi_put_array(w, (uint32_t)expected);
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
        if (!lua_isinteger(L, -2) || lua_tointeger(L, -2) != ++seen || seen > expected) {
            lua_pop(L, 2);
            w->len = mark;
            return false;
        }
        step item = {.up = at, .index = seen};
        *ret_err = w->err != PYI_OK ? w->err : put_value(L, lua_gettop(L), w, &item, depth, e);
        if (*ret_err != PYI_OK) {
            lua_pop(L, 2);
            *ret_err = w->err != PYI_OK ? PYI_OK : *ret_err;
            return true;
        }
    }
    w->len = seen == expected ? w->len : mark;
    return seen == expected;
}

static pyi_err put_plain(lua_State *L, int table, pyi_writer *w, const step *at, unsigned depth,
                         pyi_error *e) {
    pyi_err err = PYI_OK;
    if (lua_rawlen(L, table) > UINT32_MAX) {
        return refuse(at, e, "the list is too long");
    }
    if (put_plain_list(L, table, w, at, depth, &err, e)) {
        return err;
    }
    shape s = measure(L, table);
    if (s.count == 0 || !s.positive) {
        return put_map(L, table, s.count, w, at, depth, e);
    }
    if ((size_t)s.greatest != s.count) {
        return refuse(at, e,
                      "the list has holes: fill them with pyisolate.null, or use pyisolate.dict");
    }
    return put_items(L, table, s.greatest, w, at, depth, e);
}

/* ---- kinds ----------------------------------------------------------------------------------- */

/* The string that bytes, UUIDs and paths are made of, or NULL. The table keeps it. */
static const char *text_of(lua_State *L, int table, size_t *ret_len) {
    lua_rawgeti(L, table, 1);
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, ret_len) : NULL;
    lua_pop(L, 1);
    return text;
}

static pyi_err put_bytes(lua_State *L, int table, pyi_writer *w, const step *at, pyi_error *e) {
    size_t len = 0;
    const char *data = text_of(L, table, &len);
    if (data == NULL || len > UINT32_MAX) {
        return refuse(at, e, "is no longer a good pyisolate.bytes: make it from a string");
    }
    pyi_put_bin(w, data, len);
    return PYI_OK;
}

static pyi_err put_path(lua_State *L, int table, pyi_writer *w, const step *at, pyi_error *e) {
    size_t len = 0;
    const char *text = text_of(L, table, &len);
    if (text == NULL || memchr(text, '\0', len) != NULL) {
        return refuse(at, e, "is no longer a good pyisolate.path: make it from a string");
    }
    size_t mark = pyi_put_ext_begin(w, PYI_EXT_PATH);
    pyi_err err = put_text(text, len, w, at, e);
    pyi_put_ext_end(w, mark);
    return err;
}

/* 32 hexadecimal digits, dashes anywhere. */
static bool read_uuid(const char *text, size_t len, uint8_t ret[16]) {
    static const char digits[] = "0123456789abcdef";
    unsigned count = 0;
    for (size_t i = 0; i < len; i++) {
        const char *digit =
            text[i] != '\0' ? strchr(digits, text[i] | (text[i] > '9' ? 0x20 : 0)) : NULL;
        if (text[i] == '-') {
            continue;
        } else if (digit == NULL || count == 32) {
            return false;
        }
        ret[count / 2] = (uint8_t)(ret[count / 2] << 4 | (digit - digits));
        count++;
    }
    return count == 32;
}

static pyi_err put_uuid(lua_State *L, int table, pyi_writer *w, const step *at, pyi_error *e) {
    size_t len = 0;
    uint8_t bytes[16] = {0};
    const char *text = text_of(L, table, &len);
    if (text == NULL || !read_uuid(text, len, bytes)) {
        return refuse(at, e, "is not a good pyisolate.uuid: 32 hexadecimal digits");
    }
    pyi_put_ext_raw(w, PYI_EXT_UUID, bytes, sizeof bytes);
    return PYI_OK;
}

static pyi_err put_bigint(lua_State *L, int table, pyi_writer *w, const step *at, pyi_error *e) {
    PYI_AUTO_FREE uint8_t *bytes = NULL;
    size_t len = 0, size = 0;
    lua_rawgeti(L, table, 1);
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
    lua_pop(L, 1);
    pyi_error why;
    pyi_error_init(&why);
    if (text == NULL || pyi_bigint_bytes(text, len, &bytes, &size, &why) != PYI_OK) {
        return refuse(at, e, text == NULL ? "is no longer a good pyisolate.int" : why.msg);
    }
    bool small =
        size == 9 && (bytes[8] == 0 || bytes[8] == 0xff) && (bytes[7] >> 7) == (bytes[8] & 1);
    int64_t value;
    memcpy(&value, bytes,
           sizeof(value)); /* little-endian machines only, as all of the wire's raw data */
    if (small) {
        pyi_put_int(w, value);
    } else {
        pyi_put_ext_raw(w, PYI_EXT_BIGINT, bytes, size);
    }
    return PYI_OK;
}

static pyi_ext ext_of(pyi_lua_kind kind) {
    static const pyi_ext exts[PYI_LUA_KINDS] = {
        [PYI_LUA_TUPLE] = PYI_EXT_TUPLE,         [PYI_LUA_SET] = PYI_EXT_SET,
        [PYI_LUA_FROZENSET] = PYI_EXT_FROZENSET, [PYI_LUA_COMPLEX] = PYI_EXT_COMPLEX,
        [PYI_LUA_DATETIME] = PYI_EXT_DATETIME,   [PYI_LUA_DATE] = PYI_EXT_DATE,
        [PYI_LUA_TIME] = PYI_EXT_TIME,           [PYI_LUA_TIMEDELTA] = PYI_EXT_TIMEDELTA,
        [PYI_LUA_NDARRAY] = PYI_EXT_NDARRAY,     [PYI_LUA_NPSCALAR] = PYI_EXT_NPSCALAR,
    };
    return exts[kind];
}

/* Pushes a field by a C string without creating one (that could raise): finds it among the table's
 * keys. */
static void push_field(lua_State *L, int table, const char *name) {
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), name) == 0) {
            lua_remove(L, -2);
            return;
        }
    }
    lua_pushnil(L);
}

/* Dates, complex numbers: numbers and the zone's name; a field that is missing is 0, or nil at the
 * end. */
static pyi_err put_fields(lua_State *L, int table, pyi_lua_kind kind, pyi_writer *w, const step *at,
                          pyi_error *e) {
    const char *const *fields = pyi_lua_fields(kind);
    uint32_t count = 0;
    while (fields[count] != NULL) {
        count++;
    }
    size_t mark = pyi_put_ext_begin(w, ext_of(kind));
    pyi_put_array(w, count);
    pyi_err err = PYI_OK;
    for (uint32_t i = 0; i < count && err == PYI_OK; i++) {
        step field = {.up = at, .key = fields[i]};
        bool zone = strcmp(fields[i], "zone") == 0, offset = strcmp(fields[i], "offset") == 0;
        push_field(L, table, fields[i]);
        if (lua_isnil(L, -1) && (zone || offset)) {
            pyi_put_nil(w);
        } else if (zone && lua_type(L, -1) == LUA_TSTRING) {
            err = put_string(L, -1, w, &field, e);
        } else if (kind == PYI_LUA_COMPLEX &&
                   (lua_type(L, -1) == LUA_TNUMBER || lua_isnil(L, -1))) {
            pyi_put_float(w, lua_tonumber(L, -1));
        } else if (offset && lua_type(L, -1) == LUA_TNUMBER && !lua_isinteger(L, -1)) {
            pyi_put_float(w, lua_tonumber(L, -1));
        } else if (lua_isinteger(L, -1) || lua_isnil(L, -1)) {
            pyi_put_int(w, lua_tointeger(L, -1));
        } else {
            err = refuse(&field, e, zone ? "must be a string" : "must be a whole number");
        }
        lua_pop(L, 1);
    }
    pyi_put_ext_end(w, mark);
    return err;
}

static pyi_err put_field_string(lua_State *L, int table, const char *name, bool binary,
                                pyi_writer *w, const step *at, pyi_error *e) {
    step field = {.up = at, .key = name};
    push_field(L, table, name);
    size_t len = 0;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
    pyi_err err = PYI_OK;
    if (text == NULL || len > UINT32_MAX) {
        err = refuse(&field, e, "must be a string");
    } else if (binary) {
        pyi_put_bin(w, text, len);
    } else {
        err = put_string(L, -1, w, &field, e);
    }
    lua_pop(L, 1);
    return err;
}

static pyi_err put_array_kind(lua_State *L, int table, pyi_lua_kind kind, pyi_writer *w,
                              const step *at, pyi_error *e) {
    size_t mark = pyi_put_ext_begin(w, ext_of(kind));
    pyi_put_array(w, kind == PYI_LUA_NDARRAY ? 3 : 2);
    pyi_err err = put_field_string(L, table, "dtype", false, w, at, e);
    if (err == PYI_OK && kind == PYI_LUA_NDARRAY) {
        step field = {.up = at, .key = "shape"};
        push_field(L, table, "shape");
        err = lua_istable(L, -1) ? put_sequence(L, lua_gettop(L), w, &field, PYI_MAX_DEPTH, e)
                                 : refuse(&field, e, "must be a list of whole numbers");
        lua_pop(L, 1);
    }
    if (err == PYI_OK) {
        err = put_field_string(L, table, "data", true, w, at, e);
    }
    pyi_put_ext_end(w, mark);
    return err;
}

static pyi_err put_ext_sequence(lua_State *L, int table, pyi_lua_kind kind, pyi_writer *w,
                                const step *at, unsigned depth, pyi_error *e) {
    size_t mark = pyi_put_ext_begin(w, ext_of(kind));
    pyi_err err = put_sequence(L, table, w, at, depth, e);
    pyi_put_ext_end(w, mark);
    return err;
}

static pyi_err put_table(lua_State *L, int table, pyi_writer *w, const step *at, unsigned depth,
                         pyi_error *e) {
    pyi_lua_kind kind = pyi_lua_kind_of(L, table);
    switch (kind) {
    case PYI_LUA_LIST:
        return put_sequence(L, table, w, at, depth, e);
    case PYI_LUA_DICT:
        return put_map(L, table, measure(L, table).count, w, at, depth, e);
    case PYI_LUA_TUPLE:
    case PYI_LUA_SET:
    case PYI_LUA_FROZENSET:
        return put_ext_sequence(L, table, kind, w, at, depth, e);
    case PYI_LUA_BYTES:
        return put_bytes(L, table, w, at, e);
    case PYI_LUA_UUID:
        return put_uuid(L, table, w, at, e);
    case PYI_LUA_PATH:
        return put_path(L, table, w, at, e);
    case PYI_LUA_INT:
        return put_bigint(L, table, w, at, e);
    case PYI_LUA_KWARGS:
        return refuse(at, e, "pyisolate.kwargs must be the last argument of a call");
    case PYI_LUA_COMPLEX:
    case PYI_LUA_DATETIME:
    case PYI_LUA_DATE:
    case PYI_LUA_TIME:
    case PYI_LUA_TIMEDELTA:
        return put_fields(L, table, kind, w, at, e);
    case PYI_LUA_NDARRAY:
    case PYI_LUA_NPSCALAR:
        return put_array_kind(L, table, kind, w, at, e);
    case PYI_LUA_PLAIN:
    case PYI_LUA_KINDS:
        break;
    }
    return put_plain(L, table, w, at, depth, e);
}

/* `index` is absolute. */
static pyi_err put_value(lua_State *L, int index, pyi_writer *w, const step *at, unsigned depth,
                         pyi_error *e) {
    switch (lua_type(L, index)) {
    case LUA_TNONE:
    case LUA_TNIL:
        pyi_put_nil(w);
        return PYI_OK;
    case LUA_TBOOLEAN:
        pyi_put_bool(w, lua_toboolean(L, index));
        return PYI_OK;
    case LUA_TNUMBER:
        put_number(L, index, w);
        return PYI_OK;
    case LUA_TSTRING:
        return put_string(L, index, w, at, e);
    case LUA_TTABLE:
        if (depth >= PYI_MAX_DEPTH) {
            return refuse(at, e, "nested too deep: does a table contain itself?");
        }
        if (!lua_checkstack(L, 8)) {
            return pyi_error_set(e, PYI_ENOMEM, "lua.encode", "out of memory");
        }
        return put_table(L, index, w, at, depth + 1, e);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, index) == NULL) {
            pyi_put_nil(w);
            return PYI_OK;
        }
        return refuse_type(L, index, at, e);
    default:
        return refuse_type(L, index, at, e);
    }
}

/* ---- calls ----------------------------------------------------------------------------------- */

pyi_err pyi_lua_encode(lua_State *L, int index, pyi_writer *w, pyi_error *e) {
    step root = {.prefix = "value"};
    pyi_err err = put_value(L, lua_absindex(L, index), w, &root, 0, e);
    return err != PYI_OK ? err : pyi_writer_error(w, e);
}

static pyi_err put_kwargs(lua_State *L, int table, pyi_writer *w, pyi_error *e) {
    step root = {.prefix = "kwargs"};
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            lua_pop(L, 2);
            return refuse(&root, e,
                          "keyword arguments have names: pyisolate.kwargs { name = value }");
        }
    }
    return put_map(L, table, measure(L, table).count, w, &root, 0, e);
}

pyi_err pyi_lua_encode_args(lua_State *L, int first, int last, pyi_writer *w, pyi_error *e) {
    if (!lua_checkstack(L, 8)) {
        return pyi_error_set(e, PYI_ENOMEM, "lua.encode", "out of memory");
    }
    bool has_kwargs = last >= first && pyi_lua_kind_of(L, last) == PYI_LUA_KWARGS;
    int count = last - first + 1 - has_kwargs;
    step root = {.prefix = "args"};
    pyi_put_array(w, (uint32_t)count);
    for (int i = 0; i < count; i++) {
        step arg = {.up = &root, .index = i + 1};
        pyi_err err = put_value(L, first + i, w, &arg, 0, e);
        if (err != PYI_OK) {
            return err;
        }
    }
    if (!has_kwargs) {
        pyi_put_map(w, 0);
    } else {
        pyi_err err = put_kwargs(L, last, w, e);
        if (err != PYI_OK) {
            return err;
        }
    }
    return pyi_writer_error(w, e);
}

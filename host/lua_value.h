#pragma once
/*
 * Values between Lua and the wire, streamed: no tree between. A sequence is a list, any other table
 * a dict; what a plain table cannot say is a table with one of our metatables (a "kind"): tuple,
 * bytes, dates, big integers. What comes from Python has its kind, so that it goes back as the same
 * type, also an empty dict. docs/lua.md has the round trip. One thread at a time, as the state.
 */
#include "lua_vm.h"
#include "pyi_wire.h"

typedef enum pyi_lua_kind {
    PYI_LUA_PLAIN, /* no kind */
    PYI_LUA_LIST,
    PYI_LUA_DICT,
    PYI_LUA_TUPLE,
    PYI_LUA_SET,
    PYI_LUA_FROZENSET,
    PYI_LUA_BYTES,     /* [1]: the bytes */
    PYI_LUA_UUID,      /* [1]: its text */
    PYI_LUA_PATH,      /* [1]: its text */
    PYI_LUA_INT,       /* [1]: decimal, or 0x and hexadecimal digits: beyond 64 bits */
    PYI_LUA_KWARGS,    /* the last argument of a call: its keyword arguments */
    PYI_LUA_COMPLEX,   /* re, im */
    PYI_LUA_DATETIME,  /* year month day hour minute second microsecond fold offset zone */
    PYI_LUA_DATE,      /* year month day */
    PYI_LUA_TIME,      /* hour minute second microsecond fold offset zone */
    PYI_LUA_TIMEDELTA, /* days seconds microseconds */
    PYI_LUA_NDARRAY,   /* dtype, shape, data */
    PYI_LUA_NPSCALAR,  /* dtype, data: a numpy scalar that is no Lua number */
    PYI_LUA_KINDS
} pyi_lua_kind;

/// The fields of a kind, in the order of the wire; NULL-terminated. NULL: the kind has none.
const char *const *pyi_lua_fields(pyi_lua_kind kind);

/// Leaves a table on the stack: name -> metatable of each kind, and null. Once for each state.
void pyi_lua_open_kinds(lua_State *L);
/// Makes the table on the stack one of this kind.
void pyi_lua_set_kind(lua_State *L, pyi_lua_kind kind);
/// Never raises.
pyi_lua_kind pyi_lua_kind_of(lua_State *L, int index);
void pyi_lua_push_null(lua_State *L);

/// Writes the arguments of a call: values first..last as an array, then the keyword arguments as a
/// map (those of a last argument of kind KWARGS, else none). PYI_ETYPE names the path of what
/// cannot be sent ("args[1].a[3]"). Never raises.
pyi_err pyi_lua_encode_args(lua_State *L, int first, int last, pyi_writer *w,
                            pyi_error *e) PYI_MUST_CHECK;
/// Writes one value. Never raises.
pyi_err pyi_lua_encode(lua_State *L, int index, pyi_writer *w, pyi_error *e) PYI_MUST_CHECK;

/// Reads one value and pushes it. A top-level nil becomes nil, a nested one pyisolate.null. Raises
/// on out-of-memory only; on errors the stack is as before.
pyi_err pyi_lua_decode(lua_State *L, pyi_reader *r, pyi_error *e) PYI_MUST_CHECK;

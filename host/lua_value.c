/*
 * Kinds: the metatables that say what a plain table cannot. A metatable is recognized by a private
 * key in it, so that no script can make a false one; its methods (__tostring and such) are in
 * lua/values.lua.
 */
#include "lua_value.h"

static const char KIND_KEY = 0;  /* in a metatable: its kind */
static const char KINDS_KEY = 0; /* in the registry: kind -> metatable */

static const char *const NAMES[PYI_LUA_KINDS] = {
    NULL,       "list", "dict", "tuple",     "set",     "frozenset",
    "bytes",    "uuid", "path", "int",       "kwargs",  "complex",
    "datetime", "date", "time", "timedelta", "ndarray", "npscalar"};

const char *const *pyi_lua_fields(pyi_lua_kind kind) {
    static const char *const complex_fields[] = {"re", "im", NULL};
    static const char *const datetime[] = {"year",   "month",  "day",         "hour",
                                           "minute", "second", "microsecond", "fold",
                                           "offset", "zone",   NULL};
    static const char *const date[] = {"year", "month", "day", NULL};
    static const char *const timedelta[] = {"days", "seconds", "microseconds", NULL};
    switch ((int)kind) {
    case PYI_LUA_COMPLEX:
        return complex_fields;
    case PYI_LUA_DATETIME:
        return datetime;
    case PYI_LUA_DATE:
        return date;
    case PYI_LUA_TIME:
        return datetime + 3;
    case PYI_LUA_TIMEDELTA:
        return timedelta;
    default:
        return NULL;
    }
}

void pyi_lua_push_null(lua_State *L) {
    lua_pushlightuserdata(L, NULL);
}

static int null_text(lua_State *L) {
    lua_pushstring(L, lua_touserdata(L, 1) == NULL ? "pyisolate.null" : "userdata");
    return 1;
}

/* All light userdata share one metatable; scripts only ever see this one. */
static void open_null(lua_State *L) {
    pyi_lua_push_null(L);
    lua_newtable(L);
    lua_pushcfunction(L, null_text);
    lua_setfield(L, -2, "__tostring");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}

void pyi_lua_open_kinds(lua_State *L) {
    lua_newtable(L);
    lua_createtable(L, PYI_LUA_KINDS, 0); // stack: names, kinds
    for (int kind = 1; kind < PYI_LUA_KINDS; kind++) {
        lua_newtable(L);
        lua_pushinteger(L, kind);
        lua_rawsetp(L, -2, &KIND_KEY);
        lua_pushfstring(L, "pyisolate.%s", NAMES[kind]);
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, "__name");
        lua_setfield(L, -2, "__metatable");
        lua_pushvalue(L, -1); // stack: names, kinds, metatable, metatable
        lua_rawseti(L, -3, kind);
        lua_setfield(L, -3, NAMES[kind]);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &KINDS_KEY);
    open_null(L);
    lua_setfield(L, -2, "null"); // stack: names
}

void pyi_lua_set_kind(lua_State *L, pyi_lua_kind kind) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &KINDS_KEY);
    lua_rawgeti(L, -1, (lua_Integer)kind);
    lua_setmetatable(L, -3); // stack: table, kinds
    lua_pop(L, 1);
}

pyi_lua_kind pyi_lua_kind_of(lua_State *L, int index) {
    if (!lua_istable(L, index) || !lua_checkstack(L, 2) || !lua_getmetatable(L, index)) {
        return PYI_LUA_PLAIN;
    }
    lua_rawgetp(L, -1, &KIND_KEY);
    pyi_lua_kind kind = (pyi_lua_kind)lua_tointeger(L, -1);
    lua_pop(L, 2);
    return kind;
}

/*
 * What a script may use: an allow-list. No io, debug, package, dofile, loadfile, string.dump,
 * os.execute; load takes text only; and what could run with hooks off or for long in C is wrapped
 * (see lua_vm.c for why).
 */
#include "lua_interrupt.h"
#include "lua_vm.h"
#include "output.h"
#include <lualib.h>
#include <stdio.h>
#include <string.h>

static const char RAW_KEY = 0; /* registry: Lua's own pattern functions */

void pyi_lua_push_raw(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &RAW_KEY);
}

/* ---- replaced functions ---------------------------------------------------------------------- */

static int print_line(lua_State *L) {
    int count = lua_gettop(L);
    for (int i = 1; i <= count; i++) {
        size_t len;
        const char *text = luaL_tolstring(L, i, &len);
        if (i > 1) {
            fputc('\t', stdout);
        }
        fwrite(text, 1, len, stdout);
        lua_pop(L, 1);
    }
    fputc('\n', stdout);
    pyi_output_flush();
    return 0;
}

/* A finalizer runs with hooks off: an endless one could not be stopped. */
static int set_metatable(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL) {
            return luaL_error(L, "a metatable with __gc is not allowed here: use __close");
        }
        lua_pop(L, 1);
    }
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) {
        return luaL_error(L, "cannot change a protected metatable");
    }
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

static int load_text(lua_State *L) {
    static const int CHUNK = 1, NAME = 2, ENV = 4;
    bool has_env = lua_gettop(L) >= ENV;
    if (lua_type(L, CHUNK) == LUA_TFUNCTION) {
        return luaL_error(L, "load takes a string here, not a function");
    }
    size_t len;
    const char *text = luaL_checklstring(L, CHUNK, &len);
    const char *name = luaL_optstring(L, NAME, text);
    lua_settop(L, ENV);
    if (luaL_loadbufferx(L, text, len, name, "t") != LUA_OK) {
        luaL_pushfail(L);
        lua_insert(L, -2);
        return 2;
    }
    if (has_env) {
        lua_pushvalue(L, ENV); // stack: ..., f, env
        if (lua_setupvalue(L, -2, 1) == NULL) {
            lua_pop(L, 1);
        }
    }
    return 1;
}

static int collect_garbage(lua_State *L) {
    static const char *const options[] = {"collect", "count", "step", NULL};
    switch (luaL_checkoption(L, 1, "collect", options)) {
    case 1:
        lua_pushnumber(L, (lua_Number)pyi_lua_memory(pyi_lua_of(L)) / 1024);
        return 1;
    case 2:
        lua_pushboolean(L, lua_gc(L, LUA_GCSTEP, 0));
        return 1;
    default:
        lua_pushinteger(L, lua_gc(L, LUA_GCCOLLECT));
        return 1;
    }
}

/* The script's handler runs only while there is budget and no stop: else it would run inside the
 * hook, with hooks off. */
static int guarded_handler(lua_State *L) {
    if (pyi_lua_spent(pyi_lua_of(L)) || pyi_interrupt_raised()) {
        return 1;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

static int finish_xpcall(lua_State *L, int status, lua_KContext handler PYI_UNUSED) {
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_pushboolean(L, 0);
        lua_pushvalue(L, -2); // stack: ..., false, error
        return 2;
    }
    return lua_gettop(L) - 1; /* true and the results, after the handler */
}

static int guarded_xpcall(lua_State *L) {
    int count = lua_gettop(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, guarded_handler, 1);
    lua_replace(L, 2);     // stack: f, handler, args
    lua_pushboolean(L, 1); // stack: f, handler, args, true
    lua_pushvalue(L, 1);   // stack: f, handler, args, true, f
    lua_rotate(L, 3, 2);   // stack: f, handler, true, f, args
    lua_remove(L, 1);      // stack: handler, true, f, args
    int status = lua_pcallk(L, count - 2, LUA_MULTRET, 1, 1, finish_xpcall);
    return finish_xpcall(L, status, 1);
}

/* ---- coroutines ------------------------------------------------------------------------------ */

/* A coroutine that died in the hook has its hooks off for good: its __close methods must not run.
 */
static int close_coroutine(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTHREAD);
    if (pyi_lua_was_spent(pyi_lua_of(L)) && lua_status(lua_tothread(L, 1)) > LUA_YIELD) {
        return luaL_error(L, "the coroutine ended when a budget was spent");
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* stack of L: ..., arguments. Runs co with them; its results (*ret_count of them), or its error,
 * are then on its own stack. Negative: it cannot run, and the reason is on L's stack. */
static int run_coroutine(lua_State *L, lua_State *co, int count, int *ret_count) {
    if (co != L && lua_status(co) == LUA_OK && lua_gettop(co) == 0) {
        lua_pushliteral(L, "cannot resume dead coroutine");
        return -1;
    }
    if (co == L || !lua_checkstack(co, count)) {
        lua_pushstring(L, co == L ? "cannot resume non-suspended coroutine"
                                  : "too many arguments to resume");
        return -1;
    }
    lua_xmove(L, co, count);
    lua_State *before = pyi_interrupt_enter(co);
    int status = lua_resume(co, L, count, ret_count);
    pyi_interrupt_leave(before);
    return status;
}

static bool has_ended_well(int status) {
    return status == LUA_OK || status == LUA_YIELD;
}

static int resume_coroutine(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTHREAD);
    lua_State *co = lua_tothread(L, 1);
    int results = 0;
    int status = run_coroutine(L, co, lua_gettop(L) - 1, &results);
    bool ok = has_ended_well(status) && lua_checkstack(L, results + 1);
    lua_pushboolean(L, ok);
    if (ok) {
        lua_xmove(co, L, results);
        return results + 1;
    } else if (status < 0) {
        lua_insert(L, -2); // stack: ..., false, error
    } else if (has_ended_well(status)) {
        lua_pop(co, results);
        lua_pushliteral(L, "too many results to resume");
    } else {
        lua_xmove(co, L, 1);
    }
    return 2;
}

static int resume_wrapped(lua_State *L) {
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    int results = 0;
    int status = run_coroutine(L, co, lua_gettop(L), &results);
    if (has_ended_well(status)) {
        luaL_checkstack(L, results, "too many results to resume");
        lua_xmove(co, L, results);
        return results;
    }
    if (status < 0) {
        return luaL_error(L, "%s", lua_tostring(L, -1));
    }
    if (lua_status(co) > LUA_YIELD && !pyi_lua_spent(pyi_lua_of(L))) {
        lua_resetthread(co); // stack of co: error
    }
    lua_xmove(co, L, 1);
    if (lua_type(L, -1) == LUA_TSTRING && status != LUA_ERRMEM) { /* say where, as error() does */
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int wrap_coroutine(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L); // stack: f, ..., co
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_pushcclosure(L, resume_wrapped, 1);
    return 1;
}

/* ---- patterns -------------------------------------------------------------------------------- */

/* Steps that a pattern can need: (n + 1) for each repetition, and for each place to start at. */
static uint64_t pattern_steps(const char *pattern, size_t len, size_t subject) {
    uint64_t steps = len > 0 && pattern[0] == '^' ? 1 : (uint64_t)subject + 1;
    for (size_t i = 0; i < len && steps < PYI_LUA_PATTERN_LIMIT; i++) {
        switch (pattern[i]) {
        case '%':
            i++;
            steps *= i < len && pattern[i] == 'b' ? (uint64_t)subject + 1 : 1;
            break;
        case '*':
        case '+':
        case '-':
            steps *= (uint64_t)subject + 1;
            break;
        case '?':
            steps *= 2;
            break;
        default:
            break;
        }
    }
    return steps;
}

/* Upvalues: the library's function, whether argument 4 says "plain". */
static int bounded_pattern(lua_State *L) {
    pyi_lua *vm = pyi_lua_of(L);
    bool plain = lua_toboolean(L, lua_upvalueindex(2)) && lua_toboolean(L, 4);
    if (pyi_lua_limited(vm) && !plain) {
        size_t subject, len;
        luaL_checklstring(L, 1, &subject);
        const char *pattern = luaL_checklstring(L, 2, &len);
        uint64_t steps = pattern_steps(pattern, len, subject);
        if (steps > PYI_LUA_PATTERN_LIMIT) {
            return luaL_error(
                L,
                "a pattern with so many repetitions could take too long on %I bytes: use fewer, or "
                "shorter text",
                (lua_Integer)subject);
        }
        pyi_lua_charge(vm, steps / 16);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* A __len that lies would make these loop in C for as long as it likes. */
static int bounded_length(lua_State *L) {
    if (lua_istable(L, 1) && luaL_len(L, 1) > PYI_LUA_MAX_MOVE) {
        return luaL_error(L, "the table is too long");
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int bounded_move(lua_State *L) {
    lua_Integer from = luaL_checkinteger(L, 2), to = luaL_checkinteger(L, 3);
    if (to > from && (uint64_t)to - (uint64_t)from > PYI_LUA_MAX_MOVE) {
        return luaL_error(L, "too many elements to move");
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* ---- what is withheld ------------------------------------------------------------------------ */

const char *pyi_lua_withheld(const char *message) {
    static const struct {
        const char *seen, *hint;
    } known[] = {
        {"(global 'io')", "io is withheld from configurations: print writes to stdout, "
                          "pyisolate.log to the log; an extension can do the rest"},
        {"(field 'execute')", "os.execute is withheld from configurations: an extension can "
                              "start programs"},
        {"(field 'exit')", "os.exit is withheld from configurations: return the exit status from "
                           "main"},
        {"(global 'debug')", "debug is withheld from configurations"},
        {"(global 'package')", "package is withheld from configurations: require looks beside the "
                               "configuration"},
        {"(global 'dofile')", "dofile is withheld from configurations: use require"},
        {"(global 'loadfile')", "loadfile is withheld from configurations: use require"},
    };
    for (size_t i = 0; message != NULL && i < PYI_COUNT(known); i++) {
        if (strstr(message, known[i].seen) != NULL && strstr(message, "a nil value") != NULL) {
            return known[i].hint;
        }
    }
    return NULL;
}

/* ---- tables in messages ---------------------------------------------------------------------- */

/* stack: ..., key, value. Writes at most size - 1 characters; returns how many. */
static size_t show_field(lua_State *L, char *text, size_t size) {
    char key[40] = "", value[64];
    if (lua_type(L, -2) == LUA_TSTRING) {
        snprintf(key, sizeof(key), "%.30s = ", lua_tostring(L, -2));
    }
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        snprintf(value, sizeof(value), "\"%.48s%s\"", lua_tostring(L, -1),
                 lua_rawlen(L, -1) > 48 ? "..." : "");
        break;
    case LUA_TBOOLEAN:
        snprintf(value, sizeof(value), "%s", lua_toboolean(L, -1) ? "true" : "false");
        break;
    case LUA_TNUMBER:
        lua_pushvalue(L, -1); /* tostring changes what it is given */
        snprintf(value, sizeof(value), "%s", lua_tostring(L, -1));
        lua_pop(L, 1);
        break;
    default:
        snprintf(value, sizeof(value), "a %s", luaL_typename(L, -1));
        break;
    }
    int len = snprintf(text, size, "%s%s", key, value);
    return len < 0 ? 0 : (size_t)len < size ? (size_t)len : size - 1;
}

void pyi_lua_push_shown(lua_State *L, int index) {
    static const int FIELDS = 6;
    char text[200];
    size_t len = 0;
    int count = 0;
    luaL_checkstack(L, 4, NULL);
    index = lua_absindex(L, index);
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) { // stack: ..., key, value
        if (count++ >= FIELDS || len + 8 >= sizeof(text)) {
            lua_pop(L, 2);
            lua_pushfstring(L, "{ %s, ... }", text);
            return;
        }
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s", count > 1 ? ", " : "");
        len += show_field(L, text + len, sizeof(text) - len);
    }
    text[len] = '\0';
    lua_pushfstring(L, count > 0 ? "{ %s }" : "{}", text);
}

/* ---- the libraries --------------------------------------------------------------------------- */

/* stack: ..., library. Puts f over the library's `name`, with the old function as its first
 * upvalue. */
static void wrap(lua_State *L, const char *name, lua_CFunction f) {
    lua_getfield(L, -1, name);
    lua_pushboolean(L, strcmp(name, "find") == 0);
    lua_pushcclosure(L, f, 2);
    lua_setfield(L, -2, name);
}

static void keep_only(lua_State *L, const char *const *names) {
    lua_newtable(L); // stack: library, kept
    for (; *names != NULL; names++) {
        lua_getfield(L, -2, *names);
        lua_setfield(L, -2, *names);
    }
    lua_remove(L, -2); // stack: kept
}

static void open_base(lua_State *L) {
    static const char *const gone[] = {"dofile", "loadfile", "warn", NULL};
    static const luaL_Reg ours[] = {{"print", print_line},      {"setmetatable", set_metatable},
                                    {"load", load_text},        {"collectgarbage", collect_garbage},
                                    {"xpcall", guarded_xpcall}, {NULL, NULL}};
    luaL_requiref(L, LUA_GNAME, luaopen_base, 1); // stack: _G
    for (const char *const *name = gone; *name != NULL; name++) {
        lua_pushnil(L);
        lua_setfield(L, -2, *name);
    }
    luaL_setfuncs(L, ours, 0);
    lua_pop(L, 1);
}

static void open_string(lua_State *L) {
    static const char *const patterns[] = {"find", "match", "gmatch", "gsub", NULL};
    luaL_requiref(L, LUA_STRLIBNAME, luaopen_string, 1); // stack: string
    lua_pushnil(L);
    lua_setfield(L, -2, "dump");
    lua_newtable(L); /* for our own modules: the functions as they are */
    for (const char *const *name = patterns; *name != NULL; name++) {
        lua_getfield(L, -2, *name);
        lua_setfield(L, -2, *name);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &RAW_KEY);
    for (const char *const *name = patterns; *name != NULL; name++) {
        wrap(L, *name, bounded_pattern);
    }
    lua_pop(L, 1);
}

static void open_table(lua_State *L) {
    static const char *const lengths[] = {"insert", "remove", "sort", "concat", NULL};
    luaL_requiref(L, LUA_TABLIBNAME, luaopen_table, 1); // stack: table
    for (const char *const *name = lengths; *name != NULL; name++) {
        wrap(L, *name, bounded_length);
    }
    wrap(L, "move", bounded_move);
    lua_pop(L, 1);
}

static void open_coroutine(lua_State *L) {
    luaL_requiref(L, LUA_COLIBNAME, luaopen_coroutine, 1); // stack: coroutine
    wrap(L, "close", close_coroutine);
    lua_pushcfunction(L, resume_coroutine);
    lua_setfield(L, -2, "resume");
    lua_pushcfunction(L, wrap_coroutine);
    lua_setfield(L, -2, "wrap");
    lua_pop(L, 1);
}

static void open_os(lua_State *L) {
    static const char *const kept[] = {"time", "clock", "date", "getenv", "difftime", NULL};
    luaL_requiref(L, LUA_OSLIBNAME, luaopen_os, 0);
    keep_only(L, kept); // stack: os
    lua_pushvalue(L, -1);
    lua_setglobal(L, LUA_OSLIBNAME);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE); // stack: os, loaded
    lua_insert(L, -2);
    lua_setfield(L, -2, LUA_OSLIBNAME);
    lua_pop(L, 1);
}

void pyi_lua_open_libs(lua_State *L) {
    open_base(L);
    open_string(L);
    open_table(L);
    open_coroutine(L);
    open_os(L);
    luaL_requiref(L, LUA_MATHLIBNAME, luaopen_math, 1);
    luaL_requiref(L, LUA_UTF8LIBNAME, luaopen_utf8, 1);
    lua_pop(L, 2);
}

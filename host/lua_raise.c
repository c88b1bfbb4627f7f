/* Error tables: made from our own errors, and from the error arrays of the wire with their chain of
 * causes. */
#include "lua_raise.h"
#include "lua_value.h"
#include "remote_error.h"

static const char ERROR_KEY = 0; /* registry: metatable */

static void set_string(lua_State *L, const char *key, const char *text) {
    if (text != NULL && text[0] != '\0') {
        lua_pushstring(L, text);
        lua_setfield(L, -2, key);
    }
}

static void set_span(lua_State *L, const char *key, pyi_span span) {
    if (span.text != NULL) {
        lua_pushlstring(L, span.text, span.len);
        lua_setfield(L, -2, key);
    }
}

static void set_value(lua_State *L, const char *key, pyi_reader r) {
    pyi_error e;
    pyi_error_init(&e);
    if (pyi_lua_decode(L, &r, &e) == PYI_OK) {
        lua_setfield(L, -2, key);
    }
}

static void new_error(lua_State *L, pyi_err code) {
    lua_createtable(L, 0, 8);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &ERROR_KEY);
    lua_setmetatable(L, -2);
    set_string(L, "code", pyi_err_name(code));
}

static void push_own(lua_State *L, const pyi_error *e, const char *detail) {
    new_error(L, e->code);
    set_string(L, "type", pyi_err_python_type(e->code));
    lua_pushstring(L, e->msg);
    lua_setfield(L, -2, "message");
    set_string(L, "where", e->where);
    set_string(L, "traceback", detail);
}

/* Pushes an error array; nil if it is malformed. */
static void push_remote(lua_State *L, pyi_reader r, unsigned links) {
    pyi_remote_error x;
    pyi_error e;
    pyi_error_init(&e);
    luaL_checkstack(L, 10, "error");
    if (pyi_remote_error_read(&r, &x, &e) != PYI_OK) {
        push_own(L, &e, NULL);
        return;
    }
    new_error(L, x.code);
    set_span(L, "type", x.type);
    set_span(L, "module", x.module);
    set_span(L, "message", x.message);
    set_span(L, "traceback", x.traceback);
    set_value(L, "notes", x.notes);
    if (x.has_args) {
        set_value(L, "args", x.args);
    }
    if (x.has_cause && links < PYI_MAX_CAUSES) {
        push_remote(L, x.cause, links + 1);
        lua_setfield(L, -2, "cause");
    }
}

int pyi_lua_raise(lua_State *L, const pyi_error *e, const char *detail) {
    push_own(L, e, detail);
    return lua_error(L);
}

int pyi_lua_raise_record(lua_State *L, const pyi_record *r, const char *extension) {
    if (r->code == PYI_EREMOTE && r->bytes != NULL) {
        push_remote(L, pyi_reader_on(r->bytes, r->len), 0);
    } else {
        push_own(L, &r->error, r->detail);
    }
    set_string(L, "extension", extension);
    set_string(L, "method", r->method);
    return lua_error(L);
}

void pyi_lua_open_errors(lua_State *L) {
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &ERROR_KEY);
    lua_setfield(L, -2, "error_type");
}

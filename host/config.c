/*
 * Loading a configuration: its text runs in a Lua state of its own under a budget; lua/declare.lua
 * collects what it declares, lua/validate.lua checks it against lua/schema.lua, and the clean
 * tables become the structs of config.h in config_struct.c.
 */
#include "config.h"
#include "config_struct.h"
#include "lua_module.h"
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

struct pyi_config {
    pyi_lua *vm;
    char *name;                        // owned: as it is shown
    char *path;                        // owned: absolute, or NULL
    char *directory;                   // owned
    pyi_manager_config *manager;       // owned until taken
    pyi_extension_config **extensions; // owned
    size_t count;
    char **problems; // owned
    size_t problem_count;
    bool has_main;
    pyi_lua_api *api; // owned
};

static const pyi_lua_budget LOAD_BUDGET = {
    .instructions = 100 * 1000 * 1000, .cpu_ms = 5000, .memory = (size_t)128 << 20};

static const char CONFIG_KEY = 0;   /* registry: the pyi_config */
static const char MODULE_KEY = 0;   /* registry: the module `pyisolate` */
static const char DECLARED_KEY = 0; /* registry: what has been declared */

/* ---- problems -------------------------------------------------------------------------------- */

static bool add_problem(pyi_config *c, const char *text) {
    char **grown = realloc(c->problems, (c->problem_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    c->problems = grown;
    grown[c->problem_count] = strdup(text);
    if (grown[c->problem_count] == NULL) {
        return false;
    }
    c->problem_count++;
    return true;
}

/* Lua shortens long file names to "...tail" in its messages: puts the whole name back. */
static bool add_lua_problem(pyi_config *c, const char *text) {
    static const size_t SHORT = LUA_IDSIZE - sizeof("...");
    size_t len = strlen(c->name);
    PYI_AUTO_FREE char *whole = NULL;
    const char *rest = NULL;
    if (strncmp(text, c->name, len) == 0 && text[len] == ':') {
        return add_problem(c, text);
    }
    if (strncmp(text, "...", 3) == 0 && len > SHORT &&
        strncmp(text + 3, c->name + len - SHORT, SHORT) == 0) {
        rest = text + 3 + SHORT;
    }
    int made = rest != NULL ? asprintf(&whole, "%s%s", c->name, rest)
                            : asprintf(&whole, "%s:1: %s", c->name, text);
    return made >= 0 && add_problem(c, whole);
}

/* ---- the host side of declare.lua ------------------------------------------------------------ */

/* Pushes `path` made absolute: below the configuration's folder, without "." and empty parts. */
static int absolute_path(lua_State *L) {
    pyi_config *c = pyi_config_of(L);
    const char *path = luaL_checkstring(L, 1);
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    if (path[0] != '/') {
        luaL_addstring(&out, strcmp(c->directory, "/") == 0 ? "" : c->directory);
    }
    while (*path != '\0') {
        size_t len = strcspn(path, "/");
        if (len > 0 && !(len == 1 && path[0] == '.')) {
            luaL_addchar(&out, '/');
            luaL_addlstring(&out, path, len);
        }
        path += len + (path[len] == '/');
    }
    luaL_pushresult(&out);
    if (lua_rawlen(L, -1) == 0) {
        lua_pushliteral(L, "/");
    }
    return 1;
}

static int stat_path(lua_State *L) {
    struct stat st;
    if (stat(luaL_checkstring(L, 1), &st) != 0) {
        lua_pushnil(L);
    } else {
        lua_pushstring(L, S_ISDIR(st.st_mode)   ? "directory"
                          : S_ISREG(st.st_mode) ? "file"
                                                : "special");
    }
    return 1;
}

static int push_place(lua_State *L, const char *chunk, int line) {
    lua_pushstring(L, chunk);
    lua_pushstring(L, chunk + 1); /* without the "@" */
    if (line > 0) {
        lua_pushinteger(L, line);
    } else {
        lua_pushnil(L);
    }
    return 3;
}

/* A call in tail position has taken the place of its caller: what is below it says which file that
 * was. */
static int push_tail_place(lua_State *L, int level) {
    lua_Debug ar;
    if (lua_getstack(L, level, &ar) == 1 && pyi_lua_push_required(L, &ar)) {
        return push_place(L, lua_tostring(L, -1), 0);
    }
    return push_place(L, lua_pushfstring(L, "@%s", pyi_config_of(L)->name), 0);
}

/* Chunk, file as shown, and line (nil: unknown) of the nearest caller that is a file: not ours, not
 * C. */
static int find_caller(lua_State *L) {
    lua_Debug ar;
    for (int level = 1; lua_getstack(L, level, &ar) == 1; level++) {
        lua_getinfo(L, "Slt", &ar);
        if (ar.source[0] == '@' && ar.currentline > 0) {
            return push_place(L, ar.source, ar.currentline);
        }
        if (ar.istailcall) {
            return push_tail_place(L, level + 1);
        }
    }
    return push_tail_place(L, 0);
}

static int find_source(lua_State *L) {
    pyi_lua_push_source(L, luaL_checkstring(L, 1));
    return 1;
}

static int make_handle(lua_State *L) {
    lua_Integer index = luaL_checkinteger(L, 1);
    pyi_lua_push_handle(L, (size_t)(index - 1), luaL_checkstring(L, 2));
    return 1;
}

static void push_embedded(lua_State *L, const char *name) {
    lua_getglobal(L, "require");
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
}

/* Makes the module `pyisolate` and puts it where `require` finds it. */
static int open_module(lua_State *L) {
    static const luaL_Reg host[] = {{"absolute", absolute_path}, {"stat", stat_path},
                                    {"caller", find_caller},     {"source", find_source},
                                    {"handle", make_handle},     {NULL, NULL}};
    lua_pushlightuserdata(L, lua_touserdata(L, 1));
    lua_rawsetp(L, LUA_REGISTRYINDEX, &CONFIG_KEY);
    pyi_config *c = pyi_config_of(L);
    push_embedded(L, "pyisolate.prelude"); // stack: c, prelude
    lua_newtable(L);
    pyi_lua_open_api(L); // stack: c, prelude, core
    push_embedded(L, "pyisolate.declare");
    luaL_newlib(L, host);
    lua_pushstring(L, c->name);
    lua_setfield(L, -2, "file");
    lua_call(L, 1, 2); // stack: c, prelude, core, declare, declared
    lua_rawsetp(L, LUA_REGISTRYINDEX, &DECLARED_KEY);
    lua_call(L, 2, 1); // stack: c, module
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &MODULE_KEY);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "pyisolate");
    return 0;
}

static int finish_declared(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &DECLARED_KEY);
    lua_getfield(L, -1, "finish");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &MODULE_KEY); // stack: declared, finish, module
    lua_pushliteral(L, "main");
    lua_rawget(L, -2);
    lua_remove(L, -2); // stack: declared, finish, main
    lua_call(L, 1, 0);
    return 0;
}

/* ---- tables to structs ----------------------------------------------------------------------- */

__attribute__((returns_nonnull)) static void *need(lua_State *L, void *block) {
    if (block == NULL) {
        luaL_error(L, "out of memory"); /* does not return */
        abort();
    }
    return block;
}

static void make_manager(lua_State *L, pyi_config *c) { // stack: ..., entry
    pyi_manager_config *m = c->manager = need(L, calloc(1, sizeof(*m)));
    pyi_config_fill_manager(L, m);
    m->path = c->path != NULL ? need(L, pyi_arena_strdup(m->arena, c->path)) : NULL;
    m->directory = need(L, pyi_arena_strdup(m->arena, c->directory));
}

static int make_structs(lua_State *L) {
    pyi_config *c = lua_touserdata(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &DECLARED_KEY);
    lua_getfield(L, -1, "manager"); // stack: c, declared, manager
    make_manager(L, c);
    lua_pop(L, 1);
    lua_getfield(L, -1, "extensions"); // stack: c, declared, list
    size_t count = lua_rawlen(L, -1);
    c->extensions = need(L, calloc(count + 1, sizeof(*c->extensions)));
    for (size_t i = 0; i < count; i++) {
        pyi_extension_config *x = need(L, calloc(1, sizeof(*x)));
        c->extensions[i] = x;
        c->count = i + 1;
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        pyi_config_fill_extension(L, c->manager, x);
        lua_pop(L, 1);
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &MODULE_KEY);
    lua_pushliteral(L, "main");
    c->has_main = lua_rawget(L, -2) == LUA_TFUNCTION;
    return 0;
}

/* Copies declare.lua's problems; returns nothing, raises on out-of-memory. */
static int take_problems(lua_State *L) {
    pyi_config *c = lua_touserdata(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &DECLARED_KEY);
    lua_getfield(L, -1, "problems");
    lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_rawgeti(L, -1, i);
        if (!add_problem(c, luaL_checkstring(L, -1))) {
            return luaL_error(L, "out of memory");
        }
        lua_pop(L, 1);
    }
    return 0;
}

/* ---- loading --------------------------------------------------------------------------------- */

static pyi_err call_c(pyi_config *c, lua_CFunction f, pyi_error *e) {
    lua_State *L = pyi_lua_state(c->vm);
    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, c);
    return pyi_lua_call(c->vm, 1, 0, e);
}

/* Runs the text. What goes wrong in it is a problem of the configuration, not an error of ours. */
static pyi_err run_text(pyi_config *c, const char *text, size_t len, pyi_error *e) {
    PYI_AUTO_FREE char *chunk = NULL;
    if (asprintf(&chunk, "@%s", c->name) < 0) {
        return pyi_error_set(e, PYI_ENOMEM, "config.load", "out of memory");
    }
    pyi_err err = pyi_lua_keep_source(pyi_lua_state(c->vm), chunk, text, len, e);
    if (err != PYI_OK) {
        return err;
    }
    pyi_lua_limit(c->vm, &LOAD_BUDGET);
    err = pyi_lua_compile(c->vm, text, len, chunk, e);
    if (err == PYI_OK) {
        err = pyi_lua_call(c->vm, 0, 0, e);
    }
    return err;
}

/* After the run: what it declared becomes structs, or problems. */
static pyi_err finish_load(pyi_config *c, pyi_err ran, pyi_error *e) {
    pyi_lua_limit(c->vm, NULL);
    pyi_error finish;
    pyi_error_init(&finish);
    pyi_err err = ran == PYI_OK ? call_c(c, finish_declared, &finish) : PYI_OK;
    if (err == PYI_OK) {
        err = call_c(c, take_problems, &finish);
    }
    if (ran != PYI_OK && err == PYI_OK && !add_lua_problem(c, e->msg)) {
        err = pyi_error_set(&finish, PYI_ENOMEM, "config.load", "out of memory");
    }
    if (err == PYI_OK && c->problem_count == 0) {
        err = call_c(c, make_structs, &finish);
    }
    *e = finish;
    return err;
}

static pyi_err set_name(pyi_config *c, const char *name, const char *directory, pyi_error *e) {
    c->name = strdup(name);
    c->directory = strdup(directory);
    if (c->name == NULL || c->directory == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "config.load", "out of memory");
    }
    pyi_err err = pyi_lua_new(&c->vm, e);
    return err != PYI_OK ? err : pyi_lua_set_directory(c->vm, directory, e);
}

static void cleanup_config(pyi_config **c) {
    pyi_config_free(*c);
}

static pyi_err load_text(const char *text, size_t len, const char *name, const char *path,
                         const char *directory, pyi_config **ret, pyi_error *e) {
    __attribute__((cleanup(cleanup_config))) pyi_config *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "config.load", "out of memory");
    }
    pyi_err err = set_name(c, name, directory, e);
    if (err == PYI_OK && path != NULL && (c->path = strdup(path)) == NULL) {
        err = pyi_error_set(e, PYI_ENOMEM, "config.load", "out of memory");
    }
    if (err == PYI_OK) {
        err = call_c(c, open_module, e);
    }
    if (err != PYI_OK) {
        return err;
    }
    err = run_text(c, text, len, e);
    if (err == PYI_ENOMEM) {
        return err;
    }
    err = finish_load(c, err, e);
    if (err != PYI_OK) {
        return err;
    }
    *ret = pyi_steal(&c);
    return PYI_OK;
}

pyi_err pyi_config_load_string(const char *text, size_t len, const char *name,
                               const char *directory, pyi_config **ret, pyi_error *e) {
    return load_text(text, len, name, NULL, directory, ret, e);
}

pyi_err pyi_config_load(const char *path, pyi_config **ret, pyi_error *e) {
    PYI_AUTO_FREE char *text = NULL;
    PYI_AUTO_FREE char *directory = NULL;
    size_t len = 0;
    pyi_err err = pyi_read_source(path, &text, &len, e);
    if (err != PYI_OK) {
        return err;
    }
    PYI_AUTO_FREE char *absolute = realpath(path, NULL);
    if (absolute == NULL) {
        return pyi_error_sys(e, errno, "config.load", "cannot resolve '%s'", path);
    }
    const char *slash = strrchr(absolute, '/');
    directory = strndup(absolute, slash == absolute ? 1 : (size_t)(slash - absolute));
    if (directory == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "config.load", "out of memory");
    }
    return load_text(text, len, path, absolute, directory, ret, e);
}

/* ---- what was loaded ------------------------------------------------------------------------- */

size_t pyi_config_problems(const pyi_config *c, const char *const **ret_problems) {
    *ret_problems = (const char *const *)c->problems;
    return c->problem_count;
}

size_t pyi_config_count(const pyi_config *c) {
    return c->problem_count == 0 ? c->count : 0;
}

const pyi_manager_config *pyi_config_manager(const pyi_config *c) {
    return c->manager;
}

const pyi_extension_config *pyi_config_extension(const pyi_config *c, size_t index) {
    return index < c->count ? c->extensions[index] : NULL;
}

pyi_manager_config *pyi_config_take_manager(pyi_config *c) {
    return pyi_steal(&c->manager);
}

pyi_extension_config *pyi_config_take_extension(pyi_config *c, size_t index) {
    return index < c->count ? pyi_steal(&c->extensions[index]) : NULL;
}

bool pyi_config_has_main(const pyi_config *c) {
    return c->has_main;
}

void pyi_config_free(pyi_config *c) {
    if (c == NULL) {
        return;
    }
    pyi_lua_free(c->vm);
    pyi_lua_api_free(c->api);
    pyi_manager_config_free(c->manager);
    for (size_t i = 0; i < c->count; i++) {
        pyi_extension_config_free(c->extensions[i]);
    }
    for (size_t i = 0; i < c->problem_count; i++) {
        free(c->problems[i]);
    }
    free(c->extensions);
    free(c->problems);
    free(c->name);
    free(c->path);
    free(c->directory);
    free(c);
}

void pyi_manager_config_free(pyi_manager_config *c) {
    if (c != NULL) {
        pyi_arena_free(c->arena);
        free(c);
    }
}

void pyi_extension_config_free(pyi_extension_config *c) {
    if (c != NULL) {
        pyi_arena_free(c->arena);
        free(c);
    }
}

/* ---- for the Lua face ------------------------------------------------------------------------ */

pyi_lua *pyi_config_vm(pyi_config *c) {
    return c->vm;
}

pyi_config *pyi_config_of(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &CONFIG_KEY);
    pyi_config *c = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return c;
}

void pyi_config_push_main(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &MODULE_KEY);
    lua_pushliteral(L, "main");
    lua_rawget(L, -2);
    lua_remove(L, -2);
}

const char *pyi_config_name(const pyi_config *c) {
    return c->name;
}

pyi_lua_api **pyi_config_api(pyi_config *c) {
    return &c->api;
}

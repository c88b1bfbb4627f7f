/*
 * Loading a configuration: its text runs in a Lua state of its own under a budget; lua/declare.lua
 * collects what it declares, lua/validate.lua checks it against lua/schema.lua, and the clean
 * tables become the structs of config.h here.
 *
 * The tables below are the C half of the schema: where a key's value goes. A test walks both
 * halves, so that a key cannot be in one only. Values are checked again for their Lua type: what
 * the script could have disturbed in the state may give a wrong configuration, but not a wrong
 * pointer.
 */
#include "config.h"
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

/* ---- problems ----------------------------------------------------------------------------------
 */

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

/* ---- the host side of declare.lua --------------------------------------------------------------
 */

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

/* Chunk, file as shown, and line of the nearest caller that is a file: not ours, not C. */
static int find_caller(lua_State *L) {
    pyi_config *c = pyi_config_of(L);
    lua_Debug ar;
    for (int level = 1; lua_getstack(L, level, &ar) == 1; level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.source[0] == '@' && ar.currentline > 0) {
            lua_pushstring(L, ar.source);
            lua_pushstring(L, ar.source + 1);
            lua_pushinteger(L, ar.currentline);
            return 3;
        }
    }
    lua_pushliteral(L, "");
    lua_pushstring(L, c->name);
    lua_pushinteger(L, 1);
    return 3;
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

/* ---- clean tables to structs -------------------------------------------------------------------
 */

typedef enum member_kind {
    STRING,
    STRINGS,
    PAIRS,
    BOOLEAN,
    UNSIGNED,
    MILLISECONDS,
    CHOICE
} member_kind;

typedef struct member {
    const char *key;
    member_kind kind;
    size_t offset;
    const char *const *choices; /* CHOICE: names, in the order of the enum's values */
    int first;                  /* value of the first */
} member;

static const char *const SANDBOX_MODES[] = {"required", "preferred", "disabled", NULL};
static const char *const PACKAGE_MANAGERS[] = {"uv", "conda", NULL};
static const char *const EXECUTION_MODELS[] = {"host-coupled", "sealed_worker", NULL};
static const char *const RESTARTS[] = {"on-crash", "always", "never", NULL};

#define AT(field) offsetof(pyi_extension_config, field)
static const member EXTENSION_MEMBERS[] = {
    {"name", STRING, AT(name), NULL, 0},
    {"module_path", STRING, AT(module_path), NULL, 0},
    {"module", STRING, AT(module), NULL, 0},
    {"isolated", BOOLEAN, AT(isolated), NULL, 0},
    {"dependencies", STRINGS, AT(dependencies), NULL, 0},
    {"requirements", STRINGS, AT(requirements), NULL, 0},
    {"constraints", STRINGS, AT(constraints), NULL, 0},
    {"overrides", STRINGS, AT(overrides), NULL, 0},
    {"index_url", STRING, AT(index_url), NULL, 0},
    {"extra_index_urls", STRINGS, AT(extra_index_urls), NULL, 0},
    {"find_links", STRINGS, AT(find_links), NULL, 0},
    {"python", STRING, AT(python), NULL, 0},
    {"environment", STRING, AT(environment), NULL, 0},
    {"entrypoint", STRING, AT(entrypoint), NULL, 0},
    {"extension_type", STRING, AT(extension_type), NULL, 0},
    {"apis", STRINGS, AT(apis), NULL, 0},
    {"share_torch", BOOLEAN, AT(share_torch), NULL, 0},
    {"share_torch_no_deps", BOOLEAN, AT(share_torch_no_deps), NULL, 0},
    {"share_cuda_ipc", BOOLEAN, AT(share_cuda_ipc), NULL, 0},
    {"package_manager", CHOICE, AT(package_manager), PACKAGE_MANAGERS, PYI_PM_UV},
    {"execution_model", CHOICE, AT(execution_model), EXECUTION_MODELS, PYI_HOST_COUPLED},
    {"sandbox_mode", CHOICE, AT(sandbox_mode), SANDBOX_MODES, PYI_SANDBOX_REQUIRED},
    {"env", PAIRS, AT(env), NULL, 0},
    {"env_inherit", STRINGS, AT(env_inherit), NULL, 0},
    {"restart", CHOICE, AT(restart), RESTARTS, PYI_RESTART_ON_CRASH},
    {"call_timeout", MILLISECONDS, AT(call_timeout_ms), NULL, 0},
    {"start_timeout", MILLISECONDS, AT(start_timeout_ms), NULL, 0},
    {"stop_timeout", MILLISECONDS, AT(stop_timeout_ms), NULL, 0},
    {"max_concurrency", UNSIGNED, AT(max_concurrency), NULL, 0},
    {"threads", UNSIGNED, AT(threads), NULL, 0},
    {"conda_channels", STRINGS, AT(conda_channels), NULL, 0},
    {"conda_dependencies", STRINGS, AT(conda_dependencies), NULL, 0},
    {"conda_platforms", STRINGS, AT(conda_platforms), NULL, 0},
    {"conda_python", STRING, AT(conda_python), NULL, 0},
    {"sealed_host_ro_paths", STRINGS, AT(sealed_host_ro_paths), NULL, 0},
    {"filtered_subdirs", STRINGS, AT(filtered_subdirs), NULL, 0},
    {"may_call", STRINGS, AT(may_call), NULL, 0},
    {"publish", STRINGS, AT(publish), NULL, 0},
    {"subscribe", STRINGS, AT(subscribe), NULL, 0},
    {"transport", STRING, AT(transport), NULL, 0},
    {"embed", BOOLEAN, AT(embed), NULL, 0},
};
#undef AT

#define AT(field) offsetof(pyi_manager_config, field)
static const char *const LEVELS[] = {"debug", "info", "warning", "error", NULL};
static const member MANAGER_MEMBERS[] = {
    {"venv_root_path", STRING, AT(venv_root_path), NULL, 0},
    {"python", STRING, AT(python), NULL, 0},
    {"log", CHOICE, AT(log_level), LEVELS, PYI_DEBUG},
};
#undef AT

/* Allocation that raises: the arena belongs to the struct, and the struct to the configuration. */
static void *need(lua_State *L, void *block) {
    if (block == NULL) {
        luaL_error(L, "out of memory");
    }
    return block;
}

static const char *get_string(lua_State *L, pyi_arena *arena) { // stack: ..., value
    size_t len;
    const char *text = luaL_checklstring(L, -1, &len);
    return need(L, pyi_arena_strndup(arena, text, len));
}

static pyi_strings get_strings(lua_State *L, pyi_arena *arena) { // stack: ..., list
    luaL_checktype(L, -1, LUA_TTABLE);
    size_t count = lua_rawlen(L, -1);
    const char **items = need(L, pyi_arena_alloc(arena, (count + 1) * sizeof(*items)));
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        items[i] = get_string(L, arena);
        lua_pop(L, 1);
    }
    return (pyi_strings){items, count};
}

static const char *get_item(lua_State *L, pyi_arena *arena, lua_Integer index) { // stack: ..., list
    luaL_checktype(L, -1, LUA_TTABLE);
    lua_rawgeti(L, -1, index);
    const char *text = get_string(L, arena);
    lua_pop(L, 1);
    return text;
}

/* A list of { key, value }, after those that are there already. */
static pyi_pairs get_pairs(lua_State *L, pyi_arena *arena, pyi_pairs before) { // stack: ..., list
    luaL_checktype(L, -1, LUA_TTABLE);
    size_t count = lua_rawlen(L, -1);
    pyi_pair *items = need(L, pyi_arena_alloc(arena, (before.count + count + 1) * sizeof(*items)));
    if (before.count > 0) {
        memcpy(items, before.items, before.count * sizeof(*items));
    }
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        items[before.count + i] = (pyi_pair){get_item(L, arena, 1), get_item(L, arena, 2)};
        lua_pop(L, 1);
    }
    return (pyi_pairs){items, before.count + count};
}

static int get_choice(lua_State *L, const member *m) {
    const char *name = luaL_checkstring(L, -1);
    for (int i = 0; m->choices[i] != NULL; i++) {
        if (strcmp(m->choices[i], name) == 0) {
            return m->first + i;
        }
    }
    return luaL_error(L, "%s: unknown value '%s'", m->key, name);
}

static void get_member(lua_State *L, const member *m, void *target,
                       pyi_arena *arena) { // stack: ..., value
    switch (m->kind) {
    case STRING:
        *(const char **)target = get_string(L, arena);
        break;
    case STRINGS:
        *(pyi_strings *)target = get_strings(L, arena);
        break;
    case PAIRS:
        *(pyi_pairs *)target = get_pairs(L, arena, (pyi_pairs){NULL, 0});
        break;
    case BOOLEAN:
        *(bool *)target = lua_toboolean(L, -1);
        break;
    case UNSIGNED:
        *(unsigned *)target = (unsigned)luaL_checkinteger(L, -1);
        break;
    case MILLISECONDS:
        *(int64_t *)target = luaL_checkinteger(L, -1);
        break;
    case CHOICE:
        *(int *)target = get_choice(L, m); /* every enum here is an int */
        break;
    }
}

static void get_members(lua_State *L, const member *members, size_t count, void *base,
                        pyi_arena *arena) {
    luaL_checktype(L, -1, LUA_TTABLE); // stack: ..., options
    for (size_t i = 0; i < count; i++) {
        if (lua_getfield(L, -1, members[i].key) != LUA_TNIL) {
            get_member(L, &members[i], (char *)base + members[i].offset, arena);
        }
        lua_pop(L, 1);
    }
}

static void make_manager(lua_State *L, pyi_config *c) { // stack: ..., entry
    pyi_manager_config *m = c->manager = need(L, calloc(1, sizeof(*m)));
    m->arena = need(L, pyi_arena_new());
    m->path = c->path != NULL ? need(L, pyi_arena_strdup(m->arena, c->path)) : NULL;
    m->directory = need(L, pyi_arena_strdup(m->arena, c->directory));
    lua_getfield(L, -1, "options");
    get_members(L, MANAGER_MEMBERS, PYI_COUNT(MANAGER_MEMBERS), m, m->arena);
    m->has_log_level = lua_getfield(L, -1, "log") != LUA_TNIL;
    lua_pop(L, 2);
    lua_getfield(L, -1, "later");
    m->not_yet = get_pairs(L, m->arena, (pyi_pairs){NULL, 0});
    lua_pop(L, 1);
}

/* The manager's keys that are not built yet count for every extension: it is they that cannot start
 * as asked. */
static pyi_pairs copy_pairs(lua_State *L, pyi_arena *arena, pyi_pairs from) {
    pyi_pair *items = need(L, pyi_arena_alloc(arena, (from.count + 1) * sizeof(*items)));
    for (size_t i = 0; i < from.count; i++) {
        items[i].key = need(L, pyi_arena_strdup(arena, from.items[i].key));
        items[i].value = need(L, pyi_arena_strdup(arena, from.items[i].value));
    }
    return (pyi_pairs){items, from.count};
}

static void make_extension(lua_State *L, pyi_config *c,
                           pyi_extension_config *x) { // stack: ..., entry
    x->arena = need(L, pyi_arena_new());
    lua_getfield(L, -1, "declared_at");
    x->declared_at = get_string(L, x->arena);
    lua_pop(L, 1);
    lua_getfield(L, -1, "options");
    get_members(L, EXTENSION_MEMBERS, PYI_COUNT(EXTENSION_MEMBERS), x, x->arena);
    x->has_sandbox = lua_getfield(L, -1, "sandbox") != LUA_TNIL;
    lua_pop(L, 2);
    lua_getfield(L, -1, "later");
    x->not_yet = get_pairs(L, x->arena, copy_pairs(L, x->arena, c->manager->not_yet));
    lua_pop(L, 1);
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
        make_extension(L, c, x);
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

/* ---- loading -----------------------------------------------------------------------------------
 */

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

/* ---- what was loaded ---------------------------------------------------------------------------
 */

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

/* ---- for the Lua face --------------------------------------------------------------------------
 */

pyi_lua *pyi_config_vm(pyi_config *c) {
    return c->vm;
}

pyi_config *pyi_config_of(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &CONFIG_KEY);
    pyi_config *c = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return c;
}

const char *pyi_config_name(const pyi_config *c) {
    return c->name;
}

pyi_lua_api **pyi_config_api(pyi_config *c) {
    return &c->api;
}

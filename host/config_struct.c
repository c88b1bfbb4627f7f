/*
 * The C half of the schema: where a key's value goes, and the making of the structs of config.h
 * from clean tables.
 *
 * A test walks both halves, so that a key cannot be in one only. Values are checked again for their
 * Lua type: what the script could have disturbed in the state may give a wrong configuration, not a
 * wrong pointer. All functions raise Lua errors; memory belongs to arenas that the configuration
 * owns already.
 */
#include "config_struct.h"
#include <string.h>

/* ---- clean tables to structs ----------------------------------------------------------------- */

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
    {"max_payload", UNSIGNED, AT(max_payload), NULL, 0},
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

void pyi_config_fill_manager(lua_State *L, pyi_manager_config *m) { // stack: ..., entry
    m->arena = need(L, pyi_arena_new());
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

void pyi_config_fill_extension(lua_State *L, const pyi_manager_config *manager,
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
    x->not_yet = get_pairs(L, x->arena, copy_pairs(L, x->arena, manager->not_yet));
    lua_pop(L, 1);
}

const char *pyi_config_member(bool manager, size_t index) {
    if (manager) {
        return index < PYI_COUNT(MANAGER_MEMBERS) ? MANAGER_MEMBERS[index].key : NULL;
    }
    return index < PYI_COUNT(EXTENSION_MEMBERS) ? EXTENSION_MEMBERS[index].key : NULL;
}

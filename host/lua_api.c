/*
 * Handles: what pyisolate.extension returns. A handle is a userdata with the index of its
 * extension.
 */
#include "lua_api.h"
#include "lua_module.h"

#define HANDLE_TYPE "pyisolate.extension"

typedef struct handle {
    size_t index;
} handle;

struct pyi_lua_api {
    size_t count;
};

void pyi_lua_push_handle(lua_State *L, size_t index, const char *name) {
    handle *h = lua_newuserdatauv(L, sizeof(*h), 1);
    h->index = index;
    lua_pushstring(L, name);
    lua_setiuservalue(L, -2, 1);
    luaL_setmetatable(L, HANDLE_TYPE);
}

void pyi_lua_open_api(lua_State *L) {
    luaL_newmetatable(L, HANDLE_TYPE);
    lua_pop(L, 1);
}

void pyi_lua_api_free(pyi_lua_api *api) {
    free(api);
}

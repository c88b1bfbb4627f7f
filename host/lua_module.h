#pragma once
/*
 * What config.c and the lua_* files share: the state of a configuration and the parts of its
 * `pyisolate` module. Main thread only.
 */
#include "config.h"
#include "lua_vm.h"

pyi_lua *pyi_config_vm(pyi_config *c);
/// The configuration that a state belongs to. Never raises.
pyi_config *pyi_config_of(lua_State *L);
const char *pyi_config_name(const pyi_config *c); /* the file, as it is shown */
void pyi_config_push_main(lua_State *L);          /* the function, or nil */

/// Adds to the table on the stack what the module needs of C: handles, values, tasks.
void pyi_lua_open_api(lua_State *L);
/// Pushes the handle of the extension with this index (from 0).
void pyi_lua_push_handle(lua_State *L, size_t index, const char *name);

/// What the Lua face has beside the configuration; freed with it. NULL is fine.
typedef struct pyi_lua_api pyi_lua_api;
pyi_lua_api **pyi_config_api(pyi_config *c);
void pyi_lua_api_free(pyi_lua_api *api);

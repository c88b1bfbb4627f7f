#pragma once
/* Clean tables (of lua/validate.lua) to the structs of config.h. For config.c and its test; raises
 * Lua errors. */
#include "config.h"
#include "lua_vm.h"

/// stack: ..., { options, later }. Makes the arena and fills all but path and directory.
void pyi_config_fill_manager(lua_State *L, pyi_manager_config *m);
/// stack: ..., { options, later, declared_at }.
void pyi_config_fill_extension(lua_State *L, const pyi_manager_config *manager,
                               pyi_extension_config *x);
/// The keys that have a member, by index; NULL at the end.
const char *pyi_config_member(bool manager, size_t index);

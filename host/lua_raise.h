#pragma once
/*
 * Errors as Lua sees them: a table with type, message, code, and where there are any traceback,
 * cause, notes, args, extension, method. lua/errors.lua gives it __tostring. The state's thread.
 */
#include "lua_task.h"

/// Leaves the metatable of error tables in the table on the stack, as `error_type`.
void pyi_lua_open_errors(lua_State *L);
/// Raises an error of our own; `detail` (or NULL) becomes its traceback. Never returns.
int pyi_lua_raise(lua_State *L, const pyi_error *e, const char *detail);
/// Raises what a record ended with. Never returns. The record stays the caller's.
int pyi_lua_raise_record(lua_State *L, const pyi_record *r, const char *extension);

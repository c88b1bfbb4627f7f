#pragma once
/*
 * One Lua state with what scripts may use (an allow-list), a budget of instructions and memory that
 * no pcall, xpcall or coroutine can swallow, and the one protected call. One thread at a time uses
 * a state; nothing in here blocks.
 *
 * Every function that takes a lua_State may raise Lua errors unless it says "never raises";
 * everything that takes a pyi_lua and a pyi_error is for plain C and never raises.
 */
#include "pyi_error.h"
#include <lauxlib.h>
#include <lua.h>

#define PYI_LUA_MAX_SOURCE (4u << 20) /* bytes of one source file */
#define PYI_LUA_PATTERN_LIMIT                                                                      \
    (UINT64_C(1) << 28)             /* most steps a pattern may need, with a budget                \
                                     */
#define PYI_LUA_MAX_MOVE (16 << 20) /* elements that one table.move, insert or sort may touch */

typedef struct pyi_lua pyi_lua;

/// What a script may spend. 0: no limit.
typedef struct pyi_lua_budget {
    uint64_t instructions; /* of the VM; allocation and patterns count too */
    int64_t cpu_ms;        /* of the thread's own time */
    size_t memory;         /* bytes in the whole state */
} pyi_lua_budget;

pyi_err pyi_lua_new(pyi_lua **ret, pyi_error *e) PYI_MUST_CHECK;
void pyi_lua_free(pyi_lua *vm); /* NULL is fine */
lua_State *pyi_lua_state(const pyi_lua *vm);
/// The state that `L` (the main thread or a coroutine) belongs to. Never raises.
pyi_lua *pyi_lua_of(lua_State *L);

/// Sets the budget anew and forgets that the last one was spent; NULL lifts it.
void pyi_lua_limit(pyi_lua *vm, const pyi_lua_budget *budget);
/// Whether the budget is spent: everything fails then, until the next pyi_lua_limit.
bool pyi_lua_spent(const pyi_lua *vm);
/// Whether a budget is on at all.
bool pyi_lua_limited(const pyi_lua *vm);
/// Whether a budget has ever been spent in this state.
bool pyi_lua_was_spent(const pyi_lua *vm);
/// Takes `units` instructions from the budget, for C code whose work an instruction count does not
/// show.
void pyi_lua_charge(pyi_lua *vm, uint64_t units);
size_t pyi_lua_memory(const pyi_lua *vm); /* bytes in use */

/// Calls the function on the stack, as lua_pcall does. PYI_ECONFIG: the script raised an error (*e
/// has its message); PYI_ETOOBIG: the budget is spent; PYI_ENOMEM. On errors nothing is left on the
/// stack.
pyi_err pyi_lua_call(pyi_lua *vm, int nargs, int nresults, pyi_error *e) PYI_MUST_CHECK;
/// The last error of pyi_lua_call in full: message and traceback. Borrowed until the next call;
/// never NULL.
const char *pyi_lua_detail(const pyi_lua *vm);
/// Compiles a text chunk (never bytecode) and leaves its function on the stack. `chunk` is "@file"
/// or "=name".
pyi_err pyi_lua_compile(pyi_lua *vm, const char *text, size_t len, const char *chunk,
                        pyi_error *e) PYI_MUST_CHECK;
/// Pushes a string; PYI_ENOMEM instead of a Lua error.
pyi_err pyi_lua_push_bytes(lua_State *L, const void *data, size_t len, pyi_error *e) PYI_MUST_CHECK;

/// Where `require` looks besides the embedded modules.
pyi_err pyi_lua_set_directory(pyi_lua *vm, const char *directory, pyi_error *e) PYI_MUST_CHECK;
const char *pyi_lua_directory(const pyi_lua *vm); /* NULL: none */
/// Remembers the text of a chunk, to find lines in it later; pushes it (or nil) again.
pyi_err pyi_lua_keep_source(lua_State *L, const char *chunk, const char *text, size_t len,
                            pyi_error *e) PYI_MUST_CHECK;
void pyi_lua_push_source(lua_State *L, const char *chunk);
/// Reads a whole file. PYI_ENOTFOUND, PYI_ESYS, PYI_ETOOBIG, PYI_ENOMEM.
pyi_err pyi_read_source(const char *path, char **ret_text, size_t *ret_len,
                        pyi_error *e) PYI_MUST_CHECK;

/// What to say below an error message that comes of a function or library that scripts do not get;
/// NULL: it does not. Static. Never raises.
const char *pyi_lua_withheld(const char *message);

/// Pushes a few words about what is in the table at `index`: an error that is a plain table has no
/// text of its own. Calls no metamethods.
void pyi_lua_push_shown(lua_State *L, int index);

/* Parts of a state, for lua_vm.c alone. */
void pyi_lua_open_libs(lua_State *L);
void pyi_lua_open_require(lua_State *L);
/// Pushes Lua's own pattern functions: for the modules of the host, whose patterns and inputs are
/// bounded.
void pyi_lua_push_raw(lua_State *L);
/// If `ar` (of lua_getstack) is `require` itself: pushes the name of the chunk that it runs, and is
/// true.
bool pyi_lua_push_required(lua_State *L, lua_Debug *ar);

#pragma once
/*
 * How a stop reaches Lua code that computes and does not wait: `while true do end`.
 *
 *   any thread: pyi_lua_interrupt --SIGURG--> the thread that runs Lua: the handler sets a hook on
 *                                             what runs there --> a "stopped" error is raised
 *
 * No hook is on before: Lua counts down at every instruction while there is one, however seldom it
 * runs, and a script that computes takes twice as long. lua_sethook may be called in a signal
 * handler, which is what this rests on. SIGURG, because nothing happens where nobody handles it.
 *
 * The error can be caught, for cleaning up; it comes again and again, soon at every instruction, so
 * no pcall keeps going. One thread at a time in a process listens.
 */
#include "lua_vm.h"

/// From now on this thread is the one that runs Lua. Until end.
void pyi_interrupt_begin(void);
void pyi_interrupt_end(void);

/// Around each resume: tells which coroutine runs. Gives the one that ran, for leave. Any thread.
lua_State *pyi_interrupt_enter(lua_State *co);
void pyi_interrupt_leave(lua_State *before);

/// Whether the error has been raised on this thread: message handlers must not run then, since they
/// would run inside the hook, where no hook can end them.
bool pyi_interrupt_raised(void);

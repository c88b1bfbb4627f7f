#pragma once
/*
 * Tasks: the coroutines of main, of pyisolate.spawn, all and timeout, and the loop that resumes
 * them. All on the thread of the Lua state, but for pyi_inbox_push, which any thread may call.
 *
 *   manager's threads --pyi_inbox_push--> inbox + eventfd --> pyi_tasks_run --lua_resume--> a task
 *                                          timers, stop_fd ----^                            |
 *                                                               a call, sleep, park: yield <+
 *
 * A task is resumed from the loop and from nowhere else, so nesting never grows. What a task waits
 * for wakes it exactly once; what it must release outlives no Lua error, because the loop releases
 * it after the resume.
 */
#include "lua_api.h"
#include "lua_module.h"
#include "manager.h"

typedef struct pyi_task pyi_task;
typedef struct pyi_tasks pyi_tasks;
typedef struct pyi_inbox pyi_inbox;

/// A call, or a piece of work on another thread, that a task waits for.
typedef struct pyi_record {
    struct pyi_record *next;
    pyi_inbox *inbox;
    pyi_task *task;
    pyi_extension *extension; // borrowed
    uint64_t id;              /* of the call */
    bool is_call;             /* it can be cancelled */
    const char *method;       /* borrowed from the closure that waits */
    int64_t grace_ms;         /* stop and restart */
    pyi_err code;
    pyi_error error;
    char *detail;   // owned
    uint8_t *bytes; // owned: the value, or the error array
    size_t len;
} pyi_record;

pyi_err pyi_tasks_new(lua_State *L, pyi_tasks **ret, pyi_error *e) PYI_MUST_CHECK;
void pyi_tasks_free(pyi_tasks *t); /* NULL is fine */
/// Adds to the table on the stack: spawn, watch, park, status, result, cancel, current.
void pyi_tasks_open(lua_State *L);

/// Runs the function on the stack with the arguments above it as the main task. Takes them off the
/// stack. When it has ended, the other tasks are cancelled and all that was started is waited for.
/// stop: may be NULL. Returns whether it ended without an error; its results, or its error value,
/// are then on the stack (*ret_results of them).
bool pyi_tasks_run(pyi_tasks *t, int nargs, const pyi_lua_stop *stop, int *ret_results);
/// Whether a stop was asked for meanwhile.
bool pyi_tasks_stopped(const pyi_tasks *t);
/// After run: the main task's coroutine, for its traceback. NULL: none.
lua_State *pyi_tasks_main(const pyi_tasks *t);
/// After run: pushes the error of the next task that failed and that nobody asked; false: there is
/// none.
bool pyi_tasks_pop_failure(pyi_tasks *t);

/// A record for the running task; raises where nothing can wait (outside main) and when the task is
/// cancelled.
pyi_record *pyi_record_new(lua_State *L, pyi_extension *x);
void pyi_record_free(pyi_record *r);
/// Yields until the record comes back through the inbox; then continues in `k` with pyi_task_reply.
/// The value of this is what the lua_CFunction returns.
int pyi_task_wait(lua_State *L, pyi_record *r, lua_KFunction k);
/// The record that woke the running task. Freed by the loop when the task next yields or ends.
pyi_record *pyi_task_reply(lua_State *L);
/// Whether the host is stopping, so that a cancelled call was one that took too long.
bool pyi_task_is_stopped(lua_State *L);
/// Any thread: gives the record back.
void pyi_inbox_push(pyi_record *r);

/* ---- the inbox (lua_inbox.c), for the loop --------------------------------------------------- */

pyi_inbox *pyi_inbox_new(void); /* NULL: no memory or descriptor */
pyi_inbox *pyi_inbox_ref(pyi_inbox *i);
void pyi_inbox_unref(pyi_inbox *i);
int pyi_inbox_fd(const pyi_inbox *i); /* readable while records wait */
/// All that have come back, the first one first; NULL: none.
pyi_record *pyi_inbox_take(pyi_inbox *i);

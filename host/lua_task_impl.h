#pragma once
/*
 * Inside of the tasks, shared by lua_task.c (the loop) and lua_task_lib.c (what scripts call). Not
 * for others.
 */
#include "lua_task.h"

#define TASK_TYPE  "pyisolate.task"
#define TOLD_OFTEN 16 /* times that a cancelled task is told so */
#define FOREVER    INT64_MAX
#define COROUTINE  1 /* user values */
#define WATCHERS   2
#define RESULTS    3

typedef enum task_state { TASK_READY, TASK_WAITING, TASK_DONE, TASK_FAILED } task_state;

struct pyi_task {
    lua_State *co;
    task_state state;
    int nargs; /* of the first resume */
    bool cancelled, timed_out, seen;
    bool deaf; /* sleeps: what it watches does not wake it */
    int told;
    pyi_task *next;           /* ready queue */
    pyi_task *before, *after; /* timers, soonest first */
    int64_t wake_ns;          /* FOREVER: no timer */
    pyi_record *waits;        // borrowed: in flight
    pyi_record *reply;        // owned
};

struct pyi_tasks {
    lua_State *L;
    pyi_inbox *inbox;
    pyi_task *running, *main;
    pyi_task *first, **last; /* ready */
    pyi_task *soonest, *latest;
    size_t in_flight;
    const pyi_lua_stop *stop; // borrowed while main runs, or NULL
    bool stopped;             /* it was asked for: nothing new may be waited for */
    bool stop_over;           /* and its grace has passed: calls in flight are cancelled too */
    int64_t stop_end_ns;
};

/* lua_task.c */
pyi_tasks *pyi_tasks_of(lua_State *L);
/// The task that runs; raises where nothing can wait.
pyi_task *pyi_task_running(lua_State *L);
/// stack: f, args. Replaces them by a task that is ready to run. Raises.
pyi_task *pyi_task_new(lua_State *L, pyi_tasks *t, int nargs);
void pyi_task_arm(pyi_tasks *t, pyi_task *task, int64_t wake_ns);
void pyi_task_make_ready(pyi_tasks *t, pyi_task *task);
/// Ends what the task waits for. `patient`: not a call that has the grace of a stop.
void pyi_task_cancel(pyi_tasks *t, pyi_task *task, bool patient);
/// Raises if the task may not wait any more. `deaf`: for time, or for something new.
void pyi_task_check(lua_State *L, pyi_tasks *t, pyi_task *task, bool deaf);
void pyi_task_forget(lua_State *L, pyi_task *task);
/// Pushes the table of the tasks that are alive.
void pyi_tasks_push_alive(lua_State *L);

/* lua_task_lib.c */
/// Adds its functions to the table on the stack.
void pyi_tasks_open_lib(lua_State *L);

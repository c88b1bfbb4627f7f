/* What scripts do with tasks: the functions that lua/tasks.lua builds pyisolate.spawn, all and
 * timeout of. */
#include "lua_task_impl.h"
#include <math.h>

static pyi_task *check_task(lua_State *L, int index) {
    return luaL_checkudata(L, index, TASK_TYPE);
}

static int spawn(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    pyi_task_running(L);
    pyi_task_new(L, pyi_tasks_of(L), lua_gettop(L) - 1);
    return 1;
}

/* watch(task): its end wakes the running task. */
static int watch(lua_State *L) {
    pyi_task *task = check_task(L, 1), *me = pyi_task_running(L);
    if (task->state >= TASK_DONE) {
        return 0;
    }
    luaL_argcheck(L, task != me, 1, "a task cannot wait for itself");
    if (lua_getiuservalue(L, 1, WATCHERS) != LUA_TTABLE) {
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, 1, WATCHERS);
        lua_replace(L, 2);
        lua_settop(L, 2);
    } // stack: task, watchers
    pyi_tasks_push_alive(L);
    lua_rawgetp(L, -1, me);
    lua_rawseti(L, 2, (lua_Integer)lua_rawlen(L, 2) + 1);
    return 0;
}

static int finish_park(lua_State *L, int status PYI_UNUSED, lua_KContext context PYI_UNUSED) {
    pyi_tasks *t = pyi_tasks_of(L);
    pyi_task *task = t->running;
    if (!task->timed_out) {
        pyi_task_check(L, t, task, task->deaf);
    }
    lua_pushboolean(L, !task->timed_out);
    return 1;
}

/* park(seconds or nil, deaf): until something watched ends (true; not if deaf), or the time is over
 * (false). */
static int park(lua_State *L) {
    pyi_tasks *t = pyi_tasks_of(L);
    pyi_task *task = pyi_task_running(L);
    lua_Number seconds = luaL_optnumber(L, 1, HUGE_VAL);
    luaL_argcheck(L, !isnan(seconds), 1, "not a number of seconds");
    task->deaf = lua_toboolean(L, 2);
    pyi_task_check(L, t, task, task->deaf);
    task->timed_out = false;
    if (seconds < 1e9) {
        pyi_task_arm(t, task,
                     pyi_now_ns() + (int64_t)((seconds > 0 ? seconds : 0) * (double)PYI_NS_PER_S));
    }
    task->state = TASK_WAITING;
    return lua_yieldk(L, 0, 0, finish_park);
}

static int task_status(lua_State *L) {
    static const char *const names[] = {"running", "running", "done", "failed"};
    lua_pushstring(L, names[check_task(L, 1)->state]);
    return 1;
}

/* Its results, or raises its error. */
static int task_result(lua_State *L) {
    pyi_task *task = check_task(L, 1);
    luaL_argcheck(L, task->state >= TASK_DONE, 1, "the task still runs");
    task->seen = true;
    lua_settop(L, 1);
    lua_getiuservalue(L, 1, RESULTS); // stack: task, results
    if (task->state == TASK_FAILED) {
        pyi_task_forget(L, task);
        lua_rawgeti(L, 2, 1);
        return lua_error(L);
    }
    int count = (int)(lua_getfield(L, 2, "n") == LUA_TNUMBER ? lua_tointeger(L, -1) : 0);
    luaL_checkstack(L, count, "too many results");
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, 2, i);
    }
    return count;
}

/* cancel(task, patient) */
static int cancel(lua_State *L) {
    pyi_task *task = check_task(L, 1);
    task->seen = true;
    pyi_task_cancel(pyi_tasks_of(L), task, lua_toboolean(L, 2));
    return 0;
}

static int now(lua_State *L) {
    lua_pushnumber(L, (lua_Number)pyi_now_ns() / (lua_Number)PYI_NS_PER_S);
    return 1;
}

void pyi_tasks_open_lib(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"spawn", spawn},        {"watch", watch},   {"park", park}, {"status", task_status},
        {"result", task_result}, {"cancel", cancel}, {"now", now},   {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}

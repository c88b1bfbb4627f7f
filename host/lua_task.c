/*
 * The loop and its tasks.
 *
 * A task is a userdata that lives in the registry while it runs (and, when it failed, until
 * somebody has looked), so a pointer to one stays good while it waits. Its user values: its
 * coroutine, its watchers, its results.
 *
 * Cancelling sets a mark for good: what the task waits for is ended, and each later wait raises at
 * once.
 */
#include "lua_interrupt.h"
#include "lua_raise.h"
#include "lua_task_impl.h"
#include <poll.h>

#define SHUTDOWN_MS 5000 /* for cancelled tasks to end */

static const char TASKS_KEY = 0; /* registry: pyi_tasks */
static const char ALIVE_KEY = 0; /* registry: task -> true */

pyi_tasks *pyi_tasks_of(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &TASKS_KEY);
    pyi_tasks *t = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return t;
}

/* ---- queues ---------------------------------------------------------------------------------- */

void pyi_tasks_push_alive(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &ALIVE_KEY);
}

static void disarm(pyi_tasks *t, pyi_task *task) {
    if (task->wake_ns == FOREVER) {
        return;
    }
    *(task->before != NULL ? &task->before->after : &t->soonest) = task->after;
    *(task->after != NULL ? &task->after->before : &t->latest) = task->before;
    task->before = task->after = NULL;
    task->wake_ns = FOREVER;
}

/* Most sleeps end after those that began before: looks for the place from the end. */
void pyi_task_arm(pyi_tasks *t, pyi_task *task, int64_t wake_ns) {
    pyi_task *before = t->latest;
    while (before != NULL && before->wake_ns > wake_ns) {
        before = before->before;
    }
    task->wake_ns = wake_ns;
    task->before = before;
    task->after = before != NULL ? before->after : t->soonest;
    *(before != NULL ? &before->after : &t->soonest) = task;
    *(task->after != NULL ? &task->after->before : &t->latest) = task;
}

void pyi_task_make_ready(pyi_tasks *t, pyi_task *task) {
    if (task->state != TASK_WAITING) {
        return;
    }
    disarm(t, task);
    task->state = TASK_READY;
    task->next = NULL;
    *t->last = task;
    t->last = &task->next;
}

static pyi_task *next_ready(pyi_tasks *t) {
    pyi_task *task = t->first;
    if (task != NULL) {
        t->first = task->next;
        t->last = t->first != NULL ? t->last : &t->first;
    }
    return task;
}

/* ---- records --------------------------------------------------------------------------------- */

pyi_task *pyi_task_running(lua_State *L) {
    pyi_tasks *t = pyi_tasks_of(L);
    if (t == NULL || t->running == NULL) {
        luaL_error(
            L,
            "nothing can wait here: call extensions from main, after the configuration has loaded");
        return NULL;
    } else if (t->running->co != L) {
        luaL_error(L, "nothing can wait in a coroutine of your own: use pyisolate.spawn");
    }
    return t->running;
}

static void on_told_often(lua_State *L, lua_Debug *ar PYI_UNUSED) {
    luaL_error(L, "the task was cancelled");
}

/* A cancelled task is told at each wait. One that catches it over and over is ended by a hook,
 * which cannot be caught: it raises again at the next instruction. */
static void tell_cancelled(lua_State *L, const pyi_tasks *t, pyi_task *task) {
    if (++task->told > TOLD_OFTEN) {
        lua_sethook(L, on_told_often, LUA_MASKCOUNT, 1);
    }
    bool stopped = t->stopped;
    pyi_error e;
    pyi_error_set(&e, stopped ? PYI_ESTOPPED : PYI_ECANCELLED, "lua.task",
                  stopped ? "the host is stopping" : "the task was cancelled");
    pyi_lua_raise(L, &e, NULL);
}

void pyi_task_check(lua_State *L, pyi_tasks *t, pyi_task *task, bool deaf) {
    if (task->cancelled || (t->stopped && deaf)) {
        tell_cancelled(L, t, task);
    }
}

pyi_record *pyi_record_new(lua_State *L, pyi_extension *x) {
    pyi_tasks *t = pyi_tasks_of(L);
    pyi_task *task = pyi_task_running(L);
    pyi_task_check(L, t, task, true);
    pyi_record *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        luaL_error(L, "out of memory");
        return NULL;
    }
    r->inbox = pyi_inbox_ref(t->inbox);
    r->task = task;
    r->extension = x;
    return r;
}

void pyi_record_free(pyi_record *r) {
    if (r == NULL) {
        return;
    }
    if (r->inbox != NULL) {
        pyi_inbox_unref(r->inbox);
    }
    free(r->detail);
    free(r->bytes);
    free(r);
}

int pyi_task_wait(lua_State *L, pyi_record *r, lua_KFunction k) {
    pyi_tasks *t = pyi_tasks_of(L);
    t->running->waits = r;
    t->running->state = TASK_WAITING;
    t->in_flight++;
    return lua_yieldk(L, 0, 0, k);
}

pyi_record *pyi_task_reply(lua_State *L) {
    return pyi_tasks_of(L)->running->reply;
}

bool pyi_task_is_stopped(lua_State *L) {
    return pyi_tasks_of(L)->stopped;
}

static void deliver(pyi_tasks *t) {
    pyi_record *r = pyi_inbox_take(t->inbox);
    while (r != NULL) {
        pyi_record *next = r->next;
        pyi_task *task = r->task;
        t->in_flight--;
        task->waits = NULL;
        task->reply = r;
        pyi_task_make_ready(t, task);
        r = next;
    }
}

/* ---- cancelling ------------------------------------------------------------------------------ */

/* While the grace of a stop runs. */
static bool is_soft(const pyi_tasks *t) {
    return t->stopped && !t->stop_over;
}

void pyi_task_cancel(pyi_tasks *t, pyi_task *task, bool patient) {
    if (task->state == TASK_DONE || task->state == TASK_FAILED) {
        return;
    }
    task->cancelled = true;
    if (task->state == TASK_WAITING && task->waits == NULL) {
        pyi_task_make_ready(t, task);
    } else if (task->waits != NULL && task->waits->is_call && !(patient && is_soft(t))) {
        pyi_call_cancel(task->waits->extension, task->waits->id); /* its end wakes the task */
    }
}

static int cancel_all(lua_State *L) {
    pyi_tasks *t = pyi_tasks_of(L);
    pyi_tasks_push_alive(L);
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
        pyi_task_cancel(t, lua_touserdata(L, -1), false);
    }
    return 0;
}

static int wake_sleepers(lua_State *L) {
    pyi_tasks *t = pyi_tasks_of(L);
    pyi_tasks_push_alive(L);
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
        pyi_task *task = lua_touserdata(L, -1);
        if (task->waits == NULL && task->deaf) {
            pyi_task_make_ready(t, task);
        }
    }
    return 0;
}

static void run_on_all(pyi_tasks *t, lua_CFunction f) {
    lua_pushcfunction(t->L, f);
    if (lua_pcall(t->L, 0, 0, 0) != LUA_OK) {
        lua_pop(t->L, 1);
    }
}

/* Sleeps end; calls in flight, and who waits for tasks, go on until their grace is over. */
static void begin_stop(pyi_tasks *t) {
    const pyi_lua_stop *s = t->stop;
    int64_t grace = s != NULL && s->grace_ms != NULL ? s->grace_ms(s->arg) : 0;
    t->stopped = true;
    t->stop_end_ns = pyi_now_ns() + grace * PYI_NS_PER_MS;
    run_on_all(t, wake_sleepers);
}

static void check_stop_over(pyi_tasks *t) {
    if (is_soft(t) && pyi_now_ns() >= t->stop_end_ns) {
        t->stop_over = true;
        run_on_all(t, cancel_all);
    }
}

/* ---- running --------------------------------------------------------------------------------- */

/* stack of L: ..., task. Wakes who watches it. */
static void wake_watchers(pyi_tasks *t, lua_State *L) {
    if (lua_getiuservalue(L, -1, WATCHERS) == LUA_TTABLE) {
        for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
            pyi_task *watcher = lua_touserdata(L, -1);
            if (watcher->waits == NULL && !watcher->deaf) {
                pyi_task_make_ready(t, watcher);
            }
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    lua_pushnil(L);
    lua_setiuservalue(L, -2, WATCHERS);
}

void pyi_task_forget(lua_State *L, pyi_task *task) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &ALIVE_KEY);
    lua_pushnil(L);
    lua_rawsetp(L, -2, task);
    lua_pop(L, 1);
}

/* stack of L: task; of its coroutine: the results, or the error. */
static void end_task(pyi_tasks *t, lua_State *L, pyi_task *task, bool ok, int results) {
    lua_createtable(L, results, 0);
    if (lua_checkstack(L, 1)) {
        for (int i = results; i >= 1; i--) {
            lua_xmove(task->co, L, 1);
            lua_rawseti(L, -2, i);
        }
    }
    lua_pushinteger(L, results);
    lua_setfield(L, -2, "n");
    lua_setiuservalue(L, -2, RESULTS); // stack: task
    task->state = ok ? TASK_DONE : TASK_FAILED;
    wake_watchers(t, L);
    if (ok) {
        pyi_task_forget(L, task);
    }
}

static int resume_task(lua_State *L) { // stack: tasks, task (both light)
    pyi_tasks *t = lua_touserdata(L, 1);
    pyi_task *task = lua_touserdata(L, 2);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &ALIVE_KEY);
    lua_rawgetp(L, -1, task); // stack: tasks, task, alive, task
    int results = 0, nargs = task->nargs;
    task->nargs = 0;
    t->running = task;
    lua_State *before = pyi_interrupt_enter(task->co);
    int status = lua_resume(task->co, L, nargs, &results);
    pyi_interrupt_leave(before);
    t->running = NULL;
    pyi_record_free(pyi_steal(&task->reply));
    if (status == LUA_YIELD) {
        lua_pop(task->co, results);
        if (task->state ==
            TASK_READY) { /* coroutine.yield() of its own: the others have their turn */
            task->state = TASK_WAITING;
            pyi_task_make_ready(t, task);
        }
        return 0;
    }
    end_task(t, L, task, status == LUA_OK, status == LUA_OK ? results : 1);
    return 0;
}

static void run_ready(pyi_tasks *t) {
    pyi_task *task, *marker = t->first != NULL ? PYI_CONTAINER_OF(t->last, pyi_task, next) : NULL;
    while ((task = next_ready(t)) != NULL) {
        lua_pushcfunction(t->L, resume_task);
        lua_pushlightuserdata(t->L, t);
        lua_pushlightuserdata(t->L, task);
        if (lua_pcall(t->L, 2, 0, 0) != LUA_OK) { /* out of memory at the end of a task */
            t->running = NULL;
            task->state = TASK_FAILED;
            lua_pop(t->L, 1);
        }
        if (task == marker) {
            return; /* those that became ready meanwhile wait for the next turn of the loop */
        }
    }
}

static void fire_timers(pyi_tasks *t) {
    int64_t now = pyi_now_ns();
    while (t->soonest != NULL && t->soonest->wake_ns <= now) {
        pyi_task *task = t->soonest;
        task->timed_out = true;
        pyi_task_make_ready(t, task);
    }
}

static int poll_ms(const pyi_tasks *t, int64_t end_ns) {
    int64_t wake =
        t->soonest != NULL && t->soonest->wake_ns < end_ns ? t->soonest->wake_ns : end_ns;
    wake = is_soft(t) && t->stop_end_ns < wake ? t->stop_end_ns : wake;
    if (t->first != NULL) {
        return 0;
    }
    if (wake == FOREVER) {
        return -1;
    }
    int64_t left = wake - pyi_now_ns();
    int64_t ms = left <= 0 ? 0 : (left + PYI_NS_PER_MS - 1) / PYI_NS_PER_MS;
    return ms > 60000 ? 60000 : (int)ms;
}

/* One that main noticed by its error, before the loop came by. */
static void look_for_stop(pyi_tasks *t) {
    struct pollfd fd = {.fd = t->stop != NULL && !t->stopped ? t->stop->fd : -1, .events = POLLIN};
    if (poll(&fd, 1, 0) > 0) {
        begin_stop(t);
    }
}

/* One turn of the loop. */
static void turn(pyi_tasks *t, int64_t end_ns) {
    run_ready(t);
    bool is_over =
        end_ns == FOREVER ? t->main->state >= TASK_DONE : t->first == NULL && t->in_flight == 0;
    if (is_over) {
        return;
    }
    struct pollfd fds[2] = {
        {.fd = pyi_inbox_fd(t->inbox), .events = POLLIN},
        {.fd = t->stop != NULL && !t->stopped ? t->stop->fd : -1, .events = POLLIN}};
    if (poll(fds, 2, poll_ms(t, end_ns)) > 0) {
        deliver(t);
        if (fds[1].revents != 0) {
            begin_stop(t);
        }
    }
    check_stop_over(t);
    fire_timers(t);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* stack of L: ..., f, args. Replaces them by the task. */
pyi_task *pyi_task_new(lua_State *L, pyi_tasks *t, int nargs) {
    pyi_task *task = lua_newuserdatauv(L, sizeof(*task), 3); // stack: f, args, task
    *task = (pyi_task){.state = TASK_WAITING, .wake_ns = FOREVER, .nargs = nargs};
    luaL_setmetatable(L, TASK_TYPE);
    task->co = lua_newthread(L);
    lua_setiuservalue(L, -2, COROUTINE);
    lua_insert(L, -nargs - 2); // stack: task, f, args
    if (!lua_checkstack(task->co, nargs + 2)) {
        luaL_error(L, "too many arguments");
    }
    lua_xmove(L, task->co, nargs + 1); // stack: task
    lua_rawgetp(L, LUA_REGISTRYINDEX, &ALIVE_KEY);
    lua_pushvalue(L, -2);
    lua_rawsetp(L, -2, task);
    lua_pop(L, 1);
    pyi_task_make_ready(t, task);
    return task;
}

static int start_main(lua_State *L) { // stack: f, args
    pyi_tasks *t = pyi_tasks_of(L);
    t->main = pyi_task_new(L, t, lua_gettop(L) - 1);
    return 1;
}

/* After main: what was started ends. At a stop its calls in flight have their grace. Work on other
 * threads is waited for without a limit, tasks are not. */
static void wind_down(pyi_tasks *t) {
    while (is_soft(t) && (t->first != NULL || t->in_flight > 0)) {
        turn(t, t->stop_end_ns);
    }
    run_on_all(t, cancel_all);
    int64_t end_ns = pyi_now_ns() + SHUTDOWN_MS * PYI_NS_PER_MS;
    while ((t->first != NULL && pyi_now_ns() < end_ns) || t->in_flight > 0) {
        turn(t, t->first != NULL ? end_ns : pyi_now_ns() + PYI_NS_PER_S);
    }
}

bool pyi_tasks_run(pyi_tasks *t, int nargs, const pyi_lua_stop *stop, int *ret_results) {
    lua_State *L = t->L;
    t->stop = stop;
    lua_pushcfunction(L, start_main);
    lua_insert(L, -nargs - 2);
    *ret_results = 1;
    if (lua_pcall(L, nargs + 1, 1, 0) != LUA_OK) {
        return false; // stack: error
    }
    pyi_interrupt_begin();
    while (t->main->state < TASK_DONE) { // stack: task
        turn(t, FOREVER);
    }
    look_for_stop(t);
    wind_down(t);
    pyi_interrupt_end();
    bool ok = t->main->state == TASK_DONE;
    pyi_task_forget(L, t->main);
    int base = lua_gettop(L);
    if (lua_getiuservalue(L, base, RESULTS) == LUA_TTABLE) {
        lua_rawgeti(L, -1, 1);
        lua_remove(L, -2);
    }
    return ok; // stack: task, result
}

bool pyi_tasks_stopped(const pyi_tasks *t) {
    return t->stopped;
}

lua_State *pyi_tasks_main(const pyi_tasks *t) {
    return t->main != NULL ? t->main->co : NULL;
}

bool pyi_tasks_pop_failure(pyi_tasks *t) {
    lua_State *L = t->L;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &ALIVE_KEY);
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) { // stack: alive, key, task
        pyi_task *task = lua_touserdata(L, -1);
        if (task->state == TASK_FAILED && !task->seen && !task->cancelled) {
            task->seen = true;
            lua_getiuservalue(L, -1, RESULTS);
            lua_rawgeti(L, -1, 1);
            lua_replace(L, -5); // stack: error, key, task, results
            lua_pop(L, 3);
            return true;
        }
    }
    lua_pop(L, 1);
    return false;
}

pyi_err pyi_tasks_new(lua_State *L, pyi_tasks **ret, pyi_error *e) {
    pyi_tasks *t = calloc(1, sizeof(*t));
    if (t == NULL || (t->inbox = pyi_inbox_new()) == NULL) {
        free(t);
        return pyi_error_set(e, PYI_ENOMEM, "lua.attach",
                             "no memory or descriptor for the loop of main");
    }
    t->L = L;
    t->last = &t->first;
    lua_pushlightuserdata(L, t);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &TASKS_KEY); /* the slot is there since pyi_tasks_open */
    *ret = t;
    return PYI_OK;
}

void pyi_tasks_free(pyi_tasks *t) {
    if (t != NULL) {
        pyi_inbox_unref(t->inbox);
        free(t);
    }
}

void pyi_tasks_open(lua_State *L) {
    pyi_tasks_open_lib(L);
    luaL_newmetatable(L, TASK_TYPE);
    lua_setfield(L, -2, "task_type");
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &ALIVE_KEY);
    lua_pushlightuserdata(L, NULL);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &TASKS_KEY);
}

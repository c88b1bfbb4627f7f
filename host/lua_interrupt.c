/*
 * The handler, its hook, and which coroutine it is for.
 *
 * A computation that was under way may go on for BUSY_MS, so that what handles the last reply comes
 * to its end. What is about the running coroutine is per thread: configurations are checked on
 * others.
 */
#include "lua_interrupt.h"
#include "lua_api.h"
#include "lua_raise.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#define BUSY_MS  200
#define EVERY    1000 /* instructions between two looks at the clock */
#define PATIENCE 16   /* errors that may be caught; then each instruction raises one */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the two below */
static pthread_t listener;
static bool listens;

static atomic_bool asked;
static struct sigaction before_us;

static _Thread_local lua_State *volatile running; /* a handler reads it */
static _Thread_local volatile bool is_listener;
static _Thread_local volatile int64_t busy_end_ns;
static _Thread_local unsigned raised;

static void on_count(lua_State *L, lua_Debug *ar PYI_UNUSED) {
    if (!atomic_load(&asked)) {
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    if (pyi_now_ns() < busy_end_ns) {
        return;
    }
    if (++raised > PATIENCE) {
        lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    }
    pyi_error e;
    pyi_error_set(&e, PYI_ESTOPPED, "lua.task", "the host is stopping");
    pyi_lua_raise(L, &e, NULL);
}

/* Not anew: a loop of short resumes would start its count over and over. */
static void set_hook(lua_State *L) {
    if (lua_gethook(L) == on_count && raised <= PATIENCE) {
        return;
    }
    lua_sethook(L, on_count, LUA_MASKCOUNT, raised > PATIENCE ? 1 : EVERY);
}

static void on_signal(int sig PYI_UNUSED) {
    if (is_listener && running != NULL && atomic_load(&asked)) {
        busy_end_ns = pyi_now_ns() + BUSY_MS * PYI_NS_PER_MS;
        set_hook(running);
    }
}

void pyi_lua_interrupt(void) {
    atomic_store(&asked, true);
    pthread_mutex_lock(&lock);
    if (listens) {
        pthread_kill(listener, SIGURG);
    }
    pthread_mutex_unlock(&lock);
}

void pyi_interrupt_begin(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGURG, &action, &before_us);
    is_listener = true;
    raised = 0;
    pthread_mutex_lock(&lock);
    listener = pthread_self();
    listens = true;
    pthread_mutex_unlock(&lock);
}

void pyi_interrupt_end(void) {
    pthread_mutex_lock(&lock);
    listens = false;
    pthread_mutex_unlock(&lock);
    is_listener = false;
    sigaction(SIGURG, &before_us, NULL);
    atomic_store(&asked, false);
}

lua_State *pyi_interrupt_enter(lua_State *co) {
    lua_State *before = running;
    running = co;
    if (is_listener && atomic_load(&asked)) { /* else the signal comes later and finds it */
        if (before == NULL) {
            busy_end_ns = pyi_now_ns() + BUSY_MS * PYI_NS_PER_MS;
        }
        set_hook(co);
    }
    return before;
}

void pyi_interrupt_leave(lua_State *before) {
    running = before;
    if (before != NULL && is_listener && atomic_load(&asked)) {
        set_hook(before);
    }
}

bool pyi_interrupt_raised(void) {
    return raised > 0;
}

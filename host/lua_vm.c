/*
 * The state, its allocator, its hook and its protected call.
 *
 * A budget must hold against a script that fights it:
 *  - pcall catches the hook's error: so once spent, the hook runs at every instruction and raises
 * again, until the protected call in C is reached.
 *  - a message handler (xpcall) and a __close method of a dead coroutine would run inside the hook,
 * with hooks off: lua_libs.c wraps xpcall, coroutine.close and coroutine.wrap. __gc, which also
 * runs so, is refused.
 *  - one instruction can do much in C: allocation is charged to the instructions, patterns are
 * estimated and charged before they run, and the thread's own time is looked at as well.
 *  - the allocator, once it has refused (after Lua's emergency collection did not help), refuses
 * all growth, so that a script that catches "not enough memory" gets no further.
 */
#include "lua_vm.h"
#include <lualib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define HOOK_EVERY     1000
#define BYTES_PER_UNIT 64 /* of allocation that cost as much as an instruction */

struct pyi_lua {
    lua_State *L;
    size_t used, memory; /* bytes; memory 0: no limit */
    const void *asked;   /* the request that has failed once: Lua collects, then asks again */
    size_t asked_size;
    bool refused, spent, limited, was_spent;
    bool counted; /* instructions have a limit */
    int64_t left; /* instructions */
    int64_t cpu_end_ns;
    char place[LUA_IDSIZE + 16]; /* "file:line: " where the budget was spent, or "" */
    char *directory;             // owned
    char *detail;                // owned
};

static const char SPENT_KEY =
    0; /* registry: the error that the hook raises, made before memory is short */

/* ---- places ---------------------------------------------------------------------------------- */

/* "file:line: " of the nearest function that is of a file, or "". Allocates nothing, as the
 * allocator asks too. */
static void find_place(lua_State *L, char *ret, size_t size) {
    lua_Debug ar;
    ret[0] = '\0';
    for (int level = 0; lua_getstack(L, level, &ar) == 1; level++) {
        if (lua_getinfo(L, "Sl", &ar) != 0 && ar.source[0] == '@' && ar.currentline > 0) {
            snprintf(ret, size, "%s:%d: ", ar.short_src, ar.currentline);
            return;
        }
    }
}

/* ---- allocator ------------------------------------------------------------------------------- */

/* Lua asks twice, with a full collection between; the buffers of its libraries ask once. So a
 * refusal is for good when the same request comes again and still does not fit, or when the next
 * one is another. */
static bool may_grow(pyi_lua *vm, const void *ptr, size_t grow, size_t size) {
    bool again = vm->asked_size == size && vm->asked == ptr;
    bool fits = vm->memory == 0 || vm->used + grow <= vm->memory;
    if (vm->refused || (vm->asked_size != 0 && !(again && fits))) {
        vm->refused = vm->was_spent = true;
        return false;
    }
    if (!fits) { /* some ask once, and raise then */
        find_place(vm->L, vm->place, sizeof(vm->place));
    } else if (vm->asked_size != 0) {
        vm->place[0] = '\0';
    }
    vm->asked = ptr;
    vm->asked_size = fits ? 0 : size;
    return fits;
}

static void *allocate(void *ud, void *ptr, size_t old, size_t size) {
    pyi_lua *vm = ud;
    size_t had = ptr != NULL ? old : 0; /* without a block, `old` is a type */
    if (size == 0) {
        free(ptr);
        vm->used -= had;
        return NULL;
    }
    if (size > had) {
        if (!may_grow(vm, ptr, size - had, size)) {
            return NULL;
        }
        pyi_lua_charge(vm, (size - had) / BYTES_PER_UNIT);
    }
    void *block = realloc(ptr, size);
    if (block == NULL) {
        return size <= had ? ptr : NULL; /* Lua relies on shrinking */
    }
    vm->used += size - had;
    return block;
}

/* ---- budget ---------------------------------------------------------------------------------- */

static int64_t thread_cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * PYI_NS_PER_S + now.tv_nsec;
}

static void on_count(lua_State *L, lua_Debug *ar PYI_UNUSED) {
    pyi_lua *vm = pyi_lua_of(L);
    if (!vm->limited) {
        lua_sethook(L, NULL, 0, 0); /* a coroutine from the time of a budget */
        return;
    }
    if (!vm->spent) {
        pyi_lua_charge(vm, HOOK_EVERY);
        vm->spent |= vm->cpu_end_ns != 0 && thread_cpu_ns() > vm->cpu_end_ns;
    }
    if (pyi_lua_spent(vm)) {
        if (vm->place[0] == '\0') {
            find_place(L, vm->place, sizeof(vm->place));
        }
        vm->was_spent = true;
        lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
        lua_rawgetp(L, LUA_REGISTRYINDEX, &SPENT_KEY);
        lua_error(L);
    }
}

void pyi_lua_charge(pyi_lua *vm, uint64_t units) {
    if (!vm->counted) {
        return;
    }
    vm->left = units >= (uint64_t)INT64_MAX ? -1 : vm->left - (int64_t)units;
    if (vm->left < 0) {
        vm->spent = vm->was_spent = true;
        vm->left = 0;
    }
}

void pyi_lua_limit(pyi_lua *vm, const pyi_lua_budget *budget) {
    static const pyi_lua_budget none = {0};
    const pyi_lua_budget *b = budget != NULL ? budget : &none;
    vm->spent = vm->refused = false;
    vm->asked_size = 0;
    vm->place[0] = '\0';
    vm->limited = b->instructions != 0 || b->cpu_ms != 0 || b->memory != 0;
    vm->memory = b->memory;
    vm->counted = b->instructions != 0;
    vm->left = (int64_t)b->instructions;
    vm->cpu_end_ns = b->cpu_ms != 0 ? thread_cpu_ns() + b->cpu_ms * PYI_NS_PER_MS : 0;
    if (vm->limited) {
        lua_sethook(vm->L, on_count, LUA_MASKCOUNT, HOOK_EVERY);
    } else {
        lua_sethook(vm->L, NULL, 0, 0);
    }
}

bool pyi_lua_spent(const pyi_lua *vm) {
    return vm->spent || vm->refused || vm->asked_size != 0;
}

bool pyi_lua_limited(const pyi_lua *vm) {
    return vm->limited;
}

bool pyi_lua_was_spent(const pyi_lua *vm) {
    return vm->was_spent;
}

size_t pyi_lua_memory(const pyi_lua *vm) {
    return vm->used;
}

/* ---- life ------------------------------------------------------------------------------------ */

static int open_state(lua_State *L) {
    lua_pushliteral(L, "the script's budget is spent");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &SPENT_KEY); // stack:
    pyi_lua_open_libs(L);
    pyi_lua_open_require(L);
    return 0;
}

pyi_err pyi_lua_new(pyi_lua **ret, pyi_error *e) {
    pyi_lua *vm = calloc(1, sizeof(*vm));
    if (vm == NULL || (vm->L = lua_newstate(allocate, vm)) == NULL) {
        free(vm);
        return pyi_error_set(e, PYI_ENOMEM, "lua.new", "no memory for a Lua state");
    }
    *(pyi_lua **)lua_getextraspace(vm->L) = vm;
    lua_pushcfunction(vm->L, open_state);
    pyi_err err = pyi_lua_call(vm, 0, 0, e);
    if (err != PYI_OK) {
        pyi_lua_free(vm);
        return err;
    }
    *ret = vm;
    return PYI_OK;
}

void pyi_lua_free(pyi_lua *vm) {
    if (vm == NULL) {
        return;
    }
    pyi_lua_limit(vm, NULL);
    lua_close(vm->L);
    free(vm->directory);
    free(vm->detail);
    free(vm);
}

lua_State *pyi_lua_state(const pyi_lua *vm) {
    return vm->L;
}

pyi_lua *pyi_lua_of(lua_State *L) {
    return *(pyi_lua **)lua_getextraspace(L); /* coroutines get a copy */
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* Message handler. When the budget is spent it runs inside the hook: then nothing of the script may
 * run. */
static int add_traceback(lua_State *L) {
    if (pyi_lua_spent(pyi_lua_of(L))) {
        return 1;
    }
    if (lua_istable(L, 1) && lua_getmetatable(L, 1) == 0) {
        char place[LUA_IDSIZE + 16];
        find_place(L, place, sizeof(place));
        pyi_lua_push_shown(L, 1);
        lua_pushfstring(L, "%s%s", place, lua_tostring(L, -1)); // stack: error, shown, text
        lua_replace(L, 1);
    }
    const char *message = luaL_tolstring(L, 1, NULL); // stack: error, ..., message
    const char *hint = pyi_lua_withheld(message);
    if (hint != NULL) {
        message = lua_pushfstring(L, "%s; %s", message, hint);
    }
    luaL_traceback(L, L, message, 1); // stack: error, ..., traceback
    return 1;
}

static void keep_detail(pyi_lua *vm, const char *text) {
    free(vm->detail);
    vm->detail = strdup(text);
}

static pyi_err spent_error(const pyi_lua *vm, pyi_error *e) {
    if (!vm->spent) {
        return pyi_error_set(e, PYI_ETOOBIG, "lua.budget",
                             "%sthe script uses more than its %zu MiB of memory: make it build "
                             "less",
                             vm->place, vm->memory >> 20);
    }
    return pyi_error_set(
        e, PYI_ETOOBIG, "lua.budget",
        "%sthe script runs longer than its budget allows: is there an endless loop?", vm->place);
}

static pyi_err call_error(pyi_lua *vm, int status, pyi_error *e) {
    const char *text =
        lua_type(vm->L, -1) == LUA_TSTRING ? lua_tostring(vm->L, -1) : "an error without text";
    if (pyi_lua_spent(vm)) {
        vm->was_spent = true;
        spent_error(vm, e);
        keep_detail(vm, e->msg);
        return e->code;
    }
    keep_detail(vm, text);
    if (status == LUA_ERRMEM) {
        return pyi_error_set(e, PYI_ENOMEM, "lua.call", "out of memory");
    }
    const char *end = strstr(text, "\nstack traceback:");
    int len = end != NULL ? (int)(end - text) : (int)strlen(text);
    return pyi_error_set(e, PYI_ECONFIG, "lua.call", "%.*s", len, text);
}

pyi_err pyi_lua_call(pyi_lua *vm, int nargs, int nresults, pyi_error *e) {
    lua_State *L = vm->L;
    int base = lua_gettop(L) - nargs;
    lua_pushcfunction(L, add_traceback);
    lua_insert(L, base); // stack: handler, f, args
    int status = lua_pcall(L, nargs, nresults, base);
    if (status == LUA_OK && !pyi_lua_spent(vm)) {
        lua_remove(L, base); // stack: results
        return PYI_OK;
    }
    pyi_err err = call_error(vm, status, e);
    lua_settop(L, base - 1);
    return err;
}

const char *pyi_lua_detail(const pyi_lua *vm) {
    return vm->detail != NULL ? vm->detail : "";
}

pyi_err pyi_lua_compile(pyi_lua *vm, const char *text, size_t len, const char *chunk,
                        pyi_error *e) {
    int status = luaL_loadbufferx(vm->L, text, len, chunk, "t");
    if (status == LUA_OK) {
        return PYI_OK;
    }
    pyi_err err = call_error(vm, status, e);
    lua_pop(vm->L, 1);
    return err;
}

typedef struct bytes {
    const void *data;
    size_t len;
} bytes;

static int push_bytes(lua_State *L) {
    const bytes *b = lua_touserdata(L, 1);
    lua_pushlstring(L, b->data, b->len);
    return 1;
}

pyi_err pyi_lua_push_bytes(lua_State *L, const void *data, size_t len, pyi_error *e) {
    bytes b = {data, len};
    if (lua_checkstack(L, 3)) {
        lua_pushcfunction(L, push_bytes);
        lua_pushlightuserdata(L, &b);
        if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
            return PYI_OK;
        }
        lua_pop(L, 1);
    }
    return pyi_error_set(e, PYI_ENOMEM, "lua.push", "no memory for a string of %zu bytes", len);
}

pyi_err pyi_lua_set_directory(pyi_lua *vm, const char *directory, pyi_error *e) {
    char *copy = strdup(directory);
    if (copy == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "lua.new", "out of memory");
    }
    free(vm->directory);
    vm->directory = copy;
    return PYI_OK;
}

const char *pyi_lua_directory(const pyi_lua *vm) {
    return vm->directory;
}

/*
 * The Lua face: handles of extensions, their calls, and running main.
 *
 * A handle is a userdata with the index of its extension; `handle:method(...)` finds one function
 * per method name, which encodes its arguments straight into the outgoing frame, sends it and
 * yields; the reply is copied by the manager's thread into a record and decoded when the task is
 * resumed. So that no Lua error can pass what it would leak, building and sending are plain C, and
 * the record of a reply belongs to the loop.
 */
#include "lua_api.h"
#include "lua_raise.h"
#include "lua_value.h"
#include "output.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define HANDLE_TYPE   "pyisolate.extension"
#define GRACE_DEFAULT INT64_C(-1)

typedef struct handle {
    size_t index;
} handle;

struct pyi_lua_api {
    pyi_tasks *tasks;         // owned
    pyi_extension **by_index; // owned array, borrowed extensions
    size_t count;
};

static const char DESCRIBE_KEY = 0; /* registry: error -> text, of errors.lua */

/* ---- handles --------------------------------------------------------------------------------- */

static const handle *check_handle(lua_State *L) {
    const handle *h = luaL_testudata(L, 1, HANDLE_TYPE);
    if (h == NULL) {
        luaL_error(L,
                   "this is a method of an extension: call it with a colon, extension:method(...)");
    }
    return h;
}

static const char *push_name(lua_State *L, int index) {
    lua_getiuservalue(L, index, 1);
    return lua_tostring(L, -1);
}

/* The extension behind a handle. Raises where there is none. */
static pyi_extension *check_extension(lua_State *L) {
    const handle *h = check_handle(L);
    pyi_lua_api *api = *pyi_config_api(pyi_config_of(L));
    if (api == NULL) {
        luaL_error(L, "the host has not started yet: call extensions from main");
        return NULL;
    } else if (h->index >= api->count || api->by_index[h->index] == NULL) {
        luaL_error(L, "extension '%s' could not be loaded", push_name(L, 1));
    }
    return api->by_index[h->index];
}

void pyi_lua_push_handle(lua_State *L, size_t index, const char *name) {
    handle *h = lua_newuserdatauv(L, sizeof(*h), 1);
    h->index = index;
    lua_pushstring(L, name);
    lua_setiuservalue(L, -2, 1);
    luaL_setmetatable(L, HANDLE_TYPE);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void copy_reply(pyi_record *r, const pyi_reply *reply) {
    r->code = reply->code;
    if (reply->error != NULL) {
        r->error = *reply->error;
    }
    r->detail = reply->detail != NULL ? strdup(reply->detail) : NULL;
    if (reply->code != PYI_OK && reply->code != PYI_EREMOTE) {
        return;
    }
    r->len = (size_t)(reply->value.end - reply->value.p);
    r->bytes = malloc(r->len + 1);
    if (r->bytes == NULL) {
        r->code = pyi_error_set(&r->error, PYI_ENOMEM, "lua.call",
                                "no memory for a reply of %zu bytes", r->len);
        return;
    }
    memcpy(r->bytes, reply->value.p, r->len);
}

/* Any thread. */
static void on_reply(void *arg, const pyi_reply *reply) {
    pyi_record *r = arg;
    copy_reply(r, reply);
    pyi_inbox_push(r);
}

/* Never raises. On errors the record stays the caller's. */
static pyi_err send_call(lua_State *L, pyi_record *r, int first, int last, pyi_error *e) {
    pyi_call *call = NULL;
    pyi_err err = pyi_call_begin(r->extension, NULL, r->method, -1, &call, e);
    if (err != PYI_OK) {
        return err;
    }
    err = pyi_lua_encode_args(L, first, last, pyi_call_writer(call), e);
    if (err != PYI_OK) {
        pyi_call_abandon(call);
        return err;
    }
    r->is_call = true;
    r->id = pyi_call_send(call, on_reply, r);
    return PYI_OK;
}

static int finish_call(lua_State *L, int status PYI_UNUSED, lua_KContext context PYI_UNUSED) {
    pyi_record *r = pyi_task_reply(L);
    pyi_error e;
    if (r->code == PYI_ECANCELLED && pyi_task_is_stopped(L)) {
        r->code = pyi_error_set(&r->error, PYI_ESTOPPED, "call",
                                "the host is stopping, and the call took longer than its grace");
    }
    if (r->code != PYI_OK) {
        return pyi_lua_raise_record(L, r, push_name(L, 1));
    }
    pyi_reader value = pyi_reader_on(r->bytes, r->len);
    pyi_error_init(&e);
    if (pyi_lua_decode(L, &value, &e) != PYI_OK) {
        return pyi_lua_raise(L, &e, NULL);
    }
    return 1;
}

/* The record's id is written by this thread only after `send` has returned, perhaps after the reply
 * came: it is read by this thread only, and the record is freed by it. */
static int call_method(lua_State *L, const char *method, int first) {
    pyi_extension *x = check_extension(L);
    pyi_record *r = pyi_record_new(L, x);
    pyi_error e;
    pyi_error_init(&e);
    r->method = method;
    if (send_call(L, r, first, lua_gettop(L), &e) != PYI_OK) {
        pyi_record_free(r);
        pyi_error_wrap(&e, "%s:%s", push_name(L, 1), method);
        return pyi_lua_raise(L, &e, NULL);
    }
    return pyi_task_wait(L, r, finish_call);
}

/* Upvalue: the method's name. */
static int call_named(lua_State *L) {
    return call_method(L, lua_tostring(L, lua_upvalueindex(1)), 2);
}

/* extension:call("method", ...) reaches any method. */
static int call_any(lua_State *L) {
    check_handle(L);
    return call_method(L, luaL_checkstring(L, 2), 3);
}

/* ---- stop and restart: they block, so another thread does them ------------------------------- */

static void *run_stop(void *arg) {
    pyi_record *r = arg;
    int64_t grace = r->grace_ms == GRACE_DEFAULT
                        ? pyi_extension_config_of(r->extension)->stop_timeout_ms
                        : r->grace_ms;
    pyi_extension_stop(r->extension, grace);
    r->code = PYI_OK;
    pyi_inbox_push(r);
    return NULL;
}

static void *run_restart(void *arg) {
    pyi_record *r = arg;
    int64_t grace = r->grace_ms == GRACE_DEFAULT
                        ? pyi_extension_config_of(r->extension)->stop_timeout_ms
                        : r->grace_ms;
    r->code = pyi_extension_restart(r->extension, grace, &r->error);
    pyi_inbox_push(r);
    return NULL;
}

static int finish_work(lua_State *L, int status PYI_UNUSED, lua_KContext context PYI_UNUSED) {
    const pyi_record *r = pyi_task_reply(L);
    return r->code == PYI_OK ? 0 : pyi_lua_raise_record(L, r, push_name(L, 1));
}

static bool start_thread(pyi_record *r, void *(*work)(void *)) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    bool started = pthread_create(&thread, &attributes, work, r) == 0;
    pthread_attr_destroy(&attributes);
    return started;
}

static int start_work(lua_State *L, void *(*work)(void *)) {
    pyi_extension *x = check_extension(L);
    lua_Number seconds = luaL_optnumber(L, 2, -1);
    luaL_argcheck(L, seconds <= 1e6, 2, "at most 1e6 seconds");
    pyi_record *r = pyi_record_new(L, x);
    pyi_error_init(&r->error);
    r->grace_ms = seconds >= 0 ? (int64_t)(seconds * 1000) : GRACE_DEFAULT;
    if (!start_thread(r, work)) {
        pyi_record_free(r);
        return luaL_error(L, "cannot start a thread");
    }
    return pyi_task_wait(L, r, finish_work);
}

static int stop_extension(lua_State *L) {
    return start_work(L, run_stop);
}

static int restart_extension(lua_State *L) {
    return start_work(L, run_restart);
}

static int refuse_later(lua_State *L) {
    return luaL_error(L, "'%s' is not available yet", lua_tostring(L, lua_upvalueindex(1)));
}

/* ---- the handle's metatable ------------------------------------------------------------------ */

static const char *state_of(lua_State *L) {
    const handle *h = check_handle(L);
    pyi_lua_api *api = *pyi_config_api(pyi_config_of(L));
    if (api == NULL) {
        return pyi_state_name(PYI_STATE_NEW);
    } else if (h->index >= api->count || api->by_index[h->index] == NULL) {
        return pyi_state_name(PYI_STATE_FAILED);
    }
    pyi_status status;
    pyi_extension_status(api->by_index[h->index], &status);
    pyi_state state = status.state;
    pyi_status_fini(&status);
    return pyi_state_name(state);
}

/* Upvalues: the handle's own functions, and the methods that were named before. */
static int index_handle(lua_State *L) { // stack: handle, key
    check_handle(L);
    if (lua_type(L, 2) != LUA_TSTRING) {
        return luaL_error(L, "an extension's method is named by a string");
    }
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) {
        return 1;
    }
    const char *key = lua_tostring(L, 2);
    if (strcmp(key, "name") == 0) {
        push_name(L, 1);
        return 1;
    } else if (strcmp(key, "state") == 0) {
        lua_pushstring(L, state_of(L));
        return 1;
    }
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(2)) == LUA_TNIL) {
        lua_pushvalue(L, 2);
        lua_pushcclosure(L, call_named, 1); // stack: handle, key, nil, nil, f
        lua_pushvalue(L, 2);
        lua_pushvalue(L, -2);
        lua_rawset(L, lua_upvalueindex(2));
    }
    return 1;
}

static int assign_handle(lua_State *L) {
    return luaL_error(L, "nothing can be assigned to an extension's handle");
}

static int handle_text(lua_State *L) {
    const char *state = state_of(L);
    lua_pushfstring(L, "extension %s (%s)", push_name(L, 1), state);
    return 1;
}

static void push_own_functions(lua_State *L) {
    static const luaL_Reg own[] = {
        {"call", call_any}, {"stop", stop_extension}, {"restart", restart_extension}, {NULL, NULL}};
    static const char *const later[] = {"on", "object", NULL};
    luaL_newlib(L, own);
    for (const char *const *name = later; *name != NULL; name++) {
        lua_pushstring(L, *name);
        lua_pushcclosure(L, refuse_later, 1);
        lua_setfield(L, -2, *name);
    }
}

static void open_handles(lua_State *L) {
    luaL_newmetatable(L, HANDLE_TYPE);
    push_own_functions(L);
    lua_newtable(L); /* methods by name: weak, so that computed names do not pile up */
    lua_newtable(L);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushcclosure(L, index_handle, 2);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, assign_handle);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, handle_text);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, HANDLE_TYPE);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

/* ---- the module ------------------------------------------------------------------------------ */

static int write_log(lua_State *L) {
    pyi_level level;
    const char *name = luaL_checkstring(L, 1), *text = luaL_tolstring(L, 2, NULL);
    luaL_argcheck(L, pyi_level_parse(name, &level), 1,
                  "expected \"debug\", \"info\", \"warning\" or \"error\"");
    pyi_log(level, "PYI-LUA", NULL, "%s", text);
    return 0;
}

static int keep_describe(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &DESCRIBE_KEY);
    return 0;
}

/* stack: ..., core. Adds to it what the module is made of. */
void pyi_lua_open_api(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"log", write_log}, {"keep_describe", keep_describe}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
    lua_pushliteral(L, PYI_VERSION);
    lua_setfield(L, -2, "version");
    pyi_lua_open_kinds(L);
    lua_setfield(L, -2, "kinds");
    pyi_lua_open_errors(L);
    pyi_tasks_open(L);
    open_handles(L);
}

void pyi_lua_api_free(pyi_lua_api *api) {
    if (api != NULL) {
        pyi_tasks_free(api->tasks);
        free(api->by_index);
        free(api);
    }
}

pyi_err pyi_lua_attach(pyi_config *c, pyi_manager *m PYI_UNUSED, pyi_extension *const *by_index,
                       pyi_error *e) {
    size_t count = pyi_config_count(c);
    pyi_lua_api *api = calloc(1, sizeof(*api));
    if (api == NULL || (api->by_index = calloc(count + 1, sizeof(*api->by_index))) == NULL) {
        pyi_lua_api_free(api);
        return pyi_error_set(e, PYI_ENOMEM, "lua.attach", "out of memory");
    }
    api->count = count;
    for (size_t i = 0; i < count; i++) {
        api->by_index[i] = by_index[i];
    }
    pyi_err err = pyi_tasks_new(pyi_lua_state(pyi_config_vm(c)), &api->tasks, e);
    if (err != PYI_OK) {
        pyi_lua_api_free(api);
        return err;
    }
    *pyi_config_api(c) = api;
    return PYI_OK;
}

/* ---- main ------------------------------------------------------------------------------------ */

typedef struct arguments {
    pyi_config *config;
    int argc;
    char *const *argv;
} arguments;

static int push_main(lua_State *L) { // -> main, args
    const arguments *a = lua_touserdata(L, 1);
    pyi_config_push_main(L);
    lua_createtable(L, a->argc, 1);
    for (int i = 0; i < a->argc; i++) {
        lua_pushstring(L, a->argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushstring(L, pyi_config_name(a->config));
    lua_rawseti(L, -2, 0);
    return 2;
}

/* One of the script's own, which says less by itself than what is in it. */
static bool is_plain_table(lua_State *L, int index) {
    if (!lua_istable(L, index) || lua_getmetatable(L, index) != 0) {
        return false;
    }
    lua_getfield(L, index, "code");
    lua_getfield(L, index, "message");
    bool like_ours = !lua_isnil(L, -2) && !lua_isnil(L, -1);
    lua_pop(L, 2);
    return !like_ours;
}

static int describe_error(lua_State *L) { // stack: error, its coroutine or NULL
    lua_State *co = lua_touserdata(L, 2);
    if (is_plain_table(L, 1)) {
        pyi_lua_push_shown(L, 1);
        lua_replace(L, 1);
        lua_settop(L, 2);
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &DESCRIBE_KEY);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1); // stack: error, co, text
    const char *hint = pyi_lua_withheld(lua_tostring(L, -1));
    if (hint != NULL) {
        lua_pushfstring(L, "%s; %s", lua_tostring(L, -1), hint);
    }
    if (co != NULL) {
        luaL_traceback(L, co, lua_tostring(L, -1), 0);
    }
    return 1;
}

/* stack: error. Takes it. */
static void print_error(lua_State *L, const char *what, lua_State *co) {
    pyi_error e;
    pyi_error_init(&e);
    lua_pushcfunction(L, describe_error);
    lua_insert(L, -2);
    lua_pushlightuserdata(L, co);
    if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
        fprintf(stderr, "pyisolate-host: %s failed, and its error could not be shown\n", what);
    } else {
        pyi_output_flush();
        fprintf(stderr, "pyisolate-host: %s failed: %s\n", what, lua_tostring(L, -1));
    }
    lua_pop(L, 1);
}

static int refuse_status(const char *got) {
    pyi_output_flush();
    fprintf(stderr,
            "pyisolate-host: main returned %s, which is no exit status: return a whole number from "
            "0 to 255, true, false or nothing\n",
            got);
    return 1;
}

/* What main returned, as an exit status. What the shell would cut to eight bits could look like
 * success. */
static int status_of(lua_State *L) {
    char got[64];
    int whole = 0;
    lua_Integer status = lua_tointegerx(L, -1, &whole);
    switch (lua_type(L, -1)) {
    case LUA_TNIL:
        return 0;
    case LUA_TBOOLEAN:
        return lua_toboolean(L, -1) ? 0 : 1;
    case LUA_TNUMBER:
        if (whole && status >= 0 && status <= 255) {
            return (int)status;
        }
        if (whole) {
            snprintf(got, sizeof(got), "%lld", (long long)status);
        } else {
            snprintf(got, sizeof(got), "%.14g", lua_tonumber(L, -1));
        }
        return refuse_status(got);
    default:
        snprintf(got, sizeof(got), "a %s", luaL_typename(L, -1));
        return refuse_status(got);
    }
}

/* What a stop itself raises is no news; what went wrong on the way is. */
static bool came_of_stop(lua_State *L, pyi_tasks *tasks) { // stack: error
    if (!pyi_tasks_stopped(tasks) || !lua_istable(L, -1)) {
        return false;
    }
    lua_pushliteral(L, "code");
    lua_rawget(L, -2);
    const char *code = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    bool it_did = strcmp(code, pyi_err_name(PYI_ESTOPPED)) == 0 ||
                  strcmp(code, pyi_err_name(PYI_ECANCELLED)) == 0;
    lua_pop(L, 1);
    return it_did;
}

static int failed_main(lua_State *L, pyi_tasks *tasks, pyi_error *e) { // stack: error
    if (came_of_stop(L, tasks)) {
        pyi_error_set(e, PYI_ESTOPPED, "lua.main", "main was stopped");
    } else {
        print_error(L, "main", pyi_tasks_main(tasks));
        pyi_error_set(e, PYI_EREMOTE, "lua.main", "main ended with an error");
    }
    return 1;
}

static void print_failures(lua_State *L, pyi_tasks *tasks) {
    while (pyi_tasks_pop_failure(tasks)) {
        if (came_of_stop(L, tasks)) {
            lua_pop(L, 1);
        } else {
            print_error(L, "a task", NULL);
        }
    }
}

int pyi_lua_run_main(pyi_config *c, int argc, char *const *argv, const pyi_lua_stop *stop,
                     pyi_error *e) {
    lua_State *L = pyi_lua_state(pyi_config_vm(c));
    pyi_lua_api *api = *pyi_config_api(c);
    arguments a = {c, argc, argv};
    pyi_error_init(e);
    if (api == NULL) {
        pyi_error_set(e, PYI_EINVAL, "lua.main", "the configuration is not attached to a manager");
        return 1;
    }
    lua_pushcfunction(L, push_main);
    lua_pushlightuserdata(L, &a);
    if (pyi_lua_call(pyi_config_vm(c), 1, 2, e) != PYI_OK) {
        return 1;
    }
    int results;
    bool ok = pyi_tasks_run(api->tasks, 1, stop, &results);
    int status = ok ? status_of(L) : failed_main(L, api->tasks, e);
    print_failures(L, api->tasks);
    lua_settop(L, 0);
    return status;
}

/*
 * The Lua face against a manager of this file's own: methods of a false extension answer at once,
 * from another thread, late, or only when they are cancelled.
 */
#include "lua_api.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

/* ---- the false manager ----------------------------------------------------------------------- */

struct pyi_extension {
    const char *name;
};

struct pyi_call {
    char method[PYI_MAX_NAME];
    pyi_writer w;
    pyi_call_done done;
    void *arg;
    uint64_t id;
    struct pyi_call *next;
    int64_t due_ns; /* 0: only a cancel ends it */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pyi_call *pending;
static uint64_t last_id;
static unsigned cancels, stops, begun, abandoned;
static bool worker_ends;

static void answer(pyi_call *c, pyi_err code) {
    pyi_error e;
    pyi_writer w;
    pyi_error_init(&e);
    pyi_writer_init(&w, 1 << 20);
    pyi_reply reply = {.code = code, .error = &e};
    if (strcmp(c->method, "fail") == 0) {
        reply.code = PYI_EREMOTE;
        pyi_error inner;
        pyi_error_set(&inner, PYI_EREMOTE, "x", "too small");
        pyi_put_array(&w, PYI_ERROR_FIELDS);
        pyi_put_int(&w, PYI_EREMOTE);
        pyi_put_cstr(&w, "ValueError");
        pyi_put_cstr(&w, "builtins");
        pyi_put_cstr(&w, "bad value");
        pyi_put_cstr(
            &w,
            "Traceback (most recent call last):\n  File \"x.py\", line 3\nValueError: bad value\n");
        pyi_put_array(&w, 1);
        pyi_put_cstr(&w, "a note");
        pyi_put_nil(&w);
        pyi_put_error(&w, &inner, "KeyError");
        reply.value = pyi_reader_on(w.data, w.len);
    } else if (code == PYI_OK) {
        reply.value =
            pyi_reader_on(c->w.data, c->w.len); /* [args] then kwargs: the args come back */
    } else {
        pyi_error_set(&e, code, "fake", "%s",
                      code == PYI_ECANCELLED ? "cancelled" : "the extension died");
        reply.detail = code == PYI_EDIED ? "last words" : NULL;
    }
    c->done(c->arg, &reply);
    pyi_writer_fini(&w);
    pyi_writer_fini(&c->w);
    free(c);
}

static pyi_call *take(pyi_call **at) {
    pyi_call *c = *at;
    *at = c->next;
    return c;
}

static void *work(void *arg) {
    (void)arg;
    pthread_mutex_lock(&lock);
    while (!worker_ends) {
        int64_t soonest = pyi_now_ns() + 50 * PYI_NS_PER_MS;
        pyi_call **at = &pending;
        while (*at != NULL && ((*at)->due_ns == 0 || (*at)->due_ns > pyi_now_ns())) {
            soonest = (*at)->due_ns != 0 && (*at)->due_ns < soonest ? (*at)->due_ns : soonest;
            at = &(*at)->next;
        }
        if (*at != NULL) {
            pyi_call *c = take(at);
            pthread_mutex_unlock(&lock);
            answer(c, PYI_OK);
            pthread_mutex_lock(&lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        int64_t ns = until.tv_nsec + (soonest - pyi_now_ns());
        until.tv_sec += ns / PYI_NS_PER_S;
        until.tv_nsec = ns % PYI_NS_PER_S;
        pthread_cond_timedwait(&changed, &lock, &until);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

pyi_err pyi_call_begin(pyi_extension *x, const char *object, const char *method, int64_t timeout_ms,
                       pyi_call **ret, pyi_error *e) {
    (void)object;
    assert_int_equal(timeout_ms, -1);
    assert_string_equal(x->name, "fake");
    if (strcmp(method, "gone") == 0) {
        return pyi_error_set(e, PYI_ESTOPPED, "fake", "the extension is stopped");
    }
    pyi_call *c = calloc(1, sizeof(*c));
    snprintf(c->method, sizeof(c->method), "%s", method);
    pyi_writer_init(&c->w, 1 << 20);
    begun++;
    *ret = c;
    return PYI_OK;
}

pyi_writer *pyi_call_writer(pyi_call *c) {
    return &c->w;
}

void pyi_call_abandon(pyi_call *c) {
    pyi_writer_fini(&c->w);
    free(c);
    abandoned++;
}

uint64_t pyi_call_send(pyi_call *c, pyi_call_done done, void *arg) {
    c->done = done;
    c->arg = arg;
    pthread_mutex_lock(&lock);
    uint64_t id = c->id = ++last_id;
    pthread_mutex_unlock(&lock);
    if (strcmp(c->method, "now") == 0 || strcmp(c->method, "fail") == 0) {
        answer(c, PYI_OK);
        return id;
    } else if (strcmp(c->method, "die") == 0) {
        answer(c, PYI_EDIED);
        return id;
    }
    c->due_ns = strcmp(c->method, "never") == 0
                    ? 0
                    : pyi_now_ns() + (strcmp(c->method, "late") == 0 ? 40 : 0) * PYI_NS_PER_MS;
    pthread_mutex_lock(&lock);
    c->next = pending;
    pending = c;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    return id;
}

void pyi_call_cancel(pyi_extension *x, uint64_t id) {
    (void)x;
    pthread_mutex_lock(&lock);
    cancels++;
    pyi_call **at = &pending;
    while (*at != NULL && (*at)->id != id) {
        at = &(*at)->next;
    }
    pyi_call *c = *at != NULL ? take(at) : NULL;
    pthread_mutex_unlock(&lock);
    if (c != NULL) {
        answer(c, PYI_ECANCELLED);
    }
}

const char *pyi_state_name(pyi_state s) {
    return s == PYI_STATE_READY ? "ready" : s == PYI_STATE_NEW ? "new" : "failed";
}

void pyi_extension_status(pyi_extension *x, pyi_status *ret) {
    (void)x;
    memset(ret, 0, sizeof(*ret));
    ret->state = PYI_STATE_READY;
}

void pyi_status_fini(pyi_status *s) {
    free(s->detail);
}

const pyi_extension_config *pyi_extension_config_of(const pyi_extension *x) {
    static const pyi_extension_config config = {.stop_timeout_ms = 1234};
    (void)x;
    return &config;
}

static int64_t last_grace;

void pyi_extension_stop(pyi_extension *x, int64_t grace_ms) {
    (void)x;
    last_grace = grace_ms;
    stops++;
}

pyi_err pyi_extension_restart(pyi_extension *x, int64_t grace_ms, pyi_error *e) {
    (void)x;
    last_grace = grace_ms;
    return pyi_error_set(e, PYI_ESTART, "fake", "it does not start");
}

/* ---- running a main -------------------------------------------------------------------------- */

typedef struct outcome {
    int status;
    pyi_error error;
    char err[8192]; /* what it printed to stderr */
} outcome;

static void *stop_soon(void *arg) {
    static const uint64_t one = 1;
    usleep(30000);
    assert_int_equal(write(*(int *)arg, &one, sizeof(one)), sizeof(one));
    return NULL;
}

static const char HEAD[] =
    "local pyisolate = require 'pyisolate'\n"
    "local fake = pyisolate.extension { name = 'fake', module_path = './mod' }\n"
    "local function check(ok, what) if not ok then error(what or 'check failed', 2) end end\n";

static FILE *capture_begin(int *saved) {
    FILE *file = tmpfile();
    fflush(stderr);
    *saved = dup(2);
    assert_true(dup2(fileno(file), 2) == 2);
    return file;
}

static void capture_end(FILE *file, int saved, char *text, size_t size) {
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    rewind(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

static pyi_config *load(const char *body, const char *directory) {
    char text[8192];
    pyi_config *c = NULL;
    pyi_error e;
    const char *const *problems;
    pyi_error_init(&e);
    snprintf(text, sizeof(text), "%s%s", HEAD, body);
    assert_int_equal(pyi_config_load_string(text, strlen(text), "config.lua", directory, &c, &e),
                     PYI_OK);
    if (pyi_config_problems(c, &problems) > 0) {
        fail_msg("%s", problems[0]);
    }
    return c;
}

static outcome run_with(const char *body, int stop_fd, int argc, char *const *argv) {
    char directory[] = "/tmp/pyi-lua-XXXXXX", path[128];
    outcome o = {0};
    pyi_extension fake = {"fake"}, *by_index[] = {&fake};
    pyi_error e;
    pthread_t thread;
    int saved;
    pyi_error_init(&e);
    assert_non_null(mkdtemp(directory));
    worker_ends = false;
    assert_int_equal(pthread_create(&thread, NULL, work, NULL), 0);
    snprintf(path, sizeof(path), "%s/mod", directory);
    char init[160];
    mkdir(path, 0700);
    snprintf(init, sizeof(init), "%s/__init__.py", path);
    fclose(fopen(init, "w"));
    pyi_config *c = load(body, directory);
    assert_true(pyi_config_has_main(c));
    assert_int_equal(pyi_lua_attach(c, NULL, by_index, &e), PYI_OK);
    FILE *file = capture_begin(&saved);
    pyi_lua_stop stop = {stop_fd, NULL, NULL};
    o.status = pyi_lua_run_main(c, argc, argv, &stop, &o.error);
    capture_end(file, saved, o.err, sizeof(o.err));
    pthread_mutex_lock(&lock);
    assert_null(pending); /* nothing that main started is left */
    worker_ends = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(thread, NULL);
    pyi_config_free(c);
    unlink(init);
    rmdir(path);
    rmdir(directory);
    return o;
}

static void must_pass(const char *body) {
    outcome o = run_with(body, -1, 0, NULL);
    if (o.status != 0 || o.error.code != PYI_OK) {
        fail_msg("status %d: %s", o.status, o.err);
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_a_call_gives_its_result(void **state) {
    (void)state;
    must_pass("function pyisolate.main()\n"
              "  for _, method in ipairs { 'now', 'soon', 'late' } do\n"
              "    local got = fake:call(method, 1, 'two', { 3.5 }, true)\n"
              "    check(#got == 4 and got[1] == 1 and math.type(got[1]) == 'integer' and got[2] "
              "== 'two')\n"
              "    check(got[3][1] == 3.5 and got[4] == true)\n"
              "  end\n"
              "  check(fake:now('x')[1] == 'x')\n"
              "  check(fake.now == fake.now and fake.name == 'fake' and fake.state == 'ready')\n"
              "  check(tostring(fake) == 'extension fake (ready)')\n"
              "end\n");
}

static void test_many_calls_wait_side_by_side(void **state) {
    (void)state;
    int64_t begin = pyi_now_ns();
    must_pass("function pyisolate.main()\n"
              "  local f = {}\n"
              "  for i = 1, 100 do f[i] = function() return fake:late(i)[1] end end\n"
              "  local got = { pyisolate.all(table.unpack(f)) }\n"
              "  for i = 1, 100 do check(got[i] == i) end\n"
              "end\n");
    assert_true(pyi_now_ns() - begin < 2000 * PYI_NS_PER_MS); /* one after the other: 4 s */
}

static void test_an_exception_becomes_an_error_table(void **state) {
    (void)state;
    must_pass(
        "function pyisolate.main()\n"
        "  local ok, err = pcall(function() return fake:fail() end)\n"
        "  check(not ok and err.type == 'ValueError' and err.message == 'bad value')\n"
        "  check(err.code == 'remote', err.code)\n"
        "  check(err.traceback:find('line 3', 1, true) and err.notes[1] == 'a note')\n"
        "  check(err.cause.type == 'KeyError' and err.cause.message == 'too small')\n"
        "  check(tostring(err) == 'ValueError: bad value' and err.extension == 'fake' and "
        "err.method == 'fail')\n"
        "  ok, err = pcall(fake.die, fake)\n"
        "  check(not ok and err.type == 'ConnectionError' and err.traceback == 'last words')\n"
        "  ok, err = pcall(fake.gone, fake)\n"
        "  check(not ok and err.code == 'stopped' and err.message:find('fake:gone', 1, true), "
        "tostring(err))\n"
        "end\n");
}

static void test_what_cannot_be_sent_is_named_and_the_extension_stays_usable(void **state) {
    (void)state;
    abandoned = 0;
    must_pass(
        "function pyisolate.main()\n"
        "  local ok, err = pcall(fake.now, fake, { a = { 1, 2, print } })\n"
        "  check(not ok and err.type == 'TypeError', err.type)\n"
        "  check(err.message == 'fake:now: args[1].a[3]: a function cannot be sent', err.message)\n"
        "  ok, err = pcall(fake.now, fake, pyisolate.kwargs { x = fake })\n"
        "  check(err.message == 'fake:now: kwargs.x: a userdata cannot be sent', err.message)\n"
        "  check(fake:now(1)[1] == 1)\n"
        "end\n");
    assert_int_equal(abandoned, 2);
}

static void test_timeout_cancels_the_call(void **state) {
    (void)state;
    cancels = 0;
    must_pass(
        "function pyisolate.main()\n"
        "  local ok, err = pcall(pyisolate.timeout, 0.03, function() return fake:never() end)\n"
        "  check(not ok and err.type == 'TimeoutError' and err.code == 'deadline', tostring(err))\n"
        "  check(pyisolate.timeout(5, function() return 1, nil, 3 end) == 1)\n"
        "  check(select('#', pyisolate.timeout(5, function() return 1, nil, 3 end)) == 3)\n"
        "end\n");
    assert_int_equal(cancels, 1);
}

static void test_the_first_error_in_all_cancels_the_others(void **state) {
    (void)state;
    cancels = 0;
    must_pass("function pyisolate.main()\n"
              "  local ok, err = pcall(pyisolate.all, function() return fake:never() end,\n"
              "    function() return fake:fail() end, function() pyisolate.sleep(100) end)\n"
              "  check(not ok and err.type == 'ValueError')\n"
              "end\n");
    assert_int_equal(cancels, 1);
}

static void test_spawned_tasks_run_beside_and_are_cancelled_at_the_end(void **state) {
    (void)state;
    cancels = 0;
    must_pass("function pyisolate.main()\n"
              "  local t = pyisolate.spawn(function(a) return fake:late(a)[1], 'b' end, 7)\n"
              "  check(t:status() == 'running')\n"
              "  local a, b = t:wait()\n"
              "  check(a == 7 and b == 'b' and t:status() == 'done')\n"
              "  pyisolate.spawn(function() fake:never() end)\n"
              "  pyisolate.spawn(function() while true do pcall(pyisolate.sleep, 100) end end)\n"
              "  pyisolate.spawn(function() while true do pcall(fake.never, fake) end end)\n"
              "  pyisolate.sleep(0.01)\n"
              "end\n");
    assert_true(cancels >= 2);
}

static void test_a_task_nobody_asked_about_is_reported(void **state) {
    (void)state;
    outcome o = run_with("function pyisolate.main()\n"
                         "  pyisolate.spawn(function() error('lost in a task') end)\n"
                         "  local t = pyisolate.spawn(function() error('found') end)\n"
                         "  check(not pcall(t.wait, t))\n"
                         "end\n",
                         -1, 0, NULL);
    assert_int_equal(o.status, 0);
    assert_non_null(strstr(o.err, "lost in a task"));
    assert_null(strstr(o.err, "found"));
}

static void test_tasks_watched_by_two_wake_both(void **state) {
    (void)state;
    must_pass("function pyisolate.main()\n"
              "  local t = pyisolate.spawn(function() pyisolate.sleep(0.02) return 5 end)\n"
              "  local a, b = pyisolate.all(function() return t:wait() end, function() return "
              "t:wait() end)\n"
              "  check(a == 5 and b == 5)\n"
              "end\n");
}

static void test_sleep_is_not_cut_short_by_a_task_that_ends(void **state) {
    (void)state;
    must_pass("function pyisolate.main()\n"
              "  local t = pyisolate.spawn(function() pyisolate.sleep(0.02) end)\n"
              "  pcall(pyisolate.timeout, 0.005, function() t:wait() end)\n"
              "  local order = {}\n"
              "  pyisolate.all(function() pyisolate.sleep(0.05) order[#order + 1] = 2 end,\n"
              "    function() pyisolate.sleep(0.03) order[#order + 1] = 1 end,\n"
              "    function() pyisolate.sleep(0.09) order[#order + 1] = 3 end)\n"
              "  check(table.concat(order) == '123')\n"
              "end\n");
}

static void test_exit_statuses_of_main(void **state) {
    (void)state;
    static const struct {
        const char *body;
        int status;
    } cases[] = {{"return 7", 7},      {"return", 0},     {"return true", 0}, {"return false", 1},
                 {"return 0", 0},      {"return 3.0", 3}, {"return nil", 0},  {"error('x')", 1},
                 {"return 'text'", 1}, {"return 256", 1}, {"return 1.5", 1},  {"fake:fail()", 1}};
    for (size_t i = 0; i < PYI_COUNT(cases); i++) {
        char body[128];
        snprintf(body, sizeof(body), "function pyisolate.main() %s end\n", cases[i].body);
        outcome o = run_with(body, -1, 0, NULL);
        if (o.status != cases[i].status) {
            fail_msg("%s gave %d", cases[i].body, o.status);
        }
    }
}

static void test_an_uncaught_error_prints_message_and_tracebacks(void **state) {
    (void)state;
    outcome o = run_with(
        "local function deep() return (fake:fail()) end\nfunction pyisolate.main() deep() end\n",
        -1, 0, NULL);
    assert_int_equal(o.status, 1);
    assert_int_equal(o.error.code, PYI_EREMOTE);
    assert_non_null(strstr(o.err, "main failed: fake:fail: ValueError: bad value"));
    assert_non_null(strstr(o.err, "File \"x.py\", line 3"));
    assert_non_null(strstr(o.err, "KeyError: too small"));
    assert_non_null(strstr(o.err, "a note"));
    assert_non_null(strstr(o.err, "config.lua:4: in"));
}

static void test_main_gets_its_arguments(void **state) {
    (void)state;
    char *argv[] = {"one", "two words"};
    outcome o =
        run_with("function pyisolate.main(args)\n"
                 "  check(#args == 2 and args[0] == 'config.lua' and args[2] == 'two words')\n"
                 "end\n",
                 -1, 2, argv);
    assert_int_equal(o.status, 0);
}

static void test_a_stop_cancels_main(void **state) {
    (void)state;
    int fd = eventfd(0, EFD_CLOEXEC);
    pthread_t thread;
    cancels = 0;
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, &fd), 0);
    outcome o = run_with("function pyisolate.main() fake:never() end\n", fd, 0, NULL);
    pthread_join(thread, NULL);
    assert_int_equal(o.status, 1);
    assert_int_equal(o.error.code, PYI_ESTOPPED);
    assert_string_equal(o.err, "");
    assert_int_equal(cancels, 1);
    /* still readable: the descriptor was not read; one that cleans up ends by itself */
    o = run_with("function pyisolate.main()\n"
                 "  local ok, err = pcall(pyisolate.sleep, 100)\n"
                 "  check(not ok and err.code == 'stopped', tostring(err))\n"
                 "  return 9\n"
                 "end\n",
                 fd, 0, NULL);
    assert_int_equal(o.status, 9);
    assert_int_equal(o.error.code, PYI_OK);
    close(fd);
}

static void test_stop_and_restart_wait_without_blocking_others(void **state) {
    (void)state;
    stops = 0;
    must_pass("function pyisolate.main()\n"
              "  fake:stop()\n"
              "  fake:stop(2.5)\n"
              "  local ok, err = pcall(fake.restart, fake, 0)\n"
              "  check(not ok and err.message == 'it does not start' and err.extension == 'fake')\n"
              "end\n");
    assert_int_equal(stops, 2);
    assert_int_equal(last_grace, 0);
}

static void test_reserved_names_say_what_is_not_there_yet(void **state) {
    (void)state;
    must_pass(
        "function pyisolate.main()\n"
        "  for _, name in ipairs { 'on', 'object' } do\n"
        "    local ok, err = pcall(fake[name], fake)\n"
        "    check(not ok and err:find(\"'\" .. name .. \"' is not available yet\", 1, true))\n"
        "  end\n"
        "  check(fake:call('on', 1)[1] == 1)\n"
        "end\n");
}

static void test_misuse_is_explained(void **state) {
    (void)state;
    must_pass("local before = select(2, pcall(fake.now, fake))\n"
              "function pyisolate.main()\n"
              "  local function says(text, f, ...)\n"
              "    local ok, err = pcall(f, ...)\n"
              "    check(not ok and tostring(err):find(text, 1, true), tostring(err))\n"
              "  end\n"
              "  check(before:find('has not started yet', 1, true), before)\n"
              "  says('call it with a colon', fake.now, 1)\n"
              "  says('nothing can be assigned', function() fake.x = 1 end)\n"
              "  says('coroutine of your own', coroutine.wrap(function() fake:late() end))\n"
              "  says('must be a function', pyisolate.all, 1)\n"
              "  says('must be a function', pyisolate.spawn, 'x')\n"
              "  says('did you mean pyisolate.spawn?', function() return pyisolate.spwn end)\n"
              "  says('cannot be set: did you mean pyisolate.main?', function() pyisolate.mian = "
              "print end)\n"
              "  says('a number of seconds', pyisolate.sleep, 'x')\n"
              "  says('not available yet', pyisolate.service, 'x')\n"
              "  says('expected \"debug\"', pyisolate.log, 'loud', 'x')\n"
              "end\n");
}

static void test_deep_chains_of_tasks_do_not_nest(void **state) {
    (void)state;
    must_pass("local function down(n)\n"
              "  if n == 0 then return fake:soon(1)[1] end\n"
              "  return (pyisolate.all(function() return down(n - 1) end))\n"
              "end\n"
              "function pyisolate.main() check(down(500) == 1) end\n");
}

static void test_a_main_that_yields_by_itself_goes_on(void **state) {
    (void)state;
    must_pass("function pyisolate.main()\n"
              "  local turns = 0\n"
              "  local t = pyisolate.spawn(function() for _ = 1, 10 do turns = turns + 1 "
              "coroutine.yield() end end)\n"
              "  while t:status() == 'running' do coroutine.yield() end\n"
              "  check(turns == 10)\n"
              "end\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_gives_its_result),
        cmocka_unit_test(test_many_calls_wait_side_by_side),
        cmocka_unit_test(test_an_exception_becomes_an_error_table),
        cmocka_unit_test(test_what_cannot_be_sent_is_named_and_the_extension_stays_usable),
        cmocka_unit_test(test_timeout_cancels_the_call),
        cmocka_unit_test(test_the_first_error_in_all_cancels_the_others),
        cmocka_unit_test(test_spawned_tasks_run_beside_and_are_cancelled_at_the_end),
        cmocka_unit_test(test_a_task_nobody_asked_about_is_reported),
        cmocka_unit_test(test_tasks_watched_by_two_wake_both),
        cmocka_unit_test(test_sleep_is_not_cut_short_by_a_task_that_ends),
        cmocka_unit_test(test_exit_statuses_of_main),
        cmocka_unit_test(test_an_uncaught_error_prints_message_and_tracebacks),
        cmocka_unit_test(test_main_gets_its_arguments),
        cmocka_unit_test(test_a_stop_cancels_main),
        cmocka_unit_test(test_stop_and_restart_wait_without_blocking_others),
        cmocka_unit_test(test_reserved_names_say_what_is_not_there_yet),
        cmocka_unit_test(test_misuse_is_explained),
        cmocka_unit_test(test_deep_chains_of_tasks_do_not_nest),
        cmocka_unit_test(test_a_main_that_yields_by_itself_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

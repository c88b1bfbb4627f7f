/* The core with real children: calls, errors, deadlines, deaths, restarts, stop. */
#include "manager_fixture.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static int open_manager(void **state) {
    *state = make_manager();
    return 0;
}

static int close_manager(void **state) {
    pyi_manager_free(*state);
    return 0;
}

static void a_method_is_called(void **state) {
    pyi_extension *x = load(*state, "basic");
    assert_int_equal(int_of(call(x, -1, "echo", "i", 42)), 42);
    assert_int_equal(int_of(call(x, -1, "async_echo", "i", 43)), 43);
    assert_int_equal(int_of(call(x, -1, "slow", "id", 44, 0.01)), 44);
    pyi_status s;
    pyi_extension_status(x, &s);
    assert_int_equal(s.state, PYI_STATE_READY);
    assert_int_equal(s.calls, 3);
    assert_int_equal(s.errors, 0);
    assert_true(s.pid > 0 && s.rss > 0);
    pyi_status_fini(&s);
}

static void a_call_before_ready_waits_for_it(void **state) {
    pyi_extension *x = load_config(*state, make_extension("early", "basic"));
    assert_int_equal(int_of(call(x, 30000, "echo", "i", 7)), 7);
}

static void an_exception_arrives_with_its_parts(void **state) {
    pyi_extension *x = load(*state, "basic");
    pyi_result *r = call(x, -1, "fail_with_cause", "");
    assert_int_equal(r->code, PYI_EREMOTE);
    assert_string_equal(r->error.msg, "RuntimeError: no luck");
    pyi_remote_error error, cause;
    pyi_error e;
    assert_int_equal(pyi_remote_error_read(&r->value, &error, &e), PYI_OK);
    assert_memory_equal(error.type.text, "RuntimeError", error.type.len);
    assert_non_null(memmem(error.traceback.text, error.traceback.len, "basic.py", 8));
    assert_true(error.has_cause);
    assert_int_equal(pyi_remote_error_read(&error.cause, &cause, &e), PYI_OK);
    assert_memory_equal(cause.type.text, "KeyError", cause.type.len);
    pyi_result_free(r);
}

static void an_unknown_or_private_method_is_refused(void **state) {
    pyi_extension *x = load(*state, "basic");
    const char *names[] = {"ecko", "_private", "__class__", "os", "echo.__globals__"};
    for (size_t i = 0; i < PYI_COUNT(names); i++) {
        pyi_result *r = call(x, -1, names[i], "");
        assert_int_equal(r->code, PYI_EREMOTE);
        assert_non_null(strstr(r->error.msg, "AttributeError"));
        pyi_result_free(r);
    }
}

static void what_cannot_be_sent_is_named_and_the_connection_lives(void **state) {
    pyi_extension *x = load(*state, "basic");
    pyi_result *r = call(x, -1, "unsendable", "");
    assert_int_equal(r->code, PYI_EREMOTE);
    assert_non_null(strstr(r->error.msg, "TypeError"));
    assert_non_null(strstr(r->error.msg, "[\"a\"][1]"));
    pyi_result_free(r);
    assert_int_equal(int_of(call(x, -1, "echo", "i", 1)), 1);
}

static void a_deadline_ends_the_call_and_interrupts_python(void **state) {
    pyi_extension *x = load(*state, "basic");
    pyi_result *r = call(x, 500, "spin_forever", "");
    assert_int_equal(r->code, PYI_EDEADLINE);
    pyi_result_free(r);
    assert_int_equal(int_of(call(x, 10000, "echo", "i", 2)),
                     2); /* it was interrupted, not killed */
    pyi_status s;
    pyi_extension_status(x, &s);
    assert_int_equal(s.generation, 1);
    pyi_status_fini(&s);
}

static void a_child_stuck_in_c_is_killed_after_the_grace(void **state) {
    pyi_extension *x = load(*state, "basic");
    pyi_result *r = call(x, 1000, "stuck_in_c", "");
    assert_int_equal(r->code, PYI_EDEADLINE);
    pyi_result_free(r);
    pyi_result *next = call(x, 30000, "pid", ""); /* waits in the stuck child, dies with it */
    assert_int_equal(next->code, PYI_EDIED);
    pyi_result_free(next);
    assert_true(int_of(call(x, 30000, "pid", "")) > 0);
}

typedef struct outcome {
    sem_t ended;
    pyi_err code;
    atomic_int times;
} outcome;

static void on_outcome(void *arg, const pyi_reply *reply) {
    outcome *o = arg;
    o->code = reply->code;
    atomic_fetch_add(&o->times, 1);
    sem_post(&o->ended);
}

static void a_cancelled_call_ends_at_once_and_once(void **state) {
    pyi_extension *x = load(*state, "basic");
    outcome o = {0};
    sem_init(&o.ended, 0, 0);
    uint64_t id = pyi_call_send(begin_call(x, -1, "slow", "id", 1, 30.0), on_outcome, &o);
    usleep(20000);
    pyi_call_cancel(x, id);
    sem_wait(&o.ended);
    assert_int_equal(o.code, PYI_ECANCELLED);
    pyi_call_cancel(x, id);
    assert_int_equal(int_of(call(x, -1, "echo", "i", 3)), 3);
    assert_int_equal(o.times, 1);
    sem_destroy(&o.ended);
}

static void death_in_mid_call(pyi_manager *m, const char *method, const char *types, int arg,
                              const char *text) {
    pyi_extension *x = load(m, method);
    pyi_result *r = call(x, 30000, method, types, arg);
    assert_int_equal(r->code, PYI_EDIED);
    if (strstr(r->error.msg, text) == NULL) {
        fail_msg("expected \"%s\" in: %s", text, r->error.msg);
    }
    pyi_result_free(r);
    assert_int_equal(int_of(call(x, 30000, "echo", "i", 9)), 9); /* by the next generation */
    pyi_status s;
    pyi_extension_status(x, &s);
    assert_int_equal(s.generation, 2);
    assert_int_equal(s.restarts, 1);
    pyi_status_fini(&s);
}

static void each_death_in_mid_call_is_told_and_healed(void **state) {
    death_in_mid_call(*state, "segfault", "", 0, "SIGSEGV");
    death_in_mid_call(*state, "kill_self", "", 0, "SIGKILL");
    death_in_mid_call(*state, "leave", "i", 3, "exit status 3");
}

static void a_segfault_leaves_its_python_traceback(void **state) {
    pyi_extension *x = load(*state, "crash");
    pyi_result *r = call(x, 30000, "segfault", "");
    assert_int_equal(r->code, PYI_EDIED);
    assert_non_null(r->detail);
    assert_non_null(strstr(r->detail, "in segfault"));
    pyi_result_free(r);
}

static void crashes_in_a_row_become_a_crash_loop(void **state) {
    pyi_extension *x = load(*state, "looper");
    pyi_status s;
    for (unsigned i = 1; i <= PYI_CRASH_LOOP_COUNT; i++) {
        pyi_result *r = call(x, 30000, "leave", "i", 1);
        assert_int_equal(r->code, PYI_EDIED);
        pyi_result_free(r);
        do {
            usleep(5000);
            pyi_extension_status(x, &s);
            pyi_status_fini(&s);
        } while (s.crashes_in_row < i);
        assert_int_equal(s.state, PYI_STATE_BACKOFF);
        assert_int_equal(s.crash_loop, i == PYI_CRASH_LOOP_COUNT);
    }
    pyi_result *refused = call(x, 30000, "echo", "i", 1); /* at once, not after the long delay */
    assert_int_equal(refused->code, PYI_EDIED);
    pyi_result_free(refused);
    pyi_error e;
    assert_int_equal(pyi_extension_restart(x, 1000, &e), PYI_OK); /* somebody mended it */
    assert_int_equal(int_of(call(x, 30000, "echo", "i", 5)), 5);
}

static void a_restart_replaces_the_child_without_losing_calls(void **state) {
    pyi_extension *x = load(*state, "basic");
    int64_t before = int_of(call(x, -1, "pid", ""));
    outcome o = {0};
    sem_init(&o.ended, 0, 0);
    (void)pyi_call_send(begin_call(x, -1, "slow", "id", 1, 0.3), on_outcome, &o);
    pyi_error e;
    assert_int_equal(pyi_extension_restart(x, 5000, &e), PYI_OK);
    assert_int_not_equal(int_of(call(x, -1, "pid", "")), before);
    sem_wait(&o.ended);
    assert_int_equal(o.code, PYI_OK); /* the old one was let finish */
    sem_destroy(&o.ended);
}

static void stop_ends_calls_and_refuses_new_ones(void **state) {
    pyi_extension *x = load(*state, "basic");
    int64_t pid = int_of(call(x, -1, "pid", ""));
    outcome o = {0};
    sem_init(&o.ended, 0, 0);
    (void)pyi_call_send(begin_call(x, -1, "slow", "id", 1, 60.0), on_outcome, &o);
    pyi_extension_stop(x, 20);
    sem_wait(&o.ended);
    assert_int_not_equal(o.code, PYI_OK);
    assert_int_equal(kill((pid_t)pid, 0), -1);
    pyi_result *r = call(x, -1, "echo", "i", 1);
    assert_int_equal(r->code, PYI_ESTOPPED);
    pyi_result_free(r);
    pyi_error e;
    assert_int_equal(pyi_extension_restart(x, 0, &e), PYI_OK);
    assert_int_equal(int_of(call(x, -1, "echo", "i", 8)), 8);
    sem_destroy(&o.ended);
}

static void an_import_error_is_told_and_others_go_on(void **state) {
    pyi_extension *bad = load_config(*state, make_extension("bad", "needs_missing"));
    pyi_extension *good = load(*state, "good");
    pyi_error e;
    PYI_AUTO_FREE char *detail = NULL;
    assert_int_equal(pyi_extension_wait_ready(bad, 30000, &detail, &e), PYI_ESTART);
    assert_non_null(strstr(e.msg, "a_package_that_is_missing"));
    assert_non_null(strstr(detail, "needs_missing.py"));
    pyi_result *r = call(bad, -1, "echo", "i", 1);
    assert_int_equal(r->code, PYI_ESTART);
    pyi_result_free(r);
    assert_int_equal(int_of(call(good, -1, "echo", "i", 1)), 1);
}

static void a_name_can_be_taken_once(void **state) {
    (void)load(*state, "basic");
    pyi_extension_config *c = make_extension("basic", "basic");
    pyi_extension *x;
    pyi_error e;
    assert_int_equal(pyi_manager_load(*state, c, &x, &e), PYI_EINVAL);
    pyi_extension_config_free(c);
}

#define THREADS 8
#define EACH    200

static void *hammer(void *arg) {
    for (int i = 0; i < EACH; i++) {
        assert_int_equal(int_of(call(arg, -1, i % 2 ? "echo" : "async_echo", "i", i)), i);
    }
    return NULL;
}

static void many_threads_may_call_at_once(void **state) {
    pyi_extension *x = load(*state, "basic");
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, x), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    pyi_status s;
    pyi_extension_status(x, &s);
    assert_int_equal(s.calls, THREADS * EACH);
    pyi_status_fini(&s);
}

static void the_same_works_inside_the_environments_own_python(void **state) {
    pyi_extension_config *c = make_extension("exec", "basic");
    c->embed = false;
    pyi_extension *x = load_config(*state, c);
    assert_int_equal(int_of(call(x, 30000, "echo", "i", 6)), 6);
    pyi_status s;
    pyi_extension_status(x, &s);
    assert_string_equal(s.mode, "exec");
    pyi_status_fini(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_manager, close_manager)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_method_is_called),
        TEST(a_call_before_ready_waits_for_it),
        TEST(an_exception_arrives_with_its_parts),
        TEST(an_unknown_or_private_method_is_refused),
        TEST(what_cannot_be_sent_is_named_and_the_connection_lives),
        TEST(a_deadline_ends_the_call_and_interrupts_python),
        TEST(a_child_stuck_in_c_is_killed_after_the_grace),
        TEST(a_cancelled_call_ends_at_once_and_once),
        TEST(each_death_in_mid_call_is_told_and_healed),
        TEST(a_segfault_leaves_its_python_traceback),
        TEST(crashes_in_a_row_become_a_crash_loop),
        TEST(a_restart_replaces_the_child_without_losing_calls),
        TEST(stop_ends_calls_and_refuses_new_ones),
        TEST(an_import_error_is_told_and_others_go_on),
        TEST(a_name_can_be_taken_once),
        TEST(many_threads_may_call_at_once),
        TEST(the_same_works_inside_the_environments_own_python),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

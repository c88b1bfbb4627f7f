/*
 * The child on its own ground: first steps by hand, the change to asyncio, interrupts, worker
 * threads, forks. Every test runs in both modes, each in a fresh process: what a test proves often
 * is about the first call.
 */
#include "manager_fixture.h"

#include <string.h>

static int open_manager(void **state) {
    *state = make_manager();
    return 0;
}

static int close_manager(void **state) {
    pyi_manager_free(*state);
    return 0;
}

static pyi_extension *start(pyi_manager *m, bool embed, unsigned threads) {
    static unsigned number;
    char name[32];
    snprintf(name, sizeof name, "child-%u", number++);
    pyi_extension_config *c = make_extension(name, "child_steps");
    c->embed = embed;
    c->threads = threads;
    return load_config(m, c);
}

/* Calls the methods one after the other on one child of each mode; each must return 1. */
static void assert_hold(void **state, unsigned threads, const char *const *methods) {
    for (int embed = 0; embed < 2; embed++) {
        pyi_extension *x = start(*state, embed, threads);
        for (const char *const *name = methods; *name; name++) {
            int64_t got = int_of(call(x, 30000, *name, ""));
            if (got != 1) {
                fail_msg("%s returned %d (embed %d)", *name, (int)got, embed);
            }
        }
    }
}

#define HOLD(state, threads, ...)                                                                  \
    assert_hold(state, threads, (const char *const[]){__VA_ARGS__, NULL})

static void what_never_suspends_needs_no_asyncio(void **state) {
    HOLD(state, 0, "asyncio_is_absent", "never_suspends", "context_is_private",
         "context_is_private");
}

static void a_first_step_that_imports_asyncio_is_in_a_task(void **state) {
    HOLD(state, 0, "adopted_in_first_step", "adopted_in_first_step");
}

static void a_timeout_works_in_the_first_step(void **state) {
    HOLD(state, 0, "timeout_in_first_step", "timeout_in_first_step");
}

static void a_def_sees_the_running_loop(void **state) {
    HOLD(state, 0, "loop_runs_around_def", "loop_runs_around_def", "adopted_in_first_step",
         "context_is_private", "context_is_private");
}

static void assert_raises(pyi_extension *x, const char *method, const char *type) {
    pyi_result *r = call(x, 30000, method, "");
    assert_int_equal(r->code, PYI_EREMOTE);
    assert_memory_equal(r->error.msg, type, strlen(type));
    pyi_result_free(r);
}

static void exits_end_the_call_and_not_the_child(void **state) {
    for (int embed = 0; embed < 2; embed++) {
        pyi_extension *x = start(*state, embed, 0);
        assert_raises(x, "exits", "SystemExit");
        assert_raises(x, "awaits_something_odd", "RuntimeError");
        assert_raises(x, "exits_later", "SystemExit");
        assert_raises(x, "exits", "SystemExit");
        assert_raises(x, "awaits_something_odd", "RuntimeError");
        assert_int_equal(int_of(call(x, 30000, "adopted_in_first_step", "")), 1);
    }
}

/* The deadline passes, the child is interrupted soon after, and the same process serves on. */
static void assert_interrupted(pyi_extension *x, const char *method, int64_t times) {
    pyi_result *r = call(x, 300, method, "");
    assert_int_equal(r->code, PYI_EDEADLINE);
    pyi_result_free(r);
    int64_t until = pyi_now_ns() + 20 * PYI_NS_PER_S, got;
    do {
        got = int_of(call(x, 30000, "interrupted", ""));
    } while (got != times && pyi_now_ns() < until);
    assert_int_equal(got, times);
}

static void a_deadline_interrupts_whatever_runs(void **state) {
    for (int embed = 0; embed < 2; embed++) {
        pyi_extension *x = start(*state, embed, 0);
        assert_int_equal(int_of(call(x, 30000, "asyncio_is_absent", "")), 1);
        assert_interrupted(x, "blocks", 1);
        assert_interrupted(x, "waits", 2);
        assert_interrupted(x, "spins", 3);
        assert_interrupted(x, "waits", 4);
        assert_interrupted(x, "blocks", 5);
    }
}

/* Half an import would spoil the package for the life of the process. */
static void a_deadline_does_not_strike_in_an_import(void **state) {
    for (int embed = 0; embed < 2; embed++) {
        pyi_extension *x = start(*state, embed, 0);
        int64_t pid = int_of(call(x, 30000, "pid", ""));
        pyi_result *r = call(x, 500, "imports_slowly", "");
        assert_int_equal(r->code, PYI_EDEADLINE);
        pyi_result_free(r);
        assert_int_equal(int_of(call(x, 30000, "imports_slowly", "")), 1);
        assert_int_equal(int_of(call(x, 30000, "pid", "")), pid);
    }
}

static void with_threads_a_def_runs_in_a_worker(void **state) {
    for (int embed = 0; embed < 2; embed++) {
        pyi_extension *x = start(*state, embed, 2);
        assert_int_equal(int_of(call(x, 30000, "in_main_thread", "")), 0);
        assert_int_equal(int_of(call(x, 30000, "async_in_main_thread", "")), 1);
        assert_interrupted(x, "blocks", 1);
        assert_int_equal(int_of(call(x, 30000, "in_main_thread", "")), 0);
    }
}

static void forked_and_spawned_processes_work(void **state) {
    HOLD(state, 0, "fork_that_returns", "asyncio_in_forked_process", "spawned_process_imports_us",
         "loop_runs_around_def", "asyncio_in_forked_process", "fork_that_returns");
}

static void a_folder_named_like_a_standard_module_works(void **state) {
    for (int embed = 0; embed < 2; embed++) {
        pyi_extension_config *c = make_extension(embed ? "numbers" : "numbers-exec", "numbers");
        c->module_path = pyi_arena_printf(c->arena, "%s/tests/ext/numbers", PYI_SOURCE_DIR);
        c->embed = embed;
        pyi_extension *x = load_config(*state, c);
        assert_int_equal(int_of(call(x, 30000, "own_and_standard", "")), 1);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_manager, close_manager)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_never_suspends_needs_no_asyncio),
        TEST(a_first_step_that_imports_asyncio_is_in_a_task),
        TEST(a_timeout_works_in_the_first_step),
        TEST(a_def_sees_the_running_loop),
        TEST(exits_end_the_call_and_not_the_child),
        TEST(a_deadline_interrupts_whatever_runs),
        TEST(a_deadline_does_not_strike_in_an_import),
        TEST(with_threads_a_def_runs_in_a_worker),
        TEST(forked_and_spawned_processes_work),
        TEST(a_folder_named_like_a_standard_module_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

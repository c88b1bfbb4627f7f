/*
 * Calls, kills, restarts and stops that meet at random moments: every call ends, every wait
 * returns. A few rounds here; `make soak` asks for more with PYI_STORM_ROUNDS. PYI_STORM_SEED
 * repeats a run.
 */
#include "manager_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#define EXTENSIONS 2
#define CALLERS    4
#define KILLERS    2
#define PATIENCE_S 60 /* for a round that takes a second */

static atomic_bool over;
static atomic_ulong ended;

static unsigned number_from(const char *variable, unsigned otherwise) {
    const char *text = getenv(variable);
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static void *call_on(void *x) {
    unsigned seed = (unsigned)(uintptr_t)&seed;
    while (!over) {
        const char *method = rand_r(&seed) % 3 != 0 ? "echo" : "slow";
        pyi_result *r = call(x, 2000, method, strcmp(method, "slow") == 0 ? "id" : "i", 1, 0.001);
        if (r->code == PYI_EPROTO || r->code == PYI_EINTERNAL) {
            fail_msg("%s", r->error.msg);
        }
        if (r->code != PYI_OK) {
            usleep(500); /* a stopped extension refuses at once */
        }
        pyi_result_free(r);
        ended++;
    }
    return NULL;
}

static void *kill_on(void *x) {
    static const int signals[] = {SIGKILL, SIGSEGV, SIGTERM};
    unsigned seed = (unsigned)(uintptr_t)&seed;
    while (!over) {
        usleep(20000 + (useconds_t)(rand_r(&seed) % 60000));
        pyi_status s;
        pyi_extension_status(x, &s);
        if (s.pid > 0) {
            kill(s.pid, signals[(size_t)rand_r(&seed) % PYI_COUNT(signals)]);
        }
        pyi_status_fini(&s);
        pyi_error e;
        if (rand_r(&seed) % 3 == 0) {
            (void)!pyi_extension_restart(x, rand_r(&seed) % 50, &e); /* may fail, must return */
        }
    }
    return NULL;
}

static void one_round(unsigned *seed) {
    pyi_manager *m = make_manager();
    pyi_extension *x[EXTENSIONS] = {load(m, "a"), load(m, "b")};
    pthread_t threads[CALLERS + KILLERS];
    over = false;
    alarm(PATIENCE_S);
    for (size_t i = 0; i < PYI_COUNT(threads); i++) {
        void *(*run)(void *) = i < CALLERS ? call_on : kill_on;
        assert_int_equal(pthread_create(&threads[i], NULL, run, x[i % EXTENSIONS]), 0);
    }
    usleep(200000 + (useconds_t)(rand_r(seed) % 500000));
    if (rand_r(seed) % 2 == 0) {
        pyi_manager_stop(m, rand_r(seed) % 100); /* in the middle of it all */
    }
    over = true;
    for (size_t i = 0; i < PYI_COUNT(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    pyi_manager_free(m);
    alarm(0);
}

static void nobody_is_left_waiting(void **state) {
    (void)state;
    unsigned seed = number_from("PYI_STORM_SEED", (unsigned)getpid());
    unsigned rounds = number_from("PYI_STORM_ROUNDS", 6);
    print_message("PYI_STORM_SEED=%u\n", seed);
    for (unsigned i = 0; i < rounds; i++) {
        one_round(&seed);
    }
    print_message("%lu calls ended in %u rounds\n", (unsigned long)ended, rounds);
    assert_true(ended > 0);
}

int main(void) {
    pyi_log_open(2, PYI_LOG_LOGFMT, PYI_ERROR);
    const struct CMUnitTest tests[] = {cmocka_unit_test(nobody_is_left_waiting)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

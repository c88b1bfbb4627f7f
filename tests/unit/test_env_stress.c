/*
 * Eight processes prepare five environments at once, and some of them are killed at any moment.
 * Whoever survives has a right environment, and after one more start nothing but whole ones is
 * left. PYI_STRESS_ROUNDS sets the rounds (3): `make soak` runs fifty.
 */
#include "env_fixture.h"
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>

#define PROCESSES 8
#define KINDS     5
#define KILLED    4
#define ROUNDS    3
#define SPAN_MS   400 /* about what building one takes */

static const char *const names[KINDS] = {"one", "two", "three", "four", "five"};

static unsigned seed;

static unsigned any(unsigned below) {
    return (unsigned)rand_r(&seed) % below;
}

static void choose(fixture *f, int kind) {
    static char requirement[KINDS][32];
    snprintf(requirement[kind], sizeof(requirement[kind]), "depa==%d.0", kind + 1);
    f->extension.name = names[kind];
    want(f, requirement[kind], NULL);
}

static pid_t prepare_in_a_process(fixture *f, int kind) {
    pid_t pid = fork();
    if (pid == 0) {
        pyi_env *env = NULL;
        choose(f, kind);
        pyi_error_init(&f->e);
        pyi_err err = pyi_env_prepare(&f->manager, &f->extension, NULL, -1, &env, NULL, &f->e);
        if (err != PYI_OK) {
            fprintf(stderr, "%s: %s\n", names[kind], f->e.msg);
        }
        pyi_env_free(env);
        _exit(err == PYI_OK ? 0 : 2);
    }
    assert_true(pid > 0);
    return pid;
}

/* Each child's end: by itself and well, or by our signal. */
static void await_all(const pid_t *pids, const bool *killed) {
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        if (WIFSIGNALED(status)) {
            assert_true(killed[i]);
            assert_int_equal(WTERMSIG(status), SIGKILL);
        } else {
            assert_int_equal(WEXITSTATUS(status), 0);
        }
    }
}

static void storm(fixture *f) {
    pid_t pids[PROCESSES];
    bool killed[PROCESSES] = {false};
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = prepare_in_a_process(f, i % KINDS);
    }
    for (int n = 0; n < KILLED; n++) {
        int victim = (int)any(PROCESSES);
        usleep(any(1000 * SPAN_MS / KILLED));
        if (!killed[victim]) { /* perhaps it has ended: not waited for yet, so the id is its own */
            killed[victim] = true;
            assert_int_equal(kill(pids[victim], SIGKILL), 0);
        }
    }
    await_all(pids, killed);
}

static void check_environment(fixture *f, int kind, pyi_env *env) {
    char link[600], expected[16];
    snprintf(expected, sizeof(expected), "%d.0", kind + 1);
    check_python(env->python, "import depa; print(depa.VERSION)", expected);
    snprintf(link, sizeof(link), "%s/%s", f->root, names[kind]);
    PYI_AUTO_FREE char *target = realpath(link, NULL);
    assert_string_equal(target, env->prefix);
}

/* Every entry of a folder of the store is one of `ids`. */
static void check_only(const char *folder, pyi_env *const *envs) {
    struct dirent *entry;
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    while ((entry = readdir(d)) != NULL) {
        bool known = false;
        for (int kind = 0; kind < KINDS; kind++) {
            known = known || strcmp(entry->d_name, envs[kind]->id) == 0;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            n++;
            if (!known) {
                fail_msg("left in %s: %s", folder, entry->d_name);
            }
        }
    }
    closedir(d);
    assert_int_equal(n, KINDS);
}

static void check_locks_are_free(const fixture *f, pyi_env *const *envs) {
    for (int kind = 0; kind < KINDS; kind++) {
        char path[700];
        snprintf(path, sizeof(path), "%s/.locks/%s", f->root, envs[kind]->id);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
        close(fd);
    }
}

/* As after a kill in mid-build: some must be built again while others are used. */
static void spoil_some(pyi_env *const *envs) {
    for (int kind = 0; kind < KINDS; kind++) {
        char marker[700];
        snprintf(marker, sizeof(marker), "%s/.pyisolate-env.json", envs[kind]->prefix);
        if (any(2) == 0) {
            assert_int_equal(unlink(marker), 0);
        }
    }
}

static void one_round(fixture *f) {
    pyi_env *envs[KINDS];
    storm(f);
    for (int kind = 0; kind < KINDS; kind++) {
        choose(f, kind);
        envs[kind] = prepared(f);
        check_environment(f, kind, envs[kind]);
    }
    check_only(at(f, "venvs/.envs"), envs);
    check_only(at(f, "venvs/.locks"), envs);
    check_locks_are_free(f, envs);
    spoil_some(envs);
    for (int kind = 0; kind < KINDS; kind++) {
        pyi_env_free(envs[kind]);
    }
}

static void processes_killed_at_random_leave_only_whole_environments(void **state) {
    fixture *f = *state;
    const char *given = getenv("PYI_STRESS_ROUNDS"), *chosen = getenv("PYI_STRESS_SEED");
    long rounds = given != NULL ? strtol(given, NULL, 10) : ROUNDS;
    seed = chosen != NULL ? (unsigned)strtoul(chosen, NULL, 10) : (unsigned)time(NULL);
    print_message("  %ld rounds, PYI_STRESS_SEED=%u\n", rounds, seed);
    for (int kind = 0; kind < KINDS; kind++) {
        char version[16];
        snprintf(version, sizeof(version), "%d.0", kind + 1);
        put_wheel(f, "depa", version, "");
    }
    for (long i = 0; i < rounds; i++) {
        one_round(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(processes_killed_at_random_leave_only_whole_environments,
                                        fixture_new, fixture_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

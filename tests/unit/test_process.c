/* Helpers that run to their end: status, output, deadlines, cancellation, and what is left behind.
 */
#include "process.h"
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <cmocka.h>

static pyi_err shell(const char *script, pyi_process with, pyi_process_result *ret, pyi_error *e) {
    const char *const argv[] = {"sh", "-c", script, NULL};
    with.argv = argv;
    pyi_error_init(e);
    return pyi_process_run(&with, ret, e);
}

static int count_fds(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d) != NULL) {
        n++;
    }
    closedir(d);
    return n;
}

static bool soon_gone(pid_t pid) {
    for (int i = 0; i < 200; i++) {
        if (kill(pid, 0) != 0 && errno == ESRCH) {
            return true;
        }
        char path[64], text[256] = "";
        snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        FILE *in = fopen(path, "re"); /* a zombie that nobody reaps yet is gone as well */
        if (in != NULL) {
            (void)!fgets(text, sizeof(text), in);
            fclose(in);
        }
        if (strstr(text, ") Z ") != NULL) {
            return true;
        }
        usleep(10000);
    }
    return false;
}

static void the_status_and_both_streams_are_kept_apart(void **state) {
    pyi_process_result r = {0};
    pyi_error e;
    (void)state;
    assert_int_equal(
        shell("echo one; echo two >&2; exit 7", (pyi_process){.cancel_fd = -1}, &r, &e), PYI_OK);
    assert_int_equal(r.status, 7);
    assert_string_equal(r.out, "one\n");
    assert_string_equal(r.err, "two\n");
    assert_int_equal(r.err_len, 4);
    pyi_process_result_fini(&r);
}

static void a_signal_counts_as_128_and_its_number(void **state) {
    pyi_process_result r = {0};
    pyi_error e;
    (void)state;
    assert_int_equal(shell("kill -9 $$", (pyi_process){.cancel_fd = -1}, &r, &e), PYI_OK);
    assert_int_equal(r.status, 128 + SIGKILL);
    pyi_process_result_fini(&r);
}

static void a_program_that_is_not_there_is_named(void **state) {
    const char *const missing[] = {"no-such-program-here", NULL};
    const char *const folder[] = {"/tmp", NULL};
    pyi_process p = {.argv = missing, .cancel_fd = -1};
    pyi_process_result r = {0};
    pyi_error e;
    (void)state;
    pyi_error_init(&e);
    assert_int_equal(pyi_process_run(&p, &r, &e), PYI_ENOTFOUND);
    assert_non_null(strstr(e.msg, "no-such-program-here"));
    p.argv = folder;
    pyi_error_init(&e);
    assert_int_equal(pyi_process_run(&p, &r, &e), PYI_ESYS);
    assert_int_equal(e.sys, EACCES);
}

static void only_the_last_bytes_are_kept_of_much_output(void **state) {
    pyi_process_result r = {0};
    pyi_error e;
    (void)state;
    assert_int_equal(shell("seq 1 200000", (pyi_process){.cancel_fd = -1, .keep = 1000}, &r, &e),
                     PYI_OK);
    assert_int_equal(r.out_len, 1000);
    assert_string_equal(r.out + 1000 - 14, "199999\n200000\n");
    pyi_process_result_fini(&r);
}

static void on_line(void *arg, const char *line) {
    char *all = arg;
    strcat(strcat(all, "["), line);
    strcat(all, "]");
}

static void lines_of_stderr_are_told_one_by_one(void **state) {
    char all[256] = "";
    pyi_process_result r = {0};
    pyi_error e;
    (void)state;
    assert_int_equal(
        shell("printf 'a' >&2; sleep 0.05; printf 'b\\nsecond\\rthird\\n\\nend' >&2; echo no",
              (pyi_process){.cancel_fd = -1, .on_line = on_line, .arg = all}, &r, &e),
        PYI_OK);
    assert_string_equal(all, "[ab][second][third][end]");
    pyi_process_result_fini(&r);
}

static void a_deadline_kills_the_whole_group(void **state) {
    pyi_process_result r = {0};
    pyi_error e;
    char path[] = "/tmp/pyi-process-XXXXXX", script[128];
    int fd = mkstemp(path), pid = 0;
    (void)state;
    assert_true(fd >= 0);
    snprintf(script, sizeof(script), "sleep 60 & echo $! > %s; wait", path);
    int64_t began = pyi_now_ns();
    assert_int_equal(shell(script, (pyi_process){.cancel_fd = -1, .timeout_ms = 300}, &r, &e),
                     PYI_EDEADLINE);
    assert_true(pyi_now_ns() - began < 5 * PYI_NS_PER_S);
    FILE *in = fdopen(fd, "r");
    assert_int_equal(fscanf(in, "%d", &pid), 1);
    fclose(in);
    unlink(path);
    assert_true(soon_gone(pid));
}

static void a_readable_cancel_descriptor_ends_it(void **state) {
    pyi_process_result r = {0};
    pyi_error e;
    int cancel = eventfd(1, EFD_CLOEXEC);
    (void)state;
    int64_t began = pyi_now_ns();
    assert_int_equal(shell("sleep 60", (pyi_process){.cancel_fd = cancel}, &r, &e), PYI_ECANCELLED);
    assert_true(pyi_now_ns() - began < 5 * PYI_NS_PER_S);
    close(cancel);
}

static void a_grandchild_that_holds_the_pipes_delays_nothing(void **state) {
    pyi_process_result r = {0};
    pyi_error e;
    (void)state;
    int64_t began = pyi_now_ns();
    assert_int_equal(shell("setsid sleep 3 & echo done", (pyi_process){.cancel_fd = -1}, &r, &e),
                     PYI_OK);
    assert_true(pyi_now_ns() - began < 2 * PYI_NS_PER_S);
    assert_string_equal(r.out, "done\n");
    pyi_process_result_fini(&r);
}

static void nothing_of_the_caller_leaks_into_it(void **state) {
    const char *const env[] = {"ONLY=this", "PATH=/usr/bin:/bin", NULL};
    int leak = dup(1); /* not CLOEXEC */
    pyi_process_result r = {0};
    pyi_error e;
    (void)state;
    int before = count_fds();
    assert_int_equal(shell("for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do "
                           "test -e /proc/$$/fd/$n && printf '%s ' $n; done; echo $ONLY $HOME; pwd",
                           (pyi_process){.cancel_fd = -1, .envp = env, .cwd = "/"}, &r, &e),
                     PYI_OK);
    assert_string_equal(r.out, "0 1 2 this\n/\n");
    assert_int_equal(count_fds(), before);
    pyi_process_result_fini(&r);
    close(leak);
}

static void it_and_what_it_started_die_with_the_process_that_runs_it(void **state) {
    int report[2], helper = 0, grandchild = 0;
    (void)state;
    assert_int_equal(pipe(report), 0);
    pid_t runner = fork();
    if (runner == 0) {
        char script[128];
        pyi_process_result r = {0};
        pyi_error e;
        /* the helper's own copy of the pipe is closed by exec: it finds ours in /proc */
        snprintf(script, sizeof(script), "sleep 60 & echo $$ $! > /proc/%d/fd/%d; wait",
                 (int)getpid(), report[1]);
        _exit(shell(script, (pyi_process){.cancel_fd = -1}, &r, &e) == PYI_OK ? 0 : 1);
    }
    char text[64] = "";
    assert_true(read(report[0], text, sizeof(text) - 1) > 0);
    assert_int_equal(sscanf(text, "%d %d", &helper, &grandchild), 2);
    usleep(50000); /* the guard is up when the helper has been running for a moment */
    assert_int_equal(kill(runner, SIGKILL), 0);
    assert_int_equal(waitpid(runner, NULL, 0), runner);
    assert_true(soon_gone(helper));
    assert_true(soon_gone(grandchild));
    close(report[0]);
    close(report[1]);
}

static void no_process_is_left_to_reap(void **state) {
    pyi_process_result r = {0};
    pyi_error e;
    (void)state;
    assert_int_equal(shell("exit 0", (pyi_process){.cancel_fd = -1}, &r, &e), PYI_OK);
    pyi_process_result_fini(&r);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_status_and_both_streams_are_kept_apart),
        cmocka_unit_test(a_signal_counts_as_128_and_its_number),
        cmocka_unit_test(a_program_that_is_not_there_is_named),
        cmocka_unit_test(only_the_last_bytes_are_kept_of_much_output),
        cmocka_unit_test(lines_of_stderr_are_told_one_by_one),
        cmocka_unit_test(a_deadline_kills_the_whole_group),
        cmocka_unit_test(a_readable_cancel_descriptor_ends_it),
        cmocka_unit_test(a_grandchild_that_holds_the_pipes_delays_nothing),
        cmocka_unit_test(nothing_of_the_caller_leaks_into_it),
        cmocka_unit_test(it_and_what_it_started_die_with_the_process_that_runs_it),
        cmocka_unit_test(no_process_is_left_to_reap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Progress: bars on a terminal, lines elsewhere, nothing where nothing is done.
 */
#include "progress.h"
#include "pyi_log.h"
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { TEXT = 65536, WAIT_US = 300000 };

static void step(pyi_progress *p, const char *name, pyi_env_step s, const char *text) {
    const pyi_env_progress *hooks = pyi_progress_hooks(p);
    hooks->step(hooks->arg, name, s, text);
}

static pyi_progress *begin(int fd, bool quiet) {
    pyi_progress *p = NULL;
    pyi_error e = {0};
    assert_int_equal(pyi_progress_new(fd, quiet, &p, &e), PYI_OK);
    return p;
}

/* All that was written, once the writing end is closed. */
static void take(int *write_fd, int read_fd, char *ret) {
    size_t len = 0;
    pyi_fd_close(write_fd);
    for (ssize_t n; len < TEXT - 1 && (n = read(read_fd, ret + len, TEXT - 1 - len)) > 0;) {
        len += (size_t)n;
    }
    ret[len] = '\0';
    close(read_fd);
}

static void build_one(pyi_progress *p) {
    step(p, "averages", PYI_STEP_RESOLVE, "Python 3.12.1, 2 requirements");
    step(p, "averages", PYI_STEP_DOWNLOAD, "Downloading numpy");
    step(p, "averages", PYI_STEP_DOWNLOAD, "Downloading other");
    step(p, "averages", PYI_STEP_INSTALL, "");
    step(p, "averages", PYI_STEP_DONE, "");
}

static void a_pipe_gets_a_line_for_each_step(void **state) {
    (void)state;
    static char text[TEXT];
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pyi_progress *p = begin(fds[1], false);
    build_one(p);
    pyi_progress_free(p);
    take(&fds[1], fds[0], text);
    assert_string_equal(text, "averages: resolving: Python 3.12.1, 2 requirements\n"
                              "averages: downloading: Downloading numpy\n"
                              "averages: installing\n"
                              "averages: environment ready in 0.0 s\n");
}

static void an_environment_that_was_there_is_not_shown(void **state) {
    (void)state;
    static char text[TEXT];
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pyi_progress *p = begin(fds[1], false);
    step(p, "averages", PYI_STEP_DONE, "up to date");
    pyi_progress_free(p);
    take(&fds[1], fds[0], text);
    assert_string_equal(text, "");
}

static void quiet_shows_nothing(void **state) {
    (void)state;
    static char text[TEXT];
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pyi_progress *p = begin(fds[1], true);
    build_one(p);
    pyi_progress_free(p);
    take(&fds[1], fds[0], text);
    assert_string_equal(text, "");
}

static void what_is_told_after_the_end_is_not_shown(void **state) {
    (void)state;
    static char text[TEXT];
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pyi_progress *p = begin(fds[1], false);
    pyi_progress_end(p);
    build_one(p);
    pyi_progress_free(p);
    take(&fds[1], fds[0], text);
    assert_string_equal(text, "");
}

static void a_terminal_gets_bars_that_a_log_line_and_the_end_clear(void **state) {
    (void)state;
    static char text[TEXT];
    int master = -1, terminal = -1;
    setenv("TERM", "xterm", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    unsetenv("NO_COLOR");
    assert_int_equal(openpty(&master, &terminal, NULL, NULL, NULL), 0);
    pyi_log_open(terminal, PYI_LOG_TEXT, PYI_INFO);
    pyi_progress *p = begin(terminal, false);
    step(p, "averages", PYI_STEP_RESOLVE, "");
    step(p, "tables", PYI_STEP_BUILD, "");
    usleep(WAIT_US);
    pyi_log(PYI_INFO, NULL, NULL, "a line");
    usleep(WAIT_US);
    pyi_progress_failed(p, "tables");
    step(p, "averages", PYI_STEP_DONE, "");
    pyi_progress_free(p);
    pyi_log(PYI_INFO, NULL, NULL, "the last line");
    pyi_log_open(STDERR_FILENO, PYI_LOG_AUTO, PYI_INFO);
    take(&terminal, master, text);
    assert_non_null(strstr(text, "averages"));
    assert_non_null(strstr(text, "resolving"));
    assert_non_null(strstr(text, "building"));
    assert_non_null(strstr(text, "\xe2\x94\x81"));
    assert_non_null(strstr(text, "\033[2A\r")); // two bars, and back to the first
    char *line = strstr(text, "a line"), *last = strstr(text, "the last line");
    assert_non_null(line);
    assert_non_null(last);
    char *clear = NULL;
    for (char *at = text; (at = strstr(at, "\033[J")) != NULL && at < line; at++) {
        clear = at;
    }
    assert_non_null(clear); // right before the line's clock
    assert_true(line - clear < 40);
    // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): an assert does not return
    assert_null(memmem(clear, (size_t)(line - clear), "\n", 1));
    assert_null(strstr(last, "averages")); // nothing is drawn after the end
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipe_gets_a_line_for_each_step),
        cmocka_unit_test(an_environment_that_was_there_is_not_shown),
        cmocka_unit_test(quiet_shows_nothing),
        cmocka_unit_test(what_is_told_after_the_end_is_not_shown),
        cmocka_unit_test(a_terminal_gets_bars_that_a_log_line_and_the_end_clear),
    };
    return cmocka_run_group_tests_name("progress", tests, NULL, NULL);
}

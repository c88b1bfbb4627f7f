/* pyi_error: texts that are cut, wrapped, and named. */
#include "pyi_error.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void a_set_error_holds_code_step_and_text(void **state) {
    (void)state;
    pyi_error e;
    assert_int_equal(pyi_error_set(&e, PYI_ENOTFOUND, "call.find", "no method '%s'", "mean"),
                     PYI_ENOTFOUND);
    assert_int_equal(e.code, PYI_ENOTFOUND);
    assert_int_equal(e.sys, 0);
    assert_string_equal(e.where, "call.find");
    assert_string_equal(e.msg, "no method 'mean'");
    pyi_error_init(&e);
    assert_int_equal(e.code, PYI_OK);
    assert_string_equal(e.msg, "");
}

static void a_system_error_tells_errno_and_its_text(void **state) {
    (void)state;
    pyi_error e;
    assert_int_equal(pyi_error_sys(&e, ENOENT, "spec.open", "open '%s'", "/x"), PYI_ESYS);
    assert_int_equal(e.sys, ENOENT);
    assert_string_equal(e.msg, "open '/x': No such file or directory");
    (void)pyi_error_sys(&e, 99999, "spec.open", "open");
    assert_string_equal(e.msg, "open: error 99999");
}

static void context_goes_before_the_first_cause(void **state) {
    (void)state;
    pyi_error e;
    (void)pyi_error_sys(&e, EACCES, "env.install", "mkdir");
    assert_int_equal(pyi_error_wrap(&e, "start '%s'", "averages"), PYI_ESYS);
    assert_string_equal(e.msg, "start 'averages': mkdir: Permission denied");
    assert_string_equal(e.where, "env.install");
    assert_int_equal(e.sys, EACCES);
}

static void an_argument_may_be_the_error_itself(void **state) {
    (void)state;
    pyi_error e;
    (void)pyi_error_set(&e, PYI_EINVAL, "a.b", "first");
    (void)pyi_error_set(&e, PYI_EPROTO, e.where, "then: %s", e.msg);
    assert_string_equal(e.where, "a.b");
    assert_string_equal(e.msg, "then: first");
}

static void a_long_text_is_cut_with_dots(void **state) {
    (void)state;
    char text[2000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    pyi_error e;
    (void)pyi_error_set(&e, PYI_EINVAL, text, "%s", text);
    assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
    assert_string_equal(e.msg + sizeof(e.msg) - 5, "x...");
    assert_int_equal(strlen(e.where), sizeof(e.where) - 1);
    (void)pyi_error_wrap(&e, "%s", text);
    assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
    memset(text, 'y', 255);
    text[255] = '\0'; // one less, so that it fits to the byte
    (void)pyi_error_set(&e, PYI_EINVAL, "a", "%s", text);
    assert_string_equal(e.msg, text);
}

static void a_cut_never_splits_a_character(void **state) {
    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        char text[600] = "abc";
        text[shift] = '\0';
        for (size_t at = shift; at < 500; at += 4) {
            memcpy(text + at, "\xF0\x9F\x98\x80", 5); // U+1F600
        }
        pyi_error e;
        (void)pyi_error_set(&e, PYI_EINVAL, "a", "%s", text);
        size_t kept = strlen(e.msg) - 3;
        assert_string_equal(e.msg + kept, "...");
        assert_int_equal((kept - shift) % 4, 0);
        assert_true(kept >= sizeof(e.msg) - 8);
    }
}

static void every_code_has_a_name_and_a_python_type(void **state) {
    (void)state;
    for (int code = 0; code < PYI_ERR_COUNT; code++) {
        assert_non_null(pyi_err_name((pyi_err)code));
        assert_non_null(pyi_err_python_type((pyi_err)code));
        for (int other = 0; other < code; other++) {
            assert_string_not_equal(pyi_err_name((pyi_err)code), pyi_err_name((pyi_err)other));
        }
    }
    assert_string_equal(pyi_err_name(PYI_EDEADLINE), "deadline");
    assert_string_equal(pyi_err_python_type(PYI_EDEADLINE), "TimeoutError");
    assert_string_equal(pyi_err_python_type(PYI_EDIED), "ConnectionError");
    assert_string_equal(pyi_err_python_type(PYI_ETYPE), "TypeError");
}

static void a_code_from_nowhere_is_an_internal_error(void **state) {
    (void)state;
    assert_string_equal(pyi_err_name((pyi_err)1000), "internal");
    assert_string_equal(pyi_err_name((pyi_err)-1), "internal");
    assert_string_equal(pyi_err_python_type((pyi_err)1000), "RuntimeError");
}

static void closing_a_descriptor_marks_it_and_keeps_errno(void **state) {
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    int kept = fds[0];
    errno = EBUSY;
    pyi_fd_close(&fds[0]);
    assert_int_equal(fds[0], -1);
    assert_int_equal(write(fds[1], "x", 0), 0);
    errno = EBUSY;
    pyi_fd_close(&fds[0]); // -1 is fine
    assert_int_equal(errno, EBUSY);
    assert_int_equal(close(kept), -1); // it is closed
    pyi_fd_close(&fds[1]);
}

static void the_clock_goes_forward(void **state) {
    (void)state;
    int64_t before = pyi_now_ns();
    usleep(2000);
    assert_true(pyi_now_ns() - before >= 2 * PYI_NS_PER_MS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_set_error_holds_code_step_and_text),
        cmocka_unit_test(a_system_error_tells_errno_and_its_text),
        cmocka_unit_test(context_goes_before_the_first_cause),
        cmocka_unit_test(an_argument_may_be_the_error_itself),
        cmocka_unit_test(a_long_text_is_cut_with_dots),
        cmocka_unit_test(a_cut_never_splits_a_character),
        cmocka_unit_test(every_code_has_a_name_and_a_python_type),
        cmocka_unit_test(a_code_from_nowhere_is_an_internal_error),
        cmocka_unit_test(closing_a_descriptor_marks_it_and_keeps_errno),
        cmocka_unit_test(the_clock_goes_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

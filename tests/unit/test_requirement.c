/* Requirements: their normal form, what is local, what is the runtime, what must not be shown. */
#include "requirement.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void one_requirement_has_one_normal_form(void **state) {
    static const char *const pairs[][2] = {{" Foo_Bar.baz >= 1.0 , < 2 ", "foo-bar-baz>=1.0,<2"},
                                           {"foo", "foo"},
                                           {"foo[Extra , b] == 1.*", "foo[Extra,b]==1.*"},
                                           {"foo ; python_version < '3.9' and  os_name == 'nt'",
                                            "foo;python_version<'3.9' and os_name=='nt'"},
                                           {"-e   /a/Project", "-e /a/Project"},
                                           {"/a b/Project", "/a b/Project"},
                                           {"Foo @ file:///X/y.whl", "foo@file:///X/y.whl"},
                                           {"git+https://host/Foo", "git+https://host/Foo"}};
    (void)state;
    for (size_t i = 0; i < PYI_COUNT(pairs); i++) {
        PYI_AUTO_FREE char *normal = pyi_requirement_normal(pairs[i][0]);
        assert_string_equal(normal, pairs[i][1]);
    }
}

static void the_path_of_a_local_requirement_is_found(void **state) {
    static const char *const pairs[][2] = {{"/a/b", "/a/b"},
                                           {"-e /a/b[extra,two]", "/a/b"},
                                           {"--editable=/a b ; python_version > '3'", "/a b"},
                                           {"x @ file:///a/b%20c/x.whl#sha256=1", "/a/b c/x.whl"},
                                           {"file://localhost/a/x.whl", "/a/x.whl"}};
    static const char *const others[] = {"six", "six @ https://host/a/six.whl",
                                         "git+https://host/a", "-e git+https://host/a"};
    (void)state;
    for (size_t i = 0; i < PYI_COUNT(pairs); i++) {
        PYI_AUTO_FREE char *path = pyi_requirement_path(pairs[i][0]);
        assert_non_null(path);
        assert_string_equal(path, pairs[i][1]);
    }
    for (size_t i = 0; i < PYI_COUNT(others); i++) {
        assert_null(pyi_requirement_path(others[i]));
    }
}

static void the_runtime_is_recognised_and_nothing_that_only_resembles_it(void **state) {
    static const char *const ours[] = {"pyisolate",
                                       "PyIsolate==0.10",
                                       "pyisolate[dev] >= 1",
                                       "pyisolate @ file:///a/b.whl",
                                       "/x/pyisolate-0.10.2.tar.gz",
                                       "/x/pyisolate-0.10.2-py3-none-any.whl",
                                       "git+https://host/p.git#egg=pyisolate"};
    static const char *const others[] = {"pyisolate-extra", "pyisolated", "py-isolate",
                                         "/x/pyisolate-extra-1.0.tar.gz", "/nonexistent/pyisolate"};
    (void)state;
    for (size_t i = 0; i < PYI_COUNT(ours); i++) {
        assert_true(pyi_requirement_is_runtime(ours[i]));
    }
    for (size_t i = 0; i < PYI_COUNT(others); i++) {
        assert_false(pyi_requirement_is_runtime(others[i]));
    }
}

static void user_and_password_vanish_from_every_url(void **state) {
    char text[] = "get https://me:pa@ss@host/x?y=a@b and http://t@h, not mail@host or http://h/@x";
    (void)state;
    pyi_redact(text);
    assert_string_equal(
        text, "get https://****@host/x?y=a@b and http://*@h, not mail@host or http://h/@x");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_requirement_has_one_normal_form),
        cmocka_unit_test(the_path_of_a_local_requirement_is_found),
        cmocka_unit_test(the_runtime_is_recognised_and_nothing_that_only_resembles_it),
        cmocka_unit_test(user_and_password_vanish_from_every_url),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The doctor finds what is there, tells a lack from a warning, and shows no password.
 */
#include "doctor.h"
#include "doctor_checks.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const pyi_finding *find(const pyi_findings *f, const char *name, const char *text) {
    for (size_t i = 0; i < f->count; i++) {
        if (strcmp(f->items[i].name, name) == 0 && strstr(f->items[i].what, text) != NULL) {
            return &f->items[i];
        }
    }
    return NULL;
}

static void credentials_in_addresses_are_masked(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"https://user:pass@example.org/index", "https://***@example.org/index"},
        {"https://token@host", "https://***@host"},
        {"https://a:b@one/x https://c:p%40ss@two/y", "https://***@one/x https://***@two/y"},
        {"https://a:b@c@host/x", "https://***@host/x"},
        {"https://host/path@2", "https://host/path@2"},
        {"/plain/path", "/plain/path"},
        {"", ""},
        {"//", "//"},
    };
    for (size_t i = 0; i < PYI_COUNT(cases); i++) {
        char masked[256];
        pyi_mask_credentials(cases[i].in, masked, sizeof masked);
        assert_string_equal(masked, cases[i].out);
    }
}

static void masking_keeps_within_its_room(void **state) {
    (void)state;
    char text[600], masked[32];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    pyi_mask_credentials(text, masked, sizeof masked);
    assert_true(strlen(masked) < sizeof masked);
}

static void indexes_are_shown_without_their_secrets(void **state) {
    (void)state;
    setenv("PIP_INDEX_URL", "https://me:hunter2@example.org/index", 1);
    setenv("UV_PUBLISH_TOKEN", "hunter3", 1);
    pyi_findings f = {0};
    pyi_check_indexes(&f);
    assert_non_null(find(&f, "packages", "PIP_INDEX_URL=https://***@example.org/index"));
    assert_non_null(find(&f, "packages", "UV_PUBLISH_TOKEN=***"));
    assert_null(find(&f, "packages", "hunter"));
    pyi_findings_fini(&f);
    unsetenv("PIP_INDEX_URL");
    unsetenv("UV_PUBLISH_TOKEN");
}

static void a_uv_that_is_not_there_is_a_lack_with_a_remedy(void **state) {
    (void)state;
    char before[4096] = "";
    const char *given = getenv("PYISOLATE_UV");
    snprintf(before, sizeof before, "%s", given != NULL ? given : "");
    setenv("PYISOLATE_UV", "/nowhere/uv", 1);
    pyi_findings f = {0};
    pyi_check_uv(&f);
    const pyi_finding *uv = find(&f, "uv", "/nowhere/uv");
    assert_non_null(uv);
    assert_int_equal(uv->verdict, PYI_LACK);
    assert_string_not_equal(uv->remedy, "");
    assert_false(pyi_findings_healthy(&f));
    pyi_findings_fini(&f);
    if (before[0] != '\0') {
        setenv("PYISOLATE_UV", before, 1);
    } else {
        unsetenv("PYISOLATE_UV");
    }
}

static void parts_that_are_missing_are_a_lack(void **state) {
    (void)state;
    char before[4096] = "";
    const char *given = getenv("PYISOLATE_LIBDIR");
    snprintf(before, sizeof before, "%s", given != NULL ? given : "");
    setenv("PYISOLATE_LIBDIR", "/nowhere", 1);
    pyi_findings f = {0};
    pyi_check_child(&f);
    assert_int_equal(f.count, 1);
    assert_int_equal(f.items[0].verdict, PYI_LACK);
    assert_non_null(strstr(f.items[0].what, "/nowhere"));
    pyi_findings_fini(&f);
    if (before[0] != '\0') {
        setenv("PYISOLATE_LIBDIR", before, 1);
    } else {
        unsetenv("PYISOLATE_LIBDIR");
    }
}

static void this_machine_has_a_kernel_cpus_and_a_runtime_folder(void **state) {
    (void)state;
    pyi_findings f = {0};
    pyi_check_kernel(&f);
    pyi_check_cpu(&f);
    pyi_check_runtime(&f);
    assert_int_equal(f.count, 3);
    assert_true(pyi_findings_healthy(&f));
    assert_non_null(find(&f, "kernel", "Linux"));
    pyi_findings_fini(&f);
}

static void every_finding_that_is_not_fine_says_what_to_do(void **state) {
    (void)state;
    pyi_findings f;
    pyi_doctor_examine(&f);
    assert_true(f.count >= 12);
    for (size_t i = 0; i < f.count; i++) {
        assert_string_not_equal(f.items[i].what, "");
        if (f.items[i].verdict != PYI_FINE) {
            assert_string_not_equal(f.items[i].remedy, "");
        }
    }
    pyi_findings_fini(&f);
}

static void a_warning_alone_is_healthy(void **state) {
    (void)state;
    pyi_findings f = {0};
    pyi_finding_add(&f, "bwrap", PYI_WARN, "absent");
    assert_true(pyi_findings_healthy(&f));
    pyi_finding_add(&f, "uv", PYI_LACK, "absent");
    assert_false(pyi_findings_healthy(&f));
    pyi_findings_fini(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(credentials_in_addresses_are_masked),
        cmocka_unit_test(masking_keeps_within_its_room),
        cmocka_unit_test(indexes_are_shown_without_their_secrets),
        cmocka_unit_test(a_uv_that_is_not_there_is_a_lack_with_a_remedy),
        cmocka_unit_test(parts_that_are_missing_are_a_lack),
        cmocka_unit_test(this_machine_has_a_kernel_cpus_and_a_runtime_folder),
        cmocka_unit_test(every_finding_that_is_not_fine_says_what_to_do),
        cmocka_unit_test(a_warning_alone_is_healthy),
    };
    return cmocka_run_group_tests_name("doctor", tests, NULL, NULL);
}

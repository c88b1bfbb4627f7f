/* pip's settings are read as pip reads them: which source wins, and how values are written. */
#include "paths.h"
#include "pip_config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static const char *const variables[] = {
    "PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_CONSTRAINT", "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",  "PIP_NO_INDEX",  "PIP_CERT",       "XDG_CONFIG_DIRS"};

typedef struct home {
    char dir[64];
    pyi_pip_config config, machine; /* machine: with nothing of ours, what /etc/pip.conf says */
} home;

/* A home of its own, so that the settings of whoever runs the tests do not count. */
static int home_new(void **state) {
    static home h;
    h = (home){.dir = "/tmp/pyi-pip-XXXXXX"};
    *state = &h;
    for (size_t i = 0; i < PYI_COUNT(variables); i++) {
        unsetenv(variables[i]);
    }
    if (mkdtemp(h.dir) == NULL) {
        return -1;
    }
    setenv("HOME", h.dir, 1);
    setenv("XDG_CONFIG_HOME", h.dir, 1);
    setenv("XDG_CONFIG_DIRS", h.dir, 1);
    pyi_error e;
    pyi_error_init(&e);
    return pyi_pip_config_read(&h.machine, &e) == PYI_OK ? 0 : -1;
}

static int home_free(void **state) {
    home *h = *state;
    pyi_error e;
    pyi_error_init(&e);
    pyi_pip_config_fini(&h->config);
    pyi_pip_config_fini(&h->machine);
    return pyi_remove_tree(h->dir, &e) == PYI_OK ? 0 : -1;
}

static const char *put(const home *h, const char *name, const char *text) {
    static char path[128];
    char *slash;
    pyi_error e;
    pyi_error_init(&e);
    snprintf(path, sizeof(path), "%s/%s", h->dir, name);
    slash = strrchr(path, '/');
    *slash = '\0';
    assert_int_equal(pyi_mkdirs(path, 0755, &e), PYI_OK);
    *slash = '/';
    FILE *out = fopen(path, "we");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
    return path;
}

static const char *value(home *h, pyi_pip_key key) {
    pyi_error e;
    pyi_error_init(&e);
    pyi_pip_config_fini(&h->config);
    assert_int_equal(pyi_pip_config_read(&h->config, &e), PYI_OK);
    return h->config.value[key];
}

static void assert_as_machine(home *h, pyi_pip_key key) {
    const char *now = value(h, key), *then = h->machine.value[key];
    assert_string_equal(now == NULL ? "(none)" : now, then == NULL ? "(none)" : then);
}

static void values_may_span_lines_and_keys_may_use_either_dash(void **state) {
    home *h = *state;
    put(h, ".pip/pip.conf",
        "; comment\nindex-url = outside-of-any-section\n[global]\n# comment\n"
        "Extra_Index_Url = one\n    two\n\tthree\nfind-links:x\n");
    assert_string_equal(value(h, PYI_PIP_EXTRA_INDEX_URL), "one two three");
    assert_string_equal(value(h, PYI_PIP_FIND_LINKS), "x");
    assert_as_machine(h, PYI_PIP_INDEX_URL);
}

static void the_section_of_install_wins_over_global_and_others_do_not_count(void **state) {
    home *h = *state;
    put(h, ".pip/pip.conf",
        "[install]\nconstraint = a\n[global]\nconstraint = b\n[wheel]\nconstraint = c\n");
    assert_string_equal(value(h, PYI_PIP_CONSTRAINT), "a");
    put(h, "pip/pip.conf", "[global]\nconstraint = of-a-stronger-file\n");
    assert_string_equal(value(h, PYI_PIP_CONSTRAINT), "a");
}

static void a_stronger_source_replaces_a_value_and_does_not_add_to_it(void **state) {
    home *h = *state;
    put(h, ".pip/pip.conf", "[global]\nfind-links = weak\n");
    put(h, "pip/pip.conf", "[global]\nfind-links = user\n");
    assert_string_equal(value(h, PYI_PIP_FIND_LINKS), "user");
    setenv("PIP_CONFIG_FILE", put(h, "own.conf", "[global]\nfind-links = own\n"), 1);
    assert_string_equal(value(h, PYI_PIP_FIND_LINKS), "own");
    setenv("PIP_FIND_LINKS", "variable", 1);
    assert_string_equal(value(h, PYI_PIP_FIND_LINKS), "variable");
}

static void dev_null_as_configuration_switches_all_files_off(void **state) {
    home *h = *state;
    put(h, "pip/pip.conf", "[global]\nfind-links = user\n");
    setenv("PIP_CONFIG_FILE", "/dev/null", 1);
    setenv("PIP_INDEX_URL", "variable", 1);
    assert_null(value(h, PYI_PIP_FIND_LINKS));
    assert_string_equal(value(h, PYI_PIP_INDEX_URL), "variable");
}

static void a_file_of_garbage_is_passed_over(void **state) {
    home *h = *state;
    put(h, "pip/pip.conf",
        "   indented\n[global\n=\n[]\n key\nfind-links\n\xff\xfe = 1\n[global]\n=x\n");
    assert_as_machine(h, PYI_PIP_FIND_LINKS);
}

int main(void) {
#define WITH(test) cmocka_unit_test_setup_teardown(test, home_new, home_free)
    const struct CMUnitTest tests[] = {
        WITH(values_may_span_lines_and_keys_may_use_either_dash),
        WITH(the_section_of_install_wins_over_global_and_others_do_not_count),
        WITH(a_stronger_source_replaces_a_value_and_does_not_add_to_it),
        WITH(dev_null_as_configuration_switches_all_files_off),
        WITH(a_file_of_garbage_is_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

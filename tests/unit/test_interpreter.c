/* Interpreters: found by path, version or default, asked once, and remembered until they change. */
#include "env_fixture.h"
#include "version.h"

typedef struct folder {
    char dir[64];
} folder;

static int folder_new(void **state) {
    static folder f;
    snprintf(f.dir, sizeof(f.dir), "/tmp/pyi-python-XXXXXX");
    *state = &f;
    return mkdtemp(f.dir) == NULL ? -1 : 0;
}

static int folder_free(void **state) {
    folder *f = *state;
    pyi_error e;
    pyi_error_init(&e);
    return pyi_remove_tree(f->dir, &e) == PYI_OK ? 0 : -1;
}

static pyi_interpreter *find(const char *request, const char *cache, pyi_error *e) {
    pyi_interpreter *i = NULL;
    pyi_error_init(e);
    pyi_err err = pyi_interpreter_find(request, cache, &i, e);
    assert_true((err == PYI_OK) == (i != NULL));
    return i;
}

static pyi_interpreter *found(const char *request, const char *cache) {
    pyi_error e;
    pyi_interpreter *i = find(request, cache, &e);
    if (i == NULL) {
        fail_msg("%s", e.msg);
    }
    return i;
}

static void put_program(const char *dir, const char *name, const char *text, char *path,
                        size_t size) {
    snprintf(path, size, "%s/%s", dir, name);
    put_file(path, text);
    assert_int_equal(chmod(path, 0755), 0);
}

static void versions_order_as_pep_440_says(void **state) {
    static const char *const ascending[] = {"3",         "3.9",      "3.9.18",   "3.10.0",
                                            "3.12.1",    "3.14.0a2", "3.14.0b1", "3.14.0rc1",
                                            "3.14.0rc2", "3.14",     "3.14.1+"};
    (void)state;
    for (size_t i = 0; i + 1 < PYI_COUNT(ascending); i++) {
        pyi_version a, b;
        assert_true(pyi_version_parse(ascending[i], &a));
        assert_true(pyi_version_parse(ascending[i + 1], &b));
        assert_int_equal(pyi_version_compare(&a, &b), -1);
        assert_int_equal(pyi_version_compare(&b, &a), 1);
    }
}

static void a_version_request_takes_what_it_says(void **state) {
    static const struct {
        const char *version, *request;
        bool meets;
    } cases[] = {{"3.12.7", "3.12", true},           {"3.12.7", "3", true},
                 {"3.1.2", "3.12", false},           {"3.12.7", "3.12.7", true},
                 {"3.12.7", "3.12.1", false},        {"3.12.7", "python3.12", true},
                 {"3.12.7", "cpython@3.12", true},   {"3.11.9", ">=3.10,<3.13", true},
                 {"3.13.0", ">=3.10, <3.13", false}, {"3.9.18", ">=3.10,<3.13", false},
                 {"3.12.7", "~=3.10", true},         {"3.12.7", "~=3.12.4", true},
                 {"3.13.0", "~=3.12.4", false},      {"3.12.7", "==3.12.*", true},
                 {"3.12.7", "==3.12", false},        {"3.12.7", "!=3.12.*", false},
                 {"3.14.0rc1", ">=3.14", false},     {"3.14.0rc1", "<3.14", false},
                 {"3.14.0rc1", ">=3.14.0rc1", true}, {"3.14.0rc1", "3.14", true},
                 {"3.13.0", ">3.12", true},          {"3.12.0", ">3.12", false},
                 {"3.12.0", "<=3.12", true},         {"3.12.7+", ">=3.12.7", true}};
    (void)state;
    for (size_t i = 0; i < PYI_COUNT(cases); i++) {
        pyi_error e;
        pyi_error_init(&e);
        assert_int_equal(pyi_version_check_request(cases[i].request, &e), PYI_OK);
        if (pyi_version_meets(cases[i].version, cases[i].request) != cases[i].meets) {
            fail_msg("%s against %s", cases[i].version, cases[i].request);
        }
    }
}

static void a_request_that_makes_no_sense_is_refused_with_examples(void **state) {
    static const char *const wrong[] = {
        "",   "py",   "3.x",    ">>3.10",   "3.10,3.11", "3.12 ;",      "~=3",
        ">=", "<3.*", "python", "3.12-dev", ">=3.10,,",  ">=3.10,3.12", "99999999999"};
    (void)state;
    for (size_t i = 0; i < PYI_COUNT(wrong); i++) {
        pyi_error e;
        assert_null(find(wrong[i], NULL, &e));
        assert_int_equal(e.code, PYI_EINVAL);
        assert_non_null(strstr(e.msg, "\"3.12\""));
    }
}

static void the_default_is_a_supported_cpython_with_an_absolute_path(void **state) {
    folder *f = *state;
    pyi_interpreter *i = found(NULL, f->dir);
    assert_int_equal(i->major, 3);
    assert_true(i->minor >= 9);
    assert_int_equal(i->executable[0], '/');
    check_python(i->executable, "import sys; print(sys.version.split()[0])", i->version);
    check_python(i->executable, "import sysconfig; print(sysconfig.get_platform())", i->platform);
    check_python(i->executable, "import sys; print(sys.base_prefix)", i->base_prefix);
    assert_true(i->libpython == NULL || access(i->libpython, R_OK) == 0);
    pyi_interpreter_free(i);
}

static void every_listed_interpreter_is_found_by_its_version_and_by_its_path(void **state) {
    folder *f = *state;
    pyi_interpreter **list = NULL;
    size_t count = 0;
    pyi_error e;
    pyi_error_init(&e);
    assert_int_equal(pyi_interpreter_list(f->dir, &list, &count, &e), PYI_OK);
    assert_true(count >= 1);
    for (size_t n = 0; n < count; n++) {
        char exact[64];
        snprintf(exact, sizeof(exact), "==%s", list[n]->version);
        pyi_interpreter *by_version = found(exact, f->dir);
        pyi_interpreter *by_path = found(list[n]->executable, f->dir);
        assert_string_equal(by_version->version, list[n]->version);
        assert_string_equal(by_path->sys_version, list[n]->sys_version);
        print_message("  python %s, libpython %s\n", list[n]->version,
                      list[n]->libpython == NULL ? "none" : list[n]->libpython);
        pyi_interpreter_free(by_version);
        pyi_interpreter_free(by_path);
        pyi_interpreter_free(list[n]);
    }
    free(list);
}

static void a_missing_version_names_what_was_found_and_the_remedy(void **state) {
    folder *f = *state;
    pyi_error e;
    assert_null(find("3.99", f->dir, &e));
    assert_int_equal(e.code, PYI_ENOTFOUND);
    pyi_interpreter *i = found(NULL, f->dir);
    assert_non_null(strstr(e.msg, i->version));
    assert_non_null(strstr(e.msg, "uv python install '3.99'"));
    pyi_interpreter_free(i);
}

static void an_old_version_is_not_advised_to_be_installed(void **state) {
    static const char *const old[] = {"3.8", "2.7", "<3.9", ">=3.6,<3.9"};
    folder *f = *state;
    for (size_t n = 0; n < PYI_COUNT(old); n++) {
        pyi_error e;
        assert_null(find(old[n], f->dir, &e));
        assert_non_null(strstr(e.msg, "3.9 or newer"));
        assert_null(strstr(e.msg, "install"));
    }
}

static void a_path_that_is_no_python_is_refused_with_its_words(void **state) {
    folder *f = *state;
    char path[128];
    pyi_error e;
    put_program(f->dir, "liar", "#!/bin/sh\necho broken >&2\nexit 3\n", path, sizeof(path));
    assert_null(find(path, f->dir, &e));
    assert_int_equal(e.code, PYI_EUNAVAILABLE);
    assert_non_null(strstr(e.msg, "broken"));
    assert_null(find("/nonexistent/python", f->dir, &e));
    assert_int_equal(e.code, PYI_ENOTFOUND);
}

static void another_implementation_or_an_old_python_is_refused(void **state) {
    folder *f = *state;
    char path[128];
    pyi_error e;
    put_program(f->dir, "pypy",
                "#!/bin/sh\necho '{\"implementation\":\"pypy\",\"executable\":\"/x\",\"version\":"
                "\"3.10.1\",\"sys_version\":\"x\",\"info\":[3,10,1],\"base_prefix\":\"/\","
                "\"platform\":\"p\",\"libpython\":[]}'\n",
                path, sizeof(path));
    assert_null(find(path, f->dir, &e));
    assert_non_null(strstr(e.msg, "is pypy, extensions need CPython"));
    put_program(
        f->dir, "old",
        "#!/bin/sh\necho '{\"implementation\":\"cpython\",\"executable\":\"/x\",\"version\":"
        "\"3.8.1\",\"sys_version\":\"x\",\"info\":[3,8,1],\"base_prefix\":\"/\","
        "\"platform\":\"p\",\"libpython\":[]}'\n",
        path, sizeof(path));
    assert_null(find(path, f->dir, &e));
    assert_int_equal(e.code, PYI_EUNAVAILABLE);
    assert_non_null(strstr(e.msg, "3.9 or newer"));
}

static void an_interpreter_is_asked_once_and_again_when_it_changes(void **state) {
    folder *f = *state;
    char path[128], counter[128], lib[128], text[1024];
    snprintf(counter, sizeof(counter), "%s/count", f->dir);
    snprintf(lib, sizeof(lib), "%s/libpython3.10.so", f->dir);
    snprintf(text, sizeof(text),
             "#!/bin/sh\necho x >> %s\necho '{\"implementation\":\"cpython\",\"executable\":\"/x\","
             "\"version\":\"3.10.1\",\"sys_version\":\"x\",\"info\":[3,10,1],\"base_prefix\":\"/\","
             "\"platform\":\"p\",\"libpython\":[\"%s\"]}'\n",
             counter, lib);
    put_program(f->dir, "python", text, path, sizeof(path));
    struct stat st;
    for (int i = 0; i < 3; i++) {
        pyi_interpreter_free(found(path, f->dir));
    }
    assert_int_equal(stat(counter, &st), 0);
    assert_int_equal(st.st_size, 2); /* once */
    put_file(lib, "");               /* its library appears */
    pyi_interpreter *i = found(path, f->dir);
    assert_string_equal(i->libpython, lib);
    pyi_interpreter_free(i);
    pyi_interpreter_free(found(path, f->dir));
    assert_int_equal(stat(counter, &st), 0);
    assert_int_equal(st.st_size, 4);
    put_program(f->dir, "python", strcat(text, "# replaced\n"), path, sizeof(path));
    pyi_interpreter_free(found(path, f->dir));
    assert_int_equal(stat(counter, &st), 0);
    assert_int_equal(st.st_size, 6);
}

static void a_shim_on_path_is_passed_over(void **state) {
    folder *f = *state;
    char path[128], dirs[8192];
    PYI_AUTO_FREE char *before = strdup(getenv("PATH"));
    put_program(f->dir, "python3", "#!/bin/sh\nexit 1\n", path, sizeof(path));
    snprintf(dirs, sizeof(dirs), "%s:%s", f->dir, before);
    setenv("PATH", dirs, 1);
    pyi_interpreter *i = found(NULL, f->dir);
    setenv("PATH", before, 1);
    assert_string_not_equal(i->executable, path);
    pyi_interpreter_free(i);
}

static void the_variable_of_the_user_is_the_default(void **state) {
    folder *f = *state;
    pyi_interpreter *i = found(NULL, f->dir);
    pyi_error e;
    setenv("PYISOLATE_PYTHON", "3.99", 1);
    assert_null(find(NULL, f->dir, &e));
    setenv("PYISOLATE_PYTHON", i->executable, 1);
    pyi_interpreter *same = found(NULL, f->dir);
    unsetenv("PYISOLATE_PYTHON");
    assert_string_equal(same->executable, i->executable);
    pyi_interpreter_free(i);
    pyi_interpreter_free(same);
}

int main(void) {
#define WITH(test) cmocka_unit_test_setup_teardown(test, folder_new, folder_free)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_order_as_pep_440_says),
        cmocka_unit_test(a_version_request_takes_what_it_says),
        cmocka_unit_test(a_request_that_makes_no_sense_is_refused_with_examples),
        WITH(the_default_is_a_supported_cpython_with_an_absolute_path),
        WITH(every_listed_interpreter_is_found_by_its_version_and_by_its_path),
        WITH(a_missing_version_names_what_was_found_and_the_remedy),
        WITH(an_old_version_is_not_advised_to_be_installed),
        WITH(a_path_that_is_no_python_is_refused_with_its_words),
        WITH(another_implementation_or_an_old_python_is_refused),
        WITH(an_interpreter_is_asked_once_and_again_when_it_changes),
        WITH(a_shim_on_path_is_passed_over),
        WITH(the_variable_of_the_user_is_the_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

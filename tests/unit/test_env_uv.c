/* Environments that uv fills: what is installed, what is left out, and what uv's words become. */
#include "env_fixture.h"

static void two_versions_of_one_package_live_side_by_side(void **state) {
    fixture *f = *state;
    put_wheel(f, "depa", "1.0", "");
    put_wheel(f, "depa", "2.0", "");
    want(f, "depa==1.0", NULL);
    pyi_env *one = prepared(f);
    f->extension.name = "other";
    want(f, "depa>=2", NULL);
    pyi_env *two = prepared(f);
    check_python(one->python, "import depa; print(depa.VERSION)", "1.0");
    check_python(two->python, "import depa; print(depa.VERSION)", "2.0");
    assert_string_not_equal(one->id, two->id);
    pyi_env_free(one);
    pyi_env_free(two);
}

static void a_package_of_the_index_is_installed_and_compiled(void **state) {
    fixture *f = *state;
    want(f, "six==1.16.0", "idna==3.7");
    pyi_env *env = prepared(f);
    check_python(env->python,
                 "import six, idna, os; print(six.__version__, idna.__version__, "
                 "os.path.exists(six.__cached__))",
                 "1.16.0 3.7 True");
    assert_non_null(strstr(f->said, "Installed 2 packages"));
    pyi_env_free(env);
}

static void pyisolate_is_never_installed_however_it_is_required(void **state) {
    fixture *f = *state;
    char project[600], editable[620];
    snprintf(project, sizeof(project), "%s/project", f->dir);
    assert_int_equal(mkdir(project, 0755), 0);
    put_file(at(f, "project/pyproject.toml"), "[project]\nname = \"PyIsolate\"\nversion = \"1\"\n");
    snprintf(editable, sizeof(editable), "-e %s", project);
    put_wheel(f, "needy", "1.0", "pyisolate>=999");
    want(f, "needy", editable);
    f->deps[2] = "pyisolate==0.0.0.dev999";
    f->extension.dependencies.count = 3;
    pyi_env *env = prepared(f);
    check_python(
        env->python,
        "import needy, importlib.util as u; print(needy.VERSION, u.find_spec('pyisolate'))",
        "1.0 None");
    pyi_env_free(env);
}

static void a_failure_says_which_extension_and_gives_the_words_of_uv(void **state) {
    fixture *f = *state;
    put_wheel(f, "depa", "1.0", "");
    want(f, "depa==77.1", NULL);
    assert_null(prepare(f));
    assert_int_equal(f->e.code, PYI_EENV);
    assert_non_null(strstr(f->e.msg, "'sample'"));
    assert_non_null(strstr(f->e.msg, "depa==77.1"));
    assert_non_null(f->detail);
    assert_non_null(strstr(f->detail, "No solution found"));
}

static void a_constraint_and_an_override_decide_the_version(void **state) {
    fixture *f = *state;
    const char *const below[] = {"depa<2"}, *const forced[] = {"depb==1.0"};
    put_wheel(f, "depa", "1.5", "");
    put_wheel(f, "depa", "2.5", "");
    put_wheel(f, "depb", "1.0", "");
    put_wheel(f, "depc", "1.0", "depb>=9");
    want(f, "depa", "depc");
    f->extension.constraints = (pyi_strings){below, 1};
    f->extension.overrides = (pyi_strings){forced, 1};
    pyi_env *env = prepared(f);
    check_python(env->python, "import depa, depb; print(depa.VERSION, depb.VERSION)", "1.5 1.0");
    pyi_env_free(env);
}

static void a_requirement_file_is_installed_and_its_change_is_noticed(void **state) {
    fixture *f = *state;
    char main_file[600];
    const char *const files[] = {main_file};
    put_wheel(f, "depa", "1.0", "");
    put_wheel(f, "depa", "2.0", "");
    snprintf(main_file, sizeof(main_file), "%s/requirements.txt", f->dir);
    put_file(main_file, "-r more.txt\n");
    put_file(at(f, "more.txt"), "depa==1.0\n");
    f->extension.requirements = (pyi_strings){files, 1};
    pyi_env *one = prepared(f);
    put_file(at(f, "more.txt"), "depa==2.0\n");
    pyi_env *two = prepared(f);
    check_python(one->python, "import depa; print(depa.VERSION)", "1.0");
    check_python(two->python, "import depa; print(depa.VERSION)", "2.0");
    pyi_env_free(one);
    pyi_env_free(two);
}

static void a_changed_local_project_is_built_anew(void **state) {
    fixture *f = *state;
    char project[600];
    snprintf(project, sizeof(project), "%s/a project", f->dir); /* the space is on purpose */
    put_project(f, "a project");
    want(f, project, NULL);
    pyi_env *one = prepared(f);
    put_file(at(f, "a project/loc.py"), "X = 22\n");
    pyi_env *two = prepared(f);
    check_python(one->python, "import loc; print(loc.X)", "1");
    check_python(two->python, "import loc; print(loc.X)", "22");
    pyi_env_free(one);
    pyi_env_free(two);
}

/* The forms in which a requirement file names a project; each is built from its present sources. */
static void a_local_project_in_a_requirement_file_is_built_anew_when_it_changes(void **state) {
    static const char *const forms[] = {"./sub/project  # a comment\n", "sub/project\n",
                                        "loc @ file:sub/project\n", "-r sub/more.txt\n",
                                        "${PYI_TEST_AT}/sub/project\n"};
    fixture *f = *state;
    char main_file[600], text[64], expected[16];
    const char *const files[] = {main_file};
    snprintf(main_file, sizeof(main_file), "%s/requirements.txt", f->dir);
    f->extension.requirements = (pyi_strings){files, 1};
    setenv("PYI_TEST_AT", f->dir, 1);
    assert_int_equal(mkdir(at(f, "sub"), 0755), 0);
    put_project(f, "sub/project");
    put_file(at(f, "sub/more.txt"), "./sub/project ; python_version > '3'\n");
    for (size_t i = 0; i < PYI_COUNT(forms); i++) {
        put_file(main_file, forms[i]);
        pyi_env *before = prepared(f);
        snprintf(text, sizeof(text), "X = %zu\n", 100 + i);
        snprintf(expected, sizeof(expected), "%zu", 100 + i);
        put_file(at(f, "sub/project/loc.py"), text);
        pyi_env *after = prepared(f);
        assert_string_not_equal(before->id, after->id);
        check_python(after->python, "import loc; print(loc.X)", expected);
        pyi_env_free(before);
        pyi_env_free(after);
    }
    unsetenv("PYI_TEST_AT");
}

static void without_requirements_no_uv_is_needed(void **state) {
    fixture *f = *state;
    setenv("PYISOLATE_UV", "/nonexistent/uv", 1);
    want(f, NULL, NULL);
    pyi_env *env = prepared(f);
    check_python(env->python, "import sys; print(sys.prefix != sys.base_prefix)", "True");
    want(f, "depa", NULL);
    assert_null(prepare(f));
    unsetenv("PYISOLATE_UV");
    assert_int_equal(f->e.code, PYI_EENV);
    assert_non_null(strstr(f->e.msg, "pip install uv"));
    pyi_env_free(env);
}

static void settings_of_pip_reach_uv_and_missing_folders_are_passed_over(void **state) {
    fixture *f = *state;
    char text[1200];
    put_wheel(f, "depa", "1.0", "");
    put_file(at(f, "capped.txt"), "depa<5\n");
    snprintf(text, sizeof(text),
             "# comment\n[global]\nfind_links =\n    %s\n    %s/nowhere\n"
             "[install]\nconstraint = %s/capped.txt\n[other]\nindex-url = http://127.0.0.1:9/\n",
             f->wheels, f->dir, f->dir);
    put_file(at(f, "pip.conf"), text);
    put_wheel(f, "depa", "9.0", "");
    setenv("PIP_CONFIG_FILE", at(f, "pip.conf"), 1);
    PYI_AUTO_FREE char *links = getenv("PIP_FIND_LINKS") ? strdup(getenv("PIP_FIND_LINKS")) : NULL;
    unsetenv("PIP_FIND_LINKS");
    f->extension.find_links.count = 0;
    want(f, "depa", NULL);
    pyi_env *env = prepared(f);
    unsetenv("PIP_CONFIG_FILE");
    if (links != NULL) {
        setenv("PIP_FIND_LINKS", links, 1);
    }
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): its cleanup frees it
    check_python(env->python, "import depa; print(depa.VERSION)", "1.0");
    pyi_env_free(env);
}

static void a_password_in_an_index_is_never_shown_or_stored(void **state) {
    fixture *f = *state;
    setenv("UV_HTTP_RETRIES", "0", 1);
    f->extension.index_url = "http://someone:s3cret@127.0.0.1:9/simple";
    want(f, "depa==1.0", NULL);
    assert_null(prepare(f));
    unsetenv("UV_HTTP_RETRIES");
    assert_int_equal(f->e.code, PYI_EENV);
    assert_null(strstr(f->e.msg, "s3cret"));
    assert_null(strstr(f->detail, "s3cret"));
    assert_null(strstr(f->said, "s3cret"));
    const char *const argv[] = {"sh", "-c", "grep -rl s3cret \"$0\" || true", f->root, NULL};
    char *out = output_of(argv);
    assert_string_equal(out, "");
    free(out);
}

int main(void) {
#define WITH(test) cmocka_unit_test_setup_teardown(test, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        WITH(two_versions_of_one_package_live_side_by_side),
        WITH(a_package_of_the_index_is_installed_and_compiled),
        WITH(pyisolate_is_never_installed_however_it_is_required),
        WITH(a_failure_says_which_extension_and_gives_the_words_of_uv),
        WITH(a_constraint_and_an_override_decide_the_version),
        WITH(a_requirement_file_is_installed_and_its_change_is_noticed),
        WITH(a_changed_local_project_is_built_anew),
        WITH(a_local_project_in_a_requirement_file_is_built_anew_when_it_changes),
        WITH(without_requirements_no_uv_is_needed),
        WITH(settings_of_pip_reach_uv_and_missing_folders_are_passed_over),
        WITH(a_password_in_an_index_is_never_shown_or_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The store: reuse, the link, locks, and what a failure, a cancel or a kill leaves behind. */
#include "env_fixture.h"
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/wait.h>

static void check_link(const fixture *f, const char *name, const pyi_env *env) {
    char link[600], target[128] = "", expected[64];
    snprintf(link, sizeof(link), "%s/%s", f->root, name);
    snprintf(expected, sizeof(expected), ".envs/%s", env->id);
    assert_true(readlink(link, target, sizeof(target) - 1) > 0);
    assert_string_equal(target, expected);
}

/* Entries of .envs: an environment each, and nothing that a build left. */
static int count_envs(const fixture *f) {
    int n = 0;
    struct dirent *entry;
    DIR *d = opendir(at(f, "venvs/.envs"));
    assert_non_null(d);
    while ((entry = readdir(d)) != NULL) {
        n += entry->d_name[0] != '.' ? 1 : 0;
    }
    closedir(d);
    return n;
}

static void the_second_start_finds_the_first_ones_environment_at_once(void **state) {
    fixture *f = *state;
    put_wheel(f, "depa", "1.0", "");
    want(f, "depa", NULL);
    pyi_env *first = prepared(f);
    assert_true(first->built);
    assert_non_null(strstr(f->said, "4 ready"));
    setenv("PYISOLATE_UV", "/nonexistent/uv", 1); /* nothing may be run */
    for (int i = 0; i < 3; i++) {
        pyi_env *again = prepared(f);
        assert_false(again->built);
        assert_string_equal(again->id, first->id);
        assert_string_equal(f->said, "");
        pyi_env_free(again);
    }
    unsetenv("PYISOLATE_UV");
    check_link(f, "sample", first);
    assert_int_equal(count_envs(f), 1);
    pyi_env_free(first);
}

static void equal_requirements_share_one_environment_however_they_are_written(void **state) {
    fixture *f = *state;
    put_wheel(f, "dep_a", "1.0", "");
    put_wheel(f, "depb", "1.0", "");
    want(f, "dep_a>=1.0", "depb");
    pyi_env *one = prepared(f);
    f->extension.name = "twin";
    want(f, "DepB", " Dep-A >= 1.0 ");
    pyi_env *two = prepared(f);
    assert_string_equal(one->prefix, two->prefix);
    assert_false(two->built);
    check_link(f, "sample", two);
    check_link(f, "twin", two);
    pyi_env_free(one);
    pyi_env_free(two);
}

static void another_option_is_another_environment(void **state) {
    fixture *f = *state;
    const char *const limit[] = {"depa<2"};
    want(f, NULL, NULL);
    pyi_env *plain = prepared(f);
    put_wheel(f, "depa", "1.0", "");
    want(f, "depa", NULL);
    pyi_env *one = prepared(f);
    f->extension.constraints = (pyi_strings){limit, 1};
    pyi_env *two = prepared(f);
    assert_string_not_equal(plain->id, one->id);
    assert_string_not_equal(one->id, two->id);
    check_link(f, "sample", two);
    assert_int_equal(access(one->python, X_OK), 0); /* the old one stays */
    pyi_env_free(plain);
    pyi_env_free(one);
    pyi_env_free(two);
}

static void a_failed_install_leaves_the_old_environment_in_use(void **state) {
    fixture *f = *state;
    put_wheel(f, "depa", "1.0", "");
    want(f, "depa", NULL);
    pyi_env *old = prepared(f);
    want(f, "depa", "no-such-thing-77==1");
    assert_null(prepare(f));
    assert_int_equal(f->e.code, PYI_EENV);
    check_link(f, "sample", old);
    check_python(old->python, "import depa; print(depa.VERSION)", "1.0");
    assert_int_equal(count_envs(f), 1);
    pyi_env_free(old);
}

static void a_folder_in_the_way_of_the_link_is_left_alone(void **state) {
    fixture *f = *state;
    pyi_error e;
    pyi_error_init(&e);
    assert_int_equal(pyi_mkdirs(at(f, "venvs/sample"), 0755, &e), PYI_OK);
    put_file(at(f, "venvs/sample/mine"), "precious");
    want(f, NULL, NULL);
    assert_null(prepare(f));
    assert_int_equal(f->e.code, PYI_EENV);
    assert_non_null(strstr(f->e.msg, "in the way"));
    assert_int_equal(file_size(at(f, "venvs/sample/mine")), 8);
}

static void a_name_that_leaves_the_root_is_refused(void **state) {
    fixture *f = *state;
    f->extension.name = "../out";
    assert_null(prepare(f));
    assert_int_equal(f->e.code, PYI_EINVAL);
}

static void an_option_among_the_dependencies_is_refused(void **state) {
    static const char *const smuggled[] = {
        "--index-url=http://127.0.0.1/", "-r other.txt", "depa\n--pre", "-e --pre", "-e", ""};
    fixture *f = *state;
    for (size_t i = 0; i < PYI_COUNT(smuggled); i++) {
        want(f, smuggled[i], NULL);
        assert_null(prepare(f));
        assert_int_equal(f->e.code, PYI_EINVAL);
    }
    assert_int_equal(access(f->root, F_OK), -1); /* nothing was made */
}

static void a_python_that_is_not_there_is_named_with_the_extension(void **state) {
    fixture *f = *state;
    f->extension.python = "3.99";
    assert_null(prepare(f));
    assert_int_equal(f->e.code, PYI_EENV);
    assert_non_null(strstr(f->e.msg, "'sample'"));
    assert_non_null(strstr(f->e.msg, "'3.99'"));
}

static void an_environment_without_its_marker_is_rebuilt(void **state) {
    fixture *f = *state;
    char marker[700];
    put_wheel(f, "depa", "1.0", "");
    want(f, "depa", NULL);
    pyi_env *one = prepared(f);
    snprintf(marker, sizeof(marker), "%s/.pyisolate-env.json", one->prefix);
    assert_int_equal(unlink(marker), 0);
    pyi_env *two = prepared(f);
    assert_true(two->built);
    assert_string_equal(one->id, two->id);
    check_python(two->python, "import depa; print(depa.VERSION)", "1.0");
    pyi_env_free(one);
    pyi_env_free(two);
}

static void an_existing_environment_is_used_and_not_touched(void **state) {
    fixture *f = *state;
    put_wheel(f, "depa", "1.0", "");
    want(f, "depa", NULL);
    pyi_env *made = prepared(f);
    struct stat before, after;
    assert_int_equal(stat(made->prefix, &before), 0);
    f->extension.name = "user";
    f->extension.environment = made->prefix;
    pyi_env *used = prepared(f);
    assert_false(used->built);
    assert_string_equal(used->python, made->python);
    assert_string_equal(used->interpreter->version, made->interpreter->version);
    assert_int_equal(stat(made->prefix, &after), 0);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    assert_int_equal(access(at(f, "venvs/user"), F_OK), -1);
    f->extension.environment = "/nonexistent/env";
    assert_null(prepare(f));
    assert_non_null(strstr(f->e.msg, "/nonexistent/env"));
    pyi_env_free(made);
    pyi_env_free(used);
}

static void without_isolation_the_managers_python_is_the_environment(void **state) {
    fixture *f = *state;
    f->extension.isolated = false;
    pyi_env *env = prepared(f);
    assert_string_equal(env->id, "host");
    assert_false(env->built);
    assert_string_equal(env->prefix, env->interpreter->base_prefix);
    assert_string_equal(env->python, env->interpreter->executable);
    pyi_env_free(env);
    assert_int_equal(access(f->root, F_OK), -1); /* nothing was made */
}

static void without_isolation_a_virtual_environment_is_taken_as_it_is(void **state) {
    fixture *f = *state;
    put_wheel(f, "depa", "1.5", "");
    want(f, "depa", NULL);
    pyi_env *made = prepared(f);
    f->manager.python = made->python;
    f->extension.name = "inside";
    f->extension.isolated = false;
    want(f, "depa>=1.2,<2", "Depa ~= 1.0");
    pyi_env *env = prepared(f);
    assert_string_equal(env->prefix, made->prefix);
    assert_string_equal(env->python, made->python);
    assert_int_equal(access(at(f, "venvs/inside"), F_OK), -1);
    pyi_env_free(env);
    f->manager.python = made->prefix; /* its folder says the same */
    env = prepared(f);
    assert_string_equal(env->prefix, made->prefix);
    pyi_env_free(env);
    pyi_env_free(made);
}

static void without_isolation_what_is_unmet_is_named_and_not_installed(void **state) {
    fixture *f = *state;
    put_wheel(f, "depa", "1.5", "");
    put_wheel(f, "depb", "1.0", "");
    want(f, "depa", NULL);
    pyi_env *made = prepared(f);
    f->manager.python = made->python;
    f->extension.isolated = false;
    want(f, "depa>=2", "depb");
    assert_null(prepare(f));
    assert_int_equal(f->e.code, PYI_EENV);
    assert_non_null(strstr(f->e.msg, "depa>=2 (depa 1.5 is installed), depb (not installed)"));
    assert_non_null(strstr(f->e.msg, "isolated = true"));
    assert_non_null(strstr(f->detail, made->python));
    check_python(made->python, "import importlib.util as u; print(u.find_spec('depb'))", "None");
    pyi_env_free(made);
}

static pid_t prepare_in_a_process(fixture *f) {
    pid_t pid = fork();
    if (pid == 0) {
        pyi_env *env = NULL;
        pyi_error_init(&f->e);
        pyi_err err = pyi_env_prepare(&f->manager, &f->extension, NULL, -1, &env, NULL, &f->e);
        bool built = err == PYI_OK && env->built;
        pyi_env_free(env);
        _exit(err != PYI_OK ? 2 : built ? 1 : 0);
    }
    assert_true(pid > 0);
    return pid;
}

static bool wait_for(const char *path) {
    for (int i = 0; i < 1000 && access(path, F_OK) != 0; i++) {
        usleep(10000);
    }
    return access(path, F_OK) == 0;
}

static void two_hosts_at_once_build_it_once(void **state) {
    fixture *f = *state;
    char project[600];
    int status, built = 0;
    snprintf(project, sizeof(project), "%s/project", f->dir);
    put_project(f, "project");
    want(f, project, NULL);
    pid_t hosts[] = {prepare_in_a_process(f), prepare_in_a_process(f)};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(waitpid(hosts[i], &status, 0), hosts[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
        built += WEXITSTATUS(status);
    }
    assert_int_equal(built, 1);
    assert_int_equal(file_size(at(f, "builds")), 1);
}

static int count_compiled(const fixture *f) {
    int n = 0;
    struct dirent *entry;
    DIR *d = opendir(at(f, "lib/python/pyisolate/__pycache__"));
    while (d != NULL && (entry = readdir(d)) != NULL) {
        n += entry->d_name[0] != '.' ? 1 : 0;
    }
    if (d != NULL) {
        closedir(d);
    }
    return n;
}

static void the_runtime_is_compiled_for_the_python_of_an_environment(void **state) {
    fixture *f = *state;
    const char *lib = getenv("PYISOLATE_LIBDIR");
    PYI_AUTO_FREE char *before = lib == NULL ? NULL : strdup(lib);
    pyi_error_init(&f->e);
    assert_int_equal(pyi_mkdirs(at(f, "lib/python/pyisolate"), 0755, &f->e), PYI_OK);
    put_file(at(f, "lib/pyisolate-child"), "");
    put_file(at(f, "lib/libpyisolate-core.abi3.so"), "");
    put_file(at(f, "lib/python/pyisolate/one.py"), "X = 1\n");
    assert_int_equal(chmod(at(f, "lib/pyisolate-child"), 0755), 0);
    setenv("PYISOLATE_LIBDIR", at(f, "lib"), 1);
    want(f, NULL, NULL);
    pyi_env_free(prepared(f));
    int first = count_compiled(f);
    put_file(at(f, "lib/python/pyisolate/two.py"), "X = 2\n"); /* an update of the runtime */
    pyi_env_free(prepared(f));
    int second = count_compiled(f);
    unsetenv("PYISOLATE_LIBDIR");
    if (before != NULL) {
        setenv("PYISOLATE_LIBDIR", before, 1);
    }
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): its cleanup frees it
    assert_int_equal(first, 1);
    assert_int_equal(second, 2);
}

typedef struct side {
    fixture *f;
    pyi_extension_config extension;
    pyi_env *env;
    pyi_error e;
} side;

static void *prepare_side(void *arg) {
    side *s = arg;
    pyi_error_init(&s->e);
    pyi_err err = pyi_env_prepare(&s->f->manager, &s->extension, NULL, -1, &s->env, NULL, &s->e);
    return err == PYI_OK ? s : NULL;
}

static void several_extensions_are_prepared_side_by_side(void **state) {
    static const char *const names[] = {"one", "two", "three", "four"};
    static const char *const wanted[] = {"depa==1.0", "depa==1.0", "depa==2.0", "depb"};
    fixture *f = *state;
    pthread_t threads[4];
    side sides[4];
    put_wheel(f, "depa", "1.0", "");
    put_wheel(f, "depa", "2.0", "");
    put_wheel(f, "depb", "1.0", "");
    for (int i = 0; i < 4; i++) {
        sides[i] = (side){.f = f, .extension = f->extension};
        sides[i].extension.name = names[i];
        sides[i].extension.dependencies = (pyi_strings){&wanted[i], 1};
        assert_int_equal(pthread_create(&threads[i], NULL, prepare_side, &sides[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *done = NULL;
        assert_int_equal(pthread_join(threads[i], &done), 0);
        if (done == NULL) {
            fail_msg("%s", sides[i].e.msg);
        }
        check_link(f, names[i], sides[i].env);
    }
    assert_int_equal((int)sides[0].env->built + (int)sides[1].env->built, 1);
    assert_int_equal(count_envs(f), 3);
    for (int i = 0; i < 4; i++) {
        pyi_env_free(sides[i].env);
    }
}

static void each_interpreter_of_this_machine_gets_its_own_environment(void **state) {
    fixture *f = *state;
    pyi_interpreter **list = NULL;
    size_t count = 0;
    pyi_error_init(&f->e);
    assert_int_equal(pyi_interpreter_list(at(f, "cache"), &list, &count, &f->e), PYI_OK);
    put_wheel(f, "depa", "1.0", "");
    want(f, "depa", NULL);
    for (size_t i = 0; i < count; i++) {
        char expected[64];
        f->extension.python = list[i]->executable;
        pyi_env *env = prepared(f);
        snprintf(expected, sizeof(expected), "%s 1.0", list[i]->version);
        check_python(env->python, "import sys, depa; print(sys.version.split()[0], depa.VERSION)",
                     expected);
        print_message("  built with %s\n", list[i]->version);
        pyi_env_free(env);
        pyi_interpreter_free(list[i]);
    }
    free(list);
    assert_int_equal(count_envs(f), (int)count);
}

static void a_kill_in_mid_build_is_healed_by_the_next_start(void **state) {
    fixture *f = *state;
    char project[600];
    snprintf(project, sizeof(project), "%s/project", f->dir);
    put_project(f, "project");
    put_file(at(f, "slow"), "");
    want(f, project, NULL);
    pid_t host = prepare_in_a_process(f);
    assert_true(wait_for(at(f, "builds")));
    assert_int_equal(kill(host, SIGKILL), 0);
    assert_int_equal(waitpid(host, NULL, 0), host);
    assert_int_equal(access(at(f, "venvs/sample"), F_OK), -1);
    assert_int_equal(count_envs(f), 2); /* the half-made one and its files */
    assert_int_equal(unlink(at(f, "slow")), 0);
    pyi_env *env = prepared(f);
    assert_true(env->built);
    check_python(env->python, "import loc; print(loc.X)", "1");
    assert_int_equal(count_envs(f), 1);
    pyi_env_free(env);
}

static void cancel_when_building(void *arg, const char *extension, pyi_env_step step,
                                 const char *text) {
    (void)extension;
    (void)text;
    if (step == PYI_STEP_BUILD) {
        assert_int_equal(eventfd_write(*(int *)arg, 1), 0);
    }
}

static void a_cancel_ends_the_build_and_clears_it(void **state) {
    fixture *f = *state;
    char project[600];
    pyi_env *env = NULL;
    int cancel = eventfd(0, EFD_CLOEXEC);
    pyi_env_progress progress = {.step = cancel_when_building, .arg = &cancel};
    snprintf(project, sizeof(project), "%s/project", f->dir);
    put_project(f, "project");
    put_file(at(f, "slow"), "");
    want(f, project, NULL);
    int64_t began = pyi_now_ns();
    pyi_error_init(&f->e);
    assert_int_equal(
        pyi_env_prepare(&f->manager, &f->extension, &progress, cancel, &env, NULL, &f->e),
        PYI_ECANCELLED);
    assert_true(pyi_now_ns() - began < 20 * PYI_NS_PER_S);
    assert_null(env);
    assert_int_equal(count_envs(f), 0);
    close(cancel);
}

static void cancel_when_waiting(void *arg, const char *extension, pyi_env_step step,
                                const char *text) {
    (void)extension;
    (void)step;
    assert_non_null(strstr(text, "is building the same environment"));
    assert_int_equal(eventfd_write(*(int *)arg, 1), 0);
}

static void waiting_for_another_host_is_told_and_can_be_cancelled(void **state) {
    fixture *f = *state;
    char marker[700], lock[700];
    int cancel = eventfd(0, EFD_CLOEXEC);
    pyi_env_progress progress = {.step = cancel_when_waiting, .arg = &cancel};
    pyi_env *none = NULL;
    want(f, NULL, NULL);
    pyi_env *env = prepared(f);
    snprintf(marker, sizeof(marker), "%s/.pyisolate-env.json", env->prefix);
    snprintf(lock, sizeof(lock), "%s/.locks/%s", f->root, env->id);
    assert_int_equal(unlink(marker), 0);
    int held = open(lock, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(held, LOCK_EX), 0);
    pyi_error_init(&f->e);
    assert_int_equal(
        pyi_env_prepare(&f->manager, &f->extension, &progress, cancel, &none, NULL, &f->e),
        PYI_ECANCELLED);
    close(held);
    close(cancel);
    pyi_env_free(env);
}

int main(void) {
#define WITH(test) cmocka_unit_test_setup_teardown(test, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        WITH(the_second_start_finds_the_first_ones_environment_at_once),
        WITH(equal_requirements_share_one_environment_however_they_are_written),
        WITH(another_option_is_another_environment),
        WITH(a_failed_install_leaves_the_old_environment_in_use),
        WITH(a_folder_in_the_way_of_the_link_is_left_alone),
        WITH(a_name_that_leaves_the_root_is_refused),
        WITH(an_option_among_the_dependencies_is_refused),
        WITH(a_python_that_is_not_there_is_named_with_the_extension),
        WITH(an_environment_without_its_marker_is_rebuilt),
        WITH(an_existing_environment_is_used_and_not_touched),
        WITH(without_isolation_the_managers_python_is_the_environment),
        WITH(without_isolation_a_virtual_environment_is_taken_as_it_is),
        WITH(without_isolation_what_is_unmet_is_named_and_not_installed),
        WITH(two_hosts_at_once_build_it_once),
        WITH(the_runtime_is_compiled_for_the_python_of_an_environment),
        WITH(several_extensions_are_prepared_side_by_side),
        WITH(each_interpreter_of_this_machine_gets_its_own_environment),
        WITH(a_kill_in_mid_build_is_healed_by_the_next_start),
        WITH(a_cancel_ends_the_build_and_clears_it),
        WITH(waiting_for_another_host_is_told_and_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

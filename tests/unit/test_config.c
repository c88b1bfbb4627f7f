/* Configurations: what is accepted, every rule with its message, lines, many problems at once,
 * budgets. */
#include "config.h"
#include "config_struct.h"
#include "manager.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char directory[64];

static void put_file(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int set_up(void **state) {
    (void)state;
    char path[256];
    snprintf(directory, sizeof(directory), "/tmp/pyi-config-XXXXXX");
    if (mkdtemp(directory) == NULL) {
        return -1;
    }
    static const char *const folders[] = {"mod", "empty", "wheels", "env"};
    for (size_t i = 0; i < PYI_COUNT(folders); i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, folders[i]);
        mkdir(path, 0700);
    }
    put_file("mod/__init__.py", "");
    put_file("single.py", "");
    put_file("reqs.txt", "");
    put_file("notes.txt", "");
    put_file("python3", "");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof(command), "rm -r '%s'", directory);
    return system(command);
}

static pyi_config *load(const char *text) {
    pyi_config *c = NULL;
    pyi_error e;
    pyi_error_init(&e);
    if (pyi_config_load_string(text, strlen(text), "config.lua", directory, &c, &e) != PYI_OK) {
        fail_msg("%s", e.msg);
    }
    return c;
}

static pyi_config *load_good(const char *text) {
    const char *const *problems;
    pyi_config *c = load(text);
    if (pyi_config_problems(c, &problems) > 0) {
        fail_msg("%s", problems[0]);
    }
    return c;
}

#define HEAD "local pyisolate = require 'pyisolate'\n"

/* An extension with these keys beside name and module_path, on line 2. */
static pyi_config *load_keys(const char *keys) {
    char text[4096];
    snprintf(text, sizeof(text),
             HEAD "pyisolate.extension { name = 'x', module_path = './mod', %s }\n", keys);
    return load(text);
}

/* Exactly these problems, each "LINE: text..." (its beginning; place and subject left out). */
static void expect(const char *text, size_t count, const char *const *expected) {
    pyi_config *c = load(text);
    const char *const *problems;
    size_t found = pyi_config_problems(c, &problems);
    for (size_t i = 0; i < found; i++) {
        const char *want = i < count ? expected[i] : "nothing more";
        const char *rest = strchr(want, '|');
        size_t line = rest != NULL ? (size_t)(rest - want) : 0;
        bool good = rest != NULL && strncmp(problems[i], "config.lua:", 11) == 0 &&
                    strncmp(problems[i] + 11, want, line) == 0 && problems[i][11 + line] == ':' &&
                    strstr(problems[i], rest + 1) != NULL;
        if (!good) {
            fail_msg("got: %s\nexpected: %s\nin: %s", problems[i], want, text);
        }
    }
    if (found != count) {
        fail_msg("%zu problems, expected %zu (%s)\nin: %s", found, count, expected[found], text);
    }
    assert_int_equal(pyi_config_count(c), count == 0 ? pyi_config_count(c) : 0);
    assert_true(count == 0 || pyi_config_take_manager(c) == NULL);
    pyi_config_free(c);
}

static void expect_one(const char *text, const char *expected) {
    expect(text, 1, &expected);
}

static void keys_give(const char *keys, const char *expected) {
    char text[4096], want[512];
    snprintf(text, sizeof(text),
             HEAD "pyisolate.extension { name = 'x', module_path = './mod', %s }\n", keys);
    snprintf(want, sizeof(want), "2|%s", expected);
    expect_one(text, want);
}

static void keys_are_good(const char *keys) {
    pyi_config *c = load_keys(keys);
    const char *const *problems;
    if (pyi_config_problems(c, &problems) > 0) {
        fail_msg("%s\nin: %s", problems[0], keys);
    }
    pyi_config_free(c);
}

/* ---- what is accepted ------------------------------------------------------------------------ */

static void test_defaults(void **state) {
    (void)state;
    char path[256];
    pyi_config *c = load_keys("");
    const pyi_extension_config *x = pyi_config_extension(c, 0);
    const pyi_manager_config *m = pyi_config_manager(c);
    assert_int_equal(pyi_config_count(c), 1);
    assert_false(pyi_config_has_main(c));
    snprintf(path, sizeof(path), "%s/mod", directory);
    assert_string_equal(x->module_path, path);
    snprintf(path, sizeof(path), "%s/venvs", directory);
    assert_string_equal(m->venv_root_path, path);
    assert_string_equal(m->directory, directory);
    assert_null(m->path);
    assert_false(m->has_log_level);
    assert_string_equal(x->declared_at, "config.lua:2");
    assert_true(x->isolated && x->embed);
    assert_int_equal(x->dependencies.count, 0);
    assert_int_equal(x->sandbox_mode, PYI_SANDBOX_ABSENT);
    assert_int_equal(x->package_manager, PYI_PM_UV);
    assert_int_equal(x->execution_model, PYI_HOST_COUPLED);
    assert_int_equal(x->restart, PYI_RESTART_ON_CRASH);
    assert_int_equal(x->call_timeout_ms, 0);
    assert_int_equal(x->start_timeout_ms, PYI_START_TIMEOUT_MS);
    assert_int_equal(x->stop_timeout_ms, PYI_STOP_TIMEOUT_MS);
    assert_true(x->max_concurrency > 0 && x->threads == 0);
    assert_string_equal(x->transport, "nng");
    assert_null(x->python);
    assert_null(x->module);
    assert_int_equal(x->not_yet.count, 0);
    pyi_config_free(c);
}

static void test_all_that_is_available_arrives(void **state) {
    (void)state;
    char text[256];
    pyi_config *c = load_good(
        HEAD "pyisolate.manager { venv_root_path = '/v//./w', python = '3.11', log = 'warning' }\n"
             "pyisolate.extension { name = 'A.b-c_1', module_path = 'single.py', module = 'a.b', "
             "isolated = true,\n"
             "  dependencies = { 'numpy>=2.0', '-e ./mod' }, requirements = { 'reqs.txt' }, "
             "constraints = { 'a<2' },\n"
             "  overrides = { 'b==1' }, index_url = 'https://index.example/simple', "
             "extra_index_urls = { 'file:///w' },\n"
             "  find_links = { './wheels', 'https://x.example/y' }, python = './python3', "
             "entrypoint = 'make',\n"
             "  extension_type = 'p.q:C', env = { B = '2', A = '1' }, env_inherit = { 'LC_*' }, "
             "restart = 'never',\n"
             "  call_timeout = 1.5, start_timeout = 2, stop_timeout = 0, max_concurrency = 7, "
             "threads = 3,\n"
             "  execution_model = 'sealed_worker', sandbox_mode = 'disabled', embed = false }\n"
             "function pyisolate.main() end\n");
    const pyi_extension_config *x = pyi_config_extension(c, 0);
    const pyi_manager_config *m = pyi_config_manager(c);
    pyi_error e;
    pyi_error_init(&e);
    assert_string_equal(m->venv_root_path, "/v/w");
    assert_string_equal(m->python, "3.11");
    assert_true(m->has_log_level && m->log_level == PYI_WARNING);
    assert_string_equal(x->name, "A.b-c_1");
    assert_string_equal(x->module, "a.b");
    assert_int_equal(x->dependencies.count, 2);
    assert_string_equal(x->dependencies.items[0], "numpy>=2.0");
    snprintf(text, sizeof(text), "-e %s/mod", directory);
    assert_string_equal(x->dependencies.items[1], text);
    snprintf(text, sizeof(text), "%s/reqs.txt", directory);
    assert_string_equal(x->requirements.items[0], text);
    assert_string_equal(x->constraints.items[0], "a<2");
    assert_string_equal(x->overrides.items[0], "b==1");
    snprintf(text, sizeof(text), "%s/wheels", directory);
    assert_string_equal(x->find_links.items[0], text);
    snprintf(text, sizeof(text), "%s/python3", directory);
    assert_string_equal(x->python, text);
    assert_string_equal(x->entrypoint, "make");
    assert_string_equal(x->extension_type, "p.q:C");
    assert_int_equal(x->env.count, 2);
    assert_string_equal(x->env.items[0].key, "A");
    assert_string_equal(x->env.items[1].value, "2");
    assert_string_equal(x->env_inherit.items[0], "LC_*");
    assert_int_equal(x->restart, PYI_RESTART_NEVER);
    assert_int_equal(x->call_timeout_ms, 1500);
    assert_int_equal(x->start_timeout_ms, 2000);
    assert_int_equal(x->stop_timeout_ms, 0);
    assert_true(x->max_concurrency == 7 && x->threads == 3 && !x->embed);
    assert_int_equal(x->execution_model, PYI_SEALED_WORKER);
    assert_int_equal(x->sandbox_mode, PYI_SANDBOX_DISABLED);
    assert_true(pyi_config_has_main(c));
    assert_int_equal(pyi_extension_available(x, &e), PYI_OK);
    pyi_extension_config *taken = pyi_config_take_extension(c, 0);
    assert_ptr_equal(taken, x);
    assert_null(pyi_config_take_extension(c, 0));
    assert_null(pyi_config_take_extension(c, 1));
    pyi_config_free(c);
    assert_string_equal(taken->name, "A.b-c_1"); /* outlives the configuration */
    pyi_extension_config_free(taken);
}

static void test_good_requirements(void **state) {
    (void)state;
    keys_are_good("dependencies = { 'a', 'A.b-c_d', 'numpy>=2.0', 'numpy >= 2.0, < 3', "
                  "'x[a,b]~=1.4', 'x [a] ==1.*',\n"
                  "'x===1.0+local.1', 'x!=1', 'x (>=1,<2)', 'x; python_version < \"3.12\"',\n"
                  "\"x>=1 ; sys_platform == 'linux' and (os_name != 'nt' or extra == 'y')\", 'x @ "
                  "https://e.org/x-1.whl',\n"
                  "'x[a] @ https://e.org/x.whl#sha256=ab ; python_version > \"3\"', "
                  "'git+https://e.org/a/b.git@v1#egg=x',\n"
                  "'https://e.org/x-1.0.tar.gz?a=b&c=d', 'file:///w/x.whl', './mod', '../' , '-e "
                  "./mod', '-e  mod',\n"
                  "'./mod[extra]' }");
    keys_are_good("python = '3.12'");
    keys_are_good("python = '>=3.10,<3.13'");
    keys_are_good("python = '3'");
}

static void test_not_yet_keys_are_accepted_and_then_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *keys, *expected;
    } cases[] = {
        {"sandbox_mode = 'required'", "'sandbox_mode = \"required\"' is not available yet: leave "
                                      "it out to start without a sandbox"},
        {"sandbox_mode = 'preferred'", "'sandbox_mode = \"preferred\"' is not available yet"},
        {"sandbox = {}", "'sandbox' is not available yet"},
        {"package_manager = 'conda', conda_channels = { 'conda-forge' }",
         "'package_manager = \"conda\"' is not available yet: use \"uv\""},
        {"share_torch = true", "'share_torch' is not available yet: list torch in dependencies"},
        {"share_torch = true, share_cuda_ipc = true", "'share_cuda_ipc' is not available yet"},
        {"apis = { 'Clock' }", "'apis' is not available yet"},
        {"cuda_wheels = { index_url = 'https://x.example/' }",
         "'cuda_wheels' is not available yet"},
        {"execution_model = 'sealed_worker', sealed_host_ro_paths = { '/a' }",
         "'sealed_host_ro_paths' is not available yet"},
        {"may_call = { 'y' }", "'may_call' is not available yet"},
        {"publish = { 'a.b' }", "'publish' is not available yet"},
        {"subscribe = { 'a.*' }", "'subscribe' is not available yet"},
        {"policy = 'p.lua'", "'policy' is not available yet"},
        {"transport = 'ring'", "'transport = \"ring\"' is not available yet: use \"nng\""},
        {"filtered_subdirs = { 'a' }", "'filtered_subdirs' is not available yet"},
    };
    for (size_t i = 0; i < PYI_COUNT(cases); i++) {
        pyi_error e;
        pyi_error_init(&e);
        keys_are_good(cases[i].keys);
        pyi_config *c = load_keys(cases[i].keys);
        assert_int_equal(pyi_extension_available(pyi_config_extension(c, 0), &e), PYI_EUNAVAILABLE);
        if (strstr(e.msg, cases[i].expected) == NULL) {
            fail_msg("%s gave: %s", cases[i].keys, e.msg);
        }
        pyi_config_free(c);
    }
}

static void test_not_yet_keys_of_the_manager_count_for_its_extensions(void **state) {
    (void)state;
    pyi_error e;
    pyi_error_init(&e);
    pyi_config *c = load_good(HEAD "pyisolate.manager { base = './env', policy = 'p.lua' }\n"
                                   "pyisolate.extension { name = 'x', module_path = './mod' }\n");
    assert_int_equal(pyi_extension_available(pyi_config_extension(c, 0), &e), PYI_EUNAVAILABLE);
    assert_non_null(strstr(e.msg, "'base' is not available yet"));
    assert_non_null(strstr(e.msg, "'policy' is not available yet"));
    pyi_config_free(c);
}

static void test_explicit_defaults_of_not_yet_keys_are_fine(void **state) {
    (void)state;
    pyi_error e;
    pyi_error_init(&e);
    pyi_config *c = load_keys(
        "share_torch = false, share_cuda_ipc = false, apis = {}, sandbox_mode = 'disabled',\n"
        "transport = 'nng', package_manager = 'uv', may_call = {}");
    assert_int_equal(pyi_extension_available(pyi_config_extension(c, 0), &e), PYI_OK);
    pyi_config_free(c);
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void test_wrong_values_say_what_was_given(void **state) {
    (void)state;
    static const struct {
        const char *keys, *expected;
    } cases[] = {
        {"isolatd = true", "unknown key \"isolatd\": did you mean \"isolated\"?"},
        {"dependancies = {}", "did you mean \"dependencies\"?"},
        {"zzzzzzzz = 1", "unknown key \"zzzzzzzz\"; `pyisolate-host schema`"},
        {"isolated = 'yes'", "isolated must be true or false, got string \"yes\""},
        {"dependencies = 'numpy'", "dependencies must be a list of strings, got string \"numpy\""},
        {"dependencies = { 5 }", "dependencies[1] must be a string, got number 5"},
        {"dependencies = { a = 'b' }",
         "dependencies must be a list of strings: it has the key string \"a\""},
        {"dependencies = { nil, 'b' }",
         "dependencies must be a list of strings: item 1 is missing"},
        {"module = function() end", "module must be a string, got a function"},
        {"threads = 1.5", "threads must be a whole number, got number 1.5"},
        {"threads = -1", "threads must be at least 0, got -1"},
        {"threads = 2000", "threads must be at most 1024, got 2000"},
        {"max_concurrency = 0", "max_concurrency must be at least 1, got 0"},
        {"call_timeout = '1s'", "call_timeout must be a number of seconds, got string \"1s\""},
        {"call_timeout = 0", "call_timeout must be at least 0.001 seconds, got 0"},
        {"call_timeout = 0/0", "call_timeout must be a number of seconds"},
        {"call_timeout = 1e12", "call_timeout must be at most 1e9 seconds"},
        {"restart = 'on_crash'", "restart must be \"on-crash\" or \"always\" or \"never\", got "
                                 "string \"on_crash\": did you mean \"on-crash\"?"},
        {"package_manager = 'pip'", "package_manager must be \"uv\" or \"conda\""},
        {"sandbox_mode = true",
         "sandbox_mode must be \"required\" or \"preferred\" or \"disabled\", got boolean true"},
        {"env = { 'a' }", "env must be a table of NAME = string: it has the key number 1"},
        {"env = { A = 1 }", "env.A must be a string, got number 1"},
        {"env = { ['A-B'] = 'x' }", "env.A-B \"x\" is not the name of an environment variable"},
        {"env = 'A=1'", "env must be a table of NAME = string, got string"},
        {"env_inherit = { 'A B' }", "env_inherit[1] \"A B\" is not a variable's name"},
        {"sandbox = { netwrk = true }", "unknown key \"netwrk\": did you mean \"network\"?"},
        {"sandbox = { limits = { memory = 'much' } }",
         "sandbox.limits.memory must be a whole number, got string \"much\""},
        {"sandbox = { floor = 'none' }", "sandbox.floor must be \"namespaces\""},
        {"sandbox = true", "sandbox must be a table, got boolean true"},
        {"cuda_wheels = {}", "cuda_wheels.index_url is missing"},
        {"'stray'", "string \"stray\" has no key: write NAME = value"},
        {"index_url = '--extra'", "index_url \"--extra\" starts with '-'"},
        {"index_url = 'index.example'", "index_url \"index.example\" is not a URL"},
        {"index_url = 'https://a b'", "has characters that a URL cannot have"},
        {"find_links = { './nowhere' }", "find_links[1] \"./nowhere\" does not exist (looked for "},
        {"requirements = { 'none.txt' }",
         "requirements[1] \"none.txt\" does not exist (looked for "},
        {"requirements = { 'mod' }", "requirements[1] \"mod\" is not a file"},
        {"environment = 'nowhere'", "environment \"nowhere\" does not exist"},
        {"environment = 'notes.txt'", "environment \"notes.txt\" is not a directory"},
        {"environment = ''", "environment is empty"},
        {"python = 'snake'", "python \"snake\" is not an interpreter: expected a path, a version"},
        {"python = './nowhere'", "python \"./nowhere\" does not exist"},
        {"python = '--version'", "is not an interpreter"},
        {"entrypoint = 'a b'", "entrypoint \"a b\" is not a Python name"},
        {"extension_type = 'a.b'", "is not of the form \"package.module:Class\""},
        {"module = 'a..b'", "module \"a..b\" is not a module's name"},
        {"may_call = { '../x' }", "may_call[1] \"../x\" may have letters"},
        {"sealed_host_ro_paths = { 'a' }, execution_model = 'sealed_worker'",
         "sealed_host_ro_paths[1] \"a\" is not an absolute path"},
    };
    for (size_t i = 0; i < PYI_COUNT(cases); i++) {
        keys_give(cases[i].keys, cases[i].expected);
    }
}

static void test_bad_requirements(void **state) {
    (void)state;
    static const struct {
        const char *requirement, *expected;
    } cases[] = {
        {"--index-url=https://x", "is an option, not a requirement: use index_url"},
        {"-r other.txt", "is an option"},
        {" -r other.txt", "is an option"},
        {"-e", "is an option"},
        {"-e --x", "is an option"},
        {"-e ./nowhere", "does not exist (looked for "},
        {"-e ./mod;rm", "has characters that a path here cannot have"},
        {"numpy; rm -rf /", "cannot read the marker \"rm -rf /\""},
        {"numpy`id`", "has characters of a shell ('`')"},
        {"numpy$(id)", "has characters of a shell ('$')"},
        {"numpy | sh", "has characters of a shell ('|')"},
        {"numpy && sh", "cannot read the version part"},
        {"numpy\\n--index-url x", "has a line break or control character"},
        {"", "is empty"},
        {"numpy==", "cannot read the version part \"==\""},
        {"numpy=>1", "cannot read the version part"},
        {"numpy 1.0", "cannot read the version part"},
        {"numpy>=1,", "cannot read the version part"},
        {">=1", "is not a requirement (such as"},
        {"numpy[a", "cannot read the version part"},
        {"numpy[;]", "is not a requirement"},
        {"./nowhere.whl", "does not exist (looked for "},
        {"x @ nothing", "cannot read the URL"},
        {"https://e.org/a b", "cannot read the URL"},
        {"x; python_version < '3' --x", "cannot read the marker"},
    };
    for (size_t i = 0; i < PYI_COUNT(cases); i++) {
        char keys[512];
        snprintf(keys, sizeof(keys), "dependencies = { \"%s\" }", cases[i].requirement);
        keys_give(keys, cases[i].expected);
    }
    keys_give("constraints = { './mod' }", "constraints[1] \"./mod\" is not a requirement");
    keys_give("overrides = { 'x @ https://e.org/x' }", "overrides[1]");
}

static void test_combinations_that_exclude_each_other(void **state) {
    (void)state;
    static const struct {
        const char *keys, *expected;
    } cases[] = {
        {"package_manager = 'conda'", "package_manager is \"conda\", which needs conda_channels"},
        {"package_manager = 'conda', conda_channels = {}", "needs conda_channels"},
        {"package_manager = 'conda', conda_channels = { 'c' }, share_torch = true",
         "share_torch cannot be used with package_manager"},
        {"package_manager = 'conda', conda_channels = { 'c' }, execution_model = 'host-coupled'",
         "execution_model must be \"sealed_worker\""},
        {"conda_channels = { 'c' }", "conda_channels needs package_manager = \"conda\""},
        {"conda_python = '3.11'", "conda_python needs package_manager = \"conda\""},
        {"share_cuda_ipc = true", "share_cuda_ipc needs share_torch = true"},
        {"share_torch_no_deps = true", "share_torch_no_deps needs share_torch = true"},
        {"share_torch = true, execution_model = 'sealed_worker'",
         "share_torch cannot be used with execution_model"},
        {"sealed_host_ro_paths = { '/a' }",
         "sealed_host_ro_paths needs execution_model = \"sealed_worker\""},
        {"sandbox_mode = 'disabled', sandbox = {}",
         "sandbox cannot be used with sandbox_mode = \"disabled\""},
        {"isolated = false, sandbox = {}", "sandbox cannot be used with isolated = false"},
        {"isolated = false, sandbox_mode = 'required'",
         "sandbox_mode must be \"disabled\" (or left out) with isolated = false"},
        {"isolated = false, python = '3.11'", "python cannot be used with isolated = false"},
        {"isolated = false, env = { A = 'b' }", "env cannot be used with isolated = false"},
        {"isolated = false, execution_model = 'sealed_worker'",
         "execution_model cannot be \"sealed_worker\" with isolated"},
        {"environment = './env', dependencies = { 'a' }",
         "dependencies cannot be used with environment"},
        {"environment = './env', python = '3.11'", "python cannot be used with environment"},
        {"environment = './env', isolated = false",
         "environment cannot be used with isolated = false"},
    };
    for (size_t i = 0; i < PYI_COUNT(cases); i++) {
        keys_give(cases[i].keys, cases[i].expected);
    }
    keys_are_good("isolated = false, sandbox_mode = 'disabled', dependencies = { 'a' }");
    keys_are_good("environment = './env'");
}

static void test_names_stay_below_the_root_and_are_unique(void **state) {
    (void)state;
    static const char *const bad[] = {"../x", "a/b",   "",  ".hidden", "-x",
                                      "a b",  "a\\nb", "ä", ".."};
    for (size_t i = 0; i < PYI_COUNT(bad); i++) {
        char text[256];
        snprintf(text, sizeof(text),
                 HEAD "pyisolate.extension { name = '%s', module_path = './mod' }", bad[i]);
        expect_one(text, "2|may have letters, digits, '.', '_' and '-' only");
    }
    expect_one(HEAD "pyisolate.extension { name = ('x'):rep(65), module_path = './mod' }",
               "2|is longer than 64 characters");
    expect_one(HEAD "pyisolate.extension { name = 'Same', module_path = './mod' }\n"
                    "pyisolate.extension {\n  name = 'same', module_path = './mod' }\n",
               "4|extension 'same': the name is taken (config.lua:2)");
    expect_one(HEAD "pyisolate.extension { module_path = './mod' }",
               "2|extension: name is missing");
}

static void test_module_path_must_be_an_extension(void **state) {
    (void)state;
    static const struct {
        const char *path, *expected;
    } cases[] = {
        {"'./nowhere'", "2|module_path \"./nowhere\" does not exist (looked for /tmp/pyi-config-"},
        {"'./empty'", "2|module_path \"./empty\" has no __init__.py"},
        {"'notes.txt'", "2|is neither a folder nor a .py file"},
        {"''", "2|module_path is empty"},
        {"5", "2|module_path must be a path, got number 5"}};
    for (size_t i = 0; i < PYI_COUNT(cases); i++) {
        char text[256];
        snprintf(text, sizeof(text), HEAD "pyisolate.extension { name = 'x', module_path = %s }",
                 cases[i].path);
        expect_one(text, cases[i].expected);
    }
    expect_one(HEAD "pyisolate.extension { name = 'x' }", "2|module_path is missing");
}

static void test_all_problems_at_once_with_their_lines(void **state) {
    (void)state;
    static const char *const expected[] = {
        "2|manager: unknown key \"venv_root\": did you mean \"venv_root_path\"?",
        "4|extension: name must be a string, got number 5",
        "6|module_path \"./nowhere\" does not exist",
        "9|dependencies[2] \"-x\" is an option",
        "12|dependencies[4] must be a string",
        "17|unknown key \"gup\": did you mean \"gpu\"?",
        "19|sandbox.limits.memory must be",
        "22|isolated must be true or false, got a table",
        "24|extension 'b': threads must be",
    };
    expect(HEAD
           "pyisolate.manager { venv_root = '.' }\n"
           "local a = pyisolate.extension {\n"
           "  name = 5, -- name = 'x'\n"
           "  -- module_path = './mod',\n"
           "  ['module_path'] = './nowhere',\n"
           "  dependencies = {\n"
           "    \"numpy; python_version < '4'\", -- }\n"
           "    '-x',\n"
           "    [[a\n"
           "]] and 'ok',\n"
           "    print }, env = { A = 'sandbox = {' },\n"
           "  --[[ isolated = false,\n"
           "  ]]\n"
           "  module = ('isolated'):sub(1, #'}' + 2),\n"
           "  sandbox = {\n"
           "    gup = true, network = (function() local t = { limits = 1 } return false end)(),\n"
           "    limits = {\n"
           "      memory = 'x',\n"
           "    },\n"
           "  },\n"
           "  isolated = {},\n"
           "}\n"
           "pyisolate.extension { name = 'b', module_path = './mod', threads = -1 }\n",
           PYI_COUNT(expected), expected);
}

static void test_computed_tables_are_blamed_at_their_call(void **state) {
    (void)state;
    expect_one(HEAD "local options = { name = 'x', module_path = './mod',\n  threads = -1 "
                    "}\n\npyisolate.extension(options)\n",
               "5|threads must be at least 0");
    expect_one(HEAD "pyisolate.extension('x')",
               "2|expected a table: pyisolate.extension { ... }, got string \"x\"");
    expect_one(HEAD "pyisolate.extension()\nfunction pyisolate.main() end", "2|got nil");
}

static void test_problems_in_required_files_name_those(void **state) {
    (void)state;
    put_file("part.lua", HEAD "\n\nreturn pyisolate.extension {\n  name = 'x', module_path = "
                              "'./mod',\n  threads = -1 }\n");
    const char *const *problems;
    pyi_config *c = load("require 'part'");
    assert_int_equal(pyi_config_problems(c, &problems), 1);
    assert_non_null(strstr(problems[0], "/part.lua:6: extension 'x': threads must be at least 0"));
    pyi_config_free(c);
}

static void test_lua_errors_are_problems(void **state) {
    (void)state;
    expect_one("x = = 1", "1|unexpected symbol near '='");
    expect_one(HEAD "\nlocal x = nothing.here\n", "3|attempt to index a nil value");
    expect_one(HEAD "error('stop here')", "2|stop here");
    expect_one("error(setmetatable({}, { __tostring = function() return 'odd' end }))", "1|odd");
    expect_one(HEAD "pyisolate.mian = function() end",
               "2|pyisolate.mian cannot be set: did you mean pyisolate.main?");
    expect_one(HEAD "pyisolate.extensoin {}",
               "2|there is no pyisolate.extensoin: did you mean pyisolate.extension?");
    expect_one(HEAD "local x = pyisolate.extension { name = 'x', module_path = './mod' }\nx:go()",
               "3|the host has not started yet");
    expect_one(HEAD "pyisolate.main = 5", "2|pyisolate.main must be a function, got number 5");
    expect_one(HEAD "\npyisolate.main = 5", "3|pyisolate.main must be a function, got number 5");
    static const char *const both[] = {"2|threads must be", "3|oops"};
    expect(HEAD
           "pyisolate.extension { name = 'x', module_path = './mod', threads = -1 }\nerror('oops')",
           2, both);
}

static void test_a_configuration_must_declare_something(void **state) {
    (void)state;
    expect_one("", "1|declares no extension and no main");
    expect_one(HEAD "pyisolate.manager {}", "1|declares no extension and no main");
    pyi_config *c = load_good(HEAD "function pyisolate.main() end");
    assert_true(pyi_config_has_main(c));
    assert_int_equal(pyi_config_count(c), 0);
    assert_non_null(pyi_config_manager(c));
    pyi_config_free(c);
    expect_one(HEAD "pyisolate.manager {}\npyisolate.manager {}\nfunction pyisolate.main() end",
               "3|manager: declared twice (first at config.lua:2)");
}

static void test_loading_has_a_budget(void **state) {
    (void)state;
    expect_one("while true do pcall(function() while true do end end) end",
               "1|runs longer than its budget allows");
    expect_one("local n = 0\nlocal function f()\n  while true do\n    n = n + 1\n  end\nend\nf()",
               "4|runs longer than its budget allows");
    expect_one("local t = {}\nwhile true do\n  t[#t + 1] = ('x'):rep(1 << 20) .. #t\nend",
               "3|more than its 128 MiB of memory");
    expect_one("\nerror { a = 1 }", "2|{ a = 1 }");
    expect_one(
        "local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(1 << 20) .. #t end) end",
        "1|more than its 128 MiB of memory");
    expect_one("error(setmetatable({}, { __tostring = function() while true do end end }))",
               "1|runs longer");
}

/* ---- files ----------------------------------------------------------------------------------- */

static void test_a_file_is_loaded_relative_to_its_folder(void **state) {
    (void)state;
    char path[256], long_name[300];
    pyi_config *c = NULL;
    pyi_error e;
    const char *const *problems;
    pyi_error_init(&e);
    put_file("config.lua", HEAD "pyisolate.extension { name = 'x', module_path = './mod' }");
    snprintf(path, sizeof(path), "%s/./config.lua", directory);
    assert_int_equal(pyi_config_load(path, &c, &e), PYI_OK);
    assert_int_equal(pyi_config_problems(c, &problems), 0);
    snprintf(path, sizeof(path), "%s/config.lua", directory);
    assert_string_equal(pyi_config_manager(c)->path, path);
    assert_string_equal(pyi_config_manager(c)->directory, directory);
    pyi_config_free(c);

    snprintf(path, sizeof(path), "%s/nowhere.lua", directory);
    assert_int_equal(pyi_config_load(path, &c, &e), PYI_ENOTFOUND);
    assert_int_equal(pyi_config_load(directory, &c, &e), PYI_ESYS);

    put_file("a-name-that-is-longer-than-what-lua-shows-in-its-own-messages.lua", "\nx = = 1");
    snprintf(long_name, sizeof(long_name),
             "%s/a-name-that-is-longer-than-what-lua-shows-in-its-own-messages.lua", directory);
    assert_int_equal(pyi_config_load(long_name, &c, &e), PYI_OK);
    assert_int_equal(pyi_config_problems(c, &problems), 1);
    assert_memory_equal(problems[0], long_name, strlen(long_name));
    assert_memory_equal(problems[0] + strlen(long_name), ":2: ", 4);
    pyi_config_free(c);
}

/* ---- the schema's two halves, and what is made from it --------------------------------------- */

static char *rendered(const char *kind) {
    char *text = NULL;
    size_t len = 0;
    pyi_error e;
    pyi_error_init(&e);
    FILE *out = open_memstream(&text, &len);
    assert_int_equal(pyi_config_render(kind, out, &e), PYI_OK);
    fclose(out);
    return text;
}

/* Each key of the schema has a member in C or is marked as not yet there, and each member has a
 * key. */
static void test_both_halves_of_the_schema_agree(void **state) {
    (void)state;
    static const char script[] = "local kind = ...\nlocal found = {}\n"
                                 "for _, option in ipairs(require('pyisolate.schema')[kind]) do\n"
                                 "  found[option.key] = true\n"
                                 "  if not option.later and not members[option.key] then "
                                 "error(option.key .. ' has no member') end\n"
                                 "end\n"
                                 "for key in pairs(members) do if not found[key] then error(key .. "
                                 "' is not in the schema') end end\n";
    for (int manager = 0; manager < 2; manager++) {
        pyi_lua *vm = NULL;
        pyi_error e;
        pyi_error_init(&e);
        assert_int_equal(pyi_lua_new(&vm, &e), PYI_OK);
        lua_State *L = pyi_lua_state(vm);
        lua_newtable(L);
        for (size_t i = 0; pyi_config_member(manager, i) != NULL; i++) {
            lua_pushboolean(L, 1);
            lua_setfield(L, -2, pyi_config_member(manager, i));
        }
        lua_setglobal(L, "members");
        assert_int_equal(pyi_lua_compile(vm, script, sizeof(script) - 1, "=halves", &e), PYI_OK);
        lua_pushstring(L, manager ? "manager" : "extension");
        if (pyi_lua_call(vm, 1, 0, &e) != PYI_OK) {
            fail_msg("%s", e.msg);
        }
        pyi_lua_free(vm);
    }
}

static void test_documentation_is_made_from_the_schema(void **state) {
    (void)state;
    PYI_AUTO_FREE char *markdown = rendered("markdown");
    PYI_AUTO_FREE char *luals = rendered("luals");
    pyi_error e;
    pyi_error_init(&e);
    assert_non_null(strstr(markdown, "| `dependencies` | list of strings | `{}` |"));
    assert_null(strstr(markdown, "`embed`"));
    assert_non_null(strstr(luals, "---@class pyisolate.extension.sandbox.limits"));
    assert_non_null(strstr(luals, "---@field restart? \"on-crash\"|\"always\"|\"never\""));
    assert_int_equal(pyi_config_render("pdf", stdout, &e), PYI_EINVAL);
    char *kept = NULL;
    size_t len = 0, got = 0;
    FILE *file = fopen(PYI_SOURCE_DIR "/docs/configuration.md", "r");
    assert_non_null(file);
    FILE *copy = open_memstream(&kept, &len);
    char buffer[4096];
    while ((got = fread(buffer, 1, sizeof(buffer), file)) > 0) {
        fwrite(buffer, 1, got, copy);
    }
    fclose(file);
    fclose(copy);
    bool same = strcmp(kept, markdown) == 0;
    free(kept);
    assert_true(same); /* else: pyisolate-host schema markdown > docs/configuration.md */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all_that_is_available_arrives),
        cmocka_unit_test(test_good_requirements),
        cmocka_unit_test(test_not_yet_keys_are_accepted_and_then_refused_by_name),
        cmocka_unit_test(test_not_yet_keys_of_the_manager_count_for_its_extensions),
        cmocka_unit_test(test_explicit_defaults_of_not_yet_keys_are_fine),
        cmocka_unit_test(test_wrong_values_say_what_was_given),
        cmocka_unit_test(test_bad_requirements),
        cmocka_unit_test(test_combinations_that_exclude_each_other),
        cmocka_unit_test(test_names_stay_below_the_root_and_are_unique),
        cmocka_unit_test(test_module_path_must_be_an_extension),
        cmocka_unit_test(test_all_problems_at_once_with_their_lines),
        cmocka_unit_test(test_computed_tables_are_blamed_at_their_call),
        cmocka_unit_test(test_problems_in_required_files_name_those),
        cmocka_unit_test(test_lua_errors_are_problems),
        cmocka_unit_test(test_a_configuration_must_declare_something),
        cmocka_unit_test(test_loading_has_a_budget),
        cmocka_unit_test(test_a_file_is_loaded_relative_to_its_folder),
        cmocka_unit_test(test_both_halves_of_the_schema_agree),
        cmocka_unit_test(test_documentation_is_made_from_the_schema),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/*
 * `isolated = false`: the environment is the manager's own Python, found and checked, never
 * changed.
 *
 * Whether the declared dependencies are there is asked of that Python itself (_installed.py of the
 * runtime), because only it knows its sys.path: uv overlooks a distribution's own packages.
 */
#include "env_backend.h"
#include "paths.h"
#include "process.h"
#include "requirement.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define CHECK_TIMEOUT_MS 60000

static void auto_json(json_t **j) {
    json_decref(*j);
}
#define AUTO_JSON __attribute__((cleanup(auto_json)))

static void auto_env(pyi_env **env) {
    pyi_env_free(*env);
}
#define AUTO_ENV __attribute__((cleanup(auto_env)))

static pyi_err no_memory(pyi_error *e) {
    return pyi_error_set(e, PYI_ENOMEM, "env.host", "out of memory");
}

static pyi_err usable(const pyi_interpreter *i, pyi_error *e) {
    if (i->free_threaded) {
        return pyi_error_set(e, PYI_EUNAVAILABLE, "env.python",
                             "'%s' is a free-threaded build, which has no stable ABI; take the "
                             "ordinary build of Python %d.%d",
                             i->executable, i->major, i->minor);
    }
    return PYI_OK;
}

pyi_err pyi_env_find_python(const char *request, pyi_interpreter **ret, pyi_error *e) {
    char dir[4000];
    PYI_AUTO_FREE char *cache = NULL;
    if (pyi_cache_dir(dir, sizeof(dir), e) != PYI_OK) {
        pyi_error_init(e); /* a machine without a home: ask the interpreter each time */
    } else if (asprintf(&cache, "%s/pythons", dir) < 0) {
        cache = NULL;
        return no_memory(e);
    }
    pyi_interpreter *found = NULL;
    if (pyi_interpreter_find(request, cache, &found, e) != PYI_OK) {
        return e->code;
    }
    if (usable(found, e) != PYI_OK) {
        pyi_interpreter_free(found);
        return e->code;
    }
    *ret = found;
    return PYI_OK;
}

/* ---- which Python ---------------------------------------------------------------------------- */

/* Python's own rule: pyvenv.cfg beside the executable, or one above. Returns the environment. */
static char *venv_of(const char *python) {
    PYI_AUTO_FREE char *dir = strdup(python);
    for (int level = 0; level < 2 && dir != NULL; level++) {
        PYI_AUTO_FREE char *file = NULL;
        char *slash = strrchr(dir, '/');
        *(slash == NULL ? dir : slash) = '\0';
        if (asprintf(&file, "%s/pyvenv.cfg", dir) > 0 && access(file, R_OK) == 0) {
            return realpath(dir, NULL);
        }
    }
    return NULL;
}

/* As Python is started, so its sys.prefix is: by the path of a virtual environment, or plainly. */
static pyi_err place(pyi_env *env, const char *request, pyi_error *e) {
    const char *by_user = getenv("PYISOLATE_PYTHON");
    request = request != NULL ? request : by_user;
    if (request != NULL && strchr(request, '/') != NULL) {
        env->python = pyi_interpreter_path(request);
        env->prefix = env->python == NULL ? NULL : venv_of(env->python);
    }
    if (env->prefix == NULL) {
        free(env->python);
        env->python = strdup(env->interpreter->executable);
        env->prefix = strdup(env->interpreter->base_prefix);
    }
    return env->python == NULL || env->prefix == NULL ? no_memory(e) : PYI_OK;
}

/* ---- what it lacks --------------------------------------------------------------------------- */

static json_t *texts(const pyi_strings *strings) {
    json_t *list = json_array();
    for (size_t i = 0; i < strings->count; i++) {
        (void)json_array_append_new(list, json_string(strings->items[i]));
    }
    return list;
}

/* In memory, since an URL may hold a password; read through /proc by the process that checks. */
static pyi_err write_wanted(const pyi_extension_config *x, int *ret_fd, pyi_error *e) {
    AUTO_JSON json_t *wanted =
        json_pack("{s:o,s:o,s:o,s:o}", "requirements", texts(&x->dependencies), "constraints",
                  texts(&x->constraints), "overrides", texts(&x->overrides), "files",
                  texts(&x->requirements));
    if (wanted == NULL) {
        return no_memory(e);
    }
    PYI_AUTO_FD int fd = memfd_create("pyisolate-wanted", MFD_CLOEXEC);
    if (fd < 0 || json_dumpfd(wanted, fd, JSON_COMPACT) != 0) {
        return pyi_error_sys(e, errno, "env.check", "cannot write what is wanted");
    }
    *ret_fd = pyi_steal_fd(&fd);
    return PYI_OK;
}

static pyi_err check_failed(const pyi_process_result *r, const char *python, pyi_error *e) {
    const char *last = r->err; /* Python says why in its last line */
    for (const char *p = r->err; *p != '\0'; p++) {
        last = *p == '\n' && p[1] != '\0' ? p + 1 : last;
    }
    return pyi_error_set(e, PYI_EENV, "env.check", "'%s' could not tell what is installed: %.*s",
                         python, (int)strcspn(last, "\n"), last);
}

static pyi_err run_check(const pyi_env_plan *plan, const char *python, json_t **ret, pyi_error *e) {
    pyi_paths paths;
    PYI_AUTO_FD int fd = -1;
    PYI_AUTO_FREE char *script = NULL;
    char file[64];
    if (pyi_paths_find(&paths, e) != PYI_OK || write_wanted(plan->extension, &fd, e) != PYI_OK) {
        return e->code;
    }
    snprintf(file, sizeof(file), "/proc/%d/fd/%d", (int)getpid(), fd);
    if (asprintf(&script, "%s/pyisolate/_installed.py", paths.python) < 0) {
        script = NULL;
        return no_memory(e);
    }
    const char *const argv[] = {python, "-I", script, file, NULL};
    pyi_process p = {.argv = argv, /* relative projects lie below cwd, as for uv */
                     .cwd = plan->cwd,
                     .timeout_ms = CHECK_TIMEOUT_MS,
                     .cancel_fd = plan->cancel_fd};
    __attribute__((cleanup(pyi_process_result_fini))) pyi_process_result r = {0};
    if (pyi_process_run(&p, &r, e) != PYI_OK) {
        return pyi_error_wrap(e, "look what is installed");
    }
    *ret = r.status == 0 ? json_loads(r.out, 0, NULL) : NULL;
    return json_is_array(*ret) ? PYI_OK : check_failed(&r, python, e);
}

/* "numpy>=2.0 (numpy 1.26.4 is installed)", "urllib3<3 (not installed; requests 2.32 needs it)" */
static char *describe(const json_t *unmet) {
    const char *requirement = json_string_value(json_object_get(unmet, "requirement"));
    const char *installed = json_string_value(json_object_get(unmet, "installed"));
    const char *by = json_string_value(json_object_get(unmet, "by"));
    char *text = NULL;
    int n = asprintf(&text, "%s (%s%s%s%s%s)", requirement == NULL ? "?" : requirement,
                     installed == NULL ? "not installed" : installed,
                     installed == NULL ? "" : " is installed", by == NULL ? "" : "; ",
                     by == NULL ? "" : by, by == NULL ? "" : " needs it");
    if (n < 0) {
        return NULL;
    }
    pyi_redact(text);
    return text;
}

/* The message has room for a few; the detail names all. */
static pyi_err tell(const json_t *unmet, const char *python, char **ret_detail, pyi_error *e) {
    PYI_AUTO_LIST pyi_list names = {0};
    for (size_t i = 0; i < json_array_size(unmet); i++) {
        PYI_AUTO_FREE char *text = describe(json_array_get(unmet, i));
        names.failed = names.failed || text == NULL;
        pyi_list_push(&names, text);
    }
    PYI_AUTO_FREE char *all = names.failed ? NULL : pyi_list_join(&names, ", ");
    char *detail = NULL;
    if (all == NULL || asprintf(&detail,
                                "isolated = false: dependencies are checked, not installed. "
                                "Unmet in %s: %s",
                                python, all) < 0) {
        return no_memory(e);
    }
    free(*ret_detail);
    *ret_detail = detail;
    int room = strlen(all) > 110 ? 107 : (int)strlen(all);
    return pyi_error_set(e, PYI_EENV, "env.check",
                         "not met: %.*s%s; install it into %.60s's environment, or isolated = true",
                         room, all, all[room] == '\0' ? "" : "...", python);
}

static pyi_err check_dependencies(const pyi_env_plan *plan, const char *python, char **ret_detail,
                                  pyi_error *e) {
    const pyi_extension_config *x = plan->extension;
    for (size_t i = 0; i < x->dependencies.count; i++) {
        if (pyi_requirement_check(x->dependencies.items[i], e) != PYI_OK) {
            return e->code;
        }
    }
    if (x->dependencies.count + x->requirements.count == 0) {
        return PYI_OK;
    }
    AUTO_JSON json_t *unmet = NULL;
    if (run_check(plan, python, &unmet, e) != PYI_OK) {
        return e->code;
    }
    return json_array_size(unmet) == 0 ? PYI_OK : tell(unmet, python, ret_detail, e);
}

pyi_err pyi_env_host(const pyi_env_plan *plan, const pyi_manager_config *manager, pyi_env **ret_env,
                     char **ret_detail, pyi_error *e) {
    int64_t began = pyi_now_ns();
    AUTO_ENV pyi_env *env = calloc(1, sizeof(*env));
    if (env == NULL || (env->id = strdup("host")) == NULL) {
        return no_memory(e);
    }
    if (pyi_env_find_python(manager->python, &env->interpreter, e) != PYI_OK ||
        place(env, manager->python, e) != PYI_OK) {
        return e->code;
    }
    pyi_env_plan mine = *plan;
    mine.interpreter = env->interpreter;
    PYI_AUTO_WARMING pyi_env_warming warming;
    pyi_env_warm_begin(&warming, &mine);
    if (check_dependencies(plan, env->python, ret_detail, e) != PYI_OK) {
        return e->code;
    }
    pyi_env_warm_end(&warming); /* it reads the interpreter, which is given away now */
    env->took_ns = pyi_now_ns() - began;
    *ret_env = pyi_steal(&env);
    return PYI_OK;
}

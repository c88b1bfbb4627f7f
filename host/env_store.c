/*
 * The store.
 *
 *   <venv_root>/.envs/<id>/                     an environment, at the path it was built for
 *   <venv_root>/.envs/<id>/.pyisolate-env.json  the marker: written last, so it tells a whole one
 *   <venv_root>/.envs/<id>.work, .envs/<id>.old a build under way, rubbish on its way out
 *   <venv_root>/.locks/<id>                     flock'ed while <id> is built; never removed,
 * because a removed lock can be held twice <venv_root>/<name> -> .envs/<id>            replaced by
 * rename, only after <id> is whole
 *
 * The warm path runs no process: it hashes, looks for the marker and compares the link. A kill at
 * any moment leaves at most a folder without a marker, which the next start clears under the lock;
 * what the link names is never touched.
 */
#include "env_store.h"
#include "env_backend.h"
#include "paths.h"
#include "process.h"
#include "requirement.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define MARKER       ".pyisolate-env.json"
#define LOCK_POLL_MS 50

/* One preparation: what all steps of it need. */
typedef struct job {
    pyi_env_plan plan;
    const char *root; /* borrowed: venv_root_path */
    char id[33];
    pyi_list requirements;
    pyi_env_sources sources;
    pyi_interpreter *interpreter;
    char *envs, *locks, *prefix, *python, *marker, *work, *old, *lock, *link;
} job;

static void job_fini(job *j) {
    pyi_list_fini(&j->requirements);
    pyi_env_sources_fini(&j->sources);
    pyi_interpreter_free(j->interpreter);
    char *const all[] = {j->envs, j->locks, j->prefix, j->python, j->marker,
                         j->work, j->old,   j->lock,   j->link};
    for (size_t i = 0; i < PYI_COUNT(all); i++) {
        free(all[i]);
    }
}

static pyi_err no_memory(pyi_error *e) {
    return pyi_error_set(e, PYI_ENOMEM, "env", "out of memory");
}

static char *PYI_PRINTF(2, 3) text(bool *ok, const char *fmt, ...) {
    va_list args;
    char *s = NULL;
    va_start(args, fmt);
    int n = vasprintf(&s, fmt, args);
    va_end(args);
    s = n < 0 ? NULL : s;
    *ok = *ok && s != NULL;
    return s;
}

void pyi_env_tell(const pyi_env_plan *plan, pyi_env_step step, const char *fmt, ...) {
    char line[512];
    va_list args;
    if (plan->progress == NULL || plan->progress->step == NULL) {
        return;
    }
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    plan->progress->step(plan->progress->arg, plan->extension->name, step, line);
}

/* ---- which one ------------------------------------------------------------------------------- */

static pyi_err collect_requirements(job *j, pyi_error *e) {
    const pyi_strings *wanted = &j->plan.extension->dependencies;
    for (size_t i = 0; i < wanted->count; i++) {
        if (pyi_requirement_check(wanted->items[i], e) != PYI_OK) {
            return e->code;
        }
        if (!pyi_requirement_is_runtime(wanted->items[i])) {
            pyi_list_push(&j->requirements, wanted->items[i]);
        }
    }
    return j->requirements.failed ? no_memory(e) : PYI_OK;
}

static pyi_err check_name(const char *name, pyi_error *e) {
    if (*name == '\0' || *name == '.' || strchr(name, '/') != NULL) {
        return pyi_error_set(e, PYI_EINVAL, "env.name",
                             "'%s' cannot name an environment: no '/', no '.' in front", name);
    }
    return PYI_OK;
}

static pyi_err find_interpreter(job *j, const pyi_manager_config *manager, pyi_error *e) {
    const char *wanted = j->plan.extension->python;
    wanted = wanted != NULL ? wanted : manager->python;
    if (pyi_env_find_python(wanted, &j->interpreter, e) != PYI_OK) {
        return e->code;
    }
    j->plan.interpreter = j->interpreter;
    return PYI_OK;
}

static pyi_err name_paths(job *j, const char *name, pyi_error *e) {
    bool ok = true;
    PYI_AUTO_FREE char *root = realpath(j->root, NULL);
    if (root == NULL) {
        return pyi_error_sys(e, errno, "env.root", "cannot resolve '%s'", j->root);
    }
    j->envs = text(&ok, "%s/.envs", root);
    j->locks = text(&ok, "%s/.locks", root);
    j->prefix = text(&ok, "%s/.envs/%s", root, j->id);
    j->python = text(&ok, "%s/.envs/%s/bin/python", root, j->id);
    j->marker = text(&ok, "%s/.envs/%s/" MARKER, root, j->id);
    j->work = text(&ok, "%s/.envs/%s.work", root, j->id);
    j->old = text(&ok, "%s/.envs/%s.old", root, j->id);
    j->lock = text(&ok, "%s/.locks/%s", root, j->id);
    j->link = text(&ok, "%s/%s", root, name);
    j->plan.prefix = j->prefix;
    j->plan.scratch = j->work;
    return ok ? PYI_OK : no_memory(e);
}

static pyi_err decide(job *j, const pyi_manager_config *manager, pyi_error *e) {
    const pyi_extension_config *x = j->plan.extension;
    if (check_name(x->name, e) != PYI_OK || collect_requirements(j, e) != PYI_OK ||
        find_interpreter(j, manager, e) != PYI_OK ||
        pyi_env_sources_read(x, j->plan.cwd, &j->sources, e) != PYI_OK ||
        pyi_env_key(&j->plan, pyi_env_uv.name, j->id, e) != PYI_OK ||
        pyi_mkdirs(j->root, 0755, e) != PYI_OK) {
        return e->code;
    }
    return name_paths(j, x->name, e);
}

/* ---- the link -------------------------------------------------------------------------------- */

static pyi_err check_link(const job *j, bool *ret_right, pyi_error *e) {
    struct stat st;
    char target[4096], wanted[64];
    *ret_right = false;
    if (lstat(j->link, &st) != 0) {
        return errno == ENOENT
                   ? PYI_OK
                   : pyi_error_sys(e, errno, "env.link", "cannot look at '%s'", j->link);
    }
    if (!S_ISLNK(st.st_mode)) {
        return pyi_error_set(e, PYI_EENV, "env.link",
                             "'%s' is in the way: it was not made by pyisolate-host and is left "
                             "alone; rename or remove it",
                             j->link);
    }
    ssize_t n = readlink(j->link, target, sizeof(target) - 1);
    target[n < 0 ? 0 : n] = '\0';
    snprintf(wanted, sizeof(wanted), ".envs/%s", j->id);
    *ret_right = strcmp(target, wanted) == 0;
    return PYI_OK;
}

/* The new link is made inside the environment: a kill in between leaves nothing that anybody sees,
 * and whoever publishes the same at the same time makes the same link. */
static pyi_err publish_link(const job *j, pyi_error *e) {
    bool right = false, ok = true;
    char wanted[64];
    if (check_link(j, &right, e) != PYI_OK || right) {
        return e->code;
    }
    const char *name = strrchr(j->link, '/') + 1;
    PYI_AUTO_FREE char *temp = text(&ok, "%s/.pyisolate-link-%s", j->prefix, name);
    if (!ok) {
        return no_memory(e);
    }
    snprintf(wanted, sizeof(wanted), ".envs/%s", j->id);
    if ((symlink(wanted, temp) == 0 || errno == EEXIST) && rename(temp, j->link) == 0) {
        return PYI_OK;
    }
    int why = errno;
    if (check_link(j, &right, e) != PYI_OK || right) { /* the other one was faster */
        return e->code;
    }
    return pyi_error_sys(e, why, "env.link", "cannot point '%s' at its environment", j->link);
}

/* ---- the lock -------------------------------------------------------------------------------- */

static bool cancelled_within(int cancel_fd, int ms) {
    struct pollfd p = {.fd = cancel_fd, .events = POLLIN};
    return poll(&p, 1, ms) > 0;
}

/* Polls instead of sleeping in flock, so that a cancel is heard. */
static pyi_err take_lock(const job *j, int *ret_fd, pyi_error *e) {
    PYI_AUTO_FD int fd = open(j->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return pyi_error_sys(e, errno, "env.lock", "cannot open '%s'", j->lock);
    }
    for (bool told = false; flock(fd, LOCK_EX | LOCK_NB) != 0;) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return pyi_error_sys(e, errno, "env.lock", "cannot lock '%s'", j->lock);
        }
        if (!told) {
            pyi_env_tell(
                &j->plan, PYI_STEP_RESOLVE,
                "waiting for another process or extension that is building the same environment");
            told = true;
        }
        if (cancelled_within(j->plan.cancel_fd, LOCK_POLL_MS)) {
            return pyi_error_set(e, PYI_ECANCELLED, "env.lock", "cancelled while waiting");
        }
    }
    *ret_fd = pyi_steal_fd(&fd);
    return PYI_OK;
}

/* ---- building -------------------------------------------------------------------------------- */

static bool is_whole(const job *j) {
    return access(j->marker, R_OK) == 0 && access(j->python, X_OK) == 0;
}

/* Moved aside first: what a killed installer's helpers still write then lands in no environment. */
static pyi_err clear_partial(const job *j, pyi_error *e) {
    if (pyi_remove_tree(j->old, e) != PYI_OK || pyi_remove_tree(j->work, e) != PYI_OK) {
        return e->code;
    }
    if (rename(j->prefix, j->old) != 0) {
        return errno == ENOENT
                   ? PYI_OK
                   : pyi_error_sys(e, errno, "env.clear", "cannot move '%s' away", j->prefix);
    }
    return pyi_remove_tree(j->old, e);
}

static json_t *requirements_json(const job *j) {
    json_t *list = json_array();
    for (size_t i = 0; i < j->requirements.count; i++) {
        PYI_AUTO_FREE char *shown = strdup(j->requirements.items[i]);
        if (shown != NULL) {
            pyi_redact(shown);
            (void)json_array_append_new(list, json_string(shown));
        }
    }
    return list;
}

static json_t *marker_json(const job *j) {
    char when[32];
    time_t now = time(NULL);
    struct tm utc;
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "id", j->id, "created", when, "backend",
                     pyi_env_uv.name, "python", j->interpreter->version, "executable",
                     j->interpreter->executable, "requirements", requirements_json(j));
}

/* The marker appears whole or not at all, and only once it is on the disk. */
static pyi_err write_marker(const job *j, pyi_error *e) {
    bool ok = true;
    PYI_AUTO_FREE char *temp = text(&ok, "%s.new", j->marker);
    json_t *marker = ok ? marker_json(j) : NULL;
    if (marker == NULL) {
        return no_memory(e);
    }
    PYI_AUTO_FD int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    bool written = fd >= 0 && json_dumpfd(marker, fd, JSON_INDENT(1)) == 0 && fsync(fd) == 0;
    int why = errno;
    json_decref(marker);
    if (!written || rename(temp, j->marker) != 0) {
        return pyi_error_sys(e, written ? errno : why, "env.marker", "cannot write '%s'",
                             j->marker);
    }
    return PYI_OK;
}

static pyi_err build_locked(job *j, char **ret_detail, pyi_error *e) {
    if (clear_partial(j, e) != PYI_OK || pyi_mkdirs(j->work, 0700, e) != PYI_OK) {
        return e->code;
    }
    /* The marker comes last: what a kill leaves before it is cleared, after it nothing is. */
    if (pyi_env_uv.build(&j->plan, ret_detail, e) == PYI_OK &&
        pyi_remove_tree(j->work, e) == PYI_OK && write_marker(j, e) == PYI_OK) {
        return PYI_OK;
    }
    pyi_error ignored; /* the first cause is what counts; what stays is cleared by the next build */
    pyi_error_init(&ignored);
    (void)clear_partial(j, &ignored);
    return e->code;
}

static pyi_err make_whole(job *j, bool *ret_built, char **ret_detail, pyi_error *e) {
    PYI_AUTO_FD int lock = -1;
    if (pyi_mkdirs(j->envs, 0755, e) != PYI_OK || pyi_mkdirs(j->locks, 0755, e) != PYI_OK ||
        take_lock(j, &lock, e) != PYI_OK) {
        return e->code;
    }
    if (is_whole(j)) { /* another host built it while we waited */
        return PYI_OK;
    }
    *ret_built = true;
    return build_locked(j, ret_detail, e);
}

/* ---- results --------------------------------------------------------------------------------- */

static pyi_err give(job *j, bool built, int64_t began, pyi_env **ret, pyi_error *e) {
    pyi_env *env = calloc(1, sizeof(*env));
    char *id = strdup(j->id);
    if (env == NULL || id == NULL) {
        free(env);
        free(id);
        return no_memory(e);
    }
    env->id = id;
    env->prefix = pyi_steal(&j->prefix);
    env->python = pyi_steal(&j->python);
    env->interpreter = pyi_steal(&j->interpreter);
    env->built = built;
    env->took_ns = pyi_now_ns() - began;
    *ret = env;
    return PYI_OK;
}

static pyi_err prepare_built(job *j, const pyi_manager_config *manager, int64_t began,
                             pyi_env **ret_env, char **ret_detail, pyi_error *e) {
    bool right = false, built = false;
    if (decide(j, manager, e) != PYI_OK || check_link(j, &right, e) != PYI_OK) {
        return e->code;
    }
    PYI_AUTO_WARMING pyi_env_warming warming;
    pyi_env_warm_begin(&warming, &j->plan);
    if (!is_whole(j) && make_whole(j, &built, ret_detail, e) != PYI_OK) {
        return e->code;
    }
    if (!right && publish_link(j, e) != PYI_OK) {
        return e->code;
    }
    pyi_env_warm_end(&warming); /* it reads the interpreter, which is given away now */
    if (built) {
        pyi_env_tell(&j->plan, PYI_STEP_DONE, "ready in %.1f s",
                     (double)(pyi_now_ns() - began) / 1e9);
    }
    return give(j, built, began, ret_env, e);
}

/* An installation, such as /usr, may lack the name `python`. */
static char *python_in(const char *prefix) {
    char *path = NULL;
    if (asprintf(&path, "%s/bin/python", prefix) < 0) {
        return NULL;
    }
    if (access(path, X_OK) == 0) {
        return path;
    }
    free(path);
    return asprintf(&path, "%s/bin/python3", prefix) < 0 ? NULL : path;
}

static pyi_err no_python_in(const char *folder, pyi_error *e) {
    return pyi_error_set(e, PYI_EENV, "env.existing",
                         "environment '%.80s' has no bin/python: make one with python3 -m venv, or "
                         "leave environment out",
                         folder);
}

pyi_err pyi_env_existing(const char *folder, const char *cache_dir, pyi_interpreter **ret,
                         pyi_error *e) {
    PYI_AUTO_FREE char *python = python_in(folder);
    if (python == NULL) {
        return no_memory(e);
    }
    if (access(python, X_OK) != 0) {
        return no_python_in(folder, e);
    }
    if (pyi_interpreter_find(python, cache_dir, ret, e) != PYI_OK) {
        return pyi_error_wrap(e, "environment '%s'", folder);
    }
    return PYI_OK;
}

/* An environment that the user made and keeps: looked at, never changed. */
static pyi_err prepare_existing(job *j, int64_t began, pyi_env **ret_env, pyi_error *e) {
    const char *folder = j->plan.extension->environment;
    pyi_hash *h = pyi_hash_new();
    j->prefix = realpath(folder, NULL);
    if (j->prefix == NULL) {
        pyi_hash_free(h);
        return pyi_error_sys(e, errno, "env.existing", "no environment at '%s'", folder);
    }
    j->python = python_in(j->prefix);
    if (j->python == NULL || h == NULL) {
        pyi_hash_free(h);
        return no_memory(e);
    }
    pyi_hash_field(h, "existing", j->prefix);
    pyi_hash_hex(h, j->id, sizeof(j->id));
    pyi_hash_free(h);
    if (access(j->python, X_OK) != 0) {
        return no_python_in(folder, e);
    }
    if (pyi_env_find_python(j->python, &j->interpreter, e) != PYI_OK) {
        return pyi_error_wrap(e, "environment '%s'", folder);
    }
    j->plan.interpreter = j->interpreter;
    pyi_env_warming warming; /* writes to the runtime's folder, not to this one */
    pyi_env_warm_begin(&warming, &j->plan);
    pyi_env_warm_end(&warming);
    return give(j, false, began, ret_env, e);
}

pyi_err pyi_env_prepare(const pyi_manager_config *manager, const pyi_extension_config *extension,
                        const pyi_env_progress *progress, int cancel_fd, pyi_env **ret_env,
                        char **ret_detail, pyi_error *e) {
    int64_t began = pyi_now_ns();
    PYI_AUTO_FREE char *detail = NULL;
    __attribute__((cleanup(job_fini))) job j = {.root = manager->venv_root_path,
                                                .plan = {.extension = extension,
                                                         .progress = progress,
                                                         .cancel_fd = cancel_fd,
                                                         .cwd = manager->directory}};
    j.plan.requirements = &j.requirements;
    j.plan.sources = &j.sources;
    pyi_error_init(e);
    if (extension->package_manager == PYI_PM_CONDA) {
        return pyi_error_set(e, PYI_EUNAVAILABLE, "env", "'%s': conda is not available yet",
                             extension->name);
    }
    pyi_err err = !extension->isolated ? pyi_env_host(&j.plan, manager, ret_env, &detail, e)
                  : extension->environment != NULL
                      ? prepare_existing(&j, began, ret_env, e)
                      : prepare_built(&j, manager, began, ret_env, &detail, e);
    if (err != PYI_OK) {
        if (err == PYI_ENOTFOUND || err == PYI_EUNAVAILABLE) {
            e->code = PYI_EENV; /* a Python or an installer: to callers, no method of theirs */
        }
        if (err == PYI_EENV && ret_detail != NULL) {
            *ret_detail = pyi_steal(&detail);
        }
        return pyi_error_wrap(e, "environment of '%s'", extension->name);
    }
    return PYI_OK;
}

void pyi_env_free(pyi_env *env) {
    if (env != NULL) {
        free(env->id);
        free(env->prefix);
        free(env->python);
        pyi_interpreter_free(env->interpreter);
        free(env);
    }
}

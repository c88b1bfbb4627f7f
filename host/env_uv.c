/*
 * Building with uv:
 *
 *   uv venv --python EXE PREFIX
 *   uv pip install --python PREFIX/bin/python --overrides FILE -r FILE [-e PATH] -- [PATH...]
 *
 * Named requirements go through a file, so that none of them can be read as an option. Local
 * projects go on the command line: given in a file, uv takes them from its cache as long as their
 * pyproject.toml is old, given by hand it builds them anew. Those in the user's own requirement
 * files are refreshed by name. The overrides file drops pyisolate
 * wherever it is required: the runtime provides it. Bytecode is compiled at once, because sandboxed
 * children cannot write it.
 */
#include "env_backend.h"
#include "process.h"
#include "requirement.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define NO_RUNTIME "pyisolate ; python_version < '0'\n"

static void result_fini(pyi_process_result *r) {
    pyi_process_result_fini(r);
}

/* ---- uv itself ------------------------------------------------------------------------------- */

static bool is_program(char *path) {
    return path != NULL && access(path, X_OK) == 0;
}

static char *below(const char *dir, const char *rest) {
    char *path = NULL;
    if (dir == NULL || *dir == '\0' || asprintf(&path, "%s%s", dir, rest) < 0) {
        return NULL;
    }
    if (!is_program(path)) {
        free(path);
        return NULL;
    }
    return path;
}

static char *on_path(void) {
    PYI_AUTO_LIST pyi_list dirs = {0};
    char *found = NULL;
    pyi_list_split(&dirs, getenv("PATH"), ":");
    for (size_t i = 0; i < dirs.count && found == NULL; i++) {
        found = below(dirs.items[i], "/uv");
    }
    return found;
}

/* A checkout's own tools: <root>/.tools/bin beside the build folder that this program runs from. */
static char *in_tools(void) {
    char dir[4096];
    ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
    char *found = NULL;
    dir[n < 0 ? 0 : n] = '\0';
    for (int up = 0; up < 4 && found == NULL; up++) {
        char *slash = strrchr(dir, '/');
        if (slash == NULL) {
            break;
        }
        *slash = '\0';
        found = below(dir, "/.tools/bin/uv");
    }
    return found;
}

/* $PYISOLATE_UV that leads nowhere counts as none: it was meant to be used. */
char *pyi_uv_find(void) {
    const char *given = getenv("PYISOLATE_UV"), *home = getenv("HOME");
    if (given != NULL && *given != '\0') {
        return below(given, "");
    }
    char *found = on_path();
    found = found != NULL ? found : below(home, "/.local/bin/uv");
    found = found != NULL ? found : below(home, "/.cargo/bin/uv");
    return found != NULL ? found : in_tools();
}

/* ---- what uv says ---------------------------------------------------------------------------- */

static bool begins(const char *line, const char *with) {
    return strncmp(line, with, strlen(with)) == 0;
}

static void on_line(void *arg, const char *line) {
    static const struct {
        const char *word;
        pyi_env_step step;
    } words[] = {{"Resolved", PYI_STEP_DOWNLOAD},   {"Downloading", PYI_STEP_DOWNLOAD},
                 {"Downloaded", PYI_STEP_DOWNLOAD}, {"Updating", PYI_STEP_DOWNLOAD},
                 {"Building", PYI_STEP_BUILD},      {"Built", PYI_STEP_BUILD},
                 {"Prepared", PYI_STEP_INSTALL},    {"Installed", PYI_STEP_INSTALL},
                 {"Bytecode", PYI_STEP_INSTALL}};
    line += strspn(line, " ");
    for (size_t i = 0; i < PYI_COUNT(words); i++) {
        if (begins(line, words[i].word)) {
            PYI_AUTO_FREE char *text = strdup(line);
            if (text != NULL) {
                pyi_redact(text);
                pyi_env_tell(arg, words[i].step, "%s", text);
            }
            return;
        }
    }
}

/* A line of uv's error without its frame: "error: ", "  cause: ", "  x ", "  |-> " in UTF-8. */
static const char *unframe(const char *line, size_t *len) {
    static const char *const frames[] = {"error: ", "cause: ", "hint: "};
    while (*len > 0 && (*line == ' ' || (*line & 0x80) != 0)) {
        line++;
        (*len)--;
    }
    for (size_t i = 0; i < PYI_COUNT(frames); i++) {
        if (*len > strlen(frames[i]) && begins(line, frames[i])) {
            *len -= strlen(frames[i]);
            line += strlen(frames[i]);
        }
    }
    return line;
}

/* From the first line that says what failed, in one line; chatter before it is left out. */
static void condense(const char *words, char *ret, size_t size) {
    size_t used = 0;
    bool failing = false;
    ret[0] = '\0';
    while (*words != '\0') {
        size_t raw = strcspn(words, "\n"), len = raw;
        failing = failing || begins(words, "error") || begins(words, "  \xc3\x97") ||
                  begins(words, "\xc3\x97");
        const char *text = unframe(words, &len);
        if (failing && len > 0 && used < size) {
            used += (size_t)snprintf(ret + used, size - used, "%s%.*s", used == 0 ? "" : "; ",
                                     (int)len, text);
        }
        words += raw + (words[raw] == '\n' ? 1 : 0);
    }
    if (used == 0) {
        snprintf(ret, size, "uv gave no reason");
    }
}

/* ---- steps ----------------------------------------------------------------------------------- */

static pyi_err run(const pyi_env_plan *plan, const char *const *argv, const char *what,
                   char **ret_detail, pyi_error *e) {
    PYI_AUTO_LIST pyi_list env = {0};
    __attribute__((cleanup(result_fini))) pyi_process_result result = {0};
    if (pyi_env_sources_environ(plan->sources, &env, e) != PYI_OK) {
        return e->code;
    }
    pyi_process p = {.argv = argv,
                     .envp = (const char *const *)env.items,
                     .cwd = plan->cwd,
                     .cancel_fd = plan->cancel_fd,
                     .on_line = on_line,
                     .arg = (void *)plan};
    if (pyi_process_run(&p, &result, e) != PYI_OK) {
        return pyi_error_wrap(e, "%s", what);
    }
    if (result.status == 0) {
        return PYI_OK;
    }
    char why[200];
    pyi_redact(result.err);
    condense(result.err, why, sizeof(why));
    if (ret_detail != NULL) {
        free(*ret_detail);
        *ret_detail = pyi_steal(&result.err);
    }
    return pyi_error_set(e, PYI_EENV, "env.install", "%s: %s", what, why);
}

static pyi_err make_venv(const pyi_env_plan *plan, const char *uv, char **ret_detail,
                         pyi_error *e) {
    const char *exe = plan->interpreter->executable;
    const char *const with_uv[] = {uv, "venv", "--no-project", "--python", exe, plan->prefix, NULL};
    const char *const with_python[] = {exe,          "-I", "-m", "venv", "--without-pip",
                                       plan->prefix, NULL};
    return run(plan, uv != NULL ? with_uv : with_python, "cannot make the environment", ret_detail,
               e);
}

/* A file of the build, for this user only: an URL in it may hold a password. */
static pyi_err write_file(const char *path, const char *first, const char *const *lines,
                          size_t count, pyi_error *e) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    if (out == NULL) {
        return pyi_error_sys(e, errno, "env.write", "cannot write '%s'", path);
    }
    fputs(first, out);
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "%s\n", lines[i]);
    }
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        return pyi_error_sys(e, errno, "env.write", "cannot write '%s'", path);
    }
    return PYI_OK;
}

static pyi_err add_file(const pyi_env_plan *plan, pyi_list *argv, const char *option,
                        const char *first, const char *const *lines, size_t count, pyi_error *e) {
    PYI_AUTO_FREE char *path = NULL;
    if (count == 0 && *first == '\0') {
        return PYI_OK;
    }
    if (asprintf(&path, "%s/%s.txt", plan->scratch, option + 2) < 0) {
        path = NULL;
        return pyi_error_set(e, PYI_ENOMEM, "env.write", "out of memory");
    }
    pyi_list_push(argv, option);
    pyi_list_push(argv, path);
    return write_file(path, first, lines, count, e);
}

/* Named requirements into `named`, local ones into argv: first the editable, then after "--" the
 * rest. */
static void split_requirements(const pyi_env_plan *plan, pyi_list *named, pyi_list *argv,
                               pyi_list *local) {
    for (size_t i = 0; i < plan->requirements->count; i++) {
        const char *requirement = plan->requirements->items[i];
        const char *editable = pyi_requirement_editable(requirement);
        PYI_AUTO_FREE char *path = pyi_requirement_path(requirement);
        if (editable != NULL) {
            pyi_list_push(argv, "-e");
            pyi_list_push(argv, editable);
        } else {
            pyi_list_push(path != NULL ? local : named, requirement);
        }
    }
}

static void add_options(pyi_list *argv, const char *option, const pyi_list *values) {
    for (size_t i = 0; i < values->count; i++) {
        pyi_list_push(argv, option);
        pyi_list_push(argv, values->items[i]);
    }
}

/* uv must not take a local project of a requirement file from its cache (see above). */
static void refresh_projects(const pyi_env_plan *plan, pyi_list *argv) {
    __attribute__((cleanup(pyi_requirement_set_fini))) pyi_requirement_set set = {0};
    PYI_AUTO_LIST pyi_list names = {0};
    pyi_env_requirement_files(plan, &set);
    for (size_t i = 0; i < set.local.count; i++) {
        size_t before = names.count;
        pyi_requirement_project_names(set.local.items[i], &names);
        if (names.count == before) { /* its name is computed: then all that is cached is suspect */
            pyi_list_push(argv, "--refresh");
            return;
        }
    }
    add_options(argv, "--refresh-package", &names);
    argv->failed = argv->failed || set.local.failed || names.failed;
}

static pyi_err install_argv(const pyi_env_plan *plan, const char *uv, pyi_list *argv,
                            pyi_error *e) {
    PYI_AUTO_LIST pyi_list named = {0};
    PYI_AUTO_LIST pyi_list local = {0};
    const pyi_extension_config *x = plan->extension;
    const char *const fixed[] = {uv, "pip", "install", "--compile-bytecode", "--python"};
    for (size_t i = 0; i < PYI_COUNT(fixed); i++) {
        pyi_list_push(argv, fixed[i]);
    }
    pyi_list_pushf(argv, "%s/bin/python", plan->prefix);
    if (plan->sources->no_index) {
        pyi_list_push(argv, "--no-index");
    }
    split_requirements(plan, &named, argv, &local);
    refresh_projects(plan, argv);
    for (size_t i = 0; i < x->requirements.count; i++) {
        pyi_list_push(argv, "--requirements");
        pyi_list_push(argv, x->requirements.items[i]);
    }
    if (add_file(plan, argv, "--requirements", "", (const char *const *)named.items, named.count,
                 e) != PYI_OK ||
        add_file(plan, argv, "--constraints", "", x->constraints.items, x->constraints.count, e) !=
            PYI_OK ||
        add_file(plan, argv, "--overrides", NO_RUNTIME, x->overrides.items, x->overrides.count,
                 e) != PYI_OK) {
        return e->code;
    }
    add_options(argv, "--constraints", &plan->sources->constraint_files);
    add_options(argv, "--overrides", &plan->sources->override_files);
    pyi_list_push(argv, "--");
    for (size_t i = 0; i < local.count; i++) {
        pyi_list_push(argv, local.items[i]);
    }
    bool failed = argv->failed || named.failed || local.failed;
    return failed ? pyi_error_set(e, PYI_ENOMEM, "env.install", "out of memory") : PYI_OK;
}

static pyi_err build(const pyi_env_plan *plan, char **ret_detail, pyi_error *e) {
    size_t wanted = plan->requirements->count + plan->extension->requirements.count;
    PYI_AUTO_FREE char *uv = pyi_uv_find();
    if (uv == NULL && wanted > 0) {
        return pyi_error_set(e, PYI_EUNAVAILABLE, "env.uv",
                             "uv is needed to install dependencies and was not found on PATH; "
                             "install it (pip install uv) or set PYISOLATE_UV");
    }
    pyi_env_tell(plan, PYI_STEP_RESOLVE, "Python %s, %zu requirement%s", plan->interpreter->version,
                 wanted, wanted == 1 ? "" : "s");
    if (make_venv(plan, uv, ret_detail, e) != PYI_OK || wanted == 0) {
        return e->code;
    }
    PYI_AUTO_LIST pyi_list argv = {0};
    if (install_argv(plan, uv, &argv, e) != PYI_OK) {
        return e->code;
    }
    return run(plan, (const char *const *)argv.items, "cannot install the dependencies", ret_detail,
               e);
}

const pyi_env_backend pyi_env_uv = {.name = "uv", .build = build};

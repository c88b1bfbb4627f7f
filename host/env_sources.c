/*
 * Who decides where packages come from, strongest first: the extension, UV_* variables, uv's
 * configuration files, pip's settings. Each key by itself, so that an extension's extra index does
 * not take a machine's mirror away. Entries that name a local folder or file which is not there are
 * left out: pip warns about such and goes on, uv would fail.
 *
 * Index URLs and page URLs may hold passwords. They go to uv through its environment, which only
 * this user can read, and never onto a command line, which everybody can.
 */
#include "env_sources.h"
#include "pip_config.h"
#include "requirement.h"
#include <stdio.h>
#include <string.h>

/* What of uv's own variables can change the outcome; the rest (caches, timeouts) cannot. */
static const char *const uv_variables[] = {
    "UV_INDEX",           "UV_DEFAULT_INDEX", "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS",    "UV_INDEX_STRATEGY",
    "UV_PRERELEASE",      "UV_RESOLUTION",    "UV_EXCLUDE_NEWER",
    "UV_NO_BUILD",        "UV_NO_BINARY",     "UV_ONLY_BINARY",
    "UV_TORCH_BACKEND",   "UV_NO_SOURCES",    "UV_NO_BUILD_ISOLATION",
    "UV_NO_CONFIG",       "UV_NO_EDITABLE",   "UV_BUILD_CONSTRAINT",
    "UV_EXCLUDE",         "UV_FORK_STRATEGY", "UV_NO_BUILD_PACKAGE"};

/* What would lead uv to another Python or folder than the one it is told of. */
static const char *const unwanted[] = {
    "VIRTUAL_ENV",           "CONDA_PREFIX",     "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP",
    "__PYVENV_LAUNCHER__",   "UV_SYSTEM_PYTHON", "UV_PYTHON",  "UV_PROJECT", "UV_WORKING_DIR",
    "UV_PROJECT_ENVIRONMENT"};

static bool is_set(const char *name) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0';
}

/* A path or file: URL that is not there. Other URLs are taken as they are. */
static bool is_missing(const char *entry) {
    PYI_AUTO_FREE char *path = pyi_requirement_path(entry);
    if (path != NULL) {
        return access(path, R_OK) != 0;
    }
    return strstr(entry, "://") == NULL && access(entry, R_OK) != 0;
}

static void add_present(pyi_list *to, const char *text) {
    PYI_AUTO_LIST pyi_list parts = {0};
    pyi_list_split(&parts, text, " \t\n");
    for (size_t i = 0; i < parts.count; i++) {
        if (!is_missing(parts.items[i])) {
            pyi_list_push(to, parts.items[i]);
            continue;
        }
        pyi_redact(parts.items[i]);
        pyi_log(PYI_DEBUG, "PYI-ENV-SOURCE-MISSING", NULL,
                "'%s' of pip's settings is not there: left out", parts.items[i]);
    }
}

static bool file_has(const char *path, const char *text) {
    PYI_AUTO_FREE char *line = NULL;
    size_t size = 0;
    FILE *in = fopen(path, "re");
    bool found = false;
    while (in != NULL && !found && getline(&line, &size, in) >= 0) {
        found = strstr(line, text) != NULL;
    }
    if (in != NULL) {
        fclose(in);
    }
    return found;
}

static bool add_if_there(pyi_list *files, const char *dir, const char *below) {
    PYI_AUTO_FREE char *path = NULL;
    if (dir == NULL || asprintf(&path, "%s%s", dir, below) < 0 || access(path, R_OK) != 0) {
        return false;
    }
    pyi_list_push(files, path);
    return true;
}

/* uv's configuration of a project: the nearest folder at or above `cwd` that has some. */
static void add_project_config(pyi_list *files, const char *cwd) {
    char dir[4096];
    snprintf(dir, sizeof(dir), "%s", cwd);
    while (*dir != '\0') {
        PYI_AUTO_FREE char *project = NULL;
        if (add_if_there(files, dir, "/uv.toml")) {
            return;
        }
        if (asprintf(&project, "%s/pyproject.toml", dir) > 0 && file_has(project, "[tool.uv")) {
            pyi_list_push(files, project);
            return;
        }
        *strrchr(dir, '/') = '\0';
    }
}

static void find_uv_config(pyi_env_sources *s, const char *cwd) {
    const char *given = getenv("UV_CONFIG_FILE"), *xdg = getenv("XDG_CONFIG_HOME");
    if (is_set("UV_NO_CONFIG")) {
        return;
    }
    if (is_set("UV_CONFIG_FILE")) {
        pyi_list_push(&s->uv_config, given);
        return;
    }
    if (cwd != NULL && cwd[0] == '/') {
        add_project_config(&s->uv_config, cwd);
    }
    if (is_set("XDG_CONFIG_HOME")) {
        (void)add_if_there(&s->uv_config, xdg, "/uv/uv.toml");
    } else {
        (void)add_if_there(&s->uv_config, getenv("HOME"), "/.config/uv/uv.toml");
    }
    (void)add_if_there(&s->uv_config, "/etc", "/uv/uv.toml");
}

static bool uv_config_has_index(const pyi_env_sources *s) {
    for (size_t i = 0; i < s->uv_config.count; i++) {
        const char *file = s->uv_config.items[i];
        if (file_has(file, "index") || file_has(file, "find-links")) {
            return true;
        }
    }
    return false;
}

static void from_extension(pyi_env_sources *s, const pyi_extension_config *x) {
    s->default_index = x->index_url == NULL ? NULL : strdup(x->index_url);
    for (size_t i = 0; i < x->extra_index_urls.count; i++) {
        pyi_list_push(&s->indexes, x->extra_index_urls.items[i]);
    }
    for (size_t i = 0; i < x->find_links.count; i++) {
        pyi_list_push(&s->find_links, x->find_links.items[i]);
    }
}

/* Ours replaces a variable of uv, so what that holds is added to ours. */
static void from_uv(pyi_env_sources *s) {
    if (s->indexes.count > 0) {
        pyi_list_split(&s->indexes, getenv("UV_INDEX"), " \t\n");
        pyi_list_split(&s->indexes, getenv("UV_EXTRA_INDEX_URL"), " \t\n");
    }
    if (s->find_links.count > 0) {
        pyi_list_split(&s->find_links, getenv("UV_FIND_LINKS"), ",");
    }
    pyi_list_split(&s->constraint_files, getenv("UV_CONSTRAINT"), " \t\n");
    pyi_list_split(&s->override_files, getenv("UV_OVERRIDE"), " \t\n");
}

static bool pip_true(const char *value) {
    return value != NULL && (strcasecmp(value, "1") == 0 || strcasecmp(value, "true") == 0 ||
                             strcasecmp(value, "yes") == 0 || strcasecmp(value, "on") == 0);
}

static void from_pip(pyi_env_sources *s, const pyi_extension_config *x, const pyi_pip_config *pip) {
    bool uv_decides = uv_config_has_index(s);
    bool default_free = !uv_decides && !is_set("UV_DEFAULT_INDEX") && !is_set("UV_INDEX_URL");
    bool extra_free = !uv_decides && !is_set("UV_INDEX") && !is_set("UV_EXTRA_INDEX_URL");
    if (s->default_index == NULL && default_free && pip->value[PYI_PIP_INDEX_URL] != NULL) {
        s->default_index = strdup(pip->value[PYI_PIP_INDEX_URL]);
    }
    if (extra_free) {
        size_t own = s->indexes.count;
        add_present(&s->indexes, pip->value[PYI_PIP_EXTRA_INDEX_URL]);
        s->like_pip = own == 0 && s->indexes.count > 0 && !is_set("UV_INDEX_STRATEGY");
    }
    if (!uv_decides && !is_set("UV_FIND_LINKS")) {
        add_present(&s->find_links, pip->value[PYI_PIP_FIND_LINKS]);
    }
    if (!is_set("UV_CONSTRAINT")) {
        add_present(&s->constraint_files, pip->value[PYI_PIP_CONSTRAINT]);
    }
    if (!is_set("UV_INSECURE_HOST")) {
        pyi_list_split(&s->trusted_hosts, pip->value[PYI_PIP_TRUSTED_HOST], " \t\n");
    }
    const char *cert = pip->value[PYI_PIP_CERT];
    if (cert != NULL && !is_set("SSL_CERT_FILE") && access(cert, R_OK) == 0) {
        s->cert = strdup(cert);
    }
    s->no_index = pip_true(pip->value[PYI_PIP_NO_INDEX]) && default_free && extra_free &&
                  x->index_url == NULL && x->extra_index_urls.count == 0;
}

static bool any_failed(const pyi_env_sources *s) {
    return s->indexes.failed || s->find_links.failed || s->constraint_files.failed ||
           s->override_files.failed || s->trusted_hosts.failed || s->uv_config.failed;
}

pyi_err pyi_env_sources_read(const pyi_extension_config *extension, const char *cwd,
                             pyi_env_sources *ret, pyi_error *e) {
    __attribute__((cleanup(pyi_pip_config_fini))) pyi_pip_config pip = {0};
    pyi_env_sources s = {0};
    if (pyi_pip_config_read(&pip, e) != PYI_OK) {
        return e->code;
    }
    find_uv_config(&s, cwd);
    from_extension(&s, extension);
    from_uv(&s);
    from_pip(&s, extension, &pip);
    if (any_failed(&s)) {
        pyi_env_sources_fini(&s);
        return pyi_error_set(e, PYI_ENOMEM, "env.sources", "out of memory");
    }
    *ret = s;
    return PYI_OK;
}

void pyi_env_sources_fini(pyi_env_sources *s) {
    free(s->default_index);
    free(s->cert);
    pyi_list_fini(&s->indexes);
    pyi_list_fini(&s->find_links);
    pyi_list_fini(&s->constraint_files);
    pyi_list_fini(&s->override_files);
    pyi_list_fini(&s->trusted_hosts);
    pyi_list_fini(&s->uv_config);
    *s = (pyi_env_sources){0};
}

static void hash_url(pyi_hash *h, const char *name, const char *url) {
    PYI_AUTO_FREE char *shown = url == NULL ? NULL : strdup(url);
    if (shown != NULL) {
        pyi_redact(shown);
    }
    pyi_hash_field(h, name, shown);
}

static void hash_files(pyi_hash *h, const char *name, const pyi_list *files) {
    for (size_t i = 0; i < files->count; i++) {
        pyi_hash_field(h, name, files->items[i]);
        pyi_hash_file(h, name, files->items[i]);
    }
}

void pyi_env_sources_hash(const pyi_env_sources *s, pyi_hash *h) {
    hash_url(h, "index", s->default_index);
    for (size_t i = 0; i < s->indexes.count; i++) {
        hash_url(h, "extra", s->indexes.items[i]);
    }
    for (size_t i = 0; i < s->find_links.count; i++) {
        hash_url(h, "links", s->find_links.items[i]);
    }
    hash_files(h, "constraint", &s->constraint_files);
    hash_files(h, "override", &s->override_files);
    hash_files(h, "uv", &s->uv_config);
    pyi_hash_field(h, "no-index", s->no_index ? "1" : NULL);
    pyi_hash_field(h, "like-pip", s->like_pip ? "1" : NULL);
    for (size_t i = 0; i < PYI_COUNT(uv_variables); i++) {
        if (is_set(uv_variables[i])) {
            hash_url(h, uv_variables[i], getenv(uv_variables[i]));
        }
    }
}

static bool names(const char *entry, const char *name) {
    size_t len = strlen(name);
    return strncmp(entry, name, len) == 0 && entry[len] == '=';
}

static void set(pyi_list *env, const char *name, const char *value) {
    for (size_t i = 0; i < env->count; i++) {
        if (names(env->items[i], name)) {
            free(env->items[i]);
            env->items[i] = env->items[--env->count];
            env->items[env->count] = NULL;
            i--;
        }
    }
    if (value != NULL) {
        pyi_list_pushf(env, "%s=%s", name, value);
    }
}

static void set_joined(pyi_list *env, const char *name, const pyi_list *values,
                       const char *between) {
    if (values->count > 0) {
        PYI_AUTO_FREE char *joined = pyi_list_join(values, between);
        env->failed = env->failed || joined == NULL;
        set(env, name, joined);
    }
}

pyi_err pyi_env_sources_environ(const pyi_env_sources *s, pyi_list *ret, pyi_error *e) {
    for (char **p = environ; p != NULL && *p != NULL; p++) {
        pyi_list_push(ret, *p);
    }
    for (size_t i = 0; i < PYI_COUNT(unwanted); i++) {
        set(ret, unwanted[i], NULL);
    }
    if (s->default_index != NULL) {
        set(ret, "UV_INDEX_URL", NULL);
        set(ret, "UV_DEFAULT_INDEX", s->default_index);
    }
    if (s->indexes.count > 0) {
        set(ret, "UV_EXTRA_INDEX_URL", NULL);
    }
    set_joined(ret, "UV_INDEX", &s->indexes, " ");
    set_joined(ret, "UV_FIND_LINKS", &s->find_links, ",");
    set_joined(ret, "UV_INSECURE_HOST", &s->trusted_hosts, " ");
    if (s->cert != NULL) {
        set(ret, "SSL_CERT_FILE", s->cert);
    }
    if (s->like_pip) {
        set(ret, "UV_INDEX_STRATEGY", "unsafe-best-match");
    }
    set(ret, "UV_PYTHON_DOWNLOADS", "never");
    set(ret, "NO_COLOR", "1");
    return ret->failed ? pyi_error_set(e, PYI_ENOMEM, "env.sources", "out of memory") : PYI_OK;
}

/*
 * What a child sees of the host's environment: an allow-list, since the rest holds secrets. The
 * numeric libraries' variables are let in because the machine's administrator sets them for this
 * processor.
 */
#include "spawn.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

static const char *const allowed[] = {
    "CUDA_*",
    "HOME",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "LOGNAME",
    "MKL_*",
    "NO_COLOR",
    "NUMBA_*",
    "NUMEXPR_*",
    "NVIDIA_*",
    "OMP_*",
    "OPENBLAS_*",
    "PYISOLATE_DEBUG_RPC",
    "PYISOLATE_ENABLE_CUDA_IPC",
    "PYISOLATE_PATH_DEBUG",
    "PYISOLATE_TRACE_FILE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
};

/* A sanitizer's options must reach the child that was built with it. */
static const char *const allowed_debug[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",
                                            "LSAN_OPTIONS"};

static bool name_matches(const char *entry, size_t len, const char *pattern) {
    char name[256];
    if (len >= sizeof(name)) {
        return false;
    }
    memcpy(name, entry, len);
    name[len] = '\0';
    return fnmatch(pattern, name, 0) == 0;
}

static bool any_matches(const char *entry, size_t len, const char *const *patterns, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (name_matches(entry, len, patterns[i])) {
            return true;
        }
    }
    return false;
}

static bool is_inherited(const pyi_extension_config *c, const char *entry) {
    const char *eq = strchr(entry, '=');
    if (eq == NULL) {
        return false;
    }
    size_t len = (size_t)(eq - entry);
    return any_matches(entry, len, allowed, PYI_COUNT(allowed)) ||
           any_matches(entry, len, allowed_debug, PYI_COUNT(allowed_debug)) ||
           any_matches(entry, len, c->env_inherit.items, c->env_inherit.count);
}

/* Sets KEY=VALUE, replacing an earlier one of that key. */
static bool put(char **envp, size_t *n, const char *key, const char *value) {
    char *entry;
    if (asprintf(&entry, "%s=%s", key, value) < 0) {
        return false;
    }
    size_t len = strlen(key) + 1;
    for (size_t i = 0; i < *n; i++) {
        if (strncmp(envp[i], entry, len) == 0) {
            free(envp[i]);
            envp[i] = entry;
            return true;
        }
    }
    envp[(*n)++] = entry;
    return true;
}

static bool put_path(char **envp, size_t *n, const char *prefix) {
    const char *path = getenv("PATH");
    char *value;
    if (asprintf(&value, "%s/bin:%s", prefix,
                 path != NULL ? path : "/usr/local/bin:/usr/bin:/bin") < 0) {
        return false;
    }
    bool ok = put(envp, n, "PATH", value);
    free(value);
    return ok;
}

static bool fill(char **envp, const pyi_extension_config *c, const char *prefix) {
    size_t n = 0;
    for (char **entry = environ; *entry != NULL; entry++) {
        if (is_inherited(c, *entry) && (envp[n++] = strdup(*entry)) == NULL) {
            return false;
        }
    }
    bool ok = put_path(envp, &n, prefix);
    for (size_t i = 0; ok && i < c->env.count; i++) {
        ok = put(envp, &n, c->env.items[i].key, c->env.items[i].value);
    }
    return ok && put(envp, &n, "PYISOLATE_CHILD", "1");
}

char **pyi_environment_new(const pyi_extension_config *config, const char *prefix) {
    size_t count = config->env.count + 3;
    for (char **entry = environ; *entry != NULL; entry++) {
        count++;
    }
    char **envp = calloc(count, sizeof(*envp));
    if (envp != NULL && !fill(envp, config, prefix)) {
        pyi_environment_free(pyi_steal(&envp));
    }
    return envp;
}

void pyi_environment_free(char **envp) {
    if (envp == NULL) {
        return;
    }
    for (char **entry = envp; *entry != NULL; entry++) {
        free(*entry);
    }
    free(envp);
}

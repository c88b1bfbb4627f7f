/*
 * pip's configuration: an INI dialect in up to five files, weakest first: system-wide, the user's
 * two, $PIP_CONFIG_FILE. [install] of any file wins over [global] of any, a later file over an
 * earlier one, variables over all. A stronger value replaces a weaker one, it does not add to it.
 * PIP_CONFIG_FILE=/dev/null switches every file off.
 */
#include "pip_config.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define INSTALL_RANK  100
#define RANK_VARIABLE 1000

static const char *const key_names[PYI_PIP_KEYS] = {
    [PYI_PIP_INDEX_URL] = "index-url",      [PYI_PIP_EXTRA_INDEX_URL] = "extra-index-url",
    [PYI_PIP_FIND_LINKS] = "find-links",    [PYI_PIP_CONSTRAINT] = "constraint",
    [PYI_PIP_NO_INDEX] = "no-index",        [PYI_PIP_CERT] = "cert",
    [PYI_PIP_TRUSTED_HOST] = "trusted-host"};

/* Where a value under way goes: continuation lines are added to it. */
typedef struct reader {
    pyi_pip_config *config;
    int file_rank, section_rank; /* section_rank < 0: a section that does not concern us */
    int key;                     /* of the last line; -1: none of ours */
} reader;

static int find_key(const char *name, size_t len) {
    for (int k = 0; k < PYI_PIP_KEYS; k++) {
        bool same = strlen(key_names[k]) == len;
        for (size_t i = 0; same && i < len; i++) {
            char c = name[i] == '_' ? '-' : (char)tolower((unsigned char)name[i]);
            same = c == key_names[k][i];
        }
        if (same) {
            return k;
        }
    }
    return -1;
}

static char *trim(char *s) {
    while (isspace((unsigned char)*s)) {
        s++;
    }
    size_t len = strlen(s);
    while (len > 0 && isspace((unsigned char)s[len - 1])) {
        s[--len] = '\0';
    }
    return s;
}

static void put(pyi_pip_config *c, int key, int rank, const char *value) {
    if (c->value[key] != NULL && c->rank[key] > rank) {
        return;
    }
    free(c->value[key]);
    c->value[key] = strdup(value);
    c->rank[key] = rank;
}

static void add_line(reader *r, const char *more) {
    char *joined = NULL;
    char **value = &r->config->value[r->key];
    if (*value != NULL && asprintf(&joined, "%s %s", *value, more) >= 0) {
        free(*value);
        *value = joined;
    }
}

static void on_section(reader *r, const char *name) {
    r->key = -1;
    r->section_rank = strncmp(name, "[global]", 8) == 0    ? 0
                      : strncmp(name, "[install]", 9) == 0 ? 1
                                                           : -1;
}

static void on_key(reader *r, char *line) {
    char *eq = strpbrk(line, "=:");
    r->key = -1;
    if (eq == NULL || r->section_rank < 0) {
        return;
    }
    size_t len = (size_t)(eq - line);
    while (len > 0 && isspace((unsigned char)line[len - 1])) {
        len--;
    }
    int key = find_key(line, len), rank = r->section_rank * INSTALL_RANK + r->file_rank;
    if (key >= 0 && (r->config->value[key] == NULL || r->config->rank[key] <= rank)) {
        put(r->config, key, rank, trim(eq + 1));
        r->key = key;
    }
}

static void read_file(pyi_pip_config *config, const char *path, int rank) {
    FILE *in = fopen(path, "re");
    if (in == NULL) {
        return; /* pip passes over files that it cannot read */
    }
    reader r = {.config = config, .file_rank = rank, .section_rank = -1, .key = -1};
    PYI_AUTO_FREE char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, in) >= 0) {
        bool indented = line[0] == ' ' || line[0] == '\t';
        char *text = trim(line);
        if (*text == '\0' || *text == '#' || *text == ';') {
            continue;
        }
        if (indented && r.key >= 0) {
            add_line(&r, text);
        } else if (*text == '[') {
            on_section(&r, text);
        } else if (!indented) {
            on_key(&r, text);
        }
    }
    fclose(in);
}

static void read_below(pyi_pip_config *c, const char *dir, size_t len, const char *below,
                       int rank) {
    PYI_AUTO_FREE char *path = NULL;
    if (dir != NULL && asprintf(&path, "%.*s%s", (int)len, dir, below) > 0) {
        read_file(c, path, rank);
    }
}

static void read_system(pyi_pip_config *c) {
    const char *dirs = getenv("XDG_CONFIG_DIRS");
    for (dirs = dirs == NULL || *dirs == '\0' ? "/etc/xdg" : dirs; *dirs != '\0';) {
        size_t len = strcspn(dirs, ":");
        read_below(c, dirs, len, "/pip/pip.conf", 0);
        dirs += len + (dirs[len] == ':' ? 1 : 0);
    }
    read_file(c, "/etc/pip.conf", 1);
}

static void read_user(pyi_pip_config *c) {
    const char *home = getenv("HOME"), *xdg = getenv("XDG_CONFIG_HOME");
    read_below(c, home, home == NULL ? 0 : strlen(home), "/.pip/pip.conf", 2);
    if (xdg != NULL && *xdg != '\0') {
        read_below(c, xdg, strlen(xdg), "/pip/pip.conf", 3);
    } else {
        read_below(c, home, home == NULL ? 0 : strlen(home), "/.config/pip/pip.conf", 3);
    }
}

static void read_variables(pyi_pip_config *c) {
    for (int k = 0; k < PYI_PIP_KEYS; k++) {
        char name[64] = "PIP_";
        size_t n = 4;
        for (const char *p = key_names[k]; *p != '\0'; p++) {
            name[n++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
        }
        const char *value = getenv(name);
        if (value != NULL && *value != '\0') {
            put(c, k, RANK_VARIABLE, value);
        }
    }
}

pyi_err pyi_pip_config_read(pyi_pip_config *ret, pyi_error *e) {
    const char *own = getenv("PIP_CONFIG_FILE");
    pyi_pip_config c = {0};
    if (own == NULL || strcmp(own, "/dev/null") != 0) {
        read_system(&c);
        read_user(&c);
        if (own != NULL && *own != '\0') {
            read_file(&c, own, 4);
        }
    }
    read_variables(&c);
    for (int k = 0; k < PYI_PIP_KEYS; k++) {
        if (c.value[k] == NULL && c.rank[k] != 0) {
            pyi_pip_config_fini(&c);
            return pyi_error_set(e, PYI_ENOMEM, "env.pip", "out of memory");
        }
    }
    *ret = c;
    return PYI_OK;
}

void pyi_pip_config_fini(pyi_pip_config *c) {
    for (int k = 0; k < PYI_PIP_KEYS; k++) {
        free(c->value[k]);
    }
    *c = (pyi_pip_config){0};
}

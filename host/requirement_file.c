/*
 * Lines as pip and uv read them: comments begin a line or follow a space, ${NAME} stands for an
 * environment variable, "-r" and "-c" include, and a requirement with a '/' that is no URL is a
 * path.
 */
#include "requirement_file.h"
#include "requirement.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define MAX_FILES 256 /* a bound for what includes itself under many names */

static bool is_space(char c) {
    return isspace((unsigned char)c) != 0;
}

static const char *skip_space(const char *p) {
    return p + strspn(p, " \t");
}

/* Comment, line end and spaces around are cut off. Returns the text's start. */
static char *trim(char *line) {
    for (char *p = line; *p != '\0'; p++) {
        if (*p == '#' && (p == line || is_space(p[-1]))) {
            *p = '\0';
            break;
        }
    }
    size_t len = strlen(line);
    while (len > 0 && (is_space(line[len - 1]) || line[len - 1] == '\\')) {
        line[--len] = '\0';
    }
    return line + strspn(line, " \t");
}

/* ${NAME} replaced; an unknown one stays. NULL on out-of-memory. */
static char *expand(const char *text) {
    char *out = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&out, &size);
    if (to == NULL) {
        return NULL;
    }
    while (*text != '\0') {
        size_t len = strncmp(text, "${", 2) == 0 ? strcspn(text, "}") : 0;
        char name[128];
        snprintf(name, sizeof(name), "%.*s", len > 2 ? (int)len - 2 : 0, text + 2 * (len > 2));
        const char *value = len > 2 && text[len] == '}' ? getenv(name) : NULL;
        if (value != NULL) {
            fputs(value, to);
            text += len + 1;
        } else {
            fputc(*text++, to);
        }
    }
    if (fclose(to) != 0) {
        free(out);
        return NULL;
    }
    return out;
}

/* What follows one of `options` on a line, or NULL. "-rfile" is right, "--requirementfile" not. */
static const char *argument_of(const char *line, const char *brief, const char *spelled) {
    const char *names[] = {brief, spelled};
    for (size_t i = 0; i < PYI_COUNT(names); i++) {
        size_t len = strlen(names[i]);
        if (strncmp(line, names[i], len) == 0 &&
            (i == 0 || line[len] == '=' || is_space(line[len]))) {
            return skip_space(line + len + (line[len] == '=' ? 1 : 0));
        }
    }
    return NULL;
}

static bool ends_with(const char *text, size_t len, const char *end) {
    size_t n = strlen(end);
    return len > n && strncmp(text + len - n, end, n) == 0;
}

/* The path or file URL that a requirement stands for, or NULL: a name, or an URL elsewhere. */
static const char *path_in(const char *requirement) {
    const char *at = strchr(requirement, '@'), *target = requirement;
    size_t word = strcspn(requirement, " \t;");
    if (at != NULL && memchr(requirement, '/', (size_t)(at - requirement)) == NULL &&
        memchr(requirement, ':', (size_t)(at - requirement)) == NULL) {
        target = skip_space(at + 1);
        word = strcspn(target, " \t;");
    }
    if (strncmp(target, "file:", 5) == 0) {
        return target;
    }
    if (memmem(target, word, "://", 3) != NULL) {
        return NULL;
    }
    bool archive = ends_with(target, word, ".whl") || ends_with(target, word, ".tar.gz") ||
                   ends_with(target, word, ".zip");
    return archive || memchr(target, '/', word) != NULL || *target == '.' ? target : NULL;
}

static void add_local(pyi_requirement_set *set, const char *target, bool editable,
                      const char *cwd) {
    const char *url = strncmp(target, "file:", 5) == 0 ? "file://" : "";
    if (*url != '\0') {
        target += strncmp(target, "file://localhost/", 17) == 0 ? 16 : 5;
        target += strncmp(target, "///", 3) == 0 ? 2 : 0;
    }
    int len = (int)strcspn(target, ";");
    while (len > 0 && is_space(target[len - 1])) {
        len--;
    }
    pyi_list_pushf(&set->local, "%s%s%s%s%.*s", editable ? "-e " : "", url,
                   *target == '/' ? "" : cwd, *target == '/' ? "" : "/", len, target);
}

static void read_line(pyi_requirement_set *set, const char *line, const char *file,
                      const char *cwd) {
    const char *included = argument_of(line, "-r", "--requirement");
    included = included != NULL ? included : argument_of(line, "-c", "--constraint");
    if (included != NULL) {
        PYI_AUTO_FREE char *joined = NULL;
        const char *slash = strrchr(file, '/');
        bool whole = included[0] == '/' || slash == NULL || strstr(included, "://") != NULL;
        if (whole) {
            pyi_requirement_set_add(set, included, cwd);
        } else if (asprintf(&joined, "%.*s/%s", (int)(slash - file), file, included) > 0) {
            pyi_requirement_set_add(set, joined, cwd);
        }
        return;
    }
    const char *editable = argument_of(line, "-e", "--editable");
    if (editable == NULL && line[0] == '-') {
        return; /* another option */
    }
    const char *target = path_in(editable == NULL ? line : editable);
    if (target != NULL) {
        add_local(set, target, editable != NULL, cwd);
    }
}

void pyi_requirement_set_add(pyi_requirement_set *set, const char *path, const char *cwd) {
    PYI_AUTO_FREE char *line = NULL;
    size_t size = 0;
    if (pyi_list_has(&set->files, path) || set->files.count >= MAX_FILES) {
        return;
    }
    pyi_list_push(&set->files, path);
    FILE *in = fopen(path, "re");
    while (in != NULL && getline(&line, &size, in) >= 0) {
        PYI_AUTO_FREE char *text = expand(trim(line));
        if (text == NULL) {
            set->local.failed = true;
        } else if (*text != '\0') {
            read_line(set, text, path, cwd);
        }
    }
    if (in != NULL) {
        fclose(in);
    }
}

void pyi_requirement_set_fini(pyi_requirement_set *set) {
    pyi_list_fini(&set->files);
    pyi_list_fini(&set->local);
}

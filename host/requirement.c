/*
 * Reading requirements only as far as the host must: what is local (its contents are part of an
 * environment's identity), what is editable, what is pyisolate itself. All else is the installer's.
 */
#include "requirement.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define RUNTIME_NAME "pyisolate"

static const char *skip_space(const char *p) {
    while (isspace((unsigned char)*p)) {
        p++;
    }
    return p;
}

static bool is_name_char(char c) {
    return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.';
}

pyi_err pyi_requirement_check(const char *requirement, pyi_error *e) {
    const char *p = skip_space(requirement);
    const char *editable = pyi_requirement_editable(p);
    p = editable == NULL ? p : editable;
    if (*p == '\0' || *p == '-' || strpbrk(p, "\n\r") != NULL || *p == '#') {
        return pyi_error_set(
            e, PYI_EINVAL, "env.requirement",
            "'%.100s' is no requirement: options do not belong here, write a name, "
            "a path, or '-e PATH'",
            requirement);
    }
    return PYI_OK;
}

const char *pyi_requirement_editable(const char *requirement) {
    const char *p = skip_space(requirement);
    size_t len = strncmp(p, "-e", 2) == 0 ? 2 : strncmp(p, "--editable", 10) == 0 ? 10 : 0;
    if (len == 0 || !(p[len] == '=' || isspace((unsigned char)p[len]))) {
        return NULL;
    }
    return skip_space(p + len + 1);
}

/* "git+https://...", "file:...": what follows is no name. */
static bool is_scheme(const char *p) {
    while (is_name_char(*p)) {
        p++;
    }
    return *p == ':' || *p == '+';
}

/* Names compare as PEP 503 says: in lower case, each run of "-_." as one "-". */
static const char *put_name(FILE *out, const char *p) {
    while (is_name_char(*p)) {
        if (isalnum((unsigned char)*p)) {
            fputc(tolower((unsigned char)*p++), out);
        } else {
            fputc('-', out);
            p += strspn(p, "-_.");
        }
    }
    return p;
}

static bool is_word_end(char c) {
    return isalnum((unsigned char)c) || c == '\'' || c == '"' || c == ')' || c == ']';
}

static bool is_word_start(char c) {
    return isalnum((unsigned char)c) || c == '\'' || c == '"' || c == '(' || c == '/';
}

char *pyi_requirement_normal(const char *requirement) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    const char *p = skip_space(requirement);
    if (isalnum((unsigned char)*p) && !is_scheme(p)) {
        p = put_name(out, p);
    }
    char before = 'x';
    for (bool gap = false; *p != '\0'; p++) { /* spaces only between words, none around operators */
        if (isspace((unsigned char)*p)) {
            gap = true;
            continue;
        }
        if (gap && is_word_end(before) && is_word_start(*p)) {
            fputc(' ', out);
        }
        gap = false;
        before = *p;
        fputc(*p, out);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* "%20" becomes a space. */
static void percent_decode(char *s) {
    char *to = s;
    for (const char *p = s; *p != '\0'; p++) {
        unsigned byte;
        if (p[0] == '%' && isxdigit((unsigned char)p[1]) && isxdigit((unsigned char)p[2]) &&
            sscanf(p + 1, "%2x", &byte) == 1) {
            *to++ = (char)byte;
            p += 2;
        } else {
            *to++ = *p;
        }
    }
    *to = '\0';
}

/* Where the text of a path or file URL begins, or NULL. */
static const char *local_part(const char *requirement, bool *ret_url) {
    const char *p = skip_space(requirement), *editable = pyi_requirement_editable(p);
    p = editable == NULL ? p : editable;
    const char *at = strstr(p, "@");
    if (at != NULL && strncmp(skip_space(at + 1), "file:", 5) == 0) {
        p = skip_space(at + 1);
    }
    *ret_url = strncmp(p, "file:", 5) == 0;
    if (*ret_url) {
        p = strncmp(p, "file://localhost/", 17) == 0 ? p + 16 : p + 5;
        p += strncmp(p, "//", 2) == 0 ? 2 : 0;
    }
    return *p == '/' ? p : NULL;
}

char *pyi_requirement_path(const char *requirement) {
    bool url = false;
    const char *p = local_part(requirement, &url);
    if (p == NULL) {
        return NULL;
    }
    const char *marker = strstr(p, " ;");
    size_t len = marker != NULL ? (size_t)(marker - p) : strlen(p);
    len = url ? strcspn(p, "#; ") : len;
    while (len > 1 && isspace((unsigned char)p[len - 1])) {
        len--;
    }
    if (p[len - 1] == ']') { /* extras */
        size_t open = len - 1;
        while (open > 0 && p[open] != '[' && p[open] != '/') {
            open--;
        }
        len = p[open] == '[' ? open : len;
    }
    char *path = strndup(p, len);
    if (path != NULL && url) {
        percent_decode(path);
    }
    return path;
}

static bool is_runtime_name(const char *p) {
    size_t n = strlen(RUNTIME_NAME);
    return strncasecmp(p, RUNTIME_NAME, n) == 0 && !is_name_char(p[n]);
}

/* What the lines "name = ..." of a project file say. Others than the project's own may be among
 * them. */
static void names_in_file(const char *folder, const char *file, pyi_list *names) {
    PYI_AUTO_FREE char *path = NULL;
    PYI_AUTO_FREE char *line = NULL;
    size_t size = 0;
    FILE *in = asprintf(&path, "%s/%s", folder, file) < 0 ? NULL : fopen(path, "re");
    while (in != NULL && getline(&line, &size, in) >= 0) {
        const char *p = skip_space(line);
        if (strncmp(p, "name", 4) == 0) {
            p = skip_space(p + 4);
            p = *p == '=' ? skip_space(p + 1) : "";
            p += *p == '"' || *p == '\'' ? 1 : 0;
            size_t len = 0;
            while (is_name_char(p[len])) {
                len++;
            }
            if (len > 0 && isalnum((unsigned char)*p)) {
                pyi_list_pushn(names, p, len);
            }
        }
    }
    if (in != NULL) {
        fclose(in);
    }
}

static void names_in_folder(const char *folder, pyi_list *names) {
    names_in_file(folder, "pyproject.toml", names);
    names_in_file(folder, "setup.cfg", names);
    names_in_file(folder, "setup.py", names);
}

void pyi_requirement_project_names(const char *requirement, pyi_list *names) {
    struct stat st;
    PYI_AUTO_FREE char *path = pyi_requirement_path(requirement);
    if (path == NULL) {
        return;
    }
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        names_in_folder(path, names);
        return;
    }
    const char *slash = strrchr(path, '/'); /* a wheel or source archive: NAME-VERSION... */
    const char *base = slash == NULL ? path : slash + 1;
    pyi_list_pushn(names, base, strcspn(base, "-"));
}

static bool path_is_runtime(const char *path) {
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        PYI_AUTO_LIST pyi_list names = {0};
        names_in_folder(path, &names);
        for (size_t i = 0; i < names.count; i++) {
            if (is_runtime_name(names.items[i])) {
                return true;
            }
        }
        return false;
    }
    const char *slash = strrchr(path, '/'); /* a wheel or source archive: NAME-VERSION... */
    const char *base = slash == NULL ? path : slash + 1;
    size_t n = strlen(RUNTIME_NAME);
    return strncasecmp(base, RUNTIME_NAME, n) == 0 && base[n] == '-' &&
           isdigit((unsigned char)base[n + 1]);
}

bool pyi_requirement_is_runtime(const char *requirement) {
    const char *p = skip_space(requirement), *egg = strstr(requirement, "#egg=");
    if (is_runtime_name(p) || (egg != NULL && is_runtime_name(egg + 5))) {
        return true;
    }
    PYI_AUTO_FREE char *path = pyi_requirement_path(requirement);
    return path != NULL && path_is_runtime(path);
}

void pyi_redact(char *text) {
    for (char *p = text; (p = strstr(p, "://")) != NULL;) {
        p += 3;
        size_t len = strcspn(p, "/ \t\r\n\"'`<>()");
        char *at = memrchr(p, '@', len);
        if (at != NULL && at > p) {
            size_t stars = (size_t)(at - p) < 4 ? (size_t)(at - p) : 4;
            memset(p, '*', stars);
            memmove(p + stars, at, strlen(at) + 1);
        }
    }
}

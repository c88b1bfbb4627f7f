/*
 * PEP 440 for interpreters. A request is one bare version (a prefix) or clauses separated by
 * commas, each an operator and a version; all must hold.
 */
#include "version.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define FINAL 1000000

typedef struct clause {
    char op[4]; /* "" for a bare version */
    pyi_version version;
} clause;

static const char *skip_space(const char *p) {
    while (isspace((unsigned char)*p)) {
        p++;
    }
    return p;
}

static const char *number(const char *p, int *ret) {
    int value = 0;
    for (int digits = 0; isdigit((unsigned char)*p); p++) {
        if (++digits > 6) {
            return NULL;
        }
        value = value * 10 + (*p - '0');
    }
    *ret = value;
    return p;
}

/* "rc1" and the like, as one number that orders them before the final release. */
static const char *pre_release(const char *p, int *ret) {
    static const struct {
        const char *mark;
        int base;
    } marks[] = {{"a", 1000}, {"b", 2000}, {"rc", 3000}, {"c", 3000}};
    *ret = FINAL;
    for (size_t i = 0; i < PYI_COUNT(marks); i++) {
        size_t len = strlen(marks[i].mark);
        if (strncmp(p, marks[i].mark, len) == 0 && isdigit((unsigned char)p[len])) {
            int n = 0;
            p = number(p + len, &n);
            *ret = marks[i].base + n;
            return p;
        }
    }
    return p;
}

/* Parses a version at p; NULL if there is none. Returns what follows it. */
static const char *version_at(const char *p, pyi_version *ret) {
    *ret = (pyi_version){.pre = FINAL};
    while (p != NULL && ret->parts < 3 && isdigit((unsigned char)*p)) {
        p = number(p, &ret->part[ret->parts]);
        ret->parts++;
        if (p == NULL || *p != '.' || (!isdigit((unsigned char)p[1]) && p[1] != '*')) {
            break;
        }
        if (p[1] == '*') {
            ret->any = true;
            return p + 2;
        }
        p++;
    }
    if (p == NULL || ret->parts == 0) {
        return NULL;
    }
    p = pre_release(p, &ret->pre);
    return p != NULL && *p == '+' ? p + 1 : p;
}

static const char *without_name(const char *request) {
    static const char *const names[] = {"cpython", "python"};
    const char *p = skip_space(request);
    for (size_t i = 0; i < PYI_COUNT(names); i++) {
        size_t len = strlen(names[i]);
        if (strncmp(p, names[i], len) == 0) {
            p += len;
            return *p == '@' || *p == '-' ? p + 1 : p;
        }
    }
    return p;
}

/* Reads one clause and the comma after it; NULL if it is none. */
static const char *clause_at(const char *p, clause *ret) {
    size_t n = strspn(p = skip_space(p), "<>=!~");
    if (n >= sizeof(ret->op)) {
        return NULL;
    }
    memcpy(ret->op, p, n);
    ret->op[n] = '\0';
    p = version_at(skip_space(p + n), &ret->version);
    if (p == NULL) {
        return NULL;
    }
    p = skip_space(p);
    if (*p != ',' && *p != '\0') {
        return NULL;
    }
    return *p == ',' ? p + 1 : p;
}

static bool clause_is_sound(const clause *c) {
    static const char *const ops[] = {"", "==", "===", "!=", "<", "<=", ">", ">=", "~="};
    bool known = false;
    for (size_t i = 0; i < PYI_COUNT(ops); i++) {
        known = known || strcmp(c->op, ops[i]) == 0;
    }
    bool wild = c->op[0] == '\0' || strcmp(c->op, "==") == 0 || strcmp(c->op, "!=") == 0;
    return known && (!c->version.any || wild) &&
           (strcmp(c->op, "~=") != 0 || c->version.parts >= 2);
}

static bool has_prefix(const pyi_version *v, const pyi_version *prefix, int parts) {
    for (int i = 0; i < parts; i++) {
        if (v->part[i] != prefix->part[i]) {
            return false;
        }
    }
    return true;
}

static bool equals(const pyi_version *v, const clause *c) {
    return c->version.any ? has_prefix(v, &c->version, c->version.parts)
                          : pyi_version_compare(v, &c->version) == 0;
}

static bool holds(const pyi_version *v, const clause *c) {
    const char *op = c->op;
    int order = pyi_version_compare(v, &c->version);
    if (op[0] == '\0') {
        return has_prefix(v, &c->version, c->version.parts) &&
               (c->version.pre == FINAL || order == 0);
    }
    if (strcmp(op, "!=") == 0) {
        return !equals(v, c);
    }
    if (op[0] == '=') {
        return equals(v, c);
    }
    if (op[0] == '~') {
        return order >= 0 && has_prefix(v, &c->version, c->version.parts - 1);
    }
    if (op[1] == '=') {
        return op[0] == '<' ? order <= 0 : order >= 0;
    }
    if (op[0] == '<') { /* PEP 440: "<3.14" leaves out 3.14's own pre-releases */
        return order < 0 &&
               (c->version.pre != FINAL || v->pre == FINAL || !has_prefix(v, &c->version, 3));
    }
    return order > 0;
}

bool pyi_version_parse(const char *text, pyi_version *ret) {
    const char *end = version_at(text, ret);
    return end != NULL && *end == '\0';
}

int pyi_version_compare(const pyi_version *a, const pyi_version *b) {
    for (int i = 0; i < 3; i++) {
        if (a->part[i] != b->part[i]) {
            return a->part[i] < b->part[i] ? -1 : 1;
        }
    }
    return a->pre == b->pre ? 0 : a->pre < b->pre ? -1 : 1;
}

pyi_err pyi_version_check_request(const char *request, pyi_error *e) {
    const char *p = skip_space(without_name(request));
    bool sound = *p != '\0';
    for (int n = 0; sound && *p != '\0'; n++) {
        clause c;
        p = clause_at(p, &c);
        sound = p != NULL && clause_is_sound(&c) && (c.op[0] != '\0' || (n == 0 && *p == '\0'));
    }
    if (!sound) {
        return pyi_error_set(e, PYI_EINVAL, "python.request",
                             "'%.100s' is no Python: give a path, \"3.12\", or \">=3.10,<3.13\"",
                             request);
    }
    return PYI_OK;
}

bool pyi_version_meets(const char *version, const char *request) {
    pyi_version v;
    if (!pyi_version_parse(version, &v)) {
        return false;
    }
    for (const char *p = without_name(request); *p != '\0';) {
        clause c;
        p = clause_at(p, &c);
        if (p == NULL || !holds(&v, &c)) {
            return false;
        }
    }
    return true;
}

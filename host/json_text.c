/*
 * Strings are skipped as wholes, so that brackets and commas inside them count for nothing.
 */
#include "json_text.h"
#include <string.h>

static const char *skip_string(const char *p) {
    for (p++; *p != '\0' && *p != '"'; p++) {
        p += *p == '\\' && p[1] != '\0';
    }
    return *p == '"' ? p + 1 : p;
}

/* Behind the value at p: compact JSON, well-formed. */
static const char *skip_value(const char *p) {
    size_t depth = 0;
    do {
        if (*p == '"') {
            p = skip_string(p);
            continue;
        }
        depth += *p == '[' || *p == '{';
        depth -= (*p == ']' || *p == '}') && depth > 0;
        p++;
    } while (*p != '\0' && (depth > 0 || strchr(",]}:", *p) == NULL));
    return p;
}

static void indent(FILE *out, int level) {
    fprintf(out, "\n%*s", level * 2, "");
}

static void print_inline(FILE *out, const char *p, const char *end) {
    while (p < end) {
        if (*p == '"') {
            const char *next = skip_string(p);
            fwrite(p, 1, (size_t)(next - p), out);
            p = next;
        } else {
            fputc(*p, out);
            if (*p == ',' || *p == ':') {
                fputc(' ', out);
            }
            p++;
        }
    }
}

static bool only_scalars(const char *p, const char *end) {
    while (++p < end) {
        if (*p == '[' || *p == '{') {
            return false;
        }
        if (*p == '"') {
            p = skip_string(p) - 1;
        }
    }
    return true;
}

/* A list of numbers or words fills its lines. */
static const char *print_filled(FILE *out, const char *p, int level, int width) {
    int column = width;
    fputc(*p++, out);
    while (*p != ']' && *p != '\0') {
        const char *end = skip_value(p);
        int len = (int)(end - p) + (*end == ',');
        if (column + 1 + len > width) {
            indent(out, level + 1);
            column = (level + 1) * 2;
        } else {
            fputc(' ', out);
            column++;
        }
        fwrite(p, 1, (size_t)len, out);
        column += len;
        p += len;
    }
    indent(out, level);
    fputc(']', out);
    return *p == ']' ? p + 1 : p;
}

/* What fits on a line stays on one; a longer list or object has its items on lines of their own.
 * Recursion is bounded: the text came through pyi_wire_to_json, which bounds its depth. */
static const char *print_value(FILE *out, const char *p, int level, int width) {
    const char *end = skip_value(p);
    if ((*p != '[' && *p != '{') || end - p + level * 2 < width) {
        print_inline(out, p, end);
        return end;
    }
    if (*p == '[' && only_scalars(p, end)) {
        return print_filled(out, p, level, width);
    }
    char close = *p == '[' ? ']' : '}';
    fputc(*p++, out);
    while (*p != close && *p != '\0') {
        indent(out, level + 1);
        if (close == '}') {
            const char *key_end = skip_string(p);
            print_inline(out, p, key_end + 1);
            p = key_end + 1;
        }
        p = print_value(out, p, level + 1, width);
        if (*p == ',') {
            fputc(*p++, out);
        }
    }
    indent(out, level);
    fputc(close, out);
    return *p == close ? p + 1 : p;
}

void pyi_json_pretty(FILE *out, const char *text, int width) {
    print_value(out, text, 0, width);
}

bool pyi_json_member(const char *text, const char *name, const char **ret_value, size_t *ret_len) {
    size_t len = strlen(name);
    const char *p = *text == '{' ? text + 1 : text;
    while (*p == '"') {
        const char *key = p + 1;
        p = skip_string(p);
        bool found = (size_t)(p - 1 - key) == len && memcmp(key, name, len) == 0;
        const char *value = *p == ':' ? p + 1 : p;
        p = skip_value(value);
        if (found) {
            *ret_value = value;
            *ret_len = (size_t)(p - value);
            return true;
        }
        p += *p == ',';
    }
    return false;
}

/*
 * Lists of strings. The terminating NULL is kept in place at every push, so `items` can go to
 * execve as it is.
 */
#include "list.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void push_owned(pyi_list *l, char *s) {
    if (s == NULL) {
        l->failed = true;
        return;
    }
    if (l->count + 2 > l->cap) {
        size_t cap = l->cap == 0 ? 8 : l->cap * 2;
        char **grown = realloc(l->items, cap * sizeof(*grown));
        if (grown == NULL) {
            free(s);
            l->failed = true;
            return;
        }
        l->items = grown;
        l->cap = cap;
    }
    l->items[l->count++] = s;
    l->items[l->count] = NULL;
}

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void pyi_list_fini(pyi_list *l) {
    for (size_t i = 0; i < l->count; i++) {
        free(l->items[i]);
    }
    free(l->items);
    *l = (pyi_list){0};
}

void pyi_list_push(pyi_list *l, const char *s) {
    if (s != NULL) {
        push_owned(l, strdup(s));
    }
}

void pyi_list_pushn(pyi_list *l, const char *s, size_t len) {
    push_owned(l, strndup(s, len));
}

void pyi_list_pushf(pyi_list *l, const char *fmt, ...) {
    va_list args;
    char *s = NULL;
    va_start(args, fmt);
    int n = vasprintf(&s, fmt, args);
    va_end(args);
    push_owned(l, n < 0 ? NULL : s);
}

void pyi_list_split(pyi_list *l, const char *text, const char *separators) {
    while (text != NULL && *text != '\0') {
        text += strspn(text, separators);
        size_t len = strcspn(text, separators);
        if (len > 0) {
            pyi_list_pushn(l, text, len);
        }
        text += len;
    }
}

void pyi_list_sort(pyi_list *l) {
    if (l->count < 2) {
        return;
    }
    qsort(l->items, l->count, sizeof(*l->items), compare);
    size_t kept = 1;
    for (size_t i = 1; i < l->count; i++) {
        if (strcmp(l->items[i], l->items[kept - 1]) == 0) {
            free(l->items[i]);
        } else {
            l->items[kept++] = l->items[i];
        }
    }
    l->count = kept;
    l->items[kept] = NULL;
}

bool pyi_list_has(const pyi_list *l, const char *s) {
    for (size_t i = 0; i < l->count; i++) {
        if (strcmp(l->items[i], s) == 0) {
            return true;
        }
    }
    return false;
}

char *pyi_list_join(const pyi_list *l, const char *separator) {
    size_t size = 1, gap = strlen(separator);
    for (size_t i = 0; i < l->count; i++) {
        size += strlen(l->items[i]) + gap;
    }
    char *all = malloc(size), *p = all;
    if (all == NULL) {
        return NULL;
    }
    *p = '\0';
    for (size_t i = 0; i < l->count; i++) {
        p = stpcpy(p, i > 0 ? separator : "");
        p = stpcpy(p, l->items[i]);
    }
    return all;
}

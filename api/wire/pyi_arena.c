/*
 * The arena: a list of chunks, the newest first. A request that is large for a chunk gets one of
 * its own behind the newest, so that it does not end the chunk that still has room.
 */
#include "pyi_arena.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CHUNK_SIZE 4096u
#define LARGE      (CHUNK_SIZE / 4)
#define ALIGN      _Alignof(max_align_t)

typedef struct chunk chunk;
struct chunk {
    chunk *next;
    size_t used, size;
    _Alignas(max_align_t) unsigned char bytes[];
};

struct pyi_arena {
    chunk *first;
};

static chunk *chunk_new(size_t size) {
    if (size > PTRDIFF_MAX - sizeof(chunk)) {
        return NULL;
    }
    chunk *c = calloc(1, sizeof(*c) + size);
    if (c) {
        c->size = size;
    }
    return c;
}

static chunk *push_chunk(pyi_arena *a) {
    chunk *c = chunk_new(CHUNK_SIZE);
    if (c) {
        c->next = a->first;
        a->first = c;
    }
    return c;
}

static void *alloc_large(pyi_arena *a, size_t size) {
    if (!a->first && !push_chunk(a)) {
        return NULL;
    }
    chunk *c = chunk_new(size);
    if (!c) {
        return NULL;
    }
    c->used = size;
    c->next = a->first->next;
    a->first->next = c;
    return c->bytes;
}

pyi_arena *pyi_arena_new(void) {
    return calloc(1, sizeof(pyi_arena));
}

void pyi_arena_free(pyi_arena *a) {
    if (!a) {
        return;
    }
    while (a->first) {
        chunk *c = a->first;
        a->first = c->next;
        free(c);
    }
    free(a);
}

void *pyi_arena_alloc(pyi_arena *a, size_t size) {
    if (size > PTRDIFF_MAX - ALIGN) {
        return NULL;
    }
    size_t need = (size + ALIGN - 1) & ~(ALIGN - 1);
    need = need ? need : ALIGN; // two empty allocations are still two addresses
    if (need > LARGE) {
        return alloc_large(a, need);
    }
    chunk *c = a->first;
    if (!c || c->size - c->used < need) {
        c = push_chunk(a);
    }
    if (!c) {
        return NULL;
    }
    void *p = c->bytes + c->used;
    c->used += need;
    return p;
}

char *pyi_arena_strndup(pyi_arena *a, const char *s, size_t len) {
    char *copy = len < SIZE_MAX ? pyi_arena_alloc(a, len + 1) : NULL;
    if (copy && len > 0) {
        memcpy(copy, s, len);
    }
    return copy;
}

char *pyi_arena_strdup(pyi_arena *a, const char *s) {
    return pyi_arena_strndup(a, s, strlen(s));
}

char *pyi_arena_printf(pyi_arena *a, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = len < 0 ? NULL : pyi_arena_alloc(a, (size_t)len + 1);
    if (text) {
        va_start(args, fmt);
        (void)vsnprintf(text, (size_t)len + 1, fmt, args);
        va_end(args);
    }
    return text;
}

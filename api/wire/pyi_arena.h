#pragma once
/*
 * A bump allocator: many small allocations with one lifetime (a configuration, a spec). Not thread
 * safe; the owner frees it whole. All functions return NULL on out-of-memory.
 */
#include "pyi_base.h"

typedef struct pyi_arena pyi_arena;

pyi_arena *pyi_arena_new(void);
void pyi_arena_free(pyi_arena *a); /* NULL is fine */

/// Zeroed, aligned for any type.
void *pyi_arena_alloc(pyi_arena *a, size_t size);
/// A NUL-terminated copy of `len` bytes.
char *pyi_arena_strndup(pyi_arena *a, const char *s, size_t len);
char *pyi_arena_strdup(pyi_arena *a, const char *s);
char *pyi_arena_printf(pyi_arena *a, const char *fmt, ...) PYI_PRINTF(2, 3);

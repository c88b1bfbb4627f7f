#pragma once
/*
 * A growing, NULL-terminated list of owned strings: an argv, an environment, a set of requirements.
 * Errors stick: push what you have, check `failed` once at the end. Not thread safe; never blocks.
 */
#include "pyi_base.h"

typedef struct pyi_list {
    char **items; /* NULL-terminated once something was pushed; owned */
    size_t count, cap;
    bool failed; /* out of memory at some push: the list lacks items */
} pyi_list;

void pyi_list_fini(pyi_list *l);
/// Appends a copy; NULL is ignored.
void pyi_list_push(pyi_list *l, const char *s);
void pyi_list_pushn(pyi_list *l, const char *s, size_t len);
void pyi_list_pushf(pyi_list *l, const char *fmt, ...) PYI_PRINTF(2, 3);
/// Appends each part of `text` between bytes of `separators`; empty parts are left out.
void pyi_list_split(pyi_list *l, const char *text, const char *separators);
/// Sorts by bytes and drops duplicates.
void pyi_list_sort(pyi_list *l);
bool pyi_list_has(const pyi_list *l, const char *s);
/// All items with `separator` between; NULL on out-of-memory. To be freed by the caller.
char *pyi_list_join(const pyi_list *l, const char *separator);

#define PYI_AUTO_LIST __attribute__((cleanup(pyi_list_fini)))

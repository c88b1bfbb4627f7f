#pragma once
/*
 * Integers of any size in JSON text. The parser takes 64 bits: so they are found before it reads,
 * it sees a 0 and blanks in their places (its lines and columns stay right), and they are put back
 * by their rank among all numbers of the text.
 */
#include "pyi_wire.h"

typedef struct pyi_json_bigint {
    size_t rank; /* among the numbers of the text, from 0 */
    size_t at, len;
} pyi_json_bigint;

typedef struct pyi_json_bigints {
    const char *source;
    char *text;             // owned: what the parser is given; NULL: the source as it is
    pyi_json_bigint *items; // owned
    size_t count, cap;
    size_t rank, next; /* of putting back: numbers seen, the item that comes next */
} pyi_json_bigints;

pyi_err pyi_json_bigints_find(pyi_json_bigints *b, const char *text, size_t len,
                              pyi_error *e) PYI_MUST_CHECK;
void pyi_json_bigints_fini(pyi_json_bigints *b);
/// To be called for each number, in the order of the text. *ret_put: it was one of these, and has
/// been put.
pyi_err pyi_json_bigints_put(pyi_json_bigints *b, pyi_writer *w, bool *ret_put,
                             pyi_error *e) PYI_MUST_CHECK;

#pragma once
/* SHA-256 over a stream of named fields: what environment ids and cache keys are made of. Any
 * thread. */
#include "pyi_error.h"

#define PYI_HASH_HEX 65u /* 64 hex digits and the NUL */

typedef struct pyi_hash pyi_hash;

pyi_hash *pyi_hash_new(void); /* NULL on out-of-memory */
void pyi_hash_free(pyi_hash *h);
/// Adds a field. Name and length go in as well, so no two different sequences of fields are alike.
/// A NULL value differs from an empty one.
void pyi_hash_field(pyi_hash *h, const char *name, const char *value);
void pyi_hash_bytes(pyi_hash *h, const char *name, const void *data, size_t len);
/// Adds a file's contents; a file that cannot be read counts as NULL. At most 64 MiB of it.
void pyi_hash_file(pyi_hash *h, const char *name, const char *path);
/// Ends it. `size` digits at most, NUL included.
void pyi_hash_hex(pyi_hash *h, char *ret, size_t size);

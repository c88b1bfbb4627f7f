#pragma once
/*
 * Integers beyond 64 bits between text and the wire's two's complement. Any thread; nothing blocks.
 */
#include "pyi_error.h"
#include <stddef.h>
#include <stdint.h>

#define PYI_BIGINT_DECIMAL_BYTES                                                                   \
    2048u /* longer ones are hexadecimal: decimal takes quadratic time */
#define PYI_BIGINT_DIGITS (PYI_BIGINT_DECIMAL_BYTES * 12 / 5) /* that are read in decimal */

/// Text of a two's complement, little-endian integer; to be freed by the caller, NULL on
/// out-of-memory.
char *pyi_bigint_text(const uint8_t *bytes, size_t len);
/// The bytes of a text ("-12...", "0x..."), at least 9; freed by the caller. PYI_EINVAL: not a
/// number.
pyi_err pyi_bigint_bytes(const char *text, size_t text_len, uint8_t **ret, size_t *ret_len,
                         pyi_error *e) PYI_MUST_CHECK;

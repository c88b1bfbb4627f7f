/*
 * Integers beyond 64 bits between text and the wire's two's complement. Schoolbook arithmetic:
 * bounded to PYI_BIGINT_DECIMAL_BYTES in decimal, where its quadratic time is microseconds;
 * hexadecimal is linear.
 */
#include "bigint.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define CHUNK        1000000000u /* nine digits at a time */
#define CHUNK_DIGITS 9

static void negate(uint8_t *bytes, size_t len) {
    unsigned carry = 1;
    for (size_t i = 0; i < len; i++) {
        unsigned v = (uint8_t)~bytes[i] + carry;
        bytes[i] = (uint8_t)v;
        carry = v >> 8;
    }
}

/* bytes = bytes / CHUNK; returns the remainder. */
static uint32_t divide(uint8_t *bytes, size_t len) {
    uint64_t rest = 0;
    for (size_t i = len; i-- > 0;) {
        rest = rest << 8 | bytes[i];
        bytes[i] = (uint8_t)(rest / CHUNK);
        rest %= CHUNK;
    }
    return (uint32_t)rest;
}

/* bytes = bytes * by + add, of which `used` bytes are not zero before; returns how many after. */
static size_t multiply(uint8_t *bytes, size_t used, uint32_t by, uint32_t add) {
    uint64_t carry = add;
    for (size_t i = 0; i < used; i++) {
        carry += (uint64_t)bytes[i] * by;
        bytes[i] = (uint8_t)carry;
        carry >>= 8;
    }
    for (; carry > 0; carry >>= 8) {
        bytes[used++] = (uint8_t)carry;
    }
    return used;
}

static size_t significant(const uint8_t *bytes, size_t len) {
    while (len > 0 && bytes[len - 1] == 0) {
        len--;
    }
    return len;
}

static char *decimal(uint8_t *bytes, size_t len, bool negative) {
    size_t room = len * 5 / 2 + 2 * CHUNK_DIGITS; /* 8 bits are 2.41 digits */
    char *text = malloc(room);
    if (text == NULL) {
        return NULL;
    }
    size_t at = room;
    text[--at] = '\0';
    while ((len = significant(bytes, len)) > 0) {
        uint32_t digits = divide(bytes, len);
        bool last = significant(bytes, len) == 0;
        for (int i = 0; i < CHUNK_DIGITS && (!last || digits > 0); i++) {
            text[--at] = (char)('0' + digits % 10);
            digits /= 10;
        }
    }
    if (text[at] == '\0') {
        text[--at] = '0';
    }
    if (negative) {
        text[--at] = '-';
    }
    memmove(text, text + at, room - at);
    return text;
}

static char *hexadecimal(const uint8_t *bytes, size_t len, bool negative) {
    len = significant(bytes, len);
    char *text = malloc(len * 2 + sizeof("-0x0"));
    if (text == NULL) {
        return NULL;
    }
    char *p = text + sprintf(text, "%s0x", negative ? "-" : "");
    for (size_t i = len; i-- > 0;) {
        p += sprintf(p, "%02x", bytes[i]);
    }
    return text;
}

char *pyi_bigint_text(const uint8_t *bytes, size_t len) {
    PYI_AUTO_FREE uint8_t *copy = malloc(len + 1);
    if (copy == NULL) {
        return NULL;
    }
    memcpy(copy, bytes, len);
    bool negative = len > 0 && (bytes[len - 1] & 0x80) != 0;
    if (negative) {
        negate(copy, len);
    }
    return len <= PYI_BIGINT_DECIMAL_BYTES ? decimal(copy, len, negative)
                                           : hexadecimal(copy, len, negative);
}

static int digit_of(char c, unsigned base) {
    int value = isdigit((unsigned char)c)    ? c - '0'
                : isxdigit((unsigned char)c) ? tolower(c) - 'a' + 10
                                             : 99;
    return value < (int)base ? value : -1;
}

static bool read_hexadecimal(const char *text, size_t len, uint8_t *bytes) {
    for (size_t i = 0; i < len; i++) {
        int digit = digit_of(text[len - 1 - i], 16);
        if (digit < 0) {
            return false;
        }
        bytes[i / 2] |= (uint8_t)(digit << (i % 2 * 4));
    }
    return len > 0;
}

/* Half a byte for each digit is more than it takes. */
static bool read_decimal(const char *text, size_t len, uint8_t *bytes) {
    size_t used = 0;
    uint32_t chunk = 0, scale = 1;
    for (size_t i = 0; i < len; i++) {
        int digit = digit_of(text[i], 10);
        if (digit < 0) {
            return false;
        }
        chunk = chunk * 10 + (uint32_t)digit;
        scale *= 10;
        if (scale == CHUNK || i + 1 == len) {
            used = multiply(bytes, used, scale, chunk);
            chunk = 0;
            scale = 1;
        }
    }
    return len > 0 && len <= PYI_BIGINT_DIGITS;
}

pyi_err pyi_bigint_bytes(const char *text, size_t text_len, uint8_t **ret, size_t *ret_len,
                         pyi_error *e) {
    bool negative = text_len > 0 && text[0] == '-';
    const char *digits = text + negative;
    size_t count = text_len - negative;
    bool hex = count > 2 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
    if (!hex && count > PYI_BIGINT_DIGITS) {
        return pyi_error_set(e, PYI_EINVAL, "lua.int",
                             "an integer of %zu decimal digits: at most %u; write it as 0x...",
                             count, PYI_BIGINT_DIGITS);
    }
    size_t size = count / 2 + 10; /* a sign bit is free at the top */
    PYI_AUTO_FREE uint8_t *bytes = calloc(1, size);
    if (bytes == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "lua.int", "out of memory");
    }
    if (!(hex ? read_hexadecimal(digits + 2, count - 2, bytes)
              : read_decimal(digits, count, bytes))) {
        return pyi_error_set(e, PYI_EINVAL, "lua.int", "'%.40s' is not an integer", text);
    }
    size_t used = significant(bytes, size) + 1; /* room for the sign */
    if (negative) {
        negate(bytes, size);
    }
    *ret_len = used < 9 ? 9 : used;
    *ret = pyi_steal(&bytes);
    return PYI_OK;
}

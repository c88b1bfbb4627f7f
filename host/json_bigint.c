/* See json_bigint.h. What is no good JSON is left as it is: to find it is the parser's work. */
#include "json_bigint.h"
#include "bigint.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SAFE_DIGITS 18 /* that many fit 64 bits, whatever they are */

/* The end of a string that begins at `at`. */
static size_t skip_string(const char *text, size_t len, size_t at) {
    for (at++; at < len && text[at] != '"'; at++) {
        at += text[at] == '\\';
    }
    return at + 1;
}

static bool is_number_char(char c) {
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* A whole integer that 64 bits do not hold. */
static bool is_big(const char *number, size_t len) {
    char copy[SAFE_DIGITS + 4];
    size_t sign = number[0] == '-';
    size_t digits = 0;
    while (sign + digits < len && number[sign + digits] >= '0' && number[sign + digits] <= '9') {
        digits++;
    }
    if (sign + digits < len || digits <= SAFE_DIGITS || number[sign] == '0') {
        return false;
    }
    if (len >= sizeof(copy)) {
        return true;
    }
    memcpy(copy, number, len);
    copy[len] = '\0';
    errno = 0;
    (void)strtoll(copy, NULL, 10);
    return errno == ERANGE;
}

static pyi_err add(pyi_json_bigints *b, size_t rank, size_t at, size_t len, pyi_error *e) {
    if (len > PYI_BIGINT_DIGITS) {
        return pyi_error_set(e, PYI_EINVAL, "json.parse",
                             "an integer has %zu digits; at most %u are read: send a longer one as "
                             "a string",
                             len, PYI_BIGINT_DIGITS);
    }
    if (b->count == b->cap) {
        size_t cap = b->cap * 2 + 4;
        pyi_json_bigint *grown = reallocarray(b->items, cap, sizeof(*grown));
        if (grown == NULL) {
            return pyi_error_set(e, PYI_ENOMEM, "json.parse", "out of memory");
        }
        b->items = grown;
        b->cap = cap;
    }
    b->items[b->count++] = (pyi_json_bigint){rank, at, len};
    return PYI_OK;
}

static pyi_err blank_out(pyi_json_bigints *b, size_t len, pyi_error *e) {
    b->text = malloc(len + 1);
    if (b->text == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "json.parse", "out of memory");
    }
    memcpy(b->text, b->source, len);
    b->text[len] = '\0';
    for (size_t i = 0; i < b->count; i++) {
        memset(b->text + b->items[i].at, ' ', b->items[i].len);
        b->text[b->items[i].at] = '0';
    }
    return PYI_OK;
}

pyi_err pyi_json_bigints_find(pyi_json_bigints *b, const char *text, size_t len, pyi_error *e) {
    *b = (pyi_json_bigints){.source = text};
    size_t rank = 0;
    for (size_t at = 0; at < len;) {
        if (text[at] == '"') {
            at = skip_string(text, len, at);
        } else if (text[at] == '-' || (text[at] >= '0' && text[at] <= '9')) {
            size_t end = at;
            while (end < len && is_number_char(text[end])) {
                end++;
            }
            if (is_big(text + at, end - at) && add(b, rank, at, end - at, e) != PYI_OK) {
                return e->code;
            }
            rank++;
            at = end;
        } else {
            at++;
        }
    }
    return b->count > 0 ? blank_out(b, len, e) : PYI_OK;
}

void pyi_json_bigints_fini(pyi_json_bigints *b) {
    free(b->text);
    free(b->items);
}

pyi_err pyi_json_bigints_put(pyi_json_bigints *b, pyi_writer *w, bool *ret_put, pyi_error *e) {
    *ret_put = b->next < b->count && b->items[b->next].rank == b->rank;
    b->rank++;
    if (!*ret_put) {
        return PYI_OK;
    }
    const pyi_json_bigint *item = &b->items[b->next++];
    PYI_AUTO_FREE uint8_t *bytes = NULL;
    size_t size = 0;
    pyi_err err = pyi_bigint_bytes(b->source + item->at, item->len, &bytes, &size, e);
    if (err == PYI_OK) {
        pyi_put_ext_raw(w, PYI_EXT_BIGINT, bytes, size);
    }
    return err;
}

#pragma once
/*
 * The hot paths of pyi_wire.h, inline: room in the writer, puts of scalars and of short strings,
 * reads of scalars. A list of 100,000 ints passes through here and through nothing else. Included
 * by pyi_wire.h only.
 */
#include "pyi_wire.h"

static inline void pyi_store_be16(uint8_t *p, uint16_t v) {
    uint16_t be = __builtin_bswap16(v);
    memcpy(p, &be, sizeof(be));
}

static inline void pyi_store_be32(uint8_t *p, uint32_t v) {
    uint32_t be = __builtin_bswap32(v);
    memcpy(p, &be, sizeof(be));
}

static inline void pyi_store_be64(uint8_t *p, uint64_t v) {
    uint64_t be = __builtin_bswap64(v);
    memcpy(p, &be, sizeof(be));
}

static inline uint16_t pyi_load_be16(const uint8_t *p) {
    uint16_t be;
    memcpy(&be, p, sizeof(be));
    return __builtin_bswap16(be);
}

static inline uint32_t pyi_load_be32(const uint8_t *p) {
    uint32_t be;
    memcpy(&be, p, sizeof(be));
    return __builtin_bswap32(be);
}

static inline uint64_t pyi_load_be64(const uint8_t *p) {
    uint64_t be;
    memcpy(&be, p, sizeof(be));
    return __builtin_bswap64(be);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the swaps above are for little-endian");

/* ---- writer ---------------------------------------------------------------------------------- */

static inline uint8_t *pyi_writer_room(pyi_writer *w, size_t n) {
    if (PYI_UNLIKELY(n > w->cap - w->len)) {
        return pyi_writer_more(w, n);
    }
    return w->data + w->len;
}

/// One byte.
static inline void pyi_put_byte(pyi_writer *w, uint8_t byte) {
    uint8_t *p = pyi_writer_room(w, 1);
    if (PYI_LIKELY(p != NULL)) {
        *p = byte;
        w->len += 1;
    }
}

static inline void pyi_put_nil(pyi_writer *w) {
    pyi_put_byte(w, 0xC0);
}

static inline void pyi_put_bool(pyi_writer *w, bool v) {
    pyi_put_byte(w, v ? 0xC3 : 0xC2);
}

/// The type byte `tag` and a number of 1, 2, 4 or 8 bytes.
static inline void pyi_put_tag8(pyi_writer *w, uint8_t tag, uint8_t v) {
    uint8_t *p = pyi_writer_room(w, 2);
    if (PYI_LIKELY(p != NULL)) {
        p[0] = tag;
        p[1] = v;
        w->len += 2;
    }
}

static inline void pyi_put_tag16(pyi_writer *w, uint8_t tag, uint16_t v) {
    uint8_t *p = pyi_writer_room(w, 3);
    if (PYI_LIKELY(p != NULL)) {
        p[0] = tag;
        pyi_store_be16(p + 1, v);
        w->len += 3;
    }
}

static inline void pyi_put_tag32(pyi_writer *w, uint8_t tag, uint32_t v) {
    uint8_t *p = pyi_writer_room(w, 5);
    if (PYI_LIKELY(p != NULL)) {
        p[0] = tag;
        pyi_store_be32(p + 1, v);
        w->len += 5;
    }
}

static inline void pyi_put_tag64(pyi_writer *w, uint8_t tag, uint64_t v) {
    uint8_t *p = pyi_writer_room(w, 9);
    if (PYI_LIKELY(p != NULL)) {
        p[0] = tag;
        pyi_store_be64(p + 1, v);
        w->len += 9;
    }
}

static inline void pyi_put_uint(pyi_writer *w, uint64_t v) {
    if (v < 0x80) {
        pyi_put_byte(w, (uint8_t)v);
    } else if (v <= UINT8_MAX) {
        pyi_put_tag8(w, 0xCC, (uint8_t)v);
    } else if (v <= UINT16_MAX) {
        pyi_put_tag16(w, 0xCD, (uint16_t)v);
    } else if (v <= UINT32_MAX) {
        pyi_put_tag32(w, 0xCE, (uint32_t)v);
    } else {
        pyi_put_tag64(w, 0xCF, v);
    }
}

static inline void pyi_put_int(pyi_writer *w, int64_t v) {
    if (v >= 0) {
        pyi_put_uint(w, (uint64_t)v);
    } else if (v >= -32) {
        pyi_put_byte(w, (uint8_t)(int8_t)v);
    } else if (v >= INT8_MIN) {
        pyi_put_tag8(w, 0xD0, (uint8_t)(int8_t)v);
    } else if (v >= INT16_MIN) {
        pyi_put_tag16(w, 0xD1, (uint16_t)(int16_t)v);
    } else if (v >= INT32_MIN) {
        pyi_put_tag32(w, 0xD2, (uint32_t)(int32_t)v);
    } else {
        pyi_put_tag64(w, 0xD3, (uint64_t)v);
    }
}

static inline void pyi_put_float(pyi_writer *w, double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    pyi_put_tag64(w, 0xCB, bits);
}

/// pyi_put_str beyond 31 bytes.
void pyi_put_long_str(pyi_writer *w, const char *s, size_t len);

static inline void pyi_put_str(pyi_writer *w, const char *s, size_t len) {
    if (PYI_UNLIKELY(len > 31)) {
        pyi_put_long_str(w, s, len);
        return;
    }
    uint8_t *p = pyi_writer_room(w, 1 + len);
    if (PYI_LIKELY(p != NULL)) {
        p[0] = (uint8_t)(0xA0 | len);
        if (len > 0) { // s may be NULL then
            memcpy(p + 1, s, len);
        }
        w->len += 1 + len;
    }
}

/// pyi_put_array beyond 15 items.
void pyi_put_long_array(pyi_writer *w, size_t count);

static inline void pyi_put_array(pyi_writer *w, size_t count) {
    if (PYI_LIKELY(count < 16)) {
        pyi_put_byte(w, (uint8_t)(0x90 | count));
    } else {
        pyi_put_long_array(w, count);
    }
}

/* ---- reader ---------------------------------------------------------------------------------- */

/// The two's complement number that the byte is.
static inline int64_t pyi_signed_byte(uint8_t byte) {
    return byte < 0x80 ? byte : (int64_t)byte - 0x100;
}

/// pyi_read for every type byte.
pyi_err pyi_read_any(pyi_reader *r, pyi_token *ret_token) PYI_MUST_CHECK;

/// Integers and short strings here, the rest out of line.
static inline pyi_err pyi_read(pyi_reader *r, pyi_token *ret_token) {
    size_t left = (size_t)(r->end - r->p);
    if (PYI_UNLIKELY(left == 0)) {
        return PYI_EPROTO;
    }
    uint8_t tag = *r->p;
    if (tag < 0x80 || tag >= 0xE0) {
        ret_token->kind = PYI_INT;
        ret_token->i = pyi_signed_byte(tag);
        r->p += 1;
        return PYI_OK;
    }
    if (tag == 0xCD && left >= 3) {
        ret_token->kind = PYI_INT;
        ret_token->i = pyi_load_be16(r->p + 1);
        r->p += 3;
        return PYI_OK;
    }
    if (tag == 0xCE && left >= 5) {
        ret_token->kind = PYI_INT;
        ret_token->i = pyi_load_be32(r->p + 1);
        r->p += 5;
        return PYI_OK;
    }
    if (tag >= 0xA0 && tag < 0xC0 && left > (size_t)(tag & 0x1F)) {
        ret_token->kind = PYI_STR;
        ret_token->data = r->p + 1;
        ret_token->len = tag & 0x1F;
        r->p += 1 + ret_token->len;
        return PYI_OK;
    }
    return pyi_read_any(r, ret_token);
}

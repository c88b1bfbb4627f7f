/*
 * The reader of pyi_wire.h, but for the hot paths (pyi_wire_inline.h). Every length and count is
 * checked against the bytes that remain before it is believed: an item takes at least one byte, a
 * pair two. Nothing moves the reader but a whole token.
 */
#include "pyi_wire.h"

/// Bytes left behind the type byte, so that "n bytes follow" is one comparison.
static size_t body_left(const pyi_reader *r) {
    return (size_t)(r->end - r->p) - 1;
}

/// Reads the big-endian length of `size` bytes behind the type byte.
static bool load_length(const pyi_reader *r, size_t size, uint32_t *ret) {
    if (body_left(r) < size) {
        return false;
    }
    const uint8_t *p = r->p + 1;
    *ret = size == 1 ? p[0] : size == 2 ? pyi_load_be16(p) : pyi_load_be32(p);
    return true;
}

static pyi_err scalar(pyi_reader *r, pyi_token *ret, pyi_kind kind, size_t size) {
    ret->kind = kind;
    r->p += 1 + size;
    return PYI_OK;
}

static pyi_err read_uint(pyi_reader *r, pyi_token *ret, size_t size) {
    if (body_left(r) < size) {
        return PYI_EPROTO;
    }
    if (size < 8) {
        uint32_t v = 0;
        (void)load_length(r, size, &v);
        ret->i = v;
        return scalar(r, ret, PYI_INT, size);
    }
    uint64_t v = pyi_load_be64(r->p + 1);
    if (v > INT64_MAX) {
        ret->u = v;
        return scalar(r, ret, PYI_UINT, size);
    }
    ret->i = (int64_t)v;
    return scalar(r, ret, PYI_INT, size);
}

static pyi_err read_int(pyi_reader *r, pyi_token *ret, size_t size) {
    if (body_left(r) < size) {
        return PYI_EPROTO;
    }
    const uint8_t *p = r->p + 1;
    switch (size) {
    case 1:
        ret->i = pyi_signed_byte(p[0]);
        break;
    case 2:
        ret->i = (int16_t)pyi_load_be16(p);
        break;
    case 4:
        ret->i = (int32_t)pyi_load_be32(p);
        break;
    default:
        ret->i = (int64_t)pyi_load_be64(p);
        break;
    }
    return scalar(r, ret, PYI_INT, size);
}

static pyi_err read_float(pyi_reader *r, pyi_token *ret, size_t size) {
    if (body_left(r) < size) {
        return PYI_EPROTO;
    }
    if (size == 4) {
        uint32_t bits = pyi_load_be32(r->p + 1);
        float f;
        memcpy(&f, &bits, sizeof(f));
        ret->f = (double)f;
    } else {
        uint64_t bits = pyi_load_be64(r->p + 1);
        memcpy(&ret->f, &bits, sizeof(ret->f));
    }
    return scalar(r, ret, PYI_FLOAT, size);
}

/// The value's bytes start `head` bytes behind the type byte and are `len` long.
static pyi_err take_bytes(pyi_reader *r, pyi_token *ret, pyi_kind kind, size_t head, size_t len) {
    size_t left = body_left(r);
    if (left < head || left - head < len) {
        return PYI_EPROTO;
    }
    ret->kind = kind;
    ret->data = r->p + 1 + head;
    ret->len = len;
    r->p += 1 + head + len;
    return PYI_OK;
}

static pyi_err read_bytes(pyi_reader *r, pyi_token *ret, pyi_kind kind, size_t size) {
    uint32_t len;
    if (!load_length(r, size, &len)) {
        return PYI_EPROTO;
    }
    return take_bytes(r, ret, kind, size, len);
}

/// `head` bytes of length and one of the extension's type come before the payload.
static pyi_err take_ext(pyi_reader *r, pyi_token *ret, size_t head, size_t len) {
    if (body_left(r) <= head) {
        return PYI_EPROTO;
    }
    int8_t ext = (int8_t)r->p[1 + head];
    pyi_err err = take_bytes(r, ret, PYI_EXT, head + 1, len);
    if (err == PYI_OK) {
        ret->ext = ext;
    }
    return err;
}

static pyi_err read_ext(pyi_reader *r, pyi_token *ret, size_t size) {
    uint32_t len;
    if (!load_length(r, size, &len)) {
        return PYI_EPROTO;
    }
    return take_ext(r, ret, size, len);
}

/// `head` bytes of count, then `count` items.
static pyi_err take_items(pyi_reader *r, pyi_token *ret, pyi_kind kind, size_t head,
                          uint32_t count) {
    uint64_t least = kind == PYI_MAP ? (uint64_t)count * 2 : count;
    if (body_left(r) - head < least) {
        return PYI_EPROTO;
    }
    ret->kind = kind;
    ret->count = count;
    r->p += 1 + head;
    return PYI_OK;
}

static pyi_err read_items(pyi_reader *r, pyi_token *ret, pyi_kind kind, size_t size) {
    uint32_t count;
    if (!load_length(r, size, &count)) {
        return PYI_EPROTO;
    }
    return take_items(r, ret, kind, size, count);
}

/// Type bytes 0xC0 to 0xDF. A flat switch: the format's own table.
static pyi_err read_tagged(pyi_reader *r, pyi_token *ret, uint8_t tag) {
    switch (tag) {
    case 0xC0:
        return scalar(r, ret, PYI_NIL, 0);
    case 0xC2:
    case 0xC3:
        ret->b = tag == 0xC3;
        return scalar(r, ret, PYI_BOOL, 0);
    case 0xC4:
    case 0xC5:
    case 0xC6:
        return read_bytes(r, ret, PYI_BIN, (size_t)1 << (tag - 0xC4));
    case 0xC7:
    case 0xC8:
    case 0xC9:
        return read_ext(r, ret, (size_t)1 << (tag - 0xC7));
    case 0xCA:
    case 0xCB:
        return read_float(r, ret, (size_t)4 << (tag - 0xCA));
    case 0xCC:
    case 0xCD:
    case 0xCE:
    case 0xCF:
        return read_uint(r, ret, (size_t)1 << (tag - 0xCC));
    case 0xD0:
    case 0xD1:
    case 0xD2:
    case 0xD3:
        return read_int(r, ret, (size_t)1 << (tag - 0xD0));
    case 0xD4:
    case 0xD5:
    case 0xD6:
    case 0xD7:
    case 0xD8:
        return take_ext(r, ret, 0, (size_t)1 << (tag - 0xD4));
    case 0xD9:
    case 0xDA:
    case 0xDB:
        return read_bytes(r, ret, PYI_STR, (size_t)1 << (tag - 0xD9));
    case 0xDC:
    case 0xDD:
        return read_items(r, ret, PYI_ARRAY, (size_t)2 << (tag - 0xDC));
    case 0xDE:
    case 0xDF:
        return read_items(r, ret, PYI_MAP, (size_t)2 << (tag - 0xDE));
    default: // 0xC1 is never used
        return PYI_EPROTO;
    }
}

pyi_err pyi_read_any(pyi_reader *r, pyi_token *ret_token) {
    if (r->p == r->end) {
        return PYI_EPROTO;
    }
    uint8_t tag = *r->p;
    if (tag < 0x80 || tag >= 0xE0) {
        ret_token->i = pyi_signed_byte(tag);
        return scalar(r, ret_token, PYI_INT, 0);
    }
    if (tag < 0x90) {
        return take_items(r, ret_token, PYI_MAP, 0, tag & 0x0F);
    }
    if (tag < 0xA0) {
        return take_items(r, ret_token, PYI_ARRAY, 0, tag & 0x0F);
    }
    if (tag < 0xC0) {
        return take_bytes(r, ret_token, PYI_STR, 0, tag & 0x1F);
    }
    return read_tagged(r, ret_token, tag);
}

pyi_err pyi_read_kind(pyi_reader *r, pyi_kind kind, pyi_token *ret_token) {
    pyi_reader ahead = *r;
    pyi_token t;
    pyi_err err = pyi_read(&ahead, &t);
    if (err != PYI_OK) {
        return err;
    }
    if (kind == PYI_UINT && t.kind == PYI_INT && t.i >= 0) {
        t.kind = PYI_UINT;
        t.u = (uint64_t)t.i;
    }
    if (t.kind != kind) {
        return PYI_EPROTO;
    }
    *ret_token = t;
    *r = ahead;
    return PYI_OK;
}

pyi_err pyi_skip(pyi_reader *r) {
    uint64_t left[PYI_MAX_DEPTH + PYI_FRAME_DEPTH + 1]; // values still to come, for each level
    size_t depth = 0;
    pyi_reader ahead = *r;
    left[0] = 1;
    for (;;) {
        while (left[depth] == 0) {
            if (depth == 0) {
                *r = ahead;
                return PYI_OK;
            }
            depth--;
        }
        left[depth]--;
        pyi_token t;
        pyi_err err = pyi_read(&ahead, &t);
        if (err != PYI_OK) {
            return err;
        }
        if (t.kind == PYI_ARRAY || t.kind == PYI_MAP) {
            if (depth == PYI_COUNT(left) - 1) {
                return PYI_ETOOBIG;
            }
            left[++depth] = t.kind == PYI_MAP ? (uint64_t)t.count * 2 : t.count;
        }
    }
}

static bool is_frame_type(int64_t type) {
    return (type >= PYI_FRAME_CALL && type <= PYI_FRAME_LEASE) || type == PYI_FRAME_REPLY ||
           type == PYI_FRAME_ERROR;
}

pyi_err pyi_read_head(pyi_reader *r, pyi_frame_type *ret_type, uint64_t *ret_id,
                      uint32_t *ret_count, pyi_error *e) {
    pyi_token array, type, id;
    if (pyi_read_kind(r, PYI_ARRAY, &array) != PYI_OK || array.count < 2) {
        return pyi_error_set(e, PYI_EPROTO, "wire.head",
                             "a frame must be an array of at least 2 fields");
    }
    if (pyi_read_kind(r, PYI_INT, &type) != PYI_OK || !is_frame_type(type.i)) {
        return pyi_error_set(e, PYI_EPROTO, "wire.head",
                             "a frame's first field must be a known frame type");
    }
    if (pyi_read_kind(r, PYI_UINT, &id) != PYI_OK) {
        return pyi_error_set(e, PYI_EPROTO, "wire.head",
                             "the second field of a frame of type %d must be an unsigned integer",
                             (int)type.i);
    }
    *ret_type = (pyi_frame_type)type.i;
    *ret_id = id.u;
    *ret_count = array.count;
    return PYI_OK;
}

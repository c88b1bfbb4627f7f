/*
 * The writer of pyi_wire.h, but for the hot paths (pyi_wire_inline.h): growing, long values,
 * extension values, errors. An error sticks: `cap` drops to `len`, so that every later put comes to
 * pyi_writer_more and is refused there.
 */
#include "pyi_wire.h"

#define FIRST_CAP 256u

/// A malloc'ed writer's grow.
static bool grow_heap(pyi_writer *w, size_t need) {
    uint8_t *data = realloc(w->data, need);
    if (!data) {
        return false;
    }
    w->data = data;
    w->cap = need;
    return true;
}

static uint8_t *fail(pyi_writer *w, pyi_err err, size_t wanted) {
    if (w->err == PYI_OK) { // the first error is the cause of the others
        w->err = err;
        w->wanted = wanted;
    }
    w->cap = w->len;
    return NULL;
}

/// The capacity to ask for: doubled, so that many puts cost few copies, but never beyond the limit.
static size_t next_cap(const pyi_writer *w, size_t need) {
    size_t doubled = w->cap > SIZE_MAX / 2 ? SIZE_MAX : w->cap * 2;
    size_t cap = doubled > need ? doubled : need;
    cap = cap > FIRST_CAP ? cap : FIRST_CAP;
    return cap < w->limit ? cap : w->limit;
}

uint8_t *pyi_writer_more(pyi_writer *w, size_t n) {
    if (w->err != PYI_OK) {
        w->cap = w->len;
        return NULL;
    }
    if (n > w->limit || w->len > w->limit - n) {
        return fail(w, PYI_ETOOBIG, n > SIZE_MAX - w->len ? SIZE_MAX : w->len + n);
    }
    if (!w->grow(w, next_cap(w, w->len + n))) {
        return fail(w, PYI_ENOMEM, 0);
    }
    if (w->cap > w->limit) {
        w->cap = w->limit; // a grow may round up; what it rounds to is not ours to use
    }
    return w->data + w->len;
}

void pyi_writer_init(pyi_writer *w, size_t limit) {
    *w = (pyi_writer){.limit = limit, .grow = grow_heap};
}

void pyi_writer_fini(pyi_writer *w) {
    free(w->data);
    w->data = NULL;
    w->len = w->cap = 0;
}

pyi_err pyi_writer_error(const pyi_writer *w, pyi_error *e) {
    if (w->err == PYI_OK) {
        return PYI_OK;
    }
    if (w->err != PYI_ETOOBIG) {
        return pyi_error_set(e, w->err, "wire.write", "out of memory after %zu bytes", w->len);
    }
    if (w->wanted > w->limit) {
        return pyi_error_set(
            e, PYI_ETOOBIG, "wire.write",
            "the message is too big: it needs at least %zu bytes, the limit is %zu", w->wanted,
            w->limit);
    }
    return pyi_error_set(e, PYI_ETOOBIG, "wire.write",
                         "one value has %zu items or bytes, the format's limit is %u", w->wanted,
                         UINT32_MAX);
}

/// Whether `size` fits the format's 32 bits; if not, the writer has failed.
static bool fits_32(pyi_writer *w, size_t size) {
    if (size > UINT32_MAX) {
        fail(w, PYI_ETOOBIG, size);
        return false;
    }
    return true;
}

void pyi_put_raw(pyi_writer *w, const void *data, size_t len) {
    uint8_t *p = len > 0 ? pyi_writer_room(w, len) : NULL;
    if (p) {
        memcpy(p, data, len);
        w->len += len;
    }
}

void pyi_put_long_str(pyi_writer *w, const char *s, size_t len) {
    if (!fits_32(w, len)) {
        return;
    }
    if (len <= UINT8_MAX) {
        pyi_put_tag8(w, 0xD9, (uint8_t)len);
    } else if (len <= UINT16_MAX) {
        pyi_put_tag16(w, 0xDA, (uint16_t)len);
    } else {
        pyi_put_tag32(w, 0xDB, (uint32_t)len);
    }
    pyi_put_raw(w, s, len);
}

void pyi_put_cstr(pyi_writer *w, const char *s) {
    if (s) {
        pyi_put_str(w, s, strlen(s));
    } else {
        pyi_put_nil(w);
    }
}

void pyi_put_bin(pyi_writer *w, const void *data, size_t len) {
    if (!fits_32(w, len)) {
        return;
    }
    if (len <= UINT8_MAX) {
        pyi_put_tag8(w, 0xC4, (uint8_t)len);
    } else if (len <= UINT16_MAX) {
        pyi_put_tag16(w, 0xC5, (uint16_t)len);
    } else {
        pyi_put_tag32(w, 0xC6, (uint32_t)len);
    }
    pyi_put_raw(w, data, len);
}

void pyi_put_long_array(pyi_writer *w, size_t count) {
    if (!fits_32(w, count)) {
        return;
    }
    if (count <= UINT16_MAX) {
        pyi_put_tag16(w, 0xDC, (uint16_t)count);
    } else {
        pyi_put_tag32(w, 0xDD, (uint32_t)count);
    }
}

void pyi_put_map(pyi_writer *w, size_t count) {
    if (!fits_32(w, count)) {
        return;
    }
    if (count < 16) {
        pyi_put_byte(w, (uint8_t)(0x80 | count));
    } else if (count <= UINT16_MAX) {
        pyi_put_tag16(w, 0xDE, (uint16_t)count);
    } else {
        pyi_put_tag32(w, 0xDF, (uint32_t)count);
    }
}

size_t pyi_put_ext_begin(pyi_writer *w, pyi_ext type) {
    uint8_t *p = pyi_writer_room(w, 6);
    if (p) {
        p[0] = 0xC9; // always ext32: the length is not known yet, and moving the payload would cost
                     // more
        pyi_store_be32(p + 1, 0);
        p[5] = (uint8_t)type;
        w->len += 6;
    }
    return w->len;
}

void pyi_put_ext_end(pyi_writer *w, size_t mark) {
    if (w->err == PYI_OK && fits_32(w, w->len - mark)) {
        pyi_store_be32(w->data + mark - 5, (uint32_t)(w->len - mark));
    }
}

/// The type byte of an extension value of a fixed length, or 0.
static uint8_t fixext_tag(size_t len) {
    switch (len) {
    case 1:
        return 0xD4;
    case 2:
        return 0xD5;
    case 4:
        return 0xD6;
    case 8:
        return 0xD7;
    case 16:
        return 0xD8;
    default:
        return 0;
    }
}

void pyi_put_ext_raw(pyi_writer *w, pyi_ext type, const void *data, size_t len) {
    if (!fits_32(w, len)) {
        return;
    }
    uint8_t fixed = fixext_tag(len);
    if (fixed) {
        pyi_put_byte(w, fixed);
    } else if (len <= UINT8_MAX) {
        pyi_put_tag8(w, 0xC7, (uint8_t)len);
    } else if (len <= UINT16_MAX) {
        pyi_put_tag16(w, 0xC8, (uint16_t)len);
    } else {
        pyi_put_tag32(w, 0xC9, (uint32_t)len);
    }
    pyi_put_byte(w, (uint8_t)type);
    pyi_put_raw(w, data, len);
}

/// A message may hold bytes of any encoding (a file name): each byte that is not UTF-8 becomes '?'.
static void put_text(pyi_writer *w, const char *text) {
    char clean[sizeof(((pyi_error *)NULL)->msg)];
    size_t len = strnlen(text, sizeof(clean));
    memcpy(clean, text, len);
    for (size_t at = 0; at < len;) {
        size_t step = pyi_utf8_step((const uint8_t *)clean + at, len - at);
        if (step == 0) {
            clean[at] = '?';
            step = 1;
        }
        at += step;
    }
    pyi_put_str(w, clean, len);
}

void pyi_put_error(pyi_writer *w, const pyi_error *e, const char *python_type) {
    const char *type = python_type ? python_type : pyi_err_python_type(e->code);
    bool asyncio = strcmp(type, "CancelledError") == 0;
    pyi_put_array(w, PYI_ERROR_FIELDS);
    pyi_put_int(w, e->code);
    pyi_put_cstr(w, type);
    pyi_put_cstr(w, asyncio ? "asyncio.exceptions" : "builtins");
    put_text(w, e->msg);
    pyi_put_nil(w);      // traceback
    pyi_put_array(w, 0); // notes
    pyi_put_nil(w);      // args
    pyi_put_nil(w);      // cause
}

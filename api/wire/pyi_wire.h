#pragma once
/*
 * Values and frames on the wire: msgpack with our extension types, written and read as a stream
 * with no tree between. docs/protocol.md is the specification. No Lua, no Python, no nng in here.
 *
 * Writer: errors stick; put what you have, check pyi_writer_error once at the end.
 * Reader: every read is checked against the end; counts are checked against the bytes that remain,
 * so a hostile count cannot make a caller allocate more than the frame's own size in items. Depth
 * is the caller's to pass down: refuse beyond PYI_MAX_DEPTH. Neither allocates, except a writer's
 * grow.
 */
#include "pyi_error.h"
#include "pyi_limits.h"
#include <string.h>

/* ---- frames ---------------------------------------------------------------------------------- */

typedef enum pyi_frame_type {
    PYI_FRAME_CALL = 1,   /* [1, id, object, method, deadline_ns, args, kwargs]                 */
    PYI_FRAME_CANCEL = 2, /* [2, id, reason]      reason: 0 cancelled, 1 deadline               */
    PYI_FRAME_STOP = 3,   /* [3, id, grace_ms]    answered when stop() hooks are done           */
    PYI_FRAME_PING = 4,   /* [4, id]                                                            */
    PYI_FRAME_HELLO = 5,  /* [5, version, secret, info]                                         */
    PYI_FRAME_READY = 6,  /* [6, 0, info]         info: map, see docs/protocol.md               */
    PYI_FRAME_FAILED = 7, /* [7, 0, stage, error] the extension could not be loaded             */
    PYI_FRAME_EVENT = 8,  /* reserved for events                                                */
    PYI_FRAME_ACK = 9,    /* reserved for events                                                */
    PYI_FRAME_LEASE = 10, /* reserved for tensors                                               */
    PYI_FRAME_REPLY = 16, /* [16, id, value]                                                    */
    PYI_FRAME_ERROR = 17  /* [17, id, error]                                                    */
} pyi_frame_type;

/* error: [code, type, module, message, traceback, notes, args, cause]
 *   code: pyi_err as int   type, module: str   message: str   traceback: str or nil
 *   notes: array of str    args: array of plain values, or nil   cause: error or nil          */
#define PYI_ERROR_FIELDS 8u

/* ---- values ---------------------------------------------------------------------------------- */

/* msgpack extension types. The payload of each is one msgpack value unless said otherwise. */
typedef enum pyi_ext {
    PYI_EXT_TUPLE = 1,     /* array */
    PYI_EXT_SET = 2,       /* array */
    PYI_EXT_FROZENSET = 3, /* array */
    PYI_EXT_COMPLEX = 4,   /* array of 2 floats */
    PYI_EXT_BIGINT = 5,    /* raw: two's complement, little-endian, at least 9 bytes */
    PYI_EXT_DATETIME =
        6, /* array [year, month, day, hour, minute, second, us, fold, offset_s|nil, name|nil] */
    PYI_EXT_DATE = 7,        /* array [year, month, day] */
    PYI_EXT_TIME = 8,        /* array [hour, minute, second, us, fold, offset_s|nil, name|nil] */
    PYI_EXT_TIMEDELTA = 9,   /* array [days, seconds, us] */
    PYI_EXT_UUID = 10,       /* raw: 16 bytes, big-endian */
    PYI_EXT_PATH = 11,       /* str */
    PYI_EXT_NDARRAY = 12,    /* array [dtype str, shape array of int, data bin (C order)] */
    PYI_EXT_NPSCALAR = 13,   /* array [dtype str, data bin] */
    PYI_EXT_SURROGATE = 14,  /* raw: a str that has lone surrogates, as UTF-8 with surrogatepass */
    PYI_EXT_OBJECT = 20,     /* reserved: remote object handle */
    PYI_EXT_CALLBACK = 21,   /* reserved: callback handle */
    PYI_EXT_REGISTERED = 22, /* reserved: registered type */
    PYI_EXT_TENSOR = 23      /* reserved: tensor lease */
} pyi_ext;

typedef struct pyi_writer pyi_writer;
struct pyi_writer {
    uint8_t *data;
    size_t len, cap;
    size_t limit; /* most bytes this frame may have: beyond it the writer fails with PYI_ETOOBIG */
    pyi_err err;
    /// Makes room for `need` bytes in all (sets data, cap); false on out-of-memory.
    bool (*grow)(pyi_writer *w, size_t need);
    void *ctx;     /* of grow */
    size_t wanted; /* set with PYI_ETOOBIG: the size or count that was too much */
};

/// A writer on malloc'ed memory.
void pyi_writer_init(pyi_writer *w, size_t limit);
void pyi_writer_fini(pyi_writer *w);
/// PYI_OK, or the first error, told in *e (both numbers named if it is the limit).
pyi_err pyi_writer_error(const pyi_writer *w, pyi_error *e) PYI_MUST_CHECK;
/// Room for `n` more bytes, or NULL with the error set. Fill it, then add to w->len what you
/// filled. Inline, as are the puts of small values (pyi_wire_inline.h): cap is kept at most at
/// limit, and drops to len on an error, so that "does it fit" is the only test on the fast path.
static inline uint8_t *pyi_writer_room(pyi_writer *w, size_t n);
/// The slow path of the same: grows, or sets the error. A reset writer (len and err set back by
/// hand) finds its room again in here.
uint8_t *pyi_writer_more(pyi_writer *w, size_t n);

static inline void pyi_put_nil(pyi_writer *w);
static inline void pyi_put_bool(pyi_writer *w, bool v);
static inline void pyi_put_int(pyi_writer *w, int64_t v);
static inline void pyi_put_uint(pyi_writer *w, uint64_t v);
static inline void pyi_put_float(pyi_writer *w, double v);
static inline void pyi_put_str(pyi_writer *w, const char *s, size_t len); /* UTF-8 */
void pyi_put_cstr(pyi_writer *w, const char *s);                          /* NULL: nil */
void pyi_put_bin(pyi_writer *w, const void *data, size_t len);
static inline void pyi_put_array(pyi_writer *w, size_t count); /* then `count` values */
void pyi_put_map(pyi_writer *w, size_t count);                 /* then `count` keys and values */
/// Values between begin and end are the payload of one extension value.
size_t pyi_put_ext_begin(pyi_writer *w, pyi_ext type);
void pyi_put_ext_end(pyi_writer *w, size_t mark);
void pyi_put_ext_raw(pyi_writer *w, pyi_ext type, const void *data, size_t len);
/// Bytes that are msgpack already.
void pyi_put_raw(pyi_writer *w, const void *data, size_t len);
/// A whole error of a given kind without cause, args or notes.
void pyi_put_error(pyi_writer *w, const pyi_error *e, const char *python_type);

typedef enum pyi_kind {
    PYI_NIL,
    PYI_BOOL,  /* .b */
    PYI_INT,   /* .i: fits int64 */
    PYI_UINT,  /* .u: above INT64_MAX */
    PYI_FLOAT, /* .f */
    PYI_STR,   /* .data, .len: borrowed from the frame; not checked for UTF-8 */
    PYI_BIN,   /* .data, .len */
    PYI_ARRAY, /* .count values follow */
    PYI_MAP,   /* .count pairs follow */
    PYI_EXT    /* .ext, .data, .len: payload, skipped by the reader; open a new reader on it */
} pyi_kind;

typedef struct pyi_token {
    pyi_kind kind;
    int8_t ext;
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double f;
        uint32_t count;
        struct {
            const uint8_t *data;
            size_t len;
        };
    };
} pyi_token;

typedef struct pyi_reader {
    const uint8_t *p, *end;
} pyi_reader;

static inline pyi_reader pyi_reader_on(const void *data, size_t len) {
    const uint8_t *p = (const uint8_t *)data;
    return (pyi_reader){.p = p, .end = len > 0 ? p + len : p}; // data may be NULL then
}

/// Next token. PYI_EPROTO where the bytes end or are not msgpack; then the reader has not moved.
static inline pyi_err pyi_read(pyi_reader *r, pyi_token *ret_token) PYI_MUST_CHECK;
/// Next token, which must be of this kind (an INT that is not negative also passes as PYI_UINT:
/// .u).
pyi_err pyi_read_kind(pyi_reader *r, pyi_kind kind, pyi_token *ret_token) PYI_MUST_CHECK;
/// Skips one whole value, without recursion on the C stack; checks structure and depth, but takes
/// an extension's payload as bytes.
pyi_err pyi_skip(pyi_reader *r) PYI_MUST_CHECK;
/// PYI_OK if `data` is exactly one well-formed value: structure, depth (of PYI_MAX_DEPTH and
/// PYI_FRAME_DEPTH together: a frame is a value too), payloads of extension types, of which unknown
/// and reserved ones are refused, UTF-8 in strings, no map within a map's key. What comes from a
/// child is checked by this before use.
pyi_err pyi_validate(const void *data, size_t len, pyi_error *e) PYI_MUST_CHECK;
bool pyi_utf8_valid(const uint8_t *s, size_t len);
bool pyi_utf8_valid_surrogates(const uint8_t *s, size_t len); /* as in PYI_EXT_SURROGATE */
/// Bytes of the character at s (1 to 4), or 0 where there is no valid one.
size_t pyi_utf8_step(const uint8_t *s, size_t left);

/// The head of a frame: reads [type, id, and leaves r at the third field. `ret_count` is the number
/// of fields in the array. For HELLO the second field is the protocol version.
pyi_err pyi_read_head(pyi_reader *r, pyi_frame_type *ret_type, uint64_t *ret_id,
                      uint32_t *ret_count, pyi_error *e) PYI_MUST_CHECK;

#include "pyi_wire_inline.h"

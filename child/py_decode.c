/*
 * Wire -> PyObject. Bytes are copied once, into the object. Types that need an import are made by
 * pyisolate._convert.restore(ext, plain), imported when the first of them is met. Every count was
 * checked by the reader against the bytes that are there; the depth is checked here, payloads of
 * extension types must be used up.
 */
#include "py_value.h"

static PyObject *get(pyi_reader *r, unsigned depth);

static PyObject *malformed(const char *what) {
    PyErr_Format(PyExc_ValueError, "malformed %s in a frame", what);
    return NULL;
}

static PyObject *get_list(pyi_reader *r, uint32_t count, unsigned depth) {
    PYI_AUTO_PYREF PyObject *list = PyList_New((Py_ssize_t)count);
    for (uint32_t i = 0; list && i < count; i++) {
        PyObject *item = get(r, depth);
        if (!item) {
            return NULL;
        }
        PyList_SetItem(list, (Py_ssize_t)i, item);
    }
    return pyi_steal(&list);
}

/* ---- keys of dicts --------------------------------------------------------------------------- */

/*
 * The same few keys come again and again: the objects of the last ones are kept, so that a known
 * key costs no allocation and no hashing. One table for the process: there is one interpreter, and
 * the GIL is held.
 */
enum { CACHED_KEYS = 512, CACHED_LENGTH = 24 };

typedef struct cached_key {
    PyObject *str; /* owned */
    uint8_t len;
    uint8_t text[CACHED_LENGTH];
} cached_key;

static cached_key cached_keys[CACHED_KEYS];

static cached_key *cached_key_at(const uint8_t *text, size_t len) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ text[i]) * 16777619u;
    }
    return &cached_keys[(hash ^ hash >> 15) % CACHED_KEYS];
}

static PyObject *get_cached_key(const pyi_token *t) {
    cached_key *c = cached_key_at(t->data, t->len);
    if (c->str && c->len == t->len && memcmp(c->text, t->data, t->len) == 0) {
        Py_INCREF(c->str);
        return c->str;
    }
    PyObject *str = PyUnicode_DecodeUTF8((const char *)t->data, (Py_ssize_t)t->len, NULL);
    if (str) {
        Py_INCREF(str);
        Py_XDECREF(c->str);
        c->str = str;
        c->len = (uint8_t)t->len;
        memcpy(c->text, t->data, t->len);
    }
    return str;
}

static PyObject *get_key(pyi_reader *r, unsigned depth) {
    pyi_reader ahead = *r;
    pyi_token t;
    if (pyi_read(&ahead, &t) == PYI_OK && t.kind == PYI_STR && t.len <= CACHED_LENGTH) {
        *r = ahead;
        return get_cached_key(&t);
    }
    return get(r, depth);
}

static PyObject *get_dict(pyi_reader *r, uint32_t count, unsigned depth) {
    PYI_AUTO_PYREF PyObject *dict = PyDict_New();
    for (uint32_t i = 0; dict && i < count; i++) {
        PYI_AUTO_PYREF PyObject *key = get_key(r, depth);
        PYI_AUTO_PYREF PyObject *value = key ? get(r, depth) : NULL;
        if (!value || PyDict_SetItem(dict, key, value) < 0) {
            return NULL;
        }
    }
    return pyi_steal(&dict);
}

/* ---- extension types ------------------------------------------------------------------------- */

static PyObject *get_tuple(pyi_reader *r, uint32_t count, unsigned depth) {
    PYI_AUTO_PYREF PyObject *tuple = PyTuple_New((Py_ssize_t)count);
    for (uint32_t i = 0; tuple && i < count; i++) {
        PyObject *item = get(r, depth);
        if (!item) {
            return NULL;
        }
        PyTuple_SetItem(tuple, (Py_ssize_t)i, item);
    }
    return pyi_steal(&tuple);
}

static PyObject *get_set(pyi_reader *r, uint32_t count, unsigned depth, bool frozen) {
    PYI_AUTO_PYREF PyObject *items = get_list(r, count, depth);
    if (!items) {
        return NULL;
    }
    return frozen ? PyFrozenSet_New(items) : PySet_New(items);
}

static PyObject *get_complex(pyi_reader *r, uint32_t count) {
    pyi_token re, im;
    if (count != 2 || pyi_read_kind(r, PYI_FLOAT, &re) != PYI_OK ||
        pyi_read_kind(r, PYI_FLOAT, &im) != PYI_OK) {
        return malformed("complex number");
    }
    return PyComplex_FromDoubles(re.f, im.f);
}

/* tuple, set, frozenset, complex: an array and nothing after it. */
static PyObject *get_array_ext(const pyi_token *t, unsigned depth) {
    pyi_reader r = pyi_reader_on(t->data, t->len);
    pyi_token array;
    if (pyi_read_kind(&r, PYI_ARRAY, &array) != PYI_OK) {
        return malformed("extension value");
    }
    PYI_AUTO_PYREF PyObject *value = NULL;
    switch (t->ext) {
    case PYI_EXT_TUPLE:
        value = get_tuple(&r, array.count, depth);
        break;
    case PYI_EXT_COMPLEX:
        value = get_complex(&r, array.count);
        break;
    default:
        value = get_set(&r, array.count, depth, t->ext == PYI_EXT_FROZENSET);
    }
    if (value && r.p != r.end) {
        return malformed("extension value");
    }
    return pyi_steal(&value);
}

static PyObject *get_bigint(const pyi_token *t) {
    PYI_AUTO_PYREF PyObject *method =
        PyObject_GetAttrString((PyObject *)&PyLong_Type, "from_bytes");
    PYI_AUTO_PYREF PyObject *args =
        Py_BuildValue("(y#s)", (const char *)t->data, (Py_ssize_t)t->len, "little");
    PYI_AUTO_PYREF PyObject *kwargs = Py_BuildValue("{s:O}", "signed", Py_True);
    return method && args && kwargs ? PyObject_Call(method, args, kwargs) : NULL;
}

static PyObject *restore(int ext, PyObject *plain) {
    PYI_AUTO_PYREF PyObject *helper = pyi_import_attr("pyisolate._convert", "restore");
    return helper ? PyObject_CallFunction(helper, "iO", ext, plain) : NULL;
}

/* Array data goes into a bytearray: the array that is made on it can be written, without a second
 * copy. */
static PyObject *get_array_data(const pyi_token *t, unsigned depth) {
    pyi_reader r = pyi_reader_on(t->data, t->len);
    pyi_token array, data;
    if (pyi_read_kind(&r, PYI_ARRAY, &array) != PYI_OK || array.count != 3) {
        return malformed("array");
    }
    PYI_AUTO_PYREF PyObject *dtype = get(&r, depth);
    PYI_AUTO_PYREF PyObject *shape = dtype ? get(&r, depth) : NULL;
    if (!shape || pyi_read_kind(&r, PYI_BIN, &data) != PYI_OK) {
        return PyErr_Occurred() ? NULL : malformed("array");
    }
    PYI_AUTO_PYREF PyObject *bytes =
        PyByteArray_FromStringAndSize((const char *)data.data, (Py_ssize_t)data.len);
    PYI_AUTO_PYREF PyObject *plain = bytes ? PyTuple_Pack(3, dtype, shape, bytes) : NULL;
    return plain ? restore(PYI_EXT_NDARRAY, plain) : NULL;
}

static PyObject *get_restored(const pyi_token *t, unsigned depth) {
    pyi_reader r = pyi_reader_on(t->data, t->len);
    PYI_AUTO_PYREF PyObject *plain = get(&r, depth);
    if (plain && r.p != r.end) {
        return malformed("extension value");
    }
    return plain ? restore(t->ext, plain) : NULL;
}

static PyObject *get_uuid(const pyi_token *t) {
    PYI_AUTO_PYREF PyObject *raw =
        PyBytes_FromStringAndSize((const char *)t->data, (Py_ssize_t)t->len);
    return raw ? restore(PYI_EXT_UUID, raw) : NULL;
}

static PyObject *get_ext(const pyi_token *t, unsigned depth) {
    switch (t->ext) {
    case PYI_EXT_TUPLE:
    case PYI_EXT_SET:
    case PYI_EXT_FROZENSET:
    case PYI_EXT_COMPLEX:
        return get_array_ext(t, depth);
    case PYI_EXT_BIGINT:
        return get_bigint(t);
    case PYI_EXT_UUID:
        return get_uuid(t);
    case PYI_EXT_SURROGATE:
        return PyUnicode_Decode((const char *)t->data, (Py_ssize_t)t->len, "utf-8",
                                "surrogatepass");
    case PYI_EXT_NDARRAY:
        return get_array_data(t, depth);
    case PYI_EXT_DATETIME:
    case PYI_EXT_DATE:
    case PYI_EXT_TIME:
    case PYI_EXT_TIMEDELTA:
    case PYI_EXT_PATH:
    case PYI_EXT_NPSCALAR:
        return get_restored(t, depth);
    default:
        PyErr_Format(PyExc_ValueError, "extension type %d in a frame is not known here", t->ext);
        return NULL;
    }
}

/* ---- all kinds ------------------------------------------------------------------------------- */

static PyObject *get_nested(pyi_reader *r, const pyi_token *t, unsigned depth) {
    if (depth == 0) {
        PyErr_Format(PyExc_ValueError, "a value is nested deeper than %u levels", PYI_MAX_DEPTH);
        return NULL;
    }
    if (t->kind == PYI_ARRAY) {
        return get_list(r, t->count, depth - 1);
    }
    return t->kind == PYI_MAP ? get_dict(r, t->count, depth - 1) : get_ext(t, depth - 1);
}

static PyObject *get(pyi_reader *r, unsigned depth) {
    pyi_token t;
    if (PYI_UNLIKELY(pyi_read(r, &t) != PYI_OK)) {
        return malformed("value");
    }
    switch (t.kind) {
    case PYI_INT:
        return PyLong_FromLongLong(t.i);
    case PYI_STR:
        return PyUnicode_DecodeUTF8((const char *)t.data, (Py_ssize_t)t.len, NULL);
    case PYI_FLOAT:
        return PyFloat_FromDouble(t.f);
    case PYI_NIL:
        Py_RETURN_NONE;
    case PYI_BOOL:
        return PyBool_FromLong(t.b);
    case PYI_UINT:
        return PyLong_FromUnsignedLongLong(t.u);
    case PYI_BIN:
        return PyBytes_FromStringAndSize((const char *)t.data, (Py_ssize_t)t.len);
    case PYI_ARRAY:
    case PYI_MAP:
    case PYI_EXT:
        return get_nested(r, &t, depth);
    }
    return malformed("value");
}

PyObject *pyi_value_get(pyi_reader *r) {
    return get(r, PYI_MAX_DEPTH);
}

/*
 * PyObject -> wire. Exact built-in types are written here; everything else (subclasses, datetimes,
 * numpy, dataclasses, ...) is asked of pyisolate._convert.plain(), which returns (extension type or
 * -1, plainer object), or raises TypeError for what cannot be sent.
 *
 * The path of what failed (`args[1]["a"][3]`) costs nothing until it is needed: each level adds its
 * key while the error unwinds through it. A container that changes its size while it is written
 * (helpers run user code) is an error, because its count is already on the wire.
 */
#include "py_value.h"

typedef struct encoder {
    pyi_writer *w;
    pyi_err code;
    unsigned keys;  /* depth inside keys of dicts, where no list and no dict may be */
    unsigned steps; /* path, innermost first */
    PyObject *path[PYI_MAX_DEPTH + 1];
} encoder;

static bool put(encoder *x, PyObject *v, unsigned depth);

/* ---- errors ---------------------------------------------------------------------------------- */

static bool failed_at(encoder *x, PyObject *key) {
    if (x->steps < PYI_COUNT(x->path)) {
        Py_XINCREF(key);
        x->path[x->steps++] = key;
    }
    return false;
}

static bool failed_at_index(encoder *x, Py_ssize_t i) {
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PYI_AUTO_PYREF PyObject *index = PyLong_FromSsize_t(i);
    PyErr_Restore(type, value, tb);
    return failed_at(x, index);
}

static bool fail(encoder *x, pyi_err code, PyObject *type, const char *text) {
    x->code = code;
    PyErr_SetString(type, text);
    return false;
}

static bool changed(encoder *x) {
    return fail(x, PYI_EINVAL, PyExc_RuntimeError, "the container changed while it was sent");
}

static bool too_deep(encoder *x) {
    x->code = PYI_EINVAL;
    PyErr_Format(PyExc_ValueError,
                 "nested deeper than %u levels, or a container that contains itself",
                 PYI_MAX_DEPTH);
    return false;
}

static bool too_big(encoder *x) {
    return fail(x, PYI_ETOOBIG, PyExc_OverflowError, "too big");
}

/* ---- scalars --------------------------------------------------------------------------------- */

static bool put_surrogates(encoder *x, PyObject *v) {
    PyErr_Clear();
    PYI_AUTO_PYREF PyObject *raw = PyUnicode_AsEncodedString(v, "utf-8", "surrogatepass");
    if (!raw) {
        return false;
    }
    pyi_put_ext_raw(x->w, PYI_EXT_SURROGATE, PyBytes_AsString(raw), (size_t)PyBytes_Size(raw));
    return true;
}

static bool put_str(encoder *x, PyObject *v) {
    Py_ssize_t len;
    const char *s = PyUnicode_AsUTF8AndSize(v, &len);
    if (!s) {
        return put_surrogates(x, v);
    }
    pyi_put_str(x->w, s, (size_t)len);
    return true;
}

static bool put_bigint(encoder *x, PyObject *v) {
    PYI_AUTO_PYREF PyObject *bits = PyObject_CallMethod(v, "bit_length", NULL);
    size_t count = bits ? PyLong_AsSize_t(bits) : 0;
    if (!bits || PyErr_Occurred()) {
        return false;
    }
    size_t size = count / 8 + 1 < 9 ? 9 : count / 8 + 1; /* one bit more, for the sign */
    PYI_AUTO_PYREF PyObject *method = PyObject_GetAttrString(v, "to_bytes");
    PYI_AUTO_PYREF PyObject *args = Py_BuildValue("(ns)", (Py_ssize_t)size, "little");
    PYI_AUTO_PYREF PyObject *kwargs = Py_BuildValue("{s:O}", "signed", Py_True);
    PYI_AUTO_PYREF PyObject *raw =
        method && args && kwargs ? PyObject_Call(method, args, kwargs) : NULL;
    if (!raw) {
        return false;
    }
    pyi_put_ext_raw(x->w, PYI_EXT_BIGINT, PyBytes_AsString(raw), (size_t)PyBytes_Size(raw));
    return true;
}

static bool put_int(encoder *x, PyObject *v) {
    int overflow;
    long long n = PyLong_AsLongLongAndOverflow(v, &overflow);
    if (PYI_LIKELY(!overflow)) {
        pyi_put_int(x->w, n);
        return n != -1 || !PyErr_Occurred();
    }
    if (overflow > 0) {
        unsigned long long u = PyLong_AsUnsignedLongLong(v);
        if (!PyErr_Occurred()) {
            pyi_put_uint(x->w, u);
            return true;
        }
        PyErr_Clear();
    }
    return put_bigint(x, v);
}

static bool put_bytes(encoder *x, PyObject *v) {
    char *data;
    Py_ssize_t len;
    if (PyBytes_AsStringAndSize(v, &data, &len) < 0) {
        return false;
    }
    pyi_put_bin(x->w, data, (size_t)len);
    return true;
}

static bool put_bytearray(encoder *x, PyObject *v) {
    pyi_put_bin(x->w, PyByteArray_AsString(v), (size_t)PyByteArray_Size(v));
    return true;
}

static bool put_memoryview(encoder *x, PyObject *v) {
    PYI_AUTO_PYREF PyObject *raw = PyObject_CallMethod(v, "tobytes", NULL);
    return raw && put_bytes(x, raw);
}

static bool put_complex(encoder *x, PyObject *v) {
    size_t mark = pyi_put_ext_begin(x->w, PYI_EXT_COMPLEX);
    pyi_put_array(x->w, 2);
    pyi_put_float(x->w, PyComplex_RealAsDouble(v));
    pyi_put_float(x->w, PyComplex_ImagAsDouble(v));
    pyi_put_ext_end(x->w, mark);
    return true;
}

/* ---- containers ------------------------------------------------------------------------------ */

static bool put_list(encoder *x, PyObject *v, unsigned depth) {
    Py_ssize_t count = PyList_Size(v);
    pyi_put_array(x->w, (size_t)count);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PYI_UNLIKELY(PyList_Size(v) != count)) {
            return changed(x);
        }
        PyObject *item = PyList_GetItem(v, i);
        Py_INCREF(item);
        bool ok = put(x, item, depth);
        Py_DECREF(item);
        if (PYI_UNLIKELY(!ok)) {
            return failed_at_index(x, i);
        }
    }
    return true;
}

static bool put_tuple_items(encoder *x, PyObject *v, unsigned depth) {
    Py_ssize_t count = PyTuple_Size(v);
    pyi_put_array(x->w, (size_t)count);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!put(x, PyTuple_GetItem(v, i), depth)) {
            return failed_at_index(x, i);
        }
    }
    return true;
}

static bool put_tuple(encoder *x, PyObject *v, unsigned depth) {
    size_t mark = pyi_put_ext_begin(x->w, PYI_EXT_TUPLE);
    bool ok = put_tuple_items(x, v, depth);
    pyi_put_ext_end(x->w, mark);
    return ok;
}

static bool put_pair(encoder *x, PyObject *key, PyObject *value, unsigned depth) {
    Py_INCREF(key);
    Py_INCREF(value);
    x->keys++;
    bool ok = put(x, key, depth);
    x->keys--;
    ok = ok && put(x, value, depth);
    if (!ok) {
        failed_at(x, key);
    }
    Py_DECREF(value);
    Py_DECREF(key);
    return ok;
}

static bool put_dict(encoder *x, PyObject *v, unsigned depth) {
    Py_ssize_t count = PyDict_Size(v), at = 0, done = 0;
    PyObject *key, *value;
    pyi_put_map(x->w, (size_t)count);
    while (PyDict_Next(v, &at, &key, &value)) {
        if (done++ >= count) {
            return changed(x);
        }
        if (!put_pair(x, key, value, depth)) {
            return false;
        }
        if (PyDict_Size(v) != count) {
            return changed(x);
        }
    }
    return done == count || changed(x);
}

static bool put_set_items(encoder *x, PyObject *v, unsigned depth) {
    PYI_AUTO_PYREF PyObject *items = PySequence_List(v);
    return items && put_list(x, items, depth);
}

static bool put_set(encoder *x, PyObject *v, pyi_ext ext, unsigned depth) {
    size_t mark = pyi_put_ext_begin(x->w, ext);
    bool ok = put_set_items(x, v, depth);
    pyi_put_ext_end(x->w, mark);
    return ok;
}

/* ---- through the helper ---------------------------------------------------------------------- */

/* Not cached: one server's interpreter is not another's, and sys.modules is one dictionary look-up.
 */
static PyObject *ask_helper(PyObject *v) {
    PYI_AUTO_PYREF PyObject *plain = pyi_import_attr("pyisolate._convert", "plain");
    return plain ? PyObject_CallFunctionObjArgs(plain, v, NULL) : NULL;
}

static bool put_converted(encoder *x, PyObject *pair, unsigned depth) {
    long ext = PyLong_AsLong(PyTuple_GetItem(pair, 0));
    PyObject *plain = PyTuple_GetItem(pair, 1); /* borrowed */
    if (ext < 0 && x->keys > 0 && (PyList_Check(plain) || PyDict_Check(plain))) {
        return fail(x, PYI_ETYPE, PyExc_TypeError,
                    "such a key of a dict cannot be sent; use a basic type");
    }
    if (ext < 0) {
        return put(x, plain, depth);
    }
    if (ext == PYI_EXT_UUID) {
        pyi_put_ext_raw(x->w, PYI_EXT_UUID, PyBytes_AsString(plain), (size_t)PyBytes_Size(plain));
        return true;
    }
    size_t mark = pyi_put_ext_begin(x->w, (pyi_ext)ext);
    bool ok = put(x, plain, depth);
    pyi_put_ext_end(x->w, mark);
    return ok;
}

static bool put_other(encoder *x, PyObject *v, unsigned depth) {
    PYI_AUTO_PYREF PyObject *pair = ask_helper(v);
    if (!pair) {
        x->code = PyErr_ExceptionMatches(PyExc_TypeError) ? PYI_ETYPE : PYI_EREMOTE;
        return false;
    }
    return put_converted(x, pair, depth);
}

static bool put_container(encoder *x, PyObject *v, unsigned depth) {
    PyTypeObject *t = Py_TYPE(v);
    if (PYI_UNLIKELY(depth == 0)) {
        return too_deep(x);
    }
    if (PYI_UNLIKELY(x->w->err != PYI_OK)) {
        return too_big(x);
    }
    if (t == &PyList_Type) {
        return put_list(x, v, depth - 1);
    }
    if (t == &PyDict_Type) {
        return put_dict(x, v, depth - 1);
    }
    if (t == &PyTuple_Type) {
        return put_tuple(x, v, depth - 1);
    }
    if (t == &PySet_Type || t == &PyFrozenSet_Type) {
        return put_set(x, v, t == &PySet_Type ? PYI_EXT_SET : PYI_EXT_FROZENSET, depth - 1);
    }
    return put_other(x, v, depth - 1);
}

static bool put_rare(encoder *x, PyObject *v, unsigned depth) {
    PyTypeObject *t = Py_TYPE(v);
    if (t == &PyBytes_Type) {
        return put_bytes(x, v);
    }
    if (t == &PyByteArray_Type) {
        return put_bytearray(x, v);
    }
    if (t == &PyMemoryView_Type) {
        return put_memoryview(x, v);
    }
    if (t == &PyComplex_Type) {
        return put_complex(x, v);
    }
    return put_container(x, v, depth);
}

static bool put(encoder *x, PyObject *v, unsigned depth) {
    PyTypeObject *t = Py_TYPE(v);
    if (t == &PyLong_Type) {
        return put_int(x, v);
    }
    if (t == &PyUnicode_Type) {
        return put_str(x, v);
    }
    if (t == &PyFloat_Type) {
        pyi_put_float(x->w, PyFloat_AsDouble(v));
        return true;
    }
    if (v == Py_None) {
        pyi_put_nil(x->w);
        return true;
    }
    if (t == &PyBool_Type) {
        pyi_put_bool(x->w, v == Py_True);
        return true;
    }
    return put_rare(x, v, depth);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Replaces the exception's text by one with the path: _convert.located(exception, root, steps). */
static void add_path(encoder *x, const char *root) {
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    PYI_AUTO_PYREF PyObject *steps = PyList_New(0);
    for (unsigned i = x->steps; steps && i > 0; i--) {
        if (x->path[i - 1]) {
            PyList_Append(steps, x->path[i - 1]);
        }
    }
    PYI_AUTO_PYREF PyObject *located = pyi_import_attr("pyisolate._convert", "located");
    PYI_AUTO_PYREF PyObject *text =
        located && steps ? PyObject_CallFunction(located, "OsO", value, root, steps) : NULL;
    PyErr_Clear();
    if (!text) {
        PyErr_Restore(type, value, tb);
        return;
    }
    PyErr_SetObject(type, text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(tb);
}

static pyi_err finish(encoder *x, bool ok, const char *root) {
    if (!ok && x->code != PYI_EREMOTE && x->code != PYI_ETOOBIG) {
        add_path(x, root);
    }
    for (unsigned i = 0; i < x->steps; i++) {
        Py_XDECREF(x->path[i]);
    }
    pyi_error e;
    pyi_err err = pyi_writer_error(x->w, &e);
    if (err == PYI_OK) {
        return ok ? PYI_OK : x->code;
    }
    PyErr_Format(err == PYI_ENOMEM ? PyExc_MemoryError : PyExc_ValueError, "%s: %s", root, e.msg);
    return err;
}

pyi_err pyi_value_put(pyi_writer *w, PyObject *value, const char *root) {
    encoder x = {.w = w, .code = PYI_EREMOTE};
    return finish(&x, put(&x, value, PYI_MAX_DEPTH), root);
}

bool pyi_value_is_plain(PyObject *v, unsigned depth) {
    PyTypeObject *t = Py_TYPE(v);
    if (v == Py_None || t == &PyBool_Type || t == &PyFloat_Type || t == &PyLong_Type) {
        return true;
    }
    if (t == &PyUnicode_Type) {
        return PyUnicode_GetLength(v) <= 4096;
    }
    if (t == &PyBytes_Type) {
        return PyBytes_Size(v) <= 4096;
    }
    if (t != &PyTuple_Type || depth == 0 || PyTuple_Size(v) > 16) {
        return false;
    }
    for (Py_ssize_t i = 0; i < PyTuple_Size(v); i++) {
        if (!pyi_value_is_plain(PyTuple_GetItem(v, i), depth - 1)) {
            return false;
        }
    }
    return true;
}

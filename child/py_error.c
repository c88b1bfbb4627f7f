/*
 * Exceptions on the wire. The text of the traceback is made by pyisolate._errors, imported when the
 * first error occurs: it leaves out the frames of the runtime. A __str__ that raises, a message
 * that is not UTF-8, a cause that is its own cause: each has an answer here, because an error must
 * always arrive.
 */
#include "py_error.h"
#include "py_value.h"

PyObject *pyi_exception_take(void) {
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    if (value && tb) {
        PyException_SetTraceback(value, tb);
    }
    Py_XDECREF(type);
    Py_XDECREF(tb);
    if (!value) {
        PyErr_Clear();
        Py_INCREF(Py_None);
        return Py_None;
    }
    return value;
}

/* A str as UTF-8, cut at `most` bytes (never inside a character); lone surrogates become "?". */
static void put_text(pyi_writer *w, PyObject *text, size_t most, const char *otherwise) {
    PYI_AUTO_PYREF PyObject *raw =
        text && PyUnicode_Check(text) ? PyUnicode_AsEncodedString(text, "utf-8", "replace") : NULL;
    PyErr_Clear();
    if (!raw) {
        pyi_put_cstr(w, otherwise);
        return;
    }
    size_t len = (size_t)PyBytes_Size(raw);
    const char *s = PyBytes_AsString(raw);
    if (len > most) {
        for (len = most; len > 0 && ((unsigned char)s[len] & 0xC0) == 0x80; len--) {
        }
    }
    pyi_put_str(w, s, len);
}

static PyObject *attr(PyObject *o, const char *name) {
    PyObject *value = PyObject_GetAttrString(o, name);
    PyErr_Clear();
    return value;
}

static void put_type(pyi_writer *w, PyObject *exception) {
    PyObject *type = (PyObject *)Py_TYPE(exception);
    PYI_AUTO_PYREF PyObject *name = attr(type, "__name__");
    PYI_AUTO_PYREF PyObject *module = attr(type, "__module__");
    put_text(w, name, PYI_MAX_NAME, "Exception");
    put_text(w, module, 4 * PYI_MAX_NAME, "builtins");
}

static void put_message(pyi_writer *w, PyObject *exception) {
    PYI_AUTO_PYREF PyObject *text = PyObject_Str(exception);
    PyErr_Clear();
    put_text(w, text, PYI_MAX_ERROR_TEXT, "(the exception's __str__ failed)");
}

static void put_traceback(pyi_writer *w, PyObject *exception) {
    PYI_AUTO_PYREF PyObject *format = pyi_import_attr("pyisolate._errors", "format_traceback");
    PYI_AUTO_PYREF PyObject *text =
        format ? PyObject_CallFunctionObjArgs(format, exception, NULL) : NULL;
    PyErr_Clear();
    put_text(w, text, PYI_MAX_TRACEBACK, NULL);
}

static void put_notes(pyi_writer *w, PyObject *exception) {
    PYI_AUTO_PYREF PyObject *notes = attr(exception, "__notes__");
    Py_ssize_t count = notes && PyList_Check(notes) ? PyList_Size(notes) : 0;
    if (count > 64) {
        count = 64;
    }
    pyi_put_array(w, (size_t)count);
    for (Py_ssize_t i = 0; i < count; i++) {
        put_text(w, PyList_GetItem(notes, i), PYI_MAX_ERROR_TEXT / 64, "");
    }
}

static void put_args(pyi_writer *w, PyObject *exception) {
    PYI_AUTO_PYREF PyObject *args = attr(exception, "args");
    if (!args || !PyTuple_Check(args) || !pyi_value_is_plain(args, 3)) {
        pyi_put_nil(w);
        return;
    }
    Py_ssize_t count = PyTuple_Size(args);
    pyi_put_array(w, (size_t)count);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (pyi_value_put(w, PyTuple_GetItem(args, i), "args") != PYI_OK) {
            PyErr_Clear();
        }
    }
}

/* __cause__, else a __context__ that is not suppressed. New reference or NULL. */
static PyObject *cause_of(PyObject *exception) {
    PyObject *cause = PyException_GetCause(exception);
    if (cause) {
        return cause;
    }
    PYI_AUTO_PYREF PyObject *suppressed = attr(exception, "__suppress_context__");
    return suppressed == Py_True ? NULL : PyException_GetContext(exception);
}

static void put_one(pyi_writer *w, PyObject *exception, pyi_err code) {
    pyi_put_array(w, PYI_ERROR_FIELDS);
    pyi_put_int(w, code);
    put_type(w, exception);
    put_message(w, exception);
    put_traceback(w, exception);
    put_notes(w, exception);
    put_args(w, exception);
}

void pyi_exception_put(pyi_writer *w, PyObject *exception, pyi_err code) {
    Py_INCREF(exception);
    PYI_AUTO_PYREF PyObject *at = exception;
    for (unsigned i = 0; at && i <= PYI_MAX_CAUSES; i++) {
        put_one(w, at, i == 0 ? code : PYI_EREMOTE);
        PyObject *next = i < PYI_MAX_CAUSES && PyExceptionInstance_Check(at) ? cause_of(at) : NULL;
        Py_DECREF(at);
        at = next;
    }
    pyi_put_nil(w); /* the innermost has no cause */
}

/*
 * The life of a server: open the link -> (Python starts meanwhile) -> handshake -> load the
 * extension -> READY or FAILED -> serve -> close. What happens to the module (names, hooks, what is
 * served) is in pyisolate._start; here is what needs the link.
 */
#include "py_error.h"

#include <stdio.h>
#include <string.h>

pyi_err pyi_server_open(pyi_server *s, pyi_spec *spec, const char *mode, pyi_error *e) {
    *s = (pyi_server){.spec = spec, .mode = mode};
    pyi_cancel_init(s);
    pyi_link_config config = {
        .call_url = spec->call_url,
        .service_url = spec->service_url,
        .secret = spec->secret,
        .mode = mode,
        .max_payload = spec->max_payload,
        .max_concurrency = spec->max_concurrency,
        .on_cancel = pyi_cancel_arrived,
        .arg = s,
    };
    pyi_err err = pyi_link_open(&config, &s->link, e);
    explicit_bzero(spec->secret, sizeof spec->secret);
    return err;
}

static int complain(const pyi_server *s, const pyi_error *e) {
    fprintf(stderr, "pyisolate-child: '%s': %s: %s\n", s->spec->name, e->where, e->msg);
    return 70;
}

/* ---- what _start gets ------------------------------------------------------------------------ */

PyObject *pyi_server_spec(const pyi_spec *spec) {
    return Py_BuildValue("{s:s,s:s,s:s,s:s,s:z,s:z,s:N}", "name", spec->name, "runtime",
                         spec->runtime, "module_path", spec->module_path, "module", spec->module,
                         "entrypoint", spec->entrypoint, "extension_type", spec->extension_type,
                         "in_process", PyBool_FromLong(spec->in_process));
}

static void insert_path(const char *folder) {
    PyObject *path = PySys_GetObject("path"); /* borrowed */
    PYI_AUTO_PYREF PyObject *entry = PyUnicode_DecodeFSDefault(folder);
    if (path && entry && PyList_Check(path) && PySequence_Contains(path, entry) == 0) {
        PyList_Insert(path, 0, entry);
    }
    PyErr_Clear();
}

/* `-c` puts '' first: the current folder must not be where modules come from. */
static void drop_empty_path(void) {
    PyObject *path = PySys_GetObject("path"); /* borrowed */
    if (!path || !PyList_Check(path) || PyList_Size(path) == 0) {
        return;
    }
    PyObject *first = PyList_GetItem(path, 0); /* borrowed */
    if (PyUnicode_Check(first) && PyUnicode_GetLength(first) == 0) {
        PySequence_DelItem(path, 0);
    }
}

static bool prepare(pyi_server *s) {
    if (!s->spec->in_process) {
        drop_empty_path();
    }
    insert_path(s->spec->runtime);
    s->thread = PyThread_get_thread_ident();
    s->suspended = PyDict_New();
    s->self = pyi_server_capsule(s);
    s->start = PyImport_ImportModule("pyisolate._start");
    PYI_AUTO_PYREF PyObject *spec = pyi_server_spec(s->spec);
    if (!s->suspended || !s->self || !s->start || !spec) {
        return false;
    }
    PYI_AUTO_PYREF PyObject *done = PyObject_CallMethod(s->start, "prepare", "O", spec);
    return done != NULL;
}

/* ---- READY and FAILED ------------------------------------------------------------------------ */

/* A str attribute of the loader; nil when it is None. */
static void put_attr(pyi_writer *w, PyObject *loader, const char *name) {
    PYI_AUTO_PYREF PyObject *value = PyObject_GetAttrString(loader, name);
    Py_ssize_t len = 0;
    const char *text =
        value && PyUnicode_Check(value) ? PyUnicode_AsUTF8AndSize(value, &len) : NULL;
    pyi_put_cstr(w, name);
    if (text) {
        pyi_put_str(w, text, (size_t)len);
    } else {
        pyi_put_nil(w);
    }
    PyErr_Clear();
}

static void put_methods(pyi_writer *w, PyObject *table) {
    PyObject *name, *entry;
    pyi_put_cstr(w, "methods");
    pyi_put_array(w, (size_t)PyDict_Size(table));
    for (Py_ssize_t at = 0; PyDict_Next(table, &at, &name, &entry);) {
        Py_ssize_t len = 0;
        const char *text = PyUnicode_AsUTF8AndSize(name, &len);
        pyi_put_str(w, text ? text : "", text ? (size_t)len : 0);
    }
    PyErr_Clear();
}

/* "3.11.2" of "3.11.2 (main, ...) [GCC ...]". */
static void put_version(pyi_writer *w) {
    const char *version = Py_GetVersion();
    pyi_put_cstr(w, "python");
    pyi_put_str(w, version, strcspn(version, " "));
}

static void put_ready(pyi_server *s, PyObject *loader, pyi_writer *w) {
    pyi_put_array(w, 3);
    pyi_put_uint(w, PYI_FRAME_READY);
    pyi_put_uint(w, 0);
    pyi_put_map(w, 5);
    put_attr(w, loader, "kind");
    put_attr(w, loader, "type");
    pyi_put_cstr(w, "mode");
    pyi_put_cstr(w, s->mode);
    put_version(w);
    put_methods(w, s->table);
}

static pyi_err announce(pyi_server *s, pyi_writer *w, pyi_error *e) {
    pyi_err err = pyi_writer_error(w, e);
    if (err != PYI_OK) {
        return err;
    }
    PyThreadState *state = PyEval_SaveThread();
    err = pyi_link_announce(s->link, w->data, w->len, e);
    PyEval_RestoreThread(state);
    return err;
}

static pyi_err announce_ready(pyi_server *s, PyObject *loader, pyi_error *e) {
    __attribute__((cleanup(pyi_writer_fini))) pyi_writer w;
    pyi_writer_init(&w, PYI_MAX_PAYLOAD_DEFAULT);
    put_ready(s, loader, &w);
    return announce(s, &w, e);
}

static const char *stage_of(PyObject *loader, PyObject **ret_owner) {
    *ret_owner = loader ? PyObject_GetAttrString(loader, "stage") : NULL;
    const char *stage = *ret_owner ? PyUnicode_AsUTF8AndSize(*ret_owner, NULL) : NULL;
    PyErr_Clear();
    return stage ? stage : "start";
}

/* Tells the host the exception that is set. */
static int announce_failed(pyi_server *s, PyObject *loader) {
    PYI_AUTO_PYREF PyObject *exception = pyi_exception_take();
    PYI_AUTO_PYREF PyObject *owner = NULL;
    __attribute__((cleanup(pyi_writer_fini))) pyi_writer w;
    pyi_writer_init(&w, PYI_MAX_PAYLOAD_DEFAULT);
    pyi_put_array(&w, 4);
    pyi_put_uint(&w, PYI_FRAME_FAILED);
    pyi_put_uint(&w, 0);
    pyi_put_cstr(&w, stage_of(loader, &owner));
    pyi_exception_put(&w, exception, PYI_EREMOTE);
    pyi_error e;
    return announce(s, &w, &e) == PYI_OK ? 1 : complain(s, &e);
}

/* ---- load and serve -------------------------------------------------------------------------- */

static bool take_table(pyi_server *s, PyObject *loader) {
    PYI_AUTO_PYREF PyObject *done = PyObject_CallMethod(loader, "load", NULL);
    if (!done) {
        return false;
    }
    s->table = PyObject_GetAttrString(loader, "table");
    s->stop_hook = PyObject_GetAttrString(loader, "stop_hook");
    return s->table && PyDict_Check(s->table) && s->stop_hook;
}

static int load_and_serve(pyi_server *s) {
    PYI_AUTO_PYREF PyObject *loader = PyObject_CallMethod(s->start, "Loader", "O", s->self);
    if (!loader || !take_table(s, loader)) {
        return announce_failed(s, loader);
    }
    pyi_error e;
    if (announce_ready(s, loader, &e) != PYI_OK) {
        return complain(s, &e);
    }
    pyi_serve(s);
    return 0;
}

static pyi_err handshake(pyi_server *s, pyi_error *e) {
    PyThreadState *state = PyEval_SaveThread();
    pyi_err err = pyi_link_handshake(s->link, e);
    PyEval_RestoreThread(state);
    return err;
}

/* Replies are flushed before Python is finalized: atexit functions may take long. */
static void close_server(pyi_server *s) {
    PyThreadState *state = PyEval_SaveThread();
    pyi_link_close(pyi_steal(&s->link));
    PyEval_RestoreThread(state);
    Py_CLEAR(s->driver);
    Py_CLEAR(s->workers);
    Py_CLEAR(s->suspended);
    Py_CLEAR(s->table);
    Py_CLEAR(s->stop_hook);
    Py_CLEAR(s->start);
}

int pyi_server_run(pyi_server *s) {
    pyi_error e;
    int status;
    bool prepared = prepare(s); /* else an exception is set, to be told after the handshake */
    if (handshake(s, &e) != PYI_OK) {
        status = complain(s, &e);
        PyErr_Clear();
    } else {
        status = prepared ? load_and_serve(s) : announce_failed(s, NULL);
    }
    close_server(s);
    return status;
}

/*
 * The module _pyisolate and the core's three ways in: pyi_core_embed (the process is ours), the
 * module's main() called by the environment's own python ("exec"), and pyi_core_host (a thread of
 * the host's process).
 *
 * State is in pyi_server, one for each thread that serves; the module's functions find it through a
 * capsule that they are given, or through the thread they run on.
 */
#include "core.h"
#include "py_core.h"
#include "py_log.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

PyObject *pyi_call_cancelled;

static _Thread_local pyi_server *current;
static pyi_server *main_server; /* embed: opened before Python exists */
static int main_status;
static atomic_bool asyncio_imported;
static atomic_bool forked;

pyi_server *pyi_server_current(void) {
    return current;
}

bool pyi_asyncio_imported(void) {
    return atomic_load_explicit(&asyncio_imported, memory_order_relaxed);
}

bool pyi_is_forked(void) {
    return atomic_load_explicit(&forked, memory_order_relaxed);
}

static void on_fork_child(void) {
    atomic_store(&forked, true);
}

static void watch_forks(void) {
    pthread_atfork(NULL, NULL, on_fork_child);
}

PyObject *pyi_import_attr(const char *module, const char *attr) {
    PYI_AUTO_PYREF PyObject *m = PyImport_ImportModule(module);
    return m ? PyObject_GetAttrString(m, attr) : NULL;
}

PyObject *pyi_server_capsule(pyi_server *s) {
    return PyCapsule_New(s, NULL, NULL);
}

pyi_server *pyi_server_of(PyObject *capsule) {
    return PyCapsule_GetPointer(capsule, NULL);
}

/* ---- functions of the module ----------------------------------------------------------------- */

static PyObject *mod_log(PyObject *self, PyObject *args) {
    (void)self;
    char level, stream;
    const char *name, *text;
    Py_ssize_t name_len, len;
    if (!PyArg_ParseTuple(args, "ccs#y#:log", &level, &stream, &name, &name_len, &text, &len)) {
        return NULL;
    }
    PyThreadState *state = PyEval_SaveThread();
    bool sent = pyi_child_log(level, stream, name, (size_t)name_len, text, (size_t)len);
    PyEval_RestoreThread(state);
    return PyBool_FromLong(sent);
}

static PyObject *mod_serve_ready(PyObject *self, PyObject *capsule) {
    (void)self;
    pyi_server *s = pyi_server_of(capsule);
    return s ? PyLong_FromLong(pyi_serve_ready(s)) : NULL;
}

static PyObject *mod_link_fd(PyObject *self, PyObject *capsule) {
    (void)self;
    pyi_server *s = pyi_server_of(capsule);
    return s ? PyLong_FromLong(pyi_link_fd(s->link)) : NULL;
}

static PyObject *mod_spec(PyObject *self, PyObject *capsule) {
    (void)self;
    pyi_server *s = pyi_server_of(capsule);
    return s ? pyi_server_spec(s->spec) : NULL;
}

static PyObject *mod_run(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *capsule, *awaitable;
    if (!PyArg_ParseTuple(args, "OO:run", &capsule, &awaitable)) {
        return NULL;
    }
    pyi_server *s = pyi_server_of(capsule);
    return s ? pyi_serve_await(s, awaitable) : NULL;
}

static PyObject *mod_asyncio_imported(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    atomic_store(&asyncio_imported, true);
    bool in_call = current && current->busy > 0 && !pyi_is_forked();
    if (in_call && !pyi_serve_enter(current)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *mod_main(PyObject *self, PyObject *unused);

static PyMethodDef functions[] = {
    {"main", mod_main, METH_NOARGS, "Loads the extension of the spec and serves it until stopped."},
    {"log", mod_log, METH_VARARGS,
     "log(level, stream, logger, text: bytes) -> False if the host is gone."},
    {"serve_ready", mod_serve_ready, METH_O, "Serves what has arrived; -1: leave the loop."},
    {"link_fd", mod_link_fd, METH_O, "The descriptor that is readable while requests wait."},
    {"spec", mod_spec, METH_O, "The spec of a server, as a dict."},
    {"run", mod_run, METH_VARARGS,
     "run(server, awaitable): drives it to its end, outside of calls."},
    {"asyncio_imported", mod_asyncio_imported, METH_NOARGS, "asyncio is in sys.modules now."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_pyisolate", .m_size = -1,
                                 .m_methods = functions};

PyMODINIT_FUNC PyInit__pyisolate(void);

PyMODINIT_FUNC PyInit__pyisolate(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    PyObject *module = PyModule_Create(&definition);
    if (!pyi_call_cancelled) {
        pyi_call_cancelled = PyErr_NewExceptionWithDoc(
            "pyisolate.CallCancelled",
            "Raised in a call whose caller cancelled it or whose deadline passed.",
            PyExc_BaseException, NULL);
    }
    if (module && pyi_call_cancelled) {
        Py_INCREF(pyi_call_cancelled);
        PyModule_AddObject(module, "CallCancelled", pyi_call_cancelled);
    }
    return module;
}

/* ---- embed and exec -------------------------------------------------------------------------- */

static int complain(const pyi_error *e) {
    fprintf(stderr, "pyisolate-child: %s: %s\n", e->where, e->msg);
    return 70;
}

static pyi_err open_main(pyi_spec *spec, const char *mode, pyi_error *e) {
    static pyi_server server;
    pyi_err err = pyi_server_open(&server, spec, mode, e);
    if (err == PYI_OK) {
        main_server = &server;
    }
    return err;
}

/* exec: this python got the spec's descriptor from pyisolate-child. */
static pyi_err open_from_descriptor(pyi_error *e) {
    static pyi_spec spec;
    setvbuf(stdout, NULL, _IOLBF, 0);
    pyi_err err = pyi_spec_read(PYI_SPEC_FD, &spec, e);
    if (err != PYI_OK) {
        return err;
    }
    close(PYI_SPEC_FD);
    fcntl(PYI_LANE_FD, F_SETFD, FD_CLOEXEC);
    fcntl(PYI_LOG_FD, F_SETFD, FD_CLOEXEC);
    return open_main(&spec, "exec", e);
}

static PyObject *mod_main(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    pyi_error e;
    pyi_error_init(&e);
    if (!main_server && open_from_descriptor(&e) != PYI_OK) {
        main_status = complain(&e);
    } else {
        current = main_server;
        main_status = pyi_server_run(main_server);
        current = NULL;
    }
    if (main_status == 0) {
        Py_RETURN_NONE;
    }
    PYI_AUTO_PYREF PyObject *status = PyLong_FromLong(main_status);
    PyErr_SetObject(PyExc_SystemExit, status);
    return NULL;
}

int pyi_core_embed(pyi_spec *spec) {
    pyi_error e;
    pyi_error_init(&e);
    if (open_main(spec, "embed", &e) != PYI_OK) {
        return complain(&e);
    }
    if (PyImport_AppendInittab("_pyisolate", PyInit__pyisolate) < 0) {
        pyi_error_set(&e, PYI_ENOMEM, "python.init", "out of memory");
        return complain(&e);
    }
    char *argv[] = {(char *)(uintptr_t)spec->python,        "-s", "-X", "utf8", "-c",
                    "import _pyisolate; _pyisolate.main()", NULL};
    return Py_BytesMain((int)PYI_COUNT(argv) - 1, argv);
}

/* ---- host ------------------------------------------------------------------------------------ */

/* Outside the limited API, exported by 3.9 to 3.14: what -E and -s set. */
extern int Py_IgnoreEnvironmentFlag __attribute__((weak));
extern int Py_NoUserSiteDirectory __attribute__((weak));

/* As in a child: what the shell says about another Python (PYTHONHOME, PYTHONPATH) must not reach
 * this one, and packages of the user's own do not count as installed. */
static void be_isolated(void) {
    if (&Py_IgnoreEnvironmentFlag != NULL && &Py_NoUserSiteDirectory != NULL) {
        Py_IgnoreEnvironmentFlag = 1;
        Py_NoUserSiteDirectory = 1;
    }
}

/* Initializes Python once for all servers of this process, and leaves the GIL free. */
static void init_python(const pyi_spec *spec) {
    if (Py_IsInitialized()) {
        return;
    }
    PyImport_AppendInittab("_pyisolate", PyInit__pyisolate);
    be_isolated();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    wchar_t *program = Py_DecodeLocale(spec->python, NULL); /* kept: Python goes on reading it */
    if (program) {
        Py_SetProgramName(program);
    }
#pragma GCC diagnostic pop
    Py_InitializeEx(0); /* signals stay the host's */
    PyEval_SaveThread();
}

/* An application's own Python has no built-in _pyisolate: it is put into sys.modules. GIL held. */
static bool provide_module(void) {
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    if (PyDict_GetItemString(modules, "_pyisolate")) {
        return true;
    }
    PYI_AUTO_PYREF PyObject *module = PyInit__pyisolate();
    return module && PyDict_SetItemString(modules, "_pyisolate", module) == 0;
}

static int serve_on_this_thread(pyi_server *s) {
    PyGILState_STATE gil = PyGILState_Ensure();
    int status = 70;
    if (provide_module()) {
        current = s;
        status = pyi_server_run(s);
        current = NULL;
    } else {
        PyErr_Print();
    }
    PyGILState_Release(gil);
    return status;
}

int pyi_core_host(pyi_spec *spec) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pyi_error e;
    pyi_error_init(&e);
    pyi_server server;
    if (pyi_server_open(&server, spec, "host", &e) != PYI_OK) {
        return complain(&e);
    }
    pthread_mutex_lock(&lock);
    init_python(spec);
    pthread_mutex_unlock(&lock);
    int status = serve_on_this_thread(&server);
    pyi_cancel_fini(&server);
    return status;
}

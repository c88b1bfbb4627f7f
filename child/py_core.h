#pragma once
/*
 * What the files of the core share: the server of one extension, and helpers on PyObject. Every
 * function in here needs the GIL unless it says otherwise. Limited API of CPython 3.9; what later
 * versions added and all of 3.9 to 3.13 export without declaring it is declared weak below, and
 * looked at before use.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "link.h"
#include "spec.h"
#include <pthread.h>

static inline void pyi_cleanup_pyref(void *p) {
    PyObject *o = *(PyObject **)p;
    Py_XDECREF(o);
}

/// Drops its reference at the end of the block, which may be all that is done with it.
#define PYI_AUTO_PYREF __attribute__((cleanup(pyi_cleanup_pyref), unused))

/* In the limited API only from 3.10, but exported by every libpython of 3.9 as well. */
extern const char *PyUnicode_AsUTF8AndSize(PyObject *unicode, Py_ssize_t *size);
/* 3.10; NULL on 3.9. Returns 0 (returned), -1 (raised) or 1 (yielded). */
extern int PyIter_Send(PyObject *iter, PyObject *arg, PyObject **result) __attribute__((weak));
/* Outside the limited API, exported unchanged since 3.7. */
extern PyObject *PyContext_CopyCurrent(void) __attribute__((weak));
extern int PyContext_Enter(PyObject *context) __attribute__((weak));
extern int PyContext_Exit(PyObject *context) __attribute__((weak));

typedef struct pyi_cancels {
    pthread_mutex_t lock;
    uint64_t running;     /* the call that runs on the RPC thread now; 0: none (ids start at 1) */
    uint64_t interrupted; /* the call that the next interrupt is for; 0: none */
    uint64_t *ids;        /* cancelled, not yet looked at by the RPC thread */
    size_t count, cap;
    bool nudge, nudging; /* a thread is there that asks for the GIL, and should once more */
    bool postponed;      /* an interrupt met an import: it is tried again soon */
    pthread_cond_t idle; /* it is gone */
} pyi_cancels;

/// One extension that is served: by the process's main thread, or by a thread of the host's.
typedef struct pyi_server {
    pyi_spec *spec;
    const char *mode;
    pyi_link *link;
    pyi_cancels cancels;
    unsigned long thread; /* Python's identifier of the RPC thread */
    PyObject *self;       /* capsule of this struct; borrowed by all that Python holds */
    PyObject *start;      /* the module pyisolate._start */
    PyObject *table;      /* dict: method name -> (callable, is_async) */
    PyObject *stop_hook;  /* callable or None */
    PyObject *driver;     /* pyisolate._aio.Driver, once asyncio is there */
    PyObject *workers;    /* pyisolate._workers.Pool, once a `def` went to it */
    PyObject
        *suspended; /* dict: id -> capsule of pyi_call, calls that wait in a task or a worker */
    PyObject *hand, *hand_context; /* the coroutine that is driven by hand now, borrowed; or NULL */
    pyi_request *stop;             /* the STOP that is being answered */
    unsigned busy;                 /* depth of calls into extension code on the RPC thread */
    bool entered;                  /* driver.enter() without its leave() yet */
    bool in_driver;                /* inside driver.serve() */
    bool stopping, host_gone;
} pyi_server;

/// A call that outlives the function that received it: in a task, or in a worker thread.
typedef struct pyi_call {
    pyi_server *server;
    pyi_request *rq;
    uint64_t id;
    PyObject *task;                 /* its task; borrowed from the loop through `finish` */
    PyObject *func, *args, *kwargs; /* a worker's */
    unsigned long worker;           /* the thread that runs it, or 0 */
    bool interrupted;               /* cancelled, by an exception or by task.cancel() */
    bool settled;
} pyi_call;

/* ---- py_module.c ----------------------------------------------------------------------------- */
extern PyObject *pyi_call_cancelled; /* the exception class pyisolate.CallCancelled */
/// The server that the calling thread serves, or NULL.
pyi_server *pyi_server_current(void);
/// True after `import asyncio` anywhere in this process.
bool pyi_asyncio_imported(void);
/// True in a process that the extension forked off.
bool pyi_is_forked(void);
/// New reference to a module's attribute; NULL with an exception.
PyObject *pyi_import_attr(const char *module, const char *attr);
PyObject *pyi_server_capsule(pyi_server *s);
pyi_server *pyi_server_of(PyObject *capsule);

/* ---- py_server.c: the life of a server ------------------------------------------------------- */
/// Opens the link (no Python needed yet).
pyi_err pyi_server_open(pyi_server *s, pyi_spec *spec, const char *mode,
                        pyi_error *e) PYI_MUST_CHECK;
/// Loads the extension, announces it, serves until stopped, closes. Returns an exit status.
int pyi_server_run(pyi_server *s);
/// What pyisolate._start may know of the spec: a new dict.
PyObject *pyi_server_spec(const pyi_spec *spec);

/* ---- py_serve.c: requests -------------------------------------------------------------------- */
/// Serves until stopped or the host is gone.
void pyi_serve(pyi_server *s);
/// Serves what is there now, from inside the loop's selector. The number served; -1: leave the
/// loop.
int pyi_serve_ready(pyi_server *s);
/// Runs a coroutine or other awaitable to its end outside of any call (hooks at load).
PyObject *pyi_serve_await(pyi_server *s, PyObject *awaitable);
/// Makes the loop the thread's running one, in the middle of a call that imported asyncio.
bool pyi_serve_enter(pyi_server *s);

/* ---- py_call.c: what becomes of calls -------------------------------------------------------- */
void pyi_call_reply(pyi_server *s, pyi_request *rq, PyObject *result);
/// Replies with the exception that is set, and clears it.
void pyi_call_fail(pyi_server *s, pyi_request *rq, bool interrupted);
/// The same for what was wrong before the extension's code ran.
void pyi_call_reject(pyi_server *s, pyi_request *rq, pyi_err code);
/// Tells the callers of all suspended calls that the extension stopped.
void pyi_call_end_all(pyi_server *s);
void pyi_call_refuse(pyi_server *s, pyi_request *rq, pyi_err code, const char *type,
                     const char *text);
/// Remembers a call that goes on in `task`, and finishes it when the task does.
bool pyi_call_suspend(pyi_server *s, pyi_request *rq, PyObject *task);
/// Hands a plain `def` to a worker thread.
bool pyi_call_submit(pyi_server *s, pyi_request *rq, PyObject *func, PyObject *args,
                     PyObject *kwargs);

/* ---- py_cancel.c ----------------------------------------------------------------------------- */
void pyi_cancel_init(pyi_server *s);
/// Without the GIL, when no cancel can arrive any more.
void pyi_cancel_fini(pyi_server *s);
/// The link's on_cancel: an nng thread, no GIL.
void pyi_cancel_arrived(void *server, uint64_t id, int reason);
/// Marks `id` as what runs on the RPC thread; false if it was cancelled before.
bool pyi_cancel_begin(pyi_server *s, uint64_t id);
/// Ends that; true if a cancel for it arrived meanwhile.
bool pyi_cancel_end(pyi_server *s);
/// Cancels the suspended calls whose cancel arrived.
void pyi_cancel_apply(pyi_server *s);

/*
 * What becomes of calls: a reply with a result, a reply with an error, or a call that goes on in a
 * task or in a worker thread and is answered from there. The reply is written straight into the
 * outgoing message; when the result turns out not to be sendable, what was written is thrown away
 * and an error written instead.
 */
#include "py_error.h"
#include "py_value.h"

#include <stdio.h>

static void begin_frame(pyi_writer *w, pyi_frame_type type, uint64_t id) {
    pyi_put_array(w, 3);
    pyi_put_uint(w, type);
    pyi_put_uint(w, id);
}

/* ---- replies --------------------------------------------------------------------------------- */

static void put_exception(pyi_server *s, pyi_request *rq, pyi_writer *w, pyi_err code) {
    PYI_AUTO_PYREF PyObject *exception = pyi_exception_take();
    begin_frame(w, PYI_FRAME_ERROR, rq->id);
    pyi_exception_put(w, exception, code);
    pyi_link_reply_send(s->link, rq);
}

void pyi_call_fail(pyi_server *s, pyi_request *rq, bool interrupted) {
    pyi_err code = PYI_EREMOTE;
    if (interrupted || PyErr_ExceptionMatches(pyi_call_cancelled)) {
        code = PYI_ECANCELLED;
    }
    put_exception(s, rq, pyi_link_reply_begin(s->link, rq), code);
}

void pyi_call_reject(pyi_server *s, pyi_request *rq, pyi_err code) {
    put_exception(s, rq, pyi_link_reply_begin(s->link, rq), code);
}

void pyi_call_refuse(pyi_server *s, pyi_request *rq, pyi_err code, const char *type,
                     const char *text) {
    pyi_error e;
    pyi_error_set(&e, code, "call", "%s", text);
    pyi_writer *w = pyi_link_reply_begin(s->link, rq);
    begin_frame(w, PYI_FRAME_ERROR, rq->id);
    pyi_put_error(w, &e, type);
    pyi_link_reply_send(s->link, rq);
}

void pyi_call_reply(pyi_server *s, pyi_request *rq, PyObject *result) {
    pyi_writer *w = pyi_link_reply_begin(s->link, rq);
    begin_frame(w, PYI_FRAME_REPLY, rq->id);
    pyi_err err = pyi_value_put(w, result, "result");
    if (PYI_LIKELY(err == PYI_OK)) {
        pyi_link_reply_send(s->link, rq);
        return;
    }
    pyi_link_reply_reset(s->link, rq);
    put_exception(s, rq, w, err);
}

/* ---- calls that go on ------------------------------------------------------------------------ */

static void call_free(PyObject *capsule) {
    pyi_call *call = PyCapsule_GetPointer(capsule, NULL);
    Py_XDECREF(call->func);
    Py_XDECREF(call->args);
    Py_XDECREF(call->kwargs);
    free(call);
}

/* A capsule that is in s->suspended under the call's id. New reference. */
static PyObject *call_new(pyi_server *s, pyi_request *rq) {
    pyi_call *call = calloc(1, sizeof *call);
    if (!call) {
        return PyErr_NoMemory();
    }
    *call = (pyi_call){.server = s, .rq = rq, .id = rq->id};
    PYI_AUTO_PYREF PyObject *capsule = PyCapsule_New(call, NULL, call_free);
    if (!capsule) {
        free(call);
        return NULL;
    }
    PYI_AUTO_PYREF PyObject *key = PyLong_FromUnsignedLongLong(call->id);
    if (!key || PyDict_SetItem(s->suspended, key, capsule) < 0) {
        return NULL;
    }
    return pyi_steal(&capsule);
}

/* Takes the call out of s->suspended; false if it was settled before. */
static bool settle(pyi_call *call) {
    if (call->settled || pyi_is_forked()) {
        return false;
    }
    call->settled = true;
    call->task = NULL;
    PYI_AUTO_PYREF PyObject *key = PyLong_FromUnsignedLongLong(call->id);
    if (key && PyDict_DelItem(call->server->suspended, key) < 0) {
        PyErr_Clear();
    }
    return true;
}

static void refuse_stopped(pyi_call *call) {
    pyi_call_refuse(call->server, call->rq, PYI_ESTOPPED, pyi_err_python_type(PYI_ESTOPPED),
                    "the extension was stopped before the call ended");
}

void pyi_call_end_all(pyi_server *s) {
    PYI_AUTO_PYREF PyObject *left = PyDict_Values(s->suspended);
    for (Py_ssize_t i = 0; left && i < PyList_Size(left); i++) {
        pyi_call *call = PyCapsule_GetPointer(PyList_GetItem(left, i), NULL);
        if (settle(call)) {
            refuse_stopped(call);
        }
    }
    PyErr_Clear();
}

/* Cancelled by the stop, not by its caller. */
static bool ended_by_stop(const pyi_call *call, PyObject *task) {
    if (!call->server->stopping || call->interrupted) {
        return false;
    }
    PYI_AUTO_PYREF PyObject *cancelled = PyObject_CallMethod(task, "cancelled", NULL);
    return cancelled == Py_True;
}

/* The task's done callback: self is the capsule. */
static PyObject *finish(PyObject *self, PyObject *task) {
    pyi_call *call = PyCapsule_GetPointer(self, NULL);
    if (!call || !settle(call)) {
        Py_RETURN_NONE;
    }
    if (ended_by_stop(call, task)) {
        refuse_stopped(call);
        Py_RETURN_NONE;
    }
    PYI_AUTO_PYREF PyObject *result = PyObject_CallMethod(task, "result", NULL);
    if (result) {
        pyi_call_reply(call->server, call->rq, result);
    } else {
        pyi_call_fail(call->server, call->rq, call->interrupted);
    }
    Py_RETURN_NONE;
}

bool pyi_call_suspend(pyi_server *s, pyi_request *rq, PyObject *task) {
    static PyMethodDef method = {"finish", finish, METH_O, NULL};
    PYI_AUTO_PYREF PyObject *capsule = call_new(s, rq);
    PYI_AUTO_PYREF PyObject *callback = capsule ? PyCFunction_New(&method, capsule) : NULL;
    if (!callback) {
        return false;
    }
    pyi_call *call = PyCapsule_GetPointer(capsule, NULL);
    call->task = task;
    PYI_AUTO_PYREF PyObject *added = PyObject_CallMethod(task, "add_done_callback", "O", callback);
    return added != NULL;
}

/* ---- worker threads -------------------------------------------------------------------------- */

/* Clears an exception that was set for this thread but had no time to strike. */
static PyObject *run_call(pyi_call *call) {
    call->worker = PyThread_get_thread_ident();
    PyObject *result =
        call->interrupted ? NULL : PyObject_Call(call->func, call->args, call->kwargs);
    if (!result && !PyErr_Occurred()) {
        PyErr_SetString(pyi_call_cancelled, "the call was cancelled before it began");
    }
    if (call->interrupted) {
        PyThreadState_SetAsyncExc(call->worker, NULL);
    }
    call->worker = 0;
    return result;
}

/* A coroutine cannot go on in a worker: only `async def` (seen at load) runs on the loop's thread.
 */
static PyObject *not_awaitable(PyObject *result) {
    if (!result || !PyObject_HasAttrString((PyObject *)Py_TYPE(result), "__await__")) {
        return result;
    }
    PYI_AUTO_PYREF PyObject *closed =
        PyObject_HasAttrString(result, "close") ? PyObject_CallMethod(result, "close", NULL) : NULL;
    Py_DECREF(result);
    PyErr_SetString(PyExc_TypeError, "a `def` that runs in a worker thread (`threads`) returned an "
                                     "awaitable; write it as `async def`");
    return NULL;
}

/* What a worker calls: self is the capsule. */
static PyObject *run(PyObject *self, PyObject *unused) {
    (void)unused;
    pyi_call *call = PyCapsule_GetPointer(self, NULL);
    if (!call) {
        return NULL;
    }
    PYI_AUTO_PYREF PyObject *result = not_awaitable(run_call(call));
    if (!settle(call)) {
        PyErr_Clear();
    } else if (result) {
        pyi_call_reply(call->server, call->rq, result);
    } else {
        pyi_call_fail(call->server, call->rq, call->interrupted);
    }
    Py_RETURN_NONE;
}

static PyObject *workers(pyi_server *s) {
    if (!s->workers) {
        PYI_AUTO_PYREF PyObject *pool = pyi_import_attr("pyisolate._workers", "Pool");
        s->workers = pool ? PyObject_CallFunction(pool, "I", s->spec->threads) : NULL;
    }
    return s->workers; /* borrowed */
}

bool pyi_call_submit(pyi_server *s, pyi_request *rq, PyObject *func, PyObject *args,
                     PyObject *kwargs) {
    static PyMethodDef method = {"run", run, METH_NOARGS, NULL};
    PyObject *pool = workers(s);
    PYI_AUTO_PYREF PyObject *capsule = pool ? call_new(s, rq) : NULL;
    PYI_AUTO_PYREF PyObject *runner = capsule ? PyCFunction_New(&method, capsule) : NULL;
    if (!runner) {
        return false;
    }
    pyi_call *call = PyCapsule_GetPointer(capsule, NULL);
    Py_INCREF(func);
    Py_INCREF(args);
    Py_XINCREF(kwargs);
    call->func = func;
    call->args = args;
    call->kwargs = kwargs;
    PYI_AUTO_PYREF PyObject *done = PyObject_CallMethod(pool, "submit", "O", runner);
    return done != NULL;
}

/*
 * Requests, on the RPC thread. Two ways to wait for them:
 *
 *   plain    no asyncio in the process: pyi_link_next, with the GIL released only when it must
 * block. A coroutine's first step is driven by hand; one that never suspends needs no task and no
 * loop. driver   asyncio was imported: pyisolate._aio.Driver runs our event loop, whose selector
 * calls pyi_serve_ready. Coroutines are real tasks with an eager first step.
 *
 * The change from the first to the second may come in the middle of a hand-driven step that imports
 * asyncio: then the driver makes itself the running loop at once, with a task that adopts the
 * coroutine.
 */
#include "py_error.h"
#include "py_value.h"

#include <stdio.h>

enum { BATCH = 64 }; /* requests served before the loop's own callbacks get their turn */

/* ---- the event loop -------------------------------------------------------------------------- */

static PyObject *driver_of(pyi_server *s) {
    if (!s->driver) {
        PYI_AUTO_PYREF PyObject *type = pyi_import_attr("pyisolate._aio", "Driver");
        s->driver = type ? PyObject_CallFunction(type, "O", s->self) : NULL;
    }
    return s->driver; /* borrowed */
}

bool pyi_serve_enter(pyi_server *s) {
    if (s->in_driver) {
        return true;
    }
    PyObject *driver = driver_of(s);
    PYI_AUTO_PYREF PyObject *done =
        driver ? PyObject_CallMethod(driver, "enter", "OO", s->hand ? s->hand : Py_None,
                                     s->hand_context ? s->hand_context : Py_None)
               : NULL;
    s->entered = s->entered || done;
    return done != NULL;
}

/* Keeps the exception that is set. */
static void leave(pyi_server *s) {
    if (!s->entered) {
        return;
    }
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    s->entered = false;
    PYI_AUTO_PYREF PyObject *done = PyObject_CallMethod(s->driver, "leave", NULL);
    if (!done) {
        PyErr_WriteUnraisable(s->driver);
    }
    PyErr_Restore(type, value, tb);
}

/* ---- a coroutine's first step ---------------------------------------------------------------- */

typedef enum step { RETURNED, RAISED, SUSPENDED } step;

/* 3.9 has no PyIter_Send: send(None), and the result is in StopIteration. */
static step send_by_name(PyObject *coro, PyObject **ret) {
    *ret = PyObject_CallMethod(coro, "send", "O", Py_None);
    if (*ret) {
        return SUSPENDED;
    }
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return RAISED;
    }
    PYI_AUTO_PYREF PyObject *stop = pyi_exception_take();
    *ret = PyObject_GetAttrString(stop, "value");
    return *ret ? RETURNED : RAISED;
}

static step send_none(PyObject *coro, PyObject **ret) {
    if (!PyIter_Send) {
        return send_by_name(coro, ret);
    }
    switch (PyIter_Send(coro, Py_None, ret)) {
    case 0:
        return RETURNED;
    case 1:
        return SUSPENDED;
    default:
        return RAISED;
    }
}

static step drive(pyi_server *s, PyObject *coro, PyObject **ret) {
    PyObject *outer = s->hand;
    s->hand = coro;
    if (PYI_UNLIKELY(pyi_asyncio_imported()) && !pyi_serve_enter(s)) {
        s->hand = outer;
        return RAISED;
    }
    step at = send_none(coro, ret);
    s->hand = outer;
    return at;
}

/* The task that goes on with a coroutine that yielded `yielded` to us. New reference. */
static PyObject *resume(pyi_server *s, PyObject *coro, PyObject *yielded) {
    if (!s->entered) {
        PYI_AUTO_PYREF PyObject *closed = PyObject_CallMethod(coro, "close", NULL);
        PyErr_Format(PyExc_RuntimeError,
                     "a coroutine waits for %R, which is no asyncio future: only what asyncio can "
                     "await can suspend a call",
                     (PyObject *)Py_TYPE(yielded));
        return NULL;
    }
    return PyObject_CallMethod(s->driver, "resume", "O", yielded);
}

/* A hand-driven coroutine is over: the task that adopted it must end as well. Keeps the exception.
 */
static void end_adopted(pyi_server *s) {
    if (!s->entered) {
        return;
    }
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PYI_AUTO_PYREF PyObject *done = PyObject_CallMethod(s->driver, "end_adopted", NULL);
    PyErr_Clear();
    PyErr_Restore(type, value, tb);
}

/* ---- running extension code ------------------------------------------------------------------ */

/* Awaitables that are no coroutines get one around them. New reference. */
static PyObject *as_coroutine(pyi_server *s, PyObject *awaitable) {
    if (PyObject_HasAttrString(awaitable, "send")) {
        Py_INCREF(awaitable);
        return awaitable;
    }
    return PyObject_CallMethod(s->start, "await_any", "O", awaitable);
}

static bool is_awaitable(PyObject *o) {
    PyTypeObject *t = Py_TYPE(o);
    if (o == Py_None || t == &PyLong_Type || t == &PyUnicode_Type || t == &PyFloat_Type ||
        t == &PyDict_Type || t == &PyList_Type || t == &PyTuple_Type || t == &PyBool_Type ||
        t == &PyBytes_Type) {
        return false;
    }
    return PyObject_HasAttrString((PyObject *)t, "__await__");
}

typedef struct outcome {
    PyObject *result; /* owned; NULL with an exception, or NULL with a task */
    PyObject *task;   /* owned; the call goes on in it */
    bool interrupted;
} outcome;

static void await_by_hand(pyi_server *s, PyObject *coro, outcome *o) {
    PYI_AUTO_PYREF PyObject *got = NULL;
    step at = drive(s, coro, &got);
    if (at == SUSPENDED) {
        o->task = resume(s, coro, got);
        return;
    }
    end_adopted(s);
    o->result = at == RETURNED ? pyi_steal(&got) : NULL;
}

/* In the loop: prepare() gives the task and its first step, which is run here, between begin and
 * end. */
static void await_in_loop(pyi_server *s, PyObject *coro, outcome *o) {
    PYI_AUTO_PYREF PyObject *pair = PyObject_CallMethod(s->driver, "prepare", "O", coro);
    if (!pair) {
        return;
    }
    PyObject *task = PyTuple_GetItem(pair, 0); /* borrowed */
    PYI_AUTO_PYREF PyObject *stepped = PyObject_CallObject(PyTuple_GetItem(pair, 1), NULL);
    if (!stepped) { /* SystemExit and KeyboardInterrupt pass through a task */
        PyObject *type, *value, *tb;
        PyErr_Fetch(&type, &value, &tb);
        PYI_AUTO_PYREF PyObject *seen = PyObject_CallMethod(s->driver, "forget", "O", task);
        PyErr_Clear();
        PyErr_Restore(type, value, tb);
        return;
    }
    PYI_AUTO_PYREF PyObject *done = PyObject_CallMethod(task, "done", NULL);
    if (done == Py_True) {
        o->result = PyObject_CallMethod(task, "result", NULL);
    } else if (done) {
        Py_INCREF(task);
        o->task = task;
    }
}

static void await_result(pyi_server *s, outcome *o) {
    PYI_AUTO_PYREF PyObject *awaitable = pyi_steal(&o->result);
    PYI_AUTO_PYREF PyObject *coro = as_coroutine(s, awaitable);
    if (!coro) {
        return;
    }
    if (s->in_driver) {
        await_in_loop(s, coro, o);
    } else {
        await_by_hand(s, coro, o);
    }
}

static void run(pyi_server *s, PyObject *func, PyObject *args, PyObject *kwargs, outcome *o) {
    if (PYI_UNLIKELY(pyi_asyncio_imported()) && !pyi_serve_enter(s)) {
        return;
    }
    o->result = PyObject_Call(func, args, kwargs);
    if (o->result && is_awaitable(o->result)) {
        if (s->entered && !s->in_driver) { /* once more, with the coroutine as the current task */
            leave(s);
        }
        await_result(s, o);
    }
}

/* Each call has a context of its own, as a task would: what it sets in a ContextVar ends with it.
 */
static void run_in_context(pyi_server *s, PyObject *func, PyObject *args, PyObject *kwargs,
                           outcome *o) {
    PYI_AUTO_PYREF PyObject *context = PyContext_CopyCurrent ? PyContext_CopyCurrent() : NULL;
    PyObject *outer = s->hand_context;
    if (!context || PyContext_Enter(context) < 0) {
        PyErr_Clear();
        run(s, func, args, kwargs, o);
        return;
    }
    s->hand_context = context;
    run(s, func, args, kwargs, o);
    s->hand_context = outer;
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyContext_Exit(context);
    PyErr_Restore(type, value, tb);
}

/* The extension forked and came back here: a copy of the server must not go on serving. */
static void end_forked(void) {
    PYI_AUTO_PYREF PyObject *flush = pyi_import_attr("pyisolate._start", "flush_streams");
    PYI_AUTO_PYREF PyObject *done = flush ? PyObject_CallObject(flush, NULL) : NULL;
    if (PyErr_Occurred()) {
        PyErr_Print();
    }
    _exit(0);
}

static outcome invoke(pyi_server *s, uint64_t id, PyObject *func, PyObject *args,
                      PyObject *kwargs) {
    outcome o = {0};
    if (!pyi_cancel_begin(s, id)) {
        PyErr_SetString(pyi_call_cancelled, "the call was cancelled before it began");
        o.interrupted = true;
        return o;
    }
    s->busy++;
    run_in_context(s, func, args, kwargs, &o);
    s->busy--;
    o.interrupted = pyi_cancel_end(s);
    leave(s);
    if (PYI_UNLIKELY(pyi_is_forked())) {
        end_forked();
    }
    return o;
}

static void cancel_task(PyObject *task) {
    PYI_AUTO_PYREF PyObject *done = PyObject_CallMethod(task, "cancel", NULL);
    PyErr_Clear();
}

static void answer(pyi_server *s, pyi_request *rq, outcome *o) {
    PYI_AUTO_PYREF PyObject *result = pyi_steal(&o->result);
    PYI_AUTO_PYREF PyObject *task = pyi_steal(&o->task);
    if (result) {
        pyi_call_reply(s, rq, result);
    } else if (!task || !pyi_call_suspend(s, rq, task)) {
        pyi_call_fail(s, rq, o->interrupted);
    } else if (o->interrupted) { /* cancelled in its first step, which did not notice */
        cancel_task(task);
    }
}

/* ---- CALL ------------------------------------------------------------------------------------ */

typedef struct call_head {
    PyObject *method, *args, *kwargs; /* owned */
} call_head;

static void call_head_fini(call_head *h) {
    Py_XDECREF(h->method);
    Py_XDECREF(h->args);
    Py_XDECREF(h->kwargs);
}

static PyObject *args_tuple(pyi_reader *r) {
    PYI_AUTO_PYREF PyObject *list = pyi_value_get(r);
    if (list && !PyList_Check(list)) {
        PyErr_SetString(PyExc_ValueError, "malformed arguments in a CALL frame");
        return NULL;
    }
    return list ? PyList_AsTuple(list) : NULL;
}

static bool read_kwargs(pyi_reader *r, PyObject **ret) {
    PYI_AUTO_PYREF PyObject *kwargs = pyi_value_get(r);
    if (!kwargs) {
        return false;
    }
    if (kwargs == Py_None) {
        return true;
    }
    if (!PyDict_Check(kwargs)) {
        PyErr_SetString(PyExc_ValueError, "malformed keyword arguments in a CALL frame");
        return false;
    }
    *ret = PyDict_Size(kwargs) > 0 ? pyi_steal(&kwargs) : NULL;
    return true;
}

/* [object, method, deadline, args, kwargs]; the only object yet is the extension itself: nil or "".
 */
static bool read_call(pyi_reader *r, call_head *h) {
    pyi_token object, deadline;
    if (pyi_read(r, &object) != PYI_OK) {
        PyErr_SetString(PyExc_ValueError, "malformed CALL frame");
        return false;
    }
    if (object.kind != PYI_NIL && !(object.kind == PYI_STR && object.len == 0)) {
        PyErr_SetString(PyExc_LookupError, "this extension has registered no objects");
        return false;
    }
    h->method = pyi_value_get(r);
    if (!h->method || pyi_read(r, &deadline) != PYI_OK) {
        return false;
    }
    h->args = args_tuple(r);
    return h->args && read_kwargs(r, &h->kwargs) && r->p == r->end;
}

static void refuse_method(pyi_server *s, pyi_request *rq, PyObject *method) {
    PYI_AUTO_PYREF PyObject *text =
        PyObject_CallMethod(s->start, "no_such_method", "sOO", s->spec->name, method, s->table);
    PYI_AUTO_PYREF PyObject *raw =
        text ? PyUnicode_AsEncodedString(text, "utf-8", "replace") : NULL;
    PyErr_Clear();
    pyi_call_refuse(s, rq, PYI_ENOTFOUND, "AttributeError",
                    raw ? PyBytes_AsString(raw) : "no such method");
}

static void serve_call(pyi_server *s, pyi_request *rq) {
    __attribute__((cleanup(call_head_fini))) call_head h = {0};
    pyi_reader body = rq->body;
    if (!read_call(&body, &h)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "malformed CALL frame");
        }
        pyi_call_reject(s, rq,
                        PyErr_ExceptionMatches(PyExc_LookupError) ? PYI_ENOTFOUND : PYI_EINVAL);
        return;
    }
    PYI_AUTO_PYREF PyObject *entry = PyDict_GetItemWithError(s->table, h.method);
    if (!entry) {
        PyErr_Clear();
        refuse_method(s, rq, h.method);
        return;
    }
    Py_INCREF(entry);
    PyObject *func = PyTuple_GetItem(entry, 0); /* borrowed */
    if (s->spec->threads > 0 && PyTuple_GetItem(entry, 1) != Py_True) {
        if (!pyi_call_submit(s, rq, func, h.args, h.kwargs)) {
            pyi_call_fail(s, rq, false);
        }
        return;
    }
    outcome o = invoke(s, rq->id, func, h.args, h.kwargs);
    answer(s, rq, &o);
}

/* ---- STOP ------------------------------------------------------------------------------------ */

static void reply_stopped(pyi_server *s) {
    if (!s->stop) {
        return;
    }
    pyi_call_reply(s, pyi_steal(&s->stop), Py_None);
}

/* Called by the task of an asynchronous stop hook: self is the server's capsule. */
static PyObject *stop_done(PyObject *self, PyObject *task) {
    pyi_server *s = pyi_server_of(self);
    PYI_AUTO_PYREF PyObject *result = PyObject_CallMethod(task, "result", NULL);
    if (!result) {
        PyErr_Print();
    }
    if (s) {
        s->stopping = true;
        PYI_AUTO_PYREF PyObject *left = PyObject_CallMethod(s->driver, "quit", NULL);
        PyErr_Clear();
    }
    Py_RETURN_NONE;
}

static bool stop_later(pyi_server *s, PyObject *task) {
    static PyMethodDef method = {"stop_done", stop_done, METH_O, NULL};
    PYI_AUTO_PYREF PyObject *callback = PyCFunction_New(&method, s->self);
    PYI_AUTO_PYREF PyObject *added =
        callback ? PyObject_CallMethod(task, "add_done_callback", "O", callback) : NULL;
    return added != NULL;
}

/* The error of a stop hook is the extension's own affair: it is shown in the log, and the stop goes
 * on. */
static void serve_stop(pyi_server *s, pyi_request *rq) {
    if (s->stop) {
        pyi_call_reply(s, rq, Py_None);
        return;
    }
    s->stop = rq;
    if (s->stop_hook == Py_None) {
        s->stopping = true;
        return;
    }
    PYI_AUTO_PYREF PyObject *args = PyTuple_New(0);
    outcome o = invoke(s, rq->id, s->stop_hook, args, NULL);
    PYI_AUTO_PYREF PyObject *result = o.result, *task = o.task;
    if (task && stop_later(s, task)) {
        return;
    }
    if (PyErr_Occurred()) {
        PyErr_Print();
    }
    s->stopping = true;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void serve_one(pyi_server *s, pyi_request *rq) {
    switch (rq->type) {
    case PYI_FRAME_CALL:
        serve_call(s, rq);
        return;
    case PYI_FRAME_STOP:
        serve_stop(s, rq);
        return;
    case PYI_FRAME_PING:
        pyi_call_reply(s, rq, Py_None);
        return;
    case PYI_FRAME_CANCEL:
    case PYI_FRAME_HELLO:
    case PYI_FRAME_READY:
    case PYI_FRAME_FAILED:
    case PYI_FRAME_EVENT:
    case PYI_FRAME_ACK:
    case PYI_FRAME_LEASE:
    case PYI_FRAME_REPLY:
    case PYI_FRAME_ERROR:
        break;
    }
    pyi_call_refuse(s, rq, PYI_EPROTO, "RuntimeError", "this child does not know such a frame");
}

/* One request if there is one. PYI_EDEADLINE: none. */
static pyi_err serve_next(pyi_server *s, int timeout_ms) {
    pyi_request *rq = NULL;
    pyi_error e;
    pyi_err err = pyi_link_next(s->link, 0, &rq, &e);
    if (err == PYI_EDEADLINE && timeout_ms != 0) {
        /* Every caller waits for this thread's GIL at the default switch interval: to be measured.
         */
        PyThreadState *state = PyEval_SaveThread();
        err = pyi_link_next(s->link, timeout_ms, &rq, &e);
        PyEval_RestoreThread(state);
    }
    if (err == PYI_OK) {
        serve_one(s, rq);
        return PYI_OK;
    }
    if (err == PYI_ECANCELLED) { /* woken, perhaps by a signal */
        pyi_cancel_apply(s);
        if (PyErr_CheckSignals() < 0) {
            PyErr_WriteUnraisable(NULL);
        }
        return PYI_OK;
    }
    if (err != PYI_EDEADLINE) {
        s->host_gone = true;
    }
    return err;
}

int pyi_serve_ready(pyi_server *s) {
    int served = 0;
    while (served < BATCH && !s->stopping && !s->host_gone && serve_next(s, 0) == PYI_OK) {
        served++;
    }
    if (s->cancels.count > 0) {
        pyi_cancel_apply(s);
    }
    return s->stopping || s->host_gone ? -1 : served;
}

/* SystemExit and KeyboardInterrupt that came out of the loop end a call or a callback, not the
 * child. */
static void serve_in_driver(pyi_server *s) {
    PyObject *driver = driver_of(s);
    s->in_driver = true;
    PYI_AUTO_PYREF PyObject *done = driver ? PyObject_CallMethod(driver, "serve", NULL) : NULL;
    s->in_driver = false;
    if (!done) {
        PyErr_WriteUnraisable(driver);
        PyErr_Clear();
        s->host_gone = s->host_gone || !driver;
    }
}

/* Calls still in flight are cancelled; what has not ended then is told that the extension stopped.
 */
static void end_calls(pyi_server *s) {
    if (s->driver) {
        s->in_driver = true;
        PYI_AUTO_PYREF PyObject *done = PyObject_CallMethod(s->driver, "shutdown", NULL);
        s->in_driver = false;
        if (!done) {
            PyErr_WriteUnraisable(s->driver);
        }
    }
    pyi_call_end_all(s);
    reply_stopped(s);
}

void pyi_serve(pyi_server *s) {
    while (!s->stopping && !s->host_gone) {
        if (pyi_asyncio_imported()) {
            serve_in_driver(s);
        } else {
            (void)serve_next(s, -1);
        }
    }
    end_calls(s);
}

/* ---- hooks at load --------------------------------------------------------------------------- */

static PyObject *await_outside(pyi_server *s, PyObject *coro) {
    outcome o = {0};
    s->busy++;
    await_by_hand(s, coro, &o);
    s->busy--;
    leave(s);
    PYI_AUTO_PYREF PyObject *task = o.task;
    return task ? PyObject_CallMethod(s->driver, "run", "O", task) : o.result;
}

PyObject *pyi_serve_await(pyi_server *s, PyObject *awaitable) {
    PYI_AUTO_PYREF PyObject *coro = as_coroutine(s, awaitable);
    if (!coro) {
        return NULL;
    }
    if (!pyi_asyncio_imported()) {
        return await_outside(s, coro);
    }
    PyObject *driver = driver_of(s);
    return driver ? PyObject_CallMethod(driver, "run", "O", coro) : NULL;
}

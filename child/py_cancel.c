/*
 * Cancelling.
 *
 *     nng thread (no GIL)              RPC thread                             what runs there
 *     pyi_cancel_arrived  --pending--> interrupt(): raises CallCancelled  --> `def`, first step of
 * a coroutine
 *            |----- ids, wake -------> pyi_cancel_apply(): task.cancel()  --> a suspended task
 *                                                 SetAsyncExc             --> a `def` in a worker
 * thread
 *
 * An interrupt is raised only while the call it is for still runs: pyi_cancel_begin/end bracket
 * exactly the extension's code. Before CPython 3.12 a pending call that was added by a foreign
 * thread is noticed only when the main thread next takes the GIL, which a loop without I/O never
 * does; so a short-lived thread asks for the GIL once. A server on a thread of the host's ("host"
 * mode) is not on Python's main thread, where pending calls run: there that thread sets the
 * exception itself.
 */
#include "py_core.h"

enum { IMPORT_RETRY_US = 10000 };

void pyi_cancel_init(pyi_server *s) {
    pthread_mutex_init(&s->cancels.lock, NULL);
    pthread_cond_init(&s->cancels.idle, NULL);
}

void pyi_cancel_fini(pyi_server *s) {
    pthread_mutex_lock(&s->cancels.lock);
    while (s->cancels.nudging) {
        pthread_cond_wait(&s->cancels.idle, &s->cancels.lock);
    }
    pthread_mutex_unlock(&s->cancels.lock);
    pthread_cond_destroy(&s->cancels.idle);
    pthread_mutex_destroy(&s->cancels.lock);
    free(pyi_steal(&s->cancels.ids));
}

/* ---- ids that wait (lock held) --------------------------------------------------------------- */

static void remember(pyi_cancels *c, uint64_t id) {
    if (c->count == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 16;
        uint64_t *ids = realloc(c->ids, cap * sizeof *ids);
        if (!ids) {
            return; /* the call goes on to its end; its caller has its error already */
        }
        c->ids = ids;
        c->cap = cap;
    }
    c->ids[c->count++] = id;
}

static bool forget(pyi_cancels *c, uint64_t id) {
    for (size_t i = 0; i < c->count; i++) {
        if (c->ids[i] == id) {
            c->ids[i] = c->ids[--c->count];
            return true;
        }
    }
    return false;
}

/* ---- interrupts ------------------------------------------------------------------------------ */

/* The suspended call whose task runs at this moment and is cancelled (a loop without an await). */
static bool current_task_is_cancelled(pyi_server *s) {
    if (!s->driver || !s->in_driver) {
        return false;
    }
    PYI_AUTO_PYREF PyObject *task = PyObject_CallMethod(s->driver, "current_task", NULL);
    PyObject *id, *capsule;
    for (Py_ssize_t at = 0; task && PyDict_Next(s->suspended, &at, &id, &capsule);) {
        pyi_call *call = PyCapsule_GetPointer(capsule, NULL);
        if (call && call->task == task) {
            pthread_mutex_lock(&s->cancels.lock);
            bool found = forget(&s->cancels, call->id);
            pthread_mutex_unlock(&s->cancels.lock);
            call->interrupted |= found;
            return found;
        }
    }
    PyErr_Clear();
    return false;
}

/*
 * Whether the RPC thread is in the middle of an import. An exception there would leave modules half
 * made, in a process that lives on: what they belong to could never be imported again.
 */
static bool is_importing(pyi_server *s) {
    PyObject *current = PySys_GetObject("_current_frames"); /* borrowed */
    PYI_AUTO_PYREF PyObject *frames = current ? PyObject_CallObject(current, NULL) : NULL;
    PYI_AUTO_PYREF PyObject *ident = PyLong_FromUnsignedLong(s->thread);
    PyObject *frame =
        frames && ident ? PyDict_GetItemWithError(frames, ident) : NULL; /* borrowed */
    Py_XINCREF(frame);
    bool found = false;
    while (frame && frame != Py_None && !found) {
        PYI_AUTO_PYREF PyObject *code = PyObject_GetAttrString(frame, "f_code");
        PYI_AUTO_PYREF PyObject *name = code ? PyObject_GetAttrString(code, "co_filename") : NULL;
        found = name && PyUnicode_Check(name) &&
                PyUnicode_CompareWithASCIIString(name, "<frozen importlib._bootstrap>") == 0;
        PyObject *back = PyObject_GetAttrString(frame, "f_back");
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    PyErr_Clear();
    return found;
}

static void start_nudge(pyi_server *s, bool postponed);

/* With the GIL: whether something is to be interrupted now; during an import, later. */
static bool may_interrupt(pyi_server *s) {
    pthread_mutex_lock(&s->cancels.lock);
    bool wanted = s->cancels.count > 0 ||
                  (s->cancels.running != 0 && s->cancels.running == s->cancels.interrupted);
    pthread_mutex_unlock(&s->cancels.lock);
    if (wanted && is_importing(s)) {
        start_nudge(s, true);
        return false;
    }
    return wanted;
}

/* A pending call: Python's main thread, between two instructions of whatever runs. */
static int interrupt(void *server) {
    pyi_server *s = server;
    if (!may_interrupt(s)) {
        return 0;
    }
    pthread_mutex_lock(&s->cancels.lock);
    bool now = s->cancels.running != 0 && s->cancels.running == s->cancels.interrupted;
    pthread_mutex_unlock(&s->cancels.lock);
    if (now || current_task_is_cancelled(s)) {
        PyErr_SetString(pyi_call_cancelled, "the call was cancelled");
        return -1;
    }
    return 0;
}

/* With the GIL, on a thread of its own. */
static void interrupt_from_outside(pyi_server *s) {
    if (!may_interrupt(s)) {
        return;
    }
    pthread_mutex_lock(&s->cancels.lock);
    if (s->cancels.running != 0 && s->cancels.running == s->cancels.interrupted) {
        PyThreadState_SetAsyncExc(s->thread, pyi_call_cancelled);
    }
    pthread_mutex_unlock(&s->cancels.lock);
}

static bool take_nudge(pyi_cancels *c, bool *ret_postponed) {
    pthread_mutex_lock(&c->lock);
    bool again = c->nudge;
    *ret_postponed = c->postponed;
    c->nudge = c->postponed = false;
    if (!again) {
        c->nudging = false;
        pthread_cond_signal(&c->idle);
    }
    pthread_mutex_unlock(&c->lock);
    return again;
}

static void *nudge(void *server) {
    pyi_server *s = server;
    bool postponed;
    while (take_nudge(&s->cancels, &postponed)) {
        if (postponed) {
            usleep(IMPORT_RETRY_US);
        }
        if (postponed && !s->spec->in_process) {
            Py_AddPendingCall(interrupt, s);
        }
        PyGILState_STATE gil = PyGILState_Ensure();
        if (s->spec->in_process) {
            interrupt_from_outside(s);
        }
        PyGILState_Release(gil);
    }
    return NULL;
}

/* At most one such thread at a time; what comes while it is there makes it go round once more. */
static void start_nudge(pyi_server *s, bool postponed) {
    pthread_mutex_lock(&s->cancels.lock);
    bool start = !s->cancels.nudging;
    s->cancels.nudging = s->cancels.nudge = true;
    s->cancels.postponed |= postponed;
    pthread_mutex_unlock(&s->cancels.lock);
    pthread_t thread;
    if (!start) {
        return;
    }
    if (pthread_create(&thread, NULL, nudge, s) == 0) {
        pthread_detach(thread);
        return;
    }
    pthread_mutex_lock(&s->cancels.lock);
    s->cancels.nudging = false;
    pthread_mutex_unlock(&s->cancels.lock);
}

static void request_interrupt(pyi_server *s) {
    if (!s->spec->in_process) {
        Py_AddPendingCall(interrupt, s);
    }
    start_nudge(s, false);
}

void pyi_cancel_arrived(void *server, uint64_t id, int reason) {
    (void)reason; /* the host has told the caller already which it was */
    pyi_server *s = server;
    pthread_mutex_lock(&s->cancels.lock);
    bool running = s->cancels.running == id;
    if (running) {
        s->cancels.interrupted = id;
    } else {
        remember(&s->cancels, id);
    }
    pthread_mutex_unlock(&s->cancels.lock);
    if (Py_IsInitialized()) {
        request_interrupt(s);
    }
    if (!running) {
        pyi_link_wake(s->link);
    }
}

/* ---- the RPC thread -------------------------------------------------------------------------- */

bool pyi_cancel_begin(pyi_server *s, uint64_t id) {
    pthread_mutex_lock(&s->cancels.lock);
    bool cancelled = s->cancels.count > 0 && forget(&s->cancels, id);
    if (!cancelled) {
        s->cancels.running = id;
        s->cancels.interrupted = 0;
    }
    pthread_mutex_unlock(&s->cancels.lock);
    return !cancelled;
}

bool pyi_cancel_end(pyi_server *s) {
    pthread_mutex_lock(&s->cancels.lock);
    bool interrupted = s->cancels.interrupted != 0 && s->cancels.interrupted == s->cancels.running;
    s->cancels.running = s->cancels.interrupted = 0;
    pthread_mutex_unlock(&s->cancels.lock);
    if (interrupted && s->spec->in_process) {
        PyThreadState_SetAsyncExc(s->thread,
                                  NULL); /* if it did not strike in time, it must not later */
    }
    return interrupted;
}

static void cancel_one(pyi_server *s, uint64_t id) {
    PYI_AUTO_PYREF PyObject *key = PyLong_FromUnsignedLongLong(id);
    PyObject *capsule = key ? PyDict_GetItemWithError(s->suspended, key) : NULL; /* borrowed */
    pyi_call *call = capsule ? PyCapsule_GetPointer(capsule, NULL) : NULL;
    if (!call) {
        PyErr_Clear(); /* finished already */
        return;
    }
    call->interrupted = true;
    if (call->task) {
        PYI_AUTO_PYREF PyObject *task = call->task;
        Py_INCREF(task);
        PYI_AUTO_PYREF PyObject *done = PyObject_CallMethod(task, "cancel", NULL);
    } else if (call->worker) {
        PyThreadState_SetAsyncExc(call->worker, pyi_call_cancelled);
    }
    PyErr_Clear();
}

void pyi_cancel_apply(pyi_server *s) {
    for (;;) {
        pthread_mutex_lock(&s->cancels.lock);
        uint64_t id = s->cancels.count > 0 ? s->cancels.ids[--s->cancels.count] : 0;
        pthread_mutex_unlock(&s->cancels.lock);
        if (id == 0) {
            return;
        }
        cancel_one(s, id);
    }
}

/*
 * Calls to an extension.
 *
 * A call is in one of two lists until it has ended for its caller: waiting (not sent) or flying
 * (sent). It ends for its caller once - by the reply, a deadline, a cancel, or the child's death -
 * but a call that was sent stays until the bus has ended the send too: nng's context is then free
 * again, and a late reply finds somebody.
 *
 * Deadlines: the soonest is remembered, and the loop is only told when a sooner one comes, which is
 * rare because calls of one extension mostly have the same timeout.
 */
#include "extension.h"
#include "remote_error.h"

#include <semaphore.h>
#include <string.h>

struct pyi_call {
    pyi_extension *x;
    pyi_frame *frame;
    uint64_t id;
    int64_t deadline; /* ns; 0: none */
    int64_t timeout_ms;
    pyi_call_done done;
    void *arg;
    pyi_generation *generation; /* counted, while flying */
    bool ended;                 /* for the caller */
    bool lost;                  /* the connection went, the reason is not known yet */
    pyi_bus_token token;        /* of an exchange, so that an early end wakes its thread */
    pyi_call *prev, *next;
};

/* ---- lists (under the lock) ------------------------------------------------------------------ */

static void append(pyi_call_list *l, pyi_call *c) {
    c->next = NULL;
    c->prev = l->last;
    if (l->last != NULL) {
        l->last->next = c;
    } else {
        l->first = c;
    }
    l->last = c;
    l->count++;
}

static void take_out(pyi_call_list *l, pyi_call *c) {
    *(c->prev != NULL ? &c->prev->next : &l->first) = c->next;
    *(c->next != NULL ? &c->next->prev : &l->last) = c->prev;
    c->prev = c->next = NULL;
    l->count--;
}

static pyi_call *find(const pyi_call_list *l, uint64_t id) {
    pyi_call *c = l->first;
    while (c != NULL && c->id != id) {
        c = c->next;
    }
    return c;
}

/* ---- ending for the caller ------------------------------------------------------------------- */

static void destroy(pyi_call *c) {
    pyi_frame_free(c->frame);
    free(c);
}

static void tell(pyi_call *c, const pyi_reply *reply) {
    c->done(c->arg, reply);
}

static void tell_error(pyi_call *c, const pyi_error *e, const char *detail) {
    pyi_reply reply = {.code = e->code, .error = e, .detail = detail};
    tell(c, &reply);
}

static void count_end(pyi_extension *x, bool failed) {
    x->calls++;
    x->errors += failed ? 1 : 0;
}

static void deadline_error(const pyi_call *c, pyi_error *e) {
    pyi_error_set(e, PYI_EDEADLINE, "call",
                  "extension \"%s\" did not answer within %.6g s, the call's deadline",
                  c->x->config->name, (double)c->timeout_ms / 1000.0);
}

static void cancel_error(const pyi_call *c, pyi_error *e) {
    pyi_error_set(e, PYI_ECANCELLED, "call", "the call to extension \"%s\" was cancelled",
                  c->x->config->name);
}

/* Ends a call that is in a list for its caller, early. Takes the lock; false: it had ended. */
static bool end_early(pyi_extension *x, uint64_t id,
                      void (*describe)(const pyi_call *, pyi_error *), bool deadline) {
    pthread_mutex_lock(&x->lock);
    pyi_call *waiting = find(&x->waiting, id);
    pyi_call *flying = waiting == NULL ? find(&x->flying, id) : NULL;
    pyi_generation *g = NULL;
    if (waiting != NULL) {
        take_out(&x->waiting, waiting);
    } else if (flying != NULL && !flying->ended) {
        flying->ended = true;
        g = pyi_generation_ref(flying->generation);
        pyi_bus_abort(pyi_generation_bus(g), flying->token);
    } else {
        pthread_mutex_unlock(&x->lock);
        return false;
    }
    count_end(x, true);
    /* A flying call may be freed by the bus as soon as the lock is open: keep what tells its
     * caller. */
    pyi_call copy = waiting != NULL ? *waiting : *flying;
    pthread_mutex_unlock(&x->lock);
    pyi_error e;
    describe(&copy, &e);
    tell_error(&copy, &e, NULL);
    if (waiting != NULL) {
        destroy(waiting);
    } else {
        pyi_generation_cancel(g, id, deadline);
        pyi_generation_unref(g);
    }
    return true;
}

/* ---- deadlines ------------------------------------------------------------------------------- */

static int64_t soonest(const pyi_call_list *l, int64_t best) {
    for (const pyi_call *c = l->first; c != NULL; c = c->next) {
        if (!c->ended && c->deadline != 0 && (best == 0 || c->deadline < best)) {
            best = c->deadline;
        }
    }
    return best;
}

static uint64_t find_passed(const pyi_call_list *l, int64_t now) {
    for (const pyi_call *c = l->first; c != NULL; c = c->next) {
        if (!c->ended && c->deadline != 0 && c->deadline <= now) {
            return c->id;
        }
    }
    return 0;
}

static void arm_posted(void *arg);

static void on_deadlines(void *arg) {
    pyi_extension *x = arg;
    x->deadlines = NULL;
    for (;;) {
        int64_t now = pyi_now_ns();
        pthread_mutex_lock(&x->lock);
        uint64_t id = find_passed(&x->waiting, now);
        id = id != 0 ? id : find_passed(&x->flying, now);
        if (id == 0) {
            x->armed = soonest(&x->flying, soonest(&x->waiting, 0));
        }
        pthread_mutex_unlock(&x->lock);
        if (id == 0) {
            break;
        }
        (void)end_early(x, id, deadline_error, true);
    }
    arm_posted(x);
}

/* Loop thread: the timer follows `armed`. */
static void arm_posted(void *arg) {
    pyi_extension *x = arg;
    pthread_mutex_lock(&x->lock);
    int64_t due = x->armed;
    pthread_mutex_unlock(&x->lock);
    pyi_loop_cancel(pyi_steal(&x->deadlines));
    if (due != 0) {
        int64_t ms = (due - pyi_now_ns() + PYI_NS_PER_MS - 1) / PYI_NS_PER_MS;
        x->deadlines = pyi_loop_after(pyi_manager_services_of(x->manager)->loop, ms > 0 ? ms : 0,
                                      on_deadlines, x);
    }
}

/* Under the lock: true when the loop must be told. */
static bool must_arm(pyi_extension *x, const pyi_call *c) {
    if (c->deadline == 0 || (x->armed != 0 && x->armed <= c->deadline)) {
        return false;
    }
    x->armed = c->deadline;
    return true;
}

/* ---- replies: nng threads -------------------------------------------------------------------- */

static void broken_reply(pyi_call *c, pyi_error *e) {
    pyi_error_wrap(e, "extension \"%s\" sent a broken reply", c->x->config->name);
    e->code = PYI_EPROTO;
    tell_error(c, e, NULL);
}

static void tell_remote_error(pyi_call *c, pyi_reader r) {
    pyi_error e;
    pyi_remote_error x;
    pyi_reader at = r;
    if (pyi_remote_error_read(&at, &x, &e) != PYI_OK) {
        broken_reply(c, &e);
        return;
    }
    pyi_remote_error_describe(&x, "call", &e);
    if (x.code == PYI_ECANCELLED || x.code == PYI_EDEADLINE) {
        e.code = x.code;
    }
    pyi_reply reply = {.code = e.code, .value = r, .error = &e};
    tell(c, &reply);
}

static bool is_result(const void *frame, size_t len) {
    return len >= 2 && ((const uint8_t *)frame)[1] == PYI_FRAME_REPLY;
}

static void tell_reply(pyi_call *c, const void *frame, size_t len) {
    pyi_error e;
    pyi_frame_type type;
    uint64_t id;
    uint32_t fields;
    pyi_reader r = pyi_reader_on(frame, len);
    if (pyi_validate(frame, len, &e) != PYI_OK ||
        pyi_read_head(&r, &type, &id, &fields, &e) != PYI_OK) {
        broken_reply(c, &e);
    } else if (id != c->id || fields != 3) {
        pyi_error_set(&e, PYI_EPROTO, "call", "it answers another call");
        broken_reply(c, &e);
    } else if (type == PYI_FRAME_REPLY) {
        pyi_reply reply = {.code = PYI_OK, .value = r};
        tell(c, &reply);
    } else if (type == PYI_FRAME_ERROR) {
        tell_remote_error(c, r);
    } else {
        pyi_error_set(&e, PYI_EPROTO, "call", "it is neither a result nor an error");
        broken_reply(c, &e);
    }
}

static void tell_death(pyi_call *c, pyi_err code) {
    if (code == PYI_EDIED) {
        tell_error(c, pyi_generation_error(c->generation), pyi_generation_detail(c->generation));
        return;
    }
    pyi_error e;
    pyi_error_set(&e, code, "call", "the call to extension \"%s\" could not be sent (%s)",
                  c->x->config->name, pyi_err_name(code));
    tell_error(c, &e, NULL);
}

/* The last of a sent call, out of its list. */
static void finish(pyi_call *c, bool ended, pyi_err code, const void *frame, size_t len) {
    if (!ended && code == PYI_OK) {
        tell_reply(c, frame, len);
    } else if (!ended) {
        tell_death(c, code);
    }
    pyi_generation_leave(c->generation);
    pyi_generation_unref(c->generation);
    destroy(c);
}

/* Under the lock: leaves the list of flying calls. Returns whether it had ended for its caller. */
static bool land(pyi_extension *x, pyi_call *c, bool failed) {
    bool ended = c->ended;
    c->ended = true;
    take_out(&x->flying, c);
    if (!ended) {
        count_end(x, failed);
    }
    return ended;
}

/*
 * nng tells that a connection is gone before the kernel tells that the process has died, and of
 * what. Such a call waits for the reason.
 */
static void on_bus_done(void *arg, pyi_err code, const void *frame, size_t len) {
    pyi_call *c = arg;
    pyi_extension *x = c->x;
    pthread_mutex_lock(&x->lock);
    if (code == PYI_EDIED && !pyi_generation_were_calls_told(c->generation)) {
        c->lost = true;
        pthread_mutex_unlock(&x->lock);
        return;
    }
    bool ended = land(x, c, code != PYI_OK || !is_result(frame, len));
    bool more = x->waiting.first != NULL;
    pthread_mutex_unlock(&x->lock);
    finish(c, ended, code, frame, len);
    if (more) {
        pyi_router_flush(x);
    }
}

static pyi_call *find_lost(const pyi_call_list *l, const pyi_generation *g) {
    pyi_call *c = l->first;
    while (c != NULL && !(c->lost && c->generation == g)) {
        c = c->next;
    }
    return c;
}

void pyi_router_fail_lost(pyi_extension *x, pyi_generation *g) {
    for (;;) {
        pthread_mutex_lock(&x->lock);
        pyi_generation_calls_told(g);
        pyi_call *c = find_lost(&x->flying, g);
        bool ended = c != NULL && land(x, c, true);
        pthread_mutex_unlock(&x->lock);
        if (c == NULL) {
            return;
        }
        finish(c, ended, PYI_EDIED, NULL, 0);
    }
}

/* ---- sending --------------------------------------------------------------------------------- */

static bool may_send(const pyi_extension *x) {
    return x->state == PYI_STATE_READY && x->current != NULL &&
           (x->config->max_concurrency == 0 || x->flying.count < x->config->max_concurrency);
}

/* Under the lock: the call is flying from now on. */
static void take_off(pyi_extension *x, pyi_call *c) {
    c->generation = pyi_generation_ref(x->current);
    pyi_generation_enter(c->generation);
    append(&x->flying, c);
}

/* Under the lock: the call may leave at once, so the waiting thread can take its answer itself. */
static bool take_off_now(pyi_extension *x, pyi_call *c) {
    bool now = x->waiting.first == NULL && may_send(x);
    if (now) {
        take_off(x, c);
    }
    return now;
}

static void fly(pyi_call *c) {
    pyi_bus_send(pyi_generation_bus(c->generation), pyi_steal(&c->frame), 0, on_bus_done, c, NULL);
}

void pyi_router_flush(pyi_extension *x) {
    for (;;) {
        pthread_mutex_lock(&x->lock);
        pyi_call *c = may_send(x) ? x->waiting.first : NULL;
        if (c != NULL) {
            take_out(&x->waiting, c);
            take_off(x, c);
        }
        pthread_mutex_unlock(&x->lock);
        if (c == NULL) {
            return;
        }
        fly(c);
    }
}

void pyi_router_fail_waiting(pyi_extension *x, const pyi_error *e, const char *detail) {
    for (;;) {
        pthread_mutex_lock(&x->lock);
        pyi_call *c = x->waiting.first;
        if (c != NULL) {
            take_out(&x->waiting, c);
            count_end(x, true);
        }
        pthread_mutex_unlock(&x->lock);
        if (c == NULL) {
            return;
        }
        tell_error(c, e, detail);
        destroy(c);
    }
}

/* ---- the interface --------------------------------------------------------------------------- */

static pyi_err check_name(const char *what, const char *name, pyi_error *e) {
    if (name != NULL && name[0] != '\0' && strlen(name) <= PYI_MAX_NAME) {
        return PYI_OK;
    }
    return pyi_error_set(e, PYI_EINVAL, "call", "%s \"%.40s\": expected 1 to %u bytes", what,
                         name != NULL ? name : "", PYI_MAX_NAME);
}

pyi_err pyi_call_begin(pyi_extension *x, const char *object, const char *method, int64_t timeout_ms,
                       pyi_call **ret, pyi_error *e) {
    if (check_name("method", method, e) != PYI_OK ||
        (object != NULL && check_name("object", object, e) != PYI_OK)) {
        return e->code;
    }
    pyi_call *c = calloc(1, sizeof(*c));
    pyi_frame *f = pyi_frame_new(pyi_max_payload_of(x->config));
    if (c == NULL || f == NULL) {
        free(c);
        pyi_frame_free(f);
        return pyi_error_set(e, PYI_ENOMEM, "call", "out of memory");
    }
    static _Atomic uint64_t next_id;
    c->x = x;
    c->frame = f;
    c->id = ++next_id;
    timeout_ms = timeout_ms < 0 ? x->config->call_timeout_ms : timeout_ms;
    c->timeout_ms = timeout_ms;
    c->deadline = timeout_ms > 0 ? pyi_now_ns() + timeout_ms * PYI_NS_PER_MS : 0;
    pyi_writer *w = pyi_frame_writer(f);
    pyi_put_array(w, 7);
    pyi_put_uint(w, PYI_FRAME_CALL);
    pyi_put_uint(w, c->id);
    pyi_put_cstr(w, object);
    pyi_put_cstr(w, method);
    pyi_put_int(w, c->deadline);
    *ret = c;
    return PYI_OK;
}

pyi_writer *pyi_call_writer(pyi_call *c) {
    return pyi_frame_writer(c->frame);
}

void pyi_call_abandon(pyi_call *c) {
    if (c != NULL) {
        destroy(c);
    }
}

/* Why an extension in this state takes no call; PYI_OK: it does, or will. */
static pyi_err refusal(const pyi_extension *x, pyi_error *e) {
    if (x->state == PYI_STATE_FAILED || (x->state == PYI_STATE_BACKOFF && x->crash_loop)) {
        *e = x->error;
        return e->code;
    }
    if (x->state == PYI_STATE_DRAINING || x->state == PYI_STATE_STOPPED) {
        return pyi_error_set(e, PYI_ESTOPPED, "call", "extension \"%s\" is %s", x->config->name,
                             x->state == PYI_STATE_STOPPED ? "stopped" : "being stopped");
    }
    return PYI_OK;
}

uint64_t pyi_call_send(pyi_call *c, pyi_call_done done, void *arg) {
    pyi_extension *x = c->x;
    uint64_t id = c->id;
    pyi_error e;
    PYI_AUTO_FREE char *detail = NULL;
    c->done = done;
    c->arg = arg;
    pyi_err err = pyi_writer_error(pyi_frame_writer(c->frame), &e);
    bool arm = false, flying = false;
    pthread_mutex_lock(&x->lock);
    if (err == PYI_OK && (err = refusal(x, &e)) != PYI_OK && x->detail != NULL) {
        detail = strdup(x->detail);
    }
    if (err != PYI_OK) {
        count_end(x, true);
    } else {
        flying = take_off_now(x, c);
        if (!flying) {
            append(&x->waiting, c);
        }
        arm = must_arm(x, c);
    }
    pthread_mutex_unlock(&x->lock);
    if (err != PYI_OK) {
        tell_error(c, &e, detail);
        destroy(c);
        return id;
    }
    if (flying) {
        fly(c);
    }
    if (arm) {
        pyi_loop_post(pyi_manager_services_of(x->manager)->loop, arm_posted, x);
    }
    return id;
}

void pyi_call_cancel(pyi_extension *x, uint64_t id) {
    (void)end_early(x, id, cancel_error, false);
}

/* ---- the blocking form ----------------------------------------------------------------------- */

typedef struct waiter {
    sem_t ended;
    pyi_result *result;
} waiter;

static void copy_reply(pyi_result *to, const pyi_reply *reply) {
    to->code = reply->code;
    if (reply->error != NULL) {
        to->error = *reply->error;
    }
    to->detail = reply->detail != NULL ? strdup(reply->detail) : NULL;
    size_t len = reply->value.p != NULL ? (size_t)(reply->value.end - reply->value.p) : 0;
    if (len > 0 && (to->bytes = malloc(len)) == NULL) {
        to->code = pyi_error_set(&to->error, PYI_ENOMEM, "call", "out of memory for the result");
    } else if (len > 0) {
        memcpy(to->bytes, reply->value.p, len);
        to->value = pyi_reader_on(to->bytes, len);
    }
}

static void on_waited(void *arg, const pyi_reply *reply) {
    waiter *w = arg;
    copy_reply(w->result, reply);
    sem_post(&w->ended);
}

/* Sends the call and takes its answer on this thread. The call may end early on another one
 * meanwhile. */
static void exchange(pyi_call *c) {
    pyi_extension *x = c->x;
    pyi_generation *g = pyi_generation_ref(c->generation);
    pyi_bus *bus = pyi_generation_bus(g);
    pyi_bus_token token = {0};
    const void *frame = NULL;
    size_t len = 0;
    pyi_err code = pyi_bus_reserve(bus, &token);
    if (code == PYI_OK) {
        pthread_mutex_lock(&x->lock);
        c->token = token;
        if (c->ended) {
            pyi_bus_abort(bus, token);
        }
        pthread_mutex_unlock(&x->lock);
        code = pyi_bus_exchange(bus, token, pyi_steal(&c->frame), &frame, &len);
    }
    on_bus_done(c, code, frame, len);
    if (token.slot != NULL) {
        pyi_bus_release(bus, token);
    }
    pyi_generation_unref(g);
}

/* True: the call has been sent and ended, or waits for the cause of a death. */
static bool try_exchange(pyi_call *c, waiter *w) {
    pyi_extension *x = c->x;
    pyi_error e;
    if (pyi_writer_error(pyi_frame_writer(c->frame), &e) != PYI_OK) {
        return false;
    }
    c->done = on_waited;
    c->arg = w;
    pthread_mutex_lock(&x->lock);
    bool now = take_off_now(x, c);
    bool arm = now && must_arm(x, c);
    pthread_mutex_unlock(&x->lock);
    if (arm) {
        pyi_loop_post(pyi_manager_services_of(x->manager)->loop, arm_posted, x);
    }
    if (now) {
        exchange(c);
    }
    return now;
}

pyi_result *pyi_call_wait(pyi_call *c) {
    waiter w = {.result = calloc(1, sizeof(pyi_result))};
    if (w.result == NULL) {
        abort();
    }
    sem_init(&w.ended, 0, 0);
    if (!try_exchange(c, &w)) {
        (void)pyi_call_send(c, on_waited, &w);
    }
    while (sem_wait(&w.ended) != 0) {
    }
    sem_destroy(&w.ended);
    return w.result;
}

void pyi_result_free(pyi_result *r) {
    if (r != NULL) {
        free(r->bytes);
        free(r->detail);
        free(r);
    }
}

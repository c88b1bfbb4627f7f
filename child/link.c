/*
 * The child's end of the bus.
 *
 * A pool of REP contexts keeps receives posted. A context that has received belongs to its request
 * until the reply is sent, then it receives again:
 *
 *     RECEIVING --frame--> HELD (queued, then served) --reply--> RECEIVING
 *
 * The pool grows when few are left, so any number of calls can be in flight. Frames go through one
 * queue under a mutex; the eventfd is written only when the queue's reader has seen it empty, so a
 * batch costs one wake-up. CANCEL and PING are answered by pyi_link_next itself: that the RPC
 * thread came by is what they ask.
 */
#include "link.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>

#define FIRST_RECEIVES    16u
#define FEW_RECEIVES      8u
#define HANDSHAKE_TIMEOUT 30000 /* ms: the host's answer to HELLO */

typedef struct slot {
    pyi_request rq; /* first: given out, and found again from */
    pyi_link *link;
    nng_ctx ctx;
    nng_aio *recv; /* its callback queues the frame */
    nng_aio *send; /* without one: the next receive does not wait for the end of the reply */
    bool cancelled;
    bool called; /* a CALL, so that it counts as in flight */
    int cancel_reason;
    nng_msg *in, *out;
    pyi_writer writer;
    struct slot *next;     /* in the queue */
    struct slot *all_next; /* in the list of all */
} slot;

struct pyi_link {
    nng_socket call, service;
    nng_ctx service_ctx;
    nng_aio *service_aio;
    int efd;
    unsigned fork_count;
    uint64_t max_payload;
    unsigned max_slots;
    void (*on_cancel)(void *arg, uint64_t id, int reason);
    void *arg;
    atomic_bool woken;
    pthread_mutex_t lock; /* all below */
    bool signaled;        /* the eventfd has been written since the reader saw the queue empty */
    bool closing, host_gone;
    unsigned idle, slots, making;
    pthread_cond_t made; /* making became 0 */
    slot *head, *tail;
    slot *all;
};

/* ---- fork ------------------------------------------------------------------------------------ */

/* nng panics when used after fork, so a forked process must know that its links are dead. */
static _Atomic unsigned fork_count;

static void on_forked(void) {
    atomic_fetch_add(&fork_count, 1);
}

static void watch_forks(void) {
    pthread_atfork(NULL, NULL, on_forked);
}

static bool is_dead(const pyi_link *l) {
    return l->fork_count != atomic_load_explicit(&fork_count, memory_order_relaxed);
}

static pyi_err dead(pyi_error *e) {
    return pyi_error_set(e, PYI_EUNAVAILABLE, "link",
                         "the link to the host does not work in a forked process; call from the "
                         "extension's own process");
}

static pyi_err nng_failed(pyi_error *e, int rv, const char *what) {
    return pyi_error_set(e, rv == NNG_ENOMEM ? PYI_ENOMEM : PYI_ESYS, "link", "%s: %s", what,
                         nng_strerror(rv));
}

/* ---- writers on messages --------------------------------------------------------------------- */

/* Doubling, and straight into the message that will be sent. */
static bool grow_message(pyi_writer *w, size_t need) {
    nng_msg *msg = w->ctx;
    size_t cap = w->cap < 256 ? 256 : w->cap;
    while (cap < need) {
        cap *= 2;
    }
    if (nng_msg_realloc(msg, cap) != 0) {
        return false;
    }
    w->data = nng_msg_body(msg);
    w->cap = cap;
    return true;
}

static pyi_writer writer_on(nng_msg *msg, size_t limit) {
    return (pyi_writer){.data = nng_msg_body(msg),
                        .cap = nng_msg_len(msg),
                        .limit = limit,
                        .grow = grow_message,
                        .ctx = msg};
}

/* ---- the queue ------------------------------------------------------------------------------- */

/* Under the lock: whether the reader must be woken. The write comes after the lock, which he needs.
 */
static bool must_signal(pyi_link *l) {
    bool must = !l->signaled;
    l->signaled = true;
    return must;
}

static bool enqueue(pyi_link *l, slot *s) {
    s->next = NULL;
    if (l->tail != NULL) {
        l->tail->next = s;
    } else {
        l->head = s;
    }
    l->tail = s;
    return must_signal(l);
}

static slot *dequeue(pyi_link *l) {
    slot *s = l->head;
    if (s != NULL) {
        l->head = s->next;
        if (l->head == NULL) {
            l->tail = NULL;
        }
    }
    return s;
}

/* Waits for the end of a send. What it did not take is still the aio's. */
static void drop_unsent(nng_aio *aio) {
    nng_aio_wait(aio);
    nng_msg_free(nng_aio_get_msg(aio));
    nng_aio_set_msg(aio, NULL);
}

/* ---- slots ----------------------------------------------------------------------------------- */

static void on_slot(void *arg);

static void receive(slot *s) {
    s->called = s->cancelled = false;
    nng_ctx_recv(s->ctx, s->recv);
}

static void slot_free(slot *s) {
    if (s->send != NULL) {
        nng_aio_free(s->send);
    }
    if (s->recv != NULL) {
        nng_aio_free(s->recv); /* waits for its callback */
    }
    nng_msg_free(s->in);
    nng_msg_free(s->out);
    free(s);
}

static slot *slot_new(pyi_link *l) {
    slot *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->link = l;
    if (nng_aio_alloc(&s->recv, on_slot, s) != 0 || nng_aio_alloc(&s->send, NULL, NULL) != 0 ||
        nng_ctx_open(&s->ctx, l->call) != 0) {
        slot_free(s);
        return NULL;
    }
    return s;
}

/*
 * Room for one more in the pool, taken before it is made. Close waits until nobody is making one:
 * nng 1.5 never ends the close of a socket that gets a new context meanwhile.
 */
static bool reserve(pyi_link *l) {
    pthread_mutex_lock(&l->lock);
    bool room = !l->closing && l->slots < l->max_slots;
    l->slots += room ? 1 : 0;
    l->making += room ? 1 : 0;
    pthread_mutex_unlock(&l->lock);
    return room;
}

/* Puts what was made into the pool; NULL where it could not be made. */
static void keep(pyi_link *l, slot *s) {
    pthread_mutex_lock(&l->lock);
    if (s != NULL) {
        s->all_next = l->all;
        l->all = s;
        l->idle++;
    } else {
        l->slots--;
    }
    if (--l->making == 0) {
        pthread_cond_broadcast(&l->made);
    }
    pthread_mutex_unlock(&l->lock);
}

/* Posts `n` more receives. What cannot be had is not missed while others are left. */
static unsigned add_receives(pyi_link *l, unsigned n) {
    unsigned added = 0;
    for (; added < n && reserve(l); added++) {
        slot *s = slot_new(l);
        keep(l, s);
        if (s == NULL) {
            break;
        }
        receive(s);
    }
    return added;
}

static int cancel_reason(slot *s) {
    pyi_reader r = s->rq.body;
    pyi_token t;
    return pyi_read_kind(&r, PYI_INT, &t) == PYI_OK ? (int)t.i : 0;
}

/* Before the CANCEL itself is queued: whoever sees it answered knows that all this has happened. */
static void tell_cancelled(pyi_link *l, uint64_t id, int reason) {
    pthread_mutex_lock(&l->lock);
    for (slot *s = l->head; s != NULL; s = s->next) {
        if (s->rq.type == PYI_FRAME_CALL && s->rq.id == id) {
            s->cancelled = true;
            s->cancel_reason = reason;
        }
    }
    pthread_mutex_unlock(&l->lock);
    if (l->on_cancel != NULL) {
        l->on_cancel(l->arg, id, reason);
    }
}

static bool parse(slot *s) {
    pyi_error e;
    s->rq.body = pyi_reader_on(nng_msg_body(s->in), nng_msg_len(s->in));
    return pyi_read_head(&s->rq.body, &s->rq.type, &s->rq.id, &s->rq.fields, &e) == PYI_OK;
}

static void on_received(slot *s) {
    pyi_link *l = s->link;
    s->in = nng_aio_get_msg(s->recv);
    if (!parse(s)) {
        nng_msg_free(pyi_steal(&s->in));
        receive(s);
        return;
    }
    if (s->rq.type == PYI_FRAME_CANCEL) {
        tell_cancelled(l, s->rq.id, cancel_reason(s));
    }
    pthread_mutex_lock(&l->lock);
    l->idle--;
    bool few = l->idle < FEW_RECEIVES && l->slots < l->max_slots;
    unsigned more = l->slots < PYI_POSTED_RECEIVES ? l->slots : PYI_POSTED_RECEIVES;
    bool wake = enqueue(l, s);
    pthread_mutex_unlock(&l->lock);
    if (wake) {
        eventfd_write(l->efd, 1);
    }
    if (few) {
        add_receives(l, more);
    }
}

static void on_slot(void *arg) {
    slot *s = arg;
    int rv = nng_aio_result(s->recv);
    if (rv == 0) {
        on_received(s);
    } else if (rv != NNG_ECLOSED && rv != NNG_ECANCELED) {
        receive(s);
    }
}

/* ---- the service socket: one request at a time, the RPC thread waits ----------------------------
 */

static int service_send(pyi_link *l, nng_msg *msg) {
    nng_aio_set_msg(l->service_aio, msg);
    nng_aio_set_timeout(l->service_aio, HANDSHAKE_TIMEOUT);
    nng_ctx_send(l->service_ctx, l->service_aio);
    nng_aio_wait(l->service_aio);
    int rv = nng_aio_result(l->service_aio);
    if (rv != 0) {
        drop_unsent(l->service_aio);
    }
    return rv;
}

static pyi_err read_refusal(pyi_reader *r, pyi_error *e) {
    pyi_token t, text = {0};
    if (pyi_read_kind(r, PYI_ARRAY, &t) != PYI_OK) {
        return pyi_error_set(e, PYI_EPROTO, "link.handshake", "the host's answer is malformed");
    }
    for (int field = 0; field < 4; field++) { /* code, type, module, message */
        if (pyi_read(r, &text) != PYI_OK) {
            return pyi_error_set(e, PYI_EPROTO, "link.handshake", "the host's answer is malformed");
        }
    }
    return pyi_error_set(e, PYI_EPERM, "link.handshake", "the host refused: %.*s",
                         text.kind == PYI_STR ? (int)text.len : 0, (const char *)text.data);
}

static bool is_host_gone(pyi_link *l) {
    pthread_mutex_lock(&l->lock);
    bool gone = l->host_gone;
    pthread_mutex_unlock(&l->lock);
    return gone;
}

static pyi_err service_answer(pyi_link *l, pyi_error *e) {
    if (is_host_gone(l)) {
        return pyi_error_set(e, PYI_EDIED, "link.handshake", "the host closed the connection");
    }
    nng_ctx_recv(l->service_ctx, l->service_aio);
    nng_aio_wait(l->service_aio);
    int rv = nng_aio_result(l->service_aio);
    if (rv != 0) {
        return nng_failed(e, rv, "no answer from the host");
    }
    nng_msg *msg = nng_aio_get_msg(l->service_aio);
    nng_aio_set_msg(l->service_aio, NULL);
    pyi_reader r = pyi_reader_on(nng_msg_body(msg), nng_msg_len(msg));
    pyi_frame_type type;
    uint64_t id;
    uint32_t count;
    pyi_err err = pyi_read_head(&r, &type, &id, &count, e);
    if (err == PYI_OK && type == PYI_FRAME_ERROR) {
        err = read_refusal(&r, e);
    }
    nng_msg_free(msg);
    return err;
}

static nng_msg *hello(const pyi_link_config *config) {
    nng_msg *msg;
    if (nng_msg_alloc(&msg, 256) != 0) {
        return NULL;
    }
    pyi_writer w = writer_on(msg, 4096);
    pyi_error e;
    pyi_put_array(&w, 4);
    pyi_put_uint(&w, PYI_FRAME_HELLO);
    pyi_put_uint(&w, PYI_PROTOCOL_VERSION);
    pyi_put_bin(&w, config->secret, PYI_SECRET_SIZE);
    pyi_put_map(&w, 2);
    pyi_put_cstr(&w, "pid");
    pyi_put_int(&w, getpid());
    pyi_put_cstr(&w, "mode");
    pyi_put_cstr(&w, config->mode);
    if (pyi_writer_error(&w, &e) != PYI_OK) {
        nng_msg_free(msg);
        return NULL;
    }
    nng_msg_chop(msg, nng_msg_len(msg) - w.len);
    return msg;
}

/* ---- open ------------------------------------------------------------------------------------ */

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    (void)pipe;
    (void)event;
    pyi_link *l = arg;
    pthread_mutex_lock(&l->lock);
    l->host_gone = true;
    bool wake = must_signal(l);
    pthread_mutex_unlock(&l->lock);
    if (wake) {
        eventfd_write(l->efd, 1);
    }
    nng_aio_cancel(l->service_aio); /* a handshake would wait for an answer that cannot come */
}

static int dial(pyi_link *l, nng_socket s, const char *url) {
    int rv;
    if ((rv = nng_socket_set_size(s, NNG_OPT_RECVMAXSZ, l->max_payload + PYI_FRAME_SLACK)) != 0 ||
        (rv = nng_socket_set_ms(s, NNG_OPT_RECONNMINT, 5)) != 0 ||
        (rv = nng_socket_set_ms(s, NNG_OPT_RECONNMAXT, 100)) != 0 ||
        (rv = nng_pipe_notify(s, NNG_PIPE_EV_REM_POST, on_pipe, l)) != 0) {
        return rv;
    }
    return nng_dial(s, url, NULL, NNG_FLAG_NONBLOCK);
}

static int open_sockets(pyi_link *l, const pyi_link_config *config) {
    int rv;
    if ((rv = nng_rep0_open(&l->call)) != 0 || (rv = nng_req0_open(&l->service)) != 0 ||
        (rv = nng_socket_set_ms(l->service, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE)) != 0 ||
        (rv = nng_ctx_open(&l->service_ctx, l->service)) != 0 ||
        (rv = nng_aio_alloc(&l->service_aio, NULL, NULL)) != 0 ||
        (rv = dial(l, l->service, config->service_url)) != 0 ||
        (rv = dial(l, l->call, config->call_url)) != 0) {
        return rv;
    }
    nng_msg *msg = hello(config);
    if (msg == NULL) {
        return NNG_ENOMEM;
    }
    nng_aio_set_msg(l->service_aio, msg);
    nng_aio_set_timeout(l->service_aio, HANDSHAKE_TIMEOUT);
    nng_ctx_send(l->service_ctx, l->service_aio);
    return 0;
}

pyi_err pyi_link_open(const pyi_link_config *config, pyi_link **ret, pyi_error *e) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pyi_link *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "link.open", "out of memory");
    }
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->made, NULL);
    l->fork_count = atomic_load(&fork_count);
    l->max_payload = config->max_payload;
    l->max_slots = config->max_concurrency + PYI_POSTED_RECEIVES;
    l->on_cancel = config->on_cancel;
    l->arg = config->arg;
    l->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->efd < 0) {
        int sys = errno;
        pyi_link_close(l);
        return pyi_error_sys(e, sys, "link.open", "make an eventfd");
    }
    int rv = open_sockets(l, config);
    if (rv == 0 && add_receives(l, FIRST_RECEIVES) == 0) {
        rv = NNG_ENOMEM;
    }
    if (rv != 0) {
        pyi_link_close(l);
        return nng_failed(e, rv, "open the sockets to the host");
    }
    *ret = l;
    return PYI_OK;
}

pyi_err pyi_link_handshake(pyi_link *l, pyi_error *e) {
    if (is_dead(l)) {
        return dead(e);
    }
    nng_aio_wait(l->service_aio); /* HELLO's send, begun by open */
    int rv = nng_aio_result(l->service_aio);
    if (rv != 0) {
        drop_unsent(l->service_aio);
        return nng_failed(e, rv, "the host cannot be reached");
    }
    return service_answer(l, e);
}

pyi_err pyi_link_announce(pyi_link *l, const void *frame, size_t len, pyi_error *e) {
    if (is_dead(l)) {
        return dead(e);
    }
    nng_msg *msg;
    int rv = nng_msg_alloc(&msg, 0);
    if (rv == 0 && (rv = nng_msg_append(msg, frame, len)) != 0) {
        nng_msg_free(msg);
    }
    if (rv == 0) {
        rv = service_send(l, msg);
    }
    return rv == 0 ? service_answer(l, e) : nng_failed(e, rv, "tell the host");
}

/* ---- requests -------------------------------------------------------------------------------- */

static void answer(pyi_link *l, slot *s) {
    pyi_writer *w = pyi_link_reply_begin(l, &s->rq);
    if (s->cancelled) {
        pyi_error e;
        pyi_error_set(&e, s->cancel_reason == 1 ? PYI_EDEADLINE : PYI_ECANCELLED, "call",
                      "the call was cancelled before it began");
        pyi_put_array(w, 3);
        pyi_put_uint(w, PYI_FRAME_ERROR);
        pyi_put_uint(w, s->rq.id);
        pyi_put_error(w, &e, pyi_err_python_type(e.code));
    } else {
        pyi_put_array(w, 3);
        pyi_put_uint(w, PYI_FRAME_REPLY);
        pyi_put_uint(w, s->rq.id);
        pyi_put_nil(w);
    }
    pyi_link_reply_send(l, &s->rq);
}

/* What the link answers itself: that the RPC thread came by is all that is asked. */
static bool is_for_link(const slot *s) {
    return s->cancelled || s->rq.type == PYI_FRAME_CANCEL || s->rq.type == PYI_FRAME_PING;
}

static void drain_eventfd(pyi_link *l) {
    eventfd_t ignored;
    (void)eventfd_read(l->efd, &ignored);
}

/*
 * One look at the queue: true when `*ret` or `*err` is the answer, false when it is empty. The
 * eventfd is drained before the look, never after: what is queued later writes it again.
 */
static bool look(pyi_link *l, slot **ret, pyi_err *err) {
    pthread_mutex_lock(&l->lock);
    slot *s = dequeue(l);
    *err = PYI_OK;
    if (s == NULL) {
        l->signaled = false;
        if (l->host_gone) {
            *err = PYI_EDIED;
        } else if (atomic_exchange(&l->woken, false)) {
            *err = PYI_ECANCELLED;
        }
    }
    pthread_mutex_unlock(&l->lock);
    *ret = s;
    return s != NULL || *err != PYI_OK;
}

/* Sleeps until there may be something. */
static pyi_err sleep_until_signaled(pyi_link *l, int timeout_ms, pyi_error *e) {
    int n = poll(&(struct pollfd){.fd = l->efd, .events = POLLIN}, 1, timeout_ms);
    if (n == 0) {
        return pyi_error_set(e, PYI_EDEADLINE, "link.next", "nothing came");
    }
    if (n < 0) { /* a signal: the caller may have a handler to run */
        return pyi_error_set(e, PYI_ECANCELLED, "link.next", "woken by a signal");
    }
    drain_eventfd(l);
    return PYI_OK;
}

pyi_err pyi_link_next(pyi_link *l, int timeout_ms, pyi_request **ret, pyi_error *e) {
    if (PYI_UNLIKELY(is_dead(l))) {
        return dead(e);
    }
    bool drained = false;
    for (;;) {
        slot *s;
        pyi_err err;
        if (look(l, &s, &err)) {
            if (err != PYI_OK) {
                return pyi_error_set(e, err, "link.next",
                                     err == PYI_EDIED ? "the host is gone" : "woken");
            }
            if (PYI_UNLIKELY(is_for_link(s))) {
                answer(l, s);
                continue;
            }
            *ret = &s->rq;
            return PYI_OK;
        }
        if (timeout_ms == 0 && drained) {
            return PYI_EDEADLINE; /* e untouched: this is the drain's ordinary end */
        }
        if (timeout_ms == 0) { /* whoever watches the eventfd must find it quiet */
            drain_eventfd(l);
            drained = true;
        } else if ((err = sleep_until_signaled(l, timeout_ms, e)) != PYI_OK) {
            return err;
        }
    }
}

int pyi_link_fd(const pyi_link *l) {
    return l->efd;
}

void pyi_link_wake(pyi_link *l) {
    atomic_store(&l->woken, true);
    int saved = errno;
    eventfd_write(l->efd, 1);
    errno = saved;
}

/* ---- replies --------------------------------------------------------------------------------- */

pyi_writer *pyi_link_reply_begin(pyi_link *l, pyi_request *rq) {
    slot *s = (slot *)rq;
    if (nng_msg_alloc(&s->out, 256) == 0) {
        s->writer = writer_on(s->out, l->max_payload + PYI_FRAME_SLACK);
    } else {
        s->writer = (pyi_writer){.err = PYI_ENOMEM};
    }
    return &s->writer;
}

void pyi_link_reply_reset(pyi_link *l, pyi_request *rq) {
    slot *s = (slot *)rq;
    nng_msg_free(pyi_steal(&s->out));
    (void)pyi_link_reply_begin(l, rq);
}

void pyi_link_reply_send(pyi_link *l, pyi_request *rq) {
    slot *s = (slot *)rq;
    if (is_dead(l)) {
        return;
    }
    nng_msg_free(pyi_steal(&s->in));
    nng_msg *out = pyi_steal(&s->out);
    if (s->writer.err != PYI_OK || out == NULL) {
        /* Without memory for a reply: an empty one, which the host takes as a broken reply. */
        if (out == NULL && nng_msg_alloc(&out, 0) != 0) {
            abort();
        }
        nng_msg_clear(out);
    } else {
        nng_msg_chop(out, nng_msg_len(out) - s->writer.len);
    }
    drop_unsent(s->send);
    nng_aio_set_msg(s->send, out);
    nng_ctx_send(s->ctx, s->send);
    pthread_mutex_lock(&l->lock);
    l->idle++;
    pthread_mutex_unlock(&l->lock);
    receive(s);
}

/* ---- close ----------------------------------------------------------------------------------- */

/* The answer to STOP must leave the process before its sockets go. A host that does not read kills
 * us. */
static void flush(pyi_link *l) {
    pthread_mutex_lock(&l->lock);
    l->closing = true;
    while (l->making > 0) {
        pthread_cond_wait(&l->made, &l->lock);
    }
    slot *all = l->all;
    pthread_mutex_unlock(&l->lock);
    for (slot *s = all; s != NULL; s = s->all_next) {
        drop_unsent(s->send);
    }
}

static slot *take_any(pyi_link *l) {
    pthread_mutex_lock(&l->lock);
    slot *s = l->all;
    if (s != NULL) {
        l->all = s->all_next;
    }
    pthread_mutex_unlock(&l->lock);
    return s;
}

static void free_slots(pyi_link *l) {
    for (slot *s; (s = take_any(l)) != NULL;) {
        slot_free(s);
    }
}

void pyi_link_close(pyi_link *l) {
    if (l == NULL) {
        return;
    }
    if (!is_dead(l)) {
        flush(l);
        nng_close(l->call);
        nng_close(l->service);
        free_slots(l);
        if (l->service_aio != NULL) {
            drop_unsent(l->service_aio);
            nng_aio_free(l->service_aio);
        }
    }
    if (l->efd >= 0) {
        close(l->efd);
    }
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->made);
    free(l);
}

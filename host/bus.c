/*
 * One generation's nng sockets.
 *
 * A send borrows a slot: a REQ context with two aios. The receive is posted right behind the send
 * (REQ allows it as soon as the send is accepted), so the answer costs one hand-off and not two. A
 * send that ends badly leaves its context in an unknown state, so the context is closed and a fresh
 * one opened at the next use. Re-sending is off: a call must never run twice.
 */
#include "bus.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdatomic.h>

#define SERVICE_CONTEXTS 8
#define EXPECT_WAIT_S    2

typedef struct slot {
    pyi_bus *bus;
    nng_ctx ctx;
    bool has_ctx, spoiled, busy, aborted;
    nng_aio *send;
    nng_aio *recv;   /* its callback tells how the send ended */
    nng_aio *wait;   /* the same without a callback, for exchange */
    nng_msg *answer; /* of exchange */
    uint64_t serial;
    pyi_bus_done done;
    void *arg;
    struct slot *free_next, *all_next;
} slot;

struct pyi_frame {
    nng_msg *msg;
    pyi_writer writer;
};

struct pyi_bus_request {
    pyi_bus *bus;
    nng_ctx ctx;
    nng_aio *aio;
    nng_msg *in;
    bool answering;
};

typedef struct lane {
    pyi_bus *bus;
    nng_socket socket;
    bool open;
    uint32_t pipe; /* of the child, 0: not connected */
} lane;

struct pyi_bus {
    atomic_uint refs; /* the owner's, and one for each socket that is being closed */
    lane call, service;
    uint64_t max_payload;
    void (*on_request)(void *arg, pyi_bus_request *rq, const void *frame, size_t len);
    void (*on_lost)(void *arg);
    void *arg;
    pyi_bus_request requests[SERVICE_CONTEXTS];
    pthread_mutex_t lock; /* all below, and the lanes' pipes */
    pthread_cond_t expected;
    int64_t peer; /* pid; 0: not known yet; -1: any */
    bool closed;
    uint64_t serial;
    slot *free, *all;
};

/* ---- frames ---------------------------------------------------------------------------------- */

static bool grow_message(pyi_writer *w, size_t need) {
    size_t cap = w->cap < 256 ? 256 : w->cap;
    while (cap < need) {
        cap *= 2;
    }
    if (nng_msg_realloc(w->ctx, cap) != 0) {
        return false;
    }
    w->data = nng_msg_body(w->ctx);
    w->cap = cap;
    return true;
}

pyi_frame *pyi_frame_new(uint64_t max_payload) {
    pyi_frame *f = malloc(sizeof(*f));
    if (f == NULL) {
        return NULL;
    }
    if (nng_msg_alloc(&f->msg, 256) != 0) {
        free(f);
        return NULL;
    }
    f->writer = (pyi_writer){.data = nng_msg_body(f->msg),
                             .cap = nng_msg_len(f->msg),
                             .limit = max_payload + PYI_FRAME_SLACK,
                             .grow = grow_message,
                             .ctx = f->msg};
    return f;
}

pyi_writer *pyi_frame_writer(pyi_frame *f) {
    return &f->writer;
}

void pyi_frame_free(pyi_frame *f) {
    if (f != NULL) {
        nng_msg_free(f->msg);
        free(f);
    }
}

/* The finished message; the frame is gone. */
static nng_msg *frame_message(pyi_frame *f) {
    nng_msg *msg = f->msg;
    nng_msg_chop(msg, nng_msg_len(msg) - f->writer.len);
    free(f);
    return msg;
}

/* ---- who may connect ------------------------------------------------------------------------- */

/* Under the lock. On a busy machine the child may be here before the loop has said who it is. */
static bool await_peer(pyi_bus *b) {
    int64_t until = pyi_now_ns() + EXPECT_WAIT_S * PYI_NS_PER_S;
    struct timespec ts = {.tv_sec = until / PYI_NS_PER_S, .tv_nsec = until % PYI_NS_PER_S};
    while (b->peer == 0 && !b->closed) {
        if (pthread_cond_timedwait(&b->expected, &b->lock, &ts) != 0) {
            break;
        }
    }
    return b->peer != 0 && !b->closed;
}

static bool is_expected(pyi_bus *b, nng_pipe pipe) {
    if (!await_peer(b)) {
        return false;
    }
    uint64_t pid = 0;
    return b->peer < 0 ||
           (nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_PID, &pid) == 0 && pid == (uint64_t)b->peer);
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    lane *a = arg;
    pyi_bus *b = a->bus;
    uint32_t id = (uint32_t)nng_pipe_id(pipe);
    bool lost = false, refused = false;
    pthread_mutex_lock(&b->lock);
    if (event == NNG_PIPE_EV_ADD_PRE) {
        refused = a->pipe != 0 || !is_expected(b, pipe);
        if (!refused) {
            a->pipe = id;
        }
    } else if (a->pipe == id) {
        a->pipe = 0;
        lost = !b->closed;
    }
    pthread_mutex_unlock(&b->lock);
    if (refused) {
        nng_pipe_close(pipe);
    }
    if (lost) {
        b->on_lost(b->arg);
    }
}

/* ---- sends ----------------------------------------------------------------------------------- */

static pyi_err code_of(int rv) {
    switch (rv) {
    case NNG_ETIMEDOUT:
        return PYI_EDEADLINE;
    case NNG_ECANCELED:
        return PYI_ECANCELLED;
    case NNG_ENOMEM:
        return PYI_ENOMEM;
    case NNG_EMSGSIZE:
        return PYI_ETOOBIG;
    default:
        return PYI_EDIED;
    }
}

static void release(slot *s) {
    pyi_bus *b = s->bus;
    pthread_mutex_lock(&b->lock);
    s->busy = false;
    s->free_next = b->free;
    b->free = s;
    pthread_mutex_unlock(&b->lock);
}

static void on_reply(void *arg) {
    slot *s = arg;
    int rv = nng_aio_result(s->recv);
    pyi_bus_done done = s->done;
    void *done_arg = s->arg;
    if (rv != 0) {
        s->spoiled = true;
        release(s);
        done(done_arg, code_of(rv), NULL, 0);
        return;
    }
    nng_msg *msg = nng_aio_get_msg(s->recv);
    release(s);
    done(done_arg, PYI_OK, nng_msg_body(msg), nng_msg_len(msg));
    nng_msg_free(msg);
}

static void slot_free(slot *s) {
    nng_aio *all[] = {s->send, s->recv, s->wait};
    for (size_t i = 0; i < PYI_COUNT(all); i++) {
        if (all[i] != NULL) {
            nng_aio_free(all[i]);
        }
    }
    free(s);
}

static slot *slot_new(pyi_bus *b) {
    slot *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->bus = b;
    if (nng_aio_alloc(&s->send, NULL, NULL) != 0) {
        slot_free(s);
        return NULL;
    }
    if (nng_aio_alloc(&s->recv, on_reply, s) != 0 || nng_aio_alloc(&s->wait, NULL, NULL) != 0) {
        slot_free(s);
        return NULL;
    }
    return s;
}

/* Nothing of the slot's last call may be left in its send: the answer can be here before nng has
 * finished the send that it answers (panic in nni_aio_begin), and what a failed send did not take
 * is still the aio's. */
static void drop_unsent(slot *s) {
    nng_aio_wait(s->send);
    nng_msg *msg = nng_aio_get_msg(s->send);
    if (msg != NULL) {
        nng_msg_free(msg);
        nng_aio_set_msg(s->send, NULL);
    }
}

/* Under the lock, so never beside the close of the socket: nng 1.5 panics when the two meet. */
static int freshen(pyi_bus *b, slot *s) {
    if (s->has_ctx && s->spoiled) {
        nng_ctx_close(s->ctx);
        s->has_ctx = false;
    }
    if (s->has_ctx) {
        return 0;
    }
    drop_unsent(s);
    int rv = nng_ctx_open(&s->ctx, b->call.socket);
    s->has_ctx = rv == 0;
    s->spoiled = false;
    return rv;
}

/* Under the lock. */
static slot *take_slot(pyi_bus *b) {
    slot *s = b->free;
    if (s != NULL) {
        b->free = s->free_next;
    } else if ((s = slot_new(b)) != NULL) {
        s->all_next = b->all;
        b->all = s;
    }
    return s;
}

/* A slot with a context and a serial of its own; NULL with *ret_code. */
static slot *borrow(pyi_bus *b, pyi_err *ret_code) {
    pthread_mutex_lock(&b->lock);
    slot *s = b->closed ? NULL : take_slot(b);
    *ret_code = b->closed ? PYI_EDIED : PYI_ENOMEM;
    int rv = s != NULL ? freshen(b, s) : 0;
    if (rv != 0) {
        *ret_code = code_of(rv);
        s->free_next = b->free;
        b->free = pyi_steal(&s);
    } else if (s != NULL) {
        s->busy = true;
        s->aborted = false;
        s->serial = ++b->serial;
    }
    pthread_mutex_unlock(&b->lock);
    return s;
}

void pyi_bus_send(pyi_bus *b, pyi_frame *f, int64_t timeout_ms, pyi_bus_done done, void *arg,
                  pyi_bus_token *ret_token) {
    pyi_err code;
    slot *s = borrow(b, &code);
    if (s == NULL) {
        pyi_frame_free(f);
        done(arg, code, NULL, 0);
        return;
    }
    if (ret_token != NULL) {
        *ret_token = (pyi_bus_token){s, s->serial};
    }
    s->done = done;
    s->arg = arg;
    nng_duration timeout = NNG_DURATION_INFINITE;
    if (timeout_ms > 0) {
        timeout = timeout_ms > INT32_MAX ? INT32_MAX : (nng_duration)timeout_ms;
    }
    nng_aio_wait(s->send); /* an answer can overtake the end of its own send */
    nng_aio_set_timeout(s->send, NNG_DURATION_INFINITE);
    nng_aio_set_timeout(s->recv, timeout);
    nng_aio_set_msg(s->send, frame_message(f));
    nng_ctx_send(s->ctx, s->send);
    nng_ctx_recv(s->ctx, s->recv);
}

void pyi_bus_abort(pyi_bus *b, pyi_bus_token token) {
    slot *s = token.slot;
    if (s == NULL) {
        return;
    }
    pthread_mutex_lock(&b->lock);
    if (!b->closed && s->busy && s->serial == token.serial) {
        s->aborted = true;
        nng_aio_cancel(s->recv);
        nng_aio_cancel(s->wait);
    }
    pthread_mutex_unlock(&b->lock);
}

/* ---- exchanges ------------------------------------------------------------------------------- */

pyi_err pyi_bus_reserve(pyi_bus *b, pyi_bus_token *ret_token) {
    pyi_err code;
    slot *s = borrow(b, &code);
    if (s == NULL) {
        return code;
    }
    *ret_token = (pyi_bus_token){s, s->serial};
    return PYI_OK;
}

pyi_err pyi_bus_exchange(pyi_bus *b, pyi_bus_token token, pyi_frame *f, const void **ret_frame,
                         size_t *ret_len) {
    slot *s = token.slot;
    nng_aio_wait(s->send);
    nng_aio_set_timeout(s->send, NNG_DURATION_INFINITE);
    nng_aio_set_timeout(s->wait, NNG_DURATION_INFINITE);
    nng_aio_set_msg(s->send, frame_message(f));
    nng_ctx_send(s->ctx, s->send);
    nng_ctx_recv(s->ctx, s->wait);
    pthread_mutex_lock(&b->lock);
    if (s->aborted) { /* before there was anything to cancel */
        nng_aio_cancel(s->wait);
    }
    pthread_mutex_unlock(&b->lock);
    nng_aio_wait(s->wait);
    int rv = nng_aio_result(s->wait);
    if (rv != 0) {
        s->spoiled = true;
        return code_of(rv);
    }
    s->answer = nng_aio_get_msg(s->wait);
    *ret_frame = nng_msg_body(s->answer);
    *ret_len = nng_msg_len(s->answer);
    return PYI_OK;
}

void pyi_bus_release(pyi_bus *b, pyi_bus_token token) {
    (void)b;
    slot *s = token.slot;
    nng_msg_free(pyi_steal(&s->answer));
    release(s);
}

/* ---- requests of the child ------------------------------------------------------------------- */

static void on_service(void *arg) {
    pyi_bus_request *rq = arg;
    int rv = nng_aio_result(rq->aio);
    if (rq->answering) {
        rq->answering = false;
        if (rv != 0) {
            nng_msg_free(nng_aio_get_msg(rq->aio));
        }
        rv = rv == NNG_ECLOSED ? rv : -1;
    }
    if (rv == 0) {
        rq->in = nng_aio_get_msg(rq->aio);
        rq->bus->on_request(rq->bus->arg, rq, nng_msg_body(rq->in), nng_msg_len(rq->in));
    } else if (rv != NNG_ECLOSED && rv != NNG_ECANCELED) {
        nng_ctx_recv(rq->ctx, rq->aio);
    }
}

void pyi_bus_answer(pyi_bus_request *rq, pyi_frame *f) {
    nng_msg_free(pyi_steal(&rq->in));
    rq->answering = true;
    nng_aio_set_msg(rq->aio, frame_message(f));
    nng_ctx_send(rq->ctx, rq->aio);
}

/* ---- open and close -------------------------------------------------------------------------- */

static int listen_on(lane *a, const char *url, uint64_t max_payload) {
    nng_listener listener;
    int rv;
    if ((rv = nng_socket_set_size(a->socket, NNG_OPT_RECVMAXSZ, max_payload + PYI_FRAME_SLACK)) !=
            0 ||
        (rv = nng_pipe_notify(a->socket, NNG_PIPE_EV_ADD_PRE, on_pipe, a)) != 0 ||
        (rv = nng_pipe_notify(a->socket, NNG_PIPE_EV_REM_POST, on_pipe, a)) != 0 ||
        (rv = nng_listener_create(&listener, a->socket, url)) != 0) {
        return rv;
    }
    /* Only the path transport has permissions; the folder is 0700 anyway. */
    (void)nng_listener_set_int(listener, NNG_OPT_IPC_PERMISSIONS, 0600);
    return nng_listener_start(listener, 0);
}

static int open_service(pyi_bus *b) {
    for (size_t i = 0; i < SERVICE_CONTEXTS; i++) {
        pyi_bus_request *rq = &b->requests[i];
        int rv;
        rq->bus = b;
        if ((rv = nng_ctx_open(&rq->ctx, b->service.socket)) != 0 ||
            (rv = nng_aio_alloc(&rq->aio, on_service, rq)) != 0) {
            return rv;
        }
        nng_ctx_recv(rq->ctx, rq->aio);
    }
    return 0;
}

static int open_sockets(pyi_bus *b, const pyi_bus_config *config) {
    int rv;
    if ((rv = nng_req0_open(&b->call.socket)) != 0) {
        return rv;
    }
    b->call.open = true;
    if ((rv = nng_rep0_open(&b->service.socket)) != 0) {
        return rv;
    }
    b->service.open = true;
    if ((rv = nng_socket_set_ms(b->call.socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE)) !=
            0 ||
        (rv = open_service(b)) != 0 ||
        (rv = listen_on(&b->call, config->call_url, config->max_payload)) != 0) {
        return rv;
    }
    return listen_on(&b->service, config->service_url, config->max_payload);
}

pyi_err pyi_bus_open(const pyi_bus_config *config, pyi_bus **ret, pyi_error *e) {
    pyi_bus *b = calloc(1, sizeof(*b));
    if (b == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "bus.open", "out of memory");
    }
    atomic_init(&b->refs, 1);
    pthread_mutex_init(&b->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&b->expected, &attr);
    pthread_condattr_destroy(&attr);
    b->call.bus = b->service.bus = b;
    b->max_payload = config->max_payload;
    b->on_request = config->on_request;
    b->on_lost = config->on_lost;
    b->arg = config->arg;
    int rv = open_sockets(b, config);
    if (rv != 0) {
        pyi_error_set(e, PYI_ESYS, "bus.open", "listen on \"%s\": %s", config->call_url,
                      nng_strerror(rv));
        pyi_bus_close(b);
        pyi_bus_free(b);
        return e->code;
    }
    *ret = b;
    return PYI_OK;
}

void pyi_bus_expect(pyi_bus *b, int64_t pid) {
    pthread_mutex_lock(&b->lock);
    b->peer = pid;
    pthread_cond_broadcast(&b->expected);
    pthread_mutex_unlock(&b->lock);
}

static void unref(pyi_bus *b) {
    if (atomic_fetch_sub(&b->refs, 1) != 1) {
        return;
    }
    while (b->all != NULL) {
        slot *s = b->all;
        b->all = s->all_next;
        drop_unsent(s);
        slot_free(s);
    }
    for (size_t i = 0; i < SERVICE_CONTEXTS; i++) {
        nng_msg_free(b->requests[i].in);
        if (b->requests[i].aio != NULL) {
            nng_aio_free(b->requests[i].aio);
        }
    }
    pthread_cond_destroy(&b->expected);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static void *close_lane(void *arg) {
    lane *a = arg;
    nng_close(a->socket);
    unref(a->bus);
    return NULL;
}

/*
 * nng 1.5 can wait for ever for a pipe whose peer dies in the middle of an answer (seen once in
 * some two thousand kills). What waits in the contexts has ended by then, so nobody but the thread
 * that closes is held up.
 */
static void close_beside(lane *a) {
    if (!a->open) {
        return;
    }
    pthread_t thread;
    atomic_fetch_add(&a->bus->refs, 1);
    if (pthread_create(&thread, NULL, close_lane, a) == 0) {
        pthread_detach(thread);
    } else {
        close_lane(a);
    }
}

void pyi_bus_close(pyi_bus *b) {
    pthread_mutex_lock(&b->lock);
    bool first = !b->closed;
    b->closed = true;
    pthread_cond_broadcast(&b->expected);
    pthread_mutex_unlock(&b->lock);
    if (!first) {
        return;
    }
    close_beside(&b->call);
    close_beside(&b->service);
    /* Callbacks still on their way: wait for each. No new slot is made once closed. */
    for (slot *s = b->all; s != NULL; s = s->all_next) {
        nng_aio_wait(s->recv);
        nng_aio_wait(s->wait);
    }
    for (size_t i = 0; i < SERVICE_CONTEXTS; i++) {
        if (b->requests[i].aio != NULL) {
            nng_aio_wait(b->requests[i].aio);
        }
    }
}

void pyi_bus_free(pyi_bus *b) {
    if (b != NULL) {
        unref(b);
    }
}

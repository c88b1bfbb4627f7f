/*
 * The child's end of the bus: the handshake, the queue's reader, open and close. CANCEL and PING
 * are answered by pyi_link_next itself: that the RPC thread came by is what they ask. The contexts
 * are in link_pool.c.
 */
#include "link_impl.h"

#include <errno.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>

#define FIRST_RECEIVES    16u
#define HANDSHAKE_TIMEOUT 30000 /* ms: the host's answer to HELLO */

/* ---- fork ------------------------------------------------------------------------------------ */

/* nng panics when used after fork, so a forked process must know that its links are dead. */
static _Atomic unsigned fork_count;

static void on_forked(void) {
    atomic_fetch_add(&fork_count, 1);
}

static void watch_forks(void) {
    pthread_atfork(NULL, NULL, on_forked);
}

bool pyi_link_is_dead(const pyi_link *l) {
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

/* ---- the service socket: one request at a time, the RPC thread waits ------------------------- */

/* Waits for the end of a send. What it did not take is still the aio's. */
static void drop_unsent(nng_aio *aio) {
    nng_aio_wait(aio);
    nng_msg_free(nng_aio_get_msg(aio));
    nng_aio_set_msg(aio, NULL);
}

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
    pyi_writer w = pyi_link_writer_on(msg, 4096);
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
    pthread_cond_broadcast(&l->quiet);
    bool wake = pyi_link_must_signal(l);
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
    pthread_cond_init(&l->quiet, NULL);
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
    if (rv == 0 && pyi_link_pool_grow(l, FIRST_RECEIVES) == 0) {
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
    if (pyi_link_is_dead(l)) {
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
    if (pyi_link_is_dead(l)) {
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

static void answer(pyi_link *l, pyi_link_slot *s) {
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
static bool is_for_link(const pyi_link_slot *s) {
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
static bool look(pyi_link *l, pyi_link_slot **ret, pyi_err *err) {
    pthread_mutex_lock(&l->lock);
    pyi_link_slot *s = pyi_link_dequeue(l);
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
    if (PYI_UNLIKELY(pyi_link_is_dead(l))) {
        return dead(e);
    }
    bool drained = false;
    for (;;) {
        pyi_link_slot *s;
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
void pyi_link_close(pyi_link *l) {
    if (l == NULL) {
        return;
    }
    if (!pyi_link_is_dead(l)) {
        pyi_link_pool_flush(l);
        nng_close(l->call);
        nng_close(l->service);
        pyi_link_pool_free(l);
        if (l->service_aio != NULL) {
            drop_unsent(l->service_aio);
            nng_aio_free(l->service_aio);
        }
    }
    if (l->efd >= 0) {
        close(l->efd);
    }
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->quiet);
    free(l);
}

/*
 * The link's REP contexts. A pool of them keeps receives posted; one that has received belongs to
 * its request until the reply is sent, then it receives again:
 *
 *     RECEIVING --frame--> HELD (queued, then served) --reply--> REPLYING --sent--> RECEIVING
 *
 * The pool grows when few are left, so any number of calls can be in flight. Callbacks come on nng
 * threads and only queue. The eventfd is written when the queue's reader has seen it empty, so a
 * batch costs one wake-up.
 */
#include "link_impl.h"

#include <sys/eventfd.h>

#define FEW_RECEIVES 8u

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

pyi_writer pyi_link_writer_on(nng_msg *msg, size_t limit) {
    return (pyi_writer){.data = nng_msg_body(msg),
                        .cap = nng_msg_len(msg),
                        .limit = limit,
                        .grow = grow_message,
                        .ctx = msg};
}
/* ---- the queue ------------------------------------------------------------------------------- */

/* Under the lock: whether the reader must be woken. The write comes after the lock, which he needs.
 */
bool pyi_link_must_signal(pyi_link *l) {
    bool must = !l->signaled;
    l->signaled = true;
    return must;
}

static bool enqueue(pyi_link *l, pyi_link_slot *s) {
    s->next = NULL;
    if (l->tail != NULL) {
        l->tail->next = s;
    } else {
        l->head = s;
    }
    l->tail = s;
    return pyi_link_must_signal(l);
}

pyi_link_slot *pyi_link_dequeue(pyi_link *l) {
    pyi_link_slot *s = l->head;
    if (s != NULL) {
        l->head = s->next;
        if (l->head == NULL) {
            l->tail = NULL;
        }
    }
    return s;
}

/* ---- slots ----------------------------------------------------------------------------------- */

static void on_slot(void *arg);

static void receive(pyi_link_slot *s) {
    s->cancelled = s->replying = false;
    nng_ctx_recv(s->ctx, s->aio);
}

static void slot_free(pyi_link_slot *s) {
    if (s->aio != NULL) {
        nng_aio_free(s->aio); /* waits for its callback */
    }
    nng_msg_free(s->in);
    nng_msg_free(s->out);
    free(s);
}

static pyi_link_slot *slot_new(pyi_link *l) {
    pyi_link_slot *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->link = l;
    if (nng_aio_alloc(&s->aio, on_slot, s) != 0 || nng_ctx_open(&s->ctx, l->call) != 0) {
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

static void keep(pyi_link *l, pyi_link_slot *s) {
    pthread_mutex_lock(&l->lock);
    s->all_next = l->all;
    l->all = s;
    l->idle++;
    pthread_mutex_unlock(&l->lock);
}

static void end_making(pyi_link *l, bool made) {
    pthread_mutex_lock(&l->lock);
    l->slots -= made ? 0 : 1;
    if (--l->making == 0) {
        pthread_cond_broadcast(&l->quiet);
    }
    pthread_mutex_unlock(&l->lock);
}

/* Posts `n` more receives. What cannot be had is not missed while others are left. */
unsigned pyi_link_pool_grow(pyi_link *l, unsigned n) {
    unsigned added = 0;
    bool made = true;
    while (added < n && made && reserve(l)) {
        pyi_link_slot *s = slot_new(l);
        made = s != NULL;
        if (made) {
            keep(l, s);
            receive(s);
            added++;
        }
        end_making(l, made); /* not before the receive: close may free the slot from here on */
    }
    return added;
}

static int cancel_reason(pyi_link_slot *s) {
    pyi_reader r = s->rq.body;
    pyi_token t;
    return pyi_read_kind(&r, PYI_INT, &t) == PYI_OK ? (int)t.i : 0;
}

/* Before the CANCEL itself is queued: whoever sees it answered knows that all this has happened. */
static void tell_cancelled(pyi_link *l, uint64_t id, int reason) {
    pthread_mutex_lock(&l->lock);
    for (pyi_link_slot *s = l->head; s != NULL; s = s->next) {
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

static bool parse(pyi_link_slot *s) {
    pyi_error e;
    s->rq.body = pyi_reader_on(nng_msg_body(s->in), nng_msg_len(s->in));
    return pyi_read_head(&s->rq.body, &s->rq.type, &s->rq.id, &s->rq.fields, &e) == PYI_OK;
}

static void on_received(pyi_link_slot *s) {
    pyi_link *l = s->link;
    s->in = nng_aio_get_msg(s->aio);
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
        pyi_link_pool_grow(l, more);
    }
}

/* The context receives again only now: while replies wait for the pipe, requests wait for contexts.
 */
static void on_replied(pyi_link_slot *s, int rv) {
    pyi_link *l = s->link;
    if (rv != 0) {
        nng_msg_free(nng_aio_get_msg(s->aio)); /* not taken */
    }
    pthread_mutex_lock(&l->lock);
    l->idle++;
    if (--l->sending == 0) {
        pthread_cond_broadcast(&l->quiet);
    }
    pthread_mutex_unlock(&l->lock);
    receive(s);
}

static void on_slot(void *arg) {
    pyi_link_slot *s = arg;
    int rv = nng_aio_result(s->aio);
    if (s->replying) {
        on_replied(s, rv);
    } else if (rv == 0) {
        on_received(s);
    } else if (rv != NNG_ECLOSED && rv != NNG_ECANCELED) {
        receive(s);
    }
}

/* ---- replies --------------------------------------------------------------------------------- */

pyi_writer *pyi_link_reply_begin(pyi_link *l, pyi_request *rq) {
    pyi_link_slot *s = (pyi_link_slot *)rq;
    if (nng_msg_alloc(&s->out, 256) == 0) {
        s->writer = pyi_link_writer_on(s->out, l->max_payload + PYI_FRAME_SLACK);
    } else {
        s->writer = (pyi_writer){.err = PYI_ENOMEM};
    }
    return &s->writer;
}

void pyi_link_reply_reset(pyi_link *l, pyi_request *rq) {
    pyi_link_slot *s = (pyi_link_slot *)rq;
    nng_msg_free(pyi_steal(&s->out));
    (void)pyi_link_reply_begin(l, rq);
}

void pyi_link_reply_send(pyi_link *l, pyi_request *rq) {
    pyi_link_slot *s = (pyi_link_slot *)rq;
    if (pyi_link_is_dead(l)) {
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
    pthread_mutex_lock(&l->lock);
    l->sending++;
    pthread_mutex_unlock(&l->lock);
    s->replying = true;
    nng_aio_set_msg(s->aio, out);
    nng_ctx_send(s->ctx, s->aio);
}
/* ---- close ----------------------------------------------------------------------------------- */

/* The answer to STOP must leave the process before its sockets go. A host that does not read kills
 * us. */
void pyi_link_pool_flush(pyi_link *l) {
    pthread_mutex_lock(&l->lock);
    l->closing = true;
    while (l->making > 0 || (l->sending > 0 && !l->host_gone)) {
        pthread_cond_wait(&l->quiet, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
}

static pyi_link_slot *take_any(pyi_link *l) {
    pthread_mutex_lock(&l->lock);
    pyi_link_slot *s = l->all;
    if (s != NULL) {
        l->all = s->all_next;
    }
    pthread_mutex_unlock(&l->lock);
    return s;
}

void pyi_link_pool_free(pyi_link *l) {
    for (pyi_link_slot *s; (s = take_any(l)) != NULL;) {
        slot_free(s);
    }
}

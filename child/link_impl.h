#pragma once
/*
 * Inside of the link, shared by link.c (handshake, queue's reader, life) and link_pool.c (the REP
 * contexts and their replies). Not for others: they use link.h. These two files are the only ones
 * of the child that know nng.
 */
#include "link.h"

#include <nng/nng.h>
#include <pthread.h>
#include <stdatomic.h>

typedef struct pyi_link_slot {
    pyi_request rq; /* first: given out, and found again from */
    pyi_link *link;
    nng_ctx ctx;
    nng_aio *aio; /* of the receive, then of the reply */
    bool replying;
    bool cancelled;
    int cancel_reason;
    nng_msg *in, *out;
    pyi_writer writer;
    struct pyi_link_slot *next;     /* in the queue */
    struct pyi_link_slot *all_next; /* in the list of all */
} pyi_link_slot;

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
    unsigned idle, slots, making, sending;
    pthread_cond_t quiet; /* making or sending became 0 */
    pyi_link_slot *head, *tail;
    pyi_link_slot *all;
};

/* link.c */
bool pyi_link_is_dead(const pyi_link *l); /* in a forked process */

/* link_pool.c */
/// A writer straight into a message.
pyi_writer pyi_link_writer_on(nng_msg *msg, size_t limit);
/// Under the lock: whether the reader must be woken, by writing the eventfd after the lock.
bool pyi_link_must_signal(pyi_link *l);
/// Under the lock: the next request, NULL: none.
pyi_link_slot *pyi_link_dequeue(pyi_link *l);
/// Posts `n` more receives; returns how many there could be.
unsigned pyi_link_pool_grow(pyi_link *l, unsigned n);
/// No new context from now on; waits until every reply has left.
void pyi_link_pool_flush(pyi_link *l);
/// After the socket is closed.
void pyi_link_pool_free(pyi_link *l);

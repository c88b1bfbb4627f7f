#pragma once
/*
 * Inside of a generation, shared by generation.c (its life, on the loop thread) and handshake.c
 * (what the child says, on nng threads). Not for others.
 */
#include "childlog.h"
#include "generation.h"
#include "inproc.h"
#include "spawn.h"

#include <pthread.h>
#include <stdatomic.h>

typedef enum phase { STARTING, READY, STOPPING, ENDED } phase;

struct pyi_generation {
    atomic_uint refs;
    pyi_generation_config config;
    phase phase;
    char *dir;
    uint8_t secret[PYI_SECRET_SIZE];
    pyi_bus *bus;
    pyi_spawned child;
    pyi_inproc *inproc;
    pyi_watch *exit_watch;
    pyi_childlog *log;
    pyi_timer *timer; /* start timeout, then the stop's next step */
    pyi_timer *lost_timer;
    pyi_timer *abandon_timer; /* in-process only */
    bool stop_sent, killed;
    pyi_generation_info info;
    atomic_bool calls_told;
    _Atomic int64_t ready_at;
    bool was_ready, was_stopped;
    pyi_error error;
    char *detail;
    atomic_uint inside;   /* calls */
    atomic_bool draining; /* the last one out tells the loop */
    pthread_mutex_t lock; /* between nng threads and the loop: the three below */
    bool said_hello, said_ready;
    char *failure_detail;
};

/* generation.c, loop thread */
/// The first reason wins.
void pyi_generation_settle(pyi_generation *g, const pyi_error *why);
/// READY has been read: its info is in place.
void pyi_generation_became_ready(pyi_generation *g);
/// The child told why it cannot load: it should end by itself soon.
void pyi_generation_expect_end(pyi_generation *g);

/* handshake.c, nng threads */
void pyi_handshake_on_request(void *arg, pyi_bus_request *rq, const void *frame, size_t len);

#pragma once
/*
 * Inside the control socket: one request on its way to its answer. control.c reads lines and writes
 * answers; control_ops.c carries the operations out. Control thread only, but for what says
 * otherwise.
 */
#include "control.h"
#include "wire_map.h"

typedef struct pyi_control_client pyi_control_client;
typedef struct pyi_control_job pyi_control_job;

struct pyi_control_job {
    pyi_control *control;
    pyi_control_client *client;   /* NULL once it has gone: the answer is dropped */
    pyi_control_job *next, *prev; /* in the client's list */
    uint8_t *bytes;               // owned: what `request` and `id` read
    pyi_reader request;           /* a map, validated */
    pyi_reader id;                /* any value, or empty: there was none */
    pyi_writer value;             /* the answer: a value, or an error map */
    bool failed;
    pyi_extension *extension; /* of a call or restart */
    uint64_t call_id;         /* of a call that is under way, else 0 */
    int64_t grace_ms;
};

/// Starts the operation that a request asks for; it ends with pyi_control_answer, now or later.
void pyi_control_operate(pyi_control_job *job);

/// Sends the answer and frees the job.
void pyi_control_answer(pyi_control_job *job);
/// The same with an error. `detail` may be NULL.
void pyi_control_refuse(pyi_control_job *job, const pyi_error *e, const char *detail);

struct pyi_loop *pyi_control_loop(const pyi_control *c);
pyi_manager *pyi_control_manager(const pyi_control *c);
const char *pyi_control_config(const pyi_control *c);
int64_t pyi_control_started_ns(const pyi_control *c);
void pyi_control_ask_stop(pyi_control *c, bool now, int64_t grace_ms);
/// The job of this client that has this id, or NULL.
pyi_control_job *pyi_control_find_job(pyi_control_client *client, pyi_reader id);
/// Runs fn(job) on the control thread. Any thread. The job is alive until it is answered.
void pyi_control_post(pyi_control_job *job, void (*fn)(void *job));

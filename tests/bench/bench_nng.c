/*
 * The floor: bare nng req/rep between two C programs, contexts and aio on both sides, no decoding.
 *
 *   bench_nng SECONDS CELL...     starts itself as the server, prints one JSON line per cell
 *
 * A cell is int_N (one byte, N in flight) or bytes_64k, bytes_1m, list_1k, list_100k, dict: one
 * message of the size that the value has in msgpack. As our bus does, the server keeps many
 * receives posted, and the client's REQ never sends twice.
 */
#include "bench.h"
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define SERVER_CONTEXTS 128

static void must(int rv, const char *what) {
    if (rv != 0) {
        fprintf(stderr, "bench_nng: %s: %s\n", what, nng_strerror(rv));
        exit(1);
    }
}

/* ---- server ---------------------------------------------------------------------------------- */

typedef struct responder {
    nng_ctx ctx;
    nng_aio *aio;
    bool sending;
} responder;

static void on_served(void *arg) {
    responder *r = arg;
    if (nng_aio_result(r->aio) != 0) {
        return; // the socket was closed
    }
    if (r->sending) {
        r->sending = false;
        nng_ctx_recv(r->ctx, r->aio);
        return;
    }
    r->sending = true; // the message goes back as it came
    nng_ctx_send(r->ctx, r->aio);
}

static _Noreturn void serve(const char *url) {
    static responder responders[SERVER_CONTEXTS];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    nng_socket rep;
    must(nng_rep0_open(&rep), "rep");
    must(nng_listen(rep, url, NULL, 0), "listen");
    for (size_t i = 0; i < SERVER_CONTEXTS; i++) {
        responder *r = &responders[i];
        must(nng_ctx_open(&r->ctx, rep), "context");
        must(nng_aio_alloc(&r->aio, on_served, r), "aio");
        nng_ctx_recv(r->ctx, r->aio);
    }
    for (;;) {
        pause();
    }
}

/* ---- client ---------------------------------------------------------------------------------- */

typedef struct run {
    pthread_mutex_t lock;
    pthread_cond_t idle;
    recorder recorder;
    size_t payload;
    int64_t until_ns;
    unsigned active;
} run;

typedef struct requester {
    nng_ctx ctx;
    nng_aio *aio;
    run *run;
    int64_t sent_ns;
    bool receiving;
} requester;

static void send_next(requester *q) {
    nng_msg *msg;
    must(nng_msg_alloc(&msg, q->run->payload), "message");
    memset(nng_msg_body(msg), 1, q->run->payload);
    q->receiving = false;
    q->sent_ns = bench_now();
    nng_aio_set_msg(q->aio, msg);
    nng_ctx_send(q->ctx, q->aio);
}

static void on_answer(requester *q) {
    run *r = q->run;
    int64_t now = bench_now();
    nng_msg_free(nng_aio_get_msg(q->aio));
    pthread_mutex_lock(&r->lock);
    recorder_add(&r->recorder, now - q->sent_ns);
    bool more = now < r->until_ns;
    if (!more && --r->active == 0) {
        r->recorder.ended_ns = now;
        pthread_cond_signal(&r->idle);
    }
    pthread_mutex_unlock(&r->lock);
    if (more) {
        send_next(q);
    }
}

static void on_client(void *arg) {
    requester *q = arg;
    must(nng_aio_result(q->aio), "call");
    if (q->receiving) {
        on_answer(q);
        return;
    }
    q->receiving = true;
    nng_ctx_recv(q->ctx, q->aio);
}

/// Also what a blocking caller sees: in one-at-a-time cells the calling thread waits for each
/// answer.
static void one_at_a_time(nng_socket req, run *r) {
    nng_ctx ctx;
    nng_aio *aio;
    must(nng_ctx_open(&ctx, req), "context");
    must(nng_aio_alloc(&aio, NULL, NULL), "aio");
    while (bench_now() < r->until_ns) {
        nng_msg *msg;
        int64_t sent = bench_now();
        must(nng_msg_alloc(&msg, r->payload), "message");
        memset(nng_msg_body(msg), 1, r->payload);
        nng_aio_set_msg(aio, msg);
        nng_ctx_send(ctx, aio);
        nng_aio_wait(aio);
        must(nng_aio_result(aio), "send");
        nng_ctx_recv(ctx, aio);
        nng_aio_wait(aio);
        must(nng_aio_result(aio), "receive");
        nng_msg_free(nng_aio_get_msg(aio));
        recorder_add(&r->recorder, bench_now() - sent);
    }
    r->recorder.ended_ns = bench_now();
    nng_aio_free(aio);
    nng_ctx_close(ctx);
}

static void many_in_flight(nng_socket req, run *r, unsigned count) {
    requester *all = calloc(count, sizeof *all);
    if (all == NULL) {
        abort();
    }
    r->active = count;
    for (unsigned i = 0; i < count; i++) {
        all[i].run = r;
        must(nng_ctx_open(&all[i].ctx, req), "context");
        must(nng_aio_alloc(&all[i].aio, on_client, &all[i]), "aio");
    }
    for (unsigned i = 0; i < count; i++) {
        send_next(&all[i]);
    }
    pthread_mutex_lock(&r->lock);
    while (r->active > 0) {
        pthread_cond_wait(&r->idle, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    for (unsigned i = 0; i < count; i++) {
        nng_aio_free(all[i].aio);
        nng_ctx_close(all[i].ctx);
    }
    free(all);
}

static size_t payload_of(const char *cell) {
    static const struct {
        const char *cell;
        size_t size;
    } sizes[] = {{"bytes_64k", 65536 + 16},
                 {"bytes_1m", (1 << 20) + 16},
                 {"list_1k", 2616},
                 {"list_100k", 402000},
                 {"dict", 1000}};
    for (size_t i = 0; i < PYI_COUNT(sizes); i++) {
        if (strcmp(sizes[i].cell, cell) == 0) {
            return sizes[i].size;
        }
    }
    return 16;
}

static void run_cell(nng_socket req, const char *cell, double seconds) {
    unsigned count = cell_in_flight(cell);
    run warm_up = {.lock = PTHREAD_MUTEX_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER};
    run measured = warm_up;
    run *runs[] = {&warm_up, &measured};
    for (size_t i = 0; i < PYI_COUNT(runs); i++) {
        runs[i]->payload = payload_of(cell);
        runs[i]->recorder.began_ns = bench_now();
        runs[i]->until_ns = runs[i]->recorder.began_ns +
                            (int64_t)((i == 0 ? 0.2 : 1.0) * seconds * (double)PYI_NS_PER_S);
        if (count == 1) {
            one_at_a_time(req, runs[i]);
        } else {
            many_in_flight(req, runs[i], count);
        }
    }
    free(warm_up.recorder.us);
    recorder_print(&measured.recorder, cell);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "serve") == 0) {
        serve(argv[2]);
    }
    if (argc < 3) {
        fprintf(stderr, "usage: bench_nng SECONDS CELL...\n");
        return 2;
    }
    char url[64];
    snprintf(url, sizeof url, "ipc:///tmp/pyi-bench-%d", (int)getpid());
    pid_t server = fork(); // before the first nng call: nng does not survive a fork
    if (server == 0) {
        setsid(); // as our children have: the kernel schedules by session, and that costs a call
                  // some microseconds
        execl("/proc/self/exe", "bench_nng", "serve", url, (char *)NULL);
        _exit(127);
    }
    nng_socket req;
    must(nng_req0_open(&req), "req");
    must(nng_socket_set_ms(req, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE), "no sending twice");
    must(nng_socket_set_ms(req, NNG_OPT_RECONNMINT, 10), "reconnect time");
    must(nng_dial(req, url, NULL, NNG_FLAG_NONBLOCK), "dial");
    double seconds = strtod(argv[1], NULL);
    for (int i = 2; i < argc; i++) {
        run_cell(req, argv[i], seconds);
    }
    nng_close(req);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    unlink(url + strlen("ipc://"));
    return 0;
}

/*
 * The bus and the link, end to end over real sockets in one process: the link's side runs on a
 * thread of its own and serves what a child would.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bus.h"
#include "link.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CALLS 2000

/* What a method named so does at the link's side. */
enum { ECHO = 1, HOLD = 2, NEVER = 3 };

typedef struct world {
    char dir[64], call_url[96], service_url[96];
    pyi_bus *bus;
    pyi_link *link;
    pthread_t server;
    uint8_t secret[PYI_SECRET_SIZE];
    atomic_int hellos, lost, cancels, served;
} world;

static void answer_ok(pyi_bus_request *rq) {
    pyi_frame *f = pyi_frame_new(1000);
    pyi_writer *w = pyi_frame_writer(f);
    pyi_put_array(w, 3);
    pyi_put_uint(w, PYI_FRAME_REPLY);
    pyi_put_uint(w, 0);
    pyi_put_nil(w);
    pyi_bus_answer(rq, f);
}

static void on_request(void *arg, pyi_bus_request *rq, const void *frame, size_t len) {
    world *s = arg;
    pyi_error e;
    assert_int_equal(pyi_validate(frame, len, &e), PYI_OK);
    atomic_fetch_add(&s->hellos, 1);
    answer_ok(rq);
}

static void on_lost(void *arg) {
    atomic_fetch_add(&((world *)arg)->lost, 1);
}

static void on_cancel(void *arg, uint64_t id, int reason) {
    (void)id;
    (void)reason;
    atomic_fetch_add(&((world *)arg)->cancels, 1);
}

static void open_bus(world *s) {
    memset(s, 0, sizeof(*s));
    strcpy(s->dir, "/tmp/pyi-test-bus-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->call_url, sizeof(s->call_url), "ipc://%s/c", s->dir);
    snprintf(s->service_url, sizeof(s->service_url), "ipc://%s/s", s->dir);
    pyi_bus_config c = {.call_url = s->call_url,
                        .service_url = s->service_url,
                        .max_payload = 1 << 20,
                        .on_request = on_request,
                        .on_lost = on_lost,
                        .arg = s};
    pyi_error e;
    assert_int_equal(pyi_bus_open(&c, &s->bus, &e), PYI_OK);
}

static void open_link(world *s) {
    pyi_link_config c = {.call_url = s->call_url,
                         .service_url = s->service_url,
                         .secret = s->secret,
                         .mode = "embed",
                         .max_payload = 1 << 20,
                         .max_concurrency = 4096,
                         .on_cancel = on_cancel,
                         .arg = s};
    pyi_error e;
    assert_int_equal(pyi_link_open(&c, &s->link, &e), PYI_OK);
}

static void reply_with(world *s, pyi_request *rq, int64_t value) {
    pyi_writer *w = pyi_link_reply_begin(s->link, rq);
    pyi_put_array(w, 3);
    pyi_put_uint(w, PYI_FRAME_REPLY);
    pyi_put_uint(w, rq->id);
    pyi_put_int(w, value);
    pyi_link_reply_send(s->link, rq);
    atomic_fetch_add(&s->served, 1);
}

/* ECHO answers at once; HOLD waits for the next ECHO; NEVER is kept until STOP. */
static void *serve(void *arg) {
    world *s = arg;
    pyi_request *held = NULL, *kept[8];
    size_t n_kept = 0;
    pyi_error e;
    if (pyi_link_handshake(s->link, &e) != PYI_OK) {
        return NULL; /* the host went first; what the test expects then, it asks itself */
    }
    for (;;) {
        pyi_request *rq;
        pyi_token what;
        if (pyi_link_next(s->link, -1, &rq, &e) != PYI_OK) {
            break;
        }
        if (rq->type == PYI_FRAME_STOP) {
            for (size_t i = 0; i < n_kept; i++) {
                reply_with(s, kept[i], -1);
            }
            reply_with(s, rq, 0);
            break;
        }
        assert_int_equal(pyi_read_kind(&rq->body, PYI_INT, &what), PYI_OK);
        if (what.i == HOLD && held == NULL) {
            held = rq;
        } else if (what.i == NEVER) {
            assert_true(n_kept < PYI_COUNT(kept));
            kept[n_kept++] = rq;
        } else {
            reply_with(s, rq, (int64_t)rq->id);
            if (held != NULL) {
                reply_with(s, held, (int64_t)held->id);
                held = NULL;
            }
        }
    }
    return NULL;
}

static void open_world(world *s) {
    open_bus(s);
    pyi_bus_expect(s->bus, getpid());
    open_link(s);
    assert_int_equal(pthread_create(&s->server, NULL, serve, s), 0);
}

static pyi_frame *frame_of(pyi_frame_type type, uint64_t id, int64_t what) {
    pyi_frame *f = pyi_frame_new(1 << 20);
    pyi_writer *w = pyi_frame_writer(f);
    pyi_put_array(w, 3);
    pyi_put_uint(w, type);
    pyi_put_uint(w, id);
    pyi_put_int(w, what);
    return f;
}

typedef struct outcome {
    sem_t done;
    pyi_err code;
    int64_t value;
} outcome;

static void on_done(void *arg, pyi_err code, const void *frame, size_t len) {
    outcome *o = arg;
    o->code = code;
    if (code == PYI_OK) {
        pyi_reader r = pyi_reader_on(frame, len);
        pyi_frame_type type;
        uint64_t id;
        uint32_t fields;
        pyi_token t;
        pyi_error e;
        assert_int_equal(pyi_read_head(&r, &type, &id, &fields, &e), PYI_OK);
        o->value = pyi_read_kind(&r, PYI_INT, &t) == PYI_OK ? t.i : INT64_MIN;
    }
    sem_post(&o->done);
}

static pyi_err ask(world *s, pyi_frame *f, int64_t timeout_ms, int64_t *ret_value) {
    outcome o = {0};
    sem_init(&o.done, 0, 0);
    pyi_bus_send(s->bus, f, timeout_ms, on_done, &o, NULL);
    sem_wait(&o.done);
    sem_destroy(&o.done);
    if (ret_value != NULL) {
        *ret_value = o.value;
    }
    return o.code;
}

static void close_world(world *s) {
    assert_int_equal(ask(s, frame_of(PYI_FRAME_STOP, 0, 0), 5000, NULL), PYI_OK);
    pthread_join(s->server, NULL);
    pyi_link_close(s->link);
    pyi_bus_close(s->bus);
    pyi_bus_free(s->bus);
    unlink(s->call_url + strlen("ipc://"));
    unlink(s->service_url + strlen("ipc://"));
    assert_int_equal(rmdir(s->dir), 0);
}

static void a_call_is_answered(void **state) {
    (void)state;
    world s;
    open_world(&s);
    int64_t value;
    assert_int_equal(ask(&s, frame_of(PYI_FRAME_CALL, 77, ECHO), 5000, &value), PYI_OK);
    assert_int_equal(value, 77);
    assert_int_equal(s.hellos, 1);
    close_world(&s);
}

static void answers_may_come_out_of_order(void **state) {
    (void)state;
    world s;
    open_world(&s);
    outcome held = {0};
    sem_init(&held.done, 0, 0);
    pyi_bus_send(s.bus, frame_of(PYI_FRAME_CALL, 1, HOLD), 0, on_done, &held, NULL);
    int64_t value;
    while (sem_trywait(&held.done) != 0) { /* until an ECHO overtook it */
        assert_int_equal(ask(&s, frame_of(PYI_FRAME_CALL, 2, ECHO), 5000, &value), PYI_OK);
        assert_int_equal(value, 2);
    }
    assert_int_equal(held.value, 1);
    sem_destroy(&held.done);
    close_world(&s);
}

static void thousands_of_calls_in_flight_each_get_their_own_answer(void **state) {
    (void)state;
    world s;
    open_world(&s);
    outcome *all = calloc(CALLS, sizeof(*all));
    assert_non_null(all);
    for (int i = 0; i < CALLS; i++) {
        sem_init(&all[i].done, 0, 0);
        pyi_bus_send(s.bus, frame_of(PYI_FRAME_CALL, (uint64_t)i + 1000, ECHO), 0, on_done, &all[i],
                     NULL);
    }
    for (int i = 0; i < CALLS; i++) {
        sem_wait(&all[i].done);
        assert_int_equal(all[i].code, PYI_OK);
        assert_int_equal(all[i].value, i + 1000);
        sem_destroy(&all[i].done);
    }
    free(all);
    close_world(&s);
}

static void a_send_without_an_answer_ends_at_its_timeout(void **state) {
    (void)state;
    world s;
    open_world(&s);
    assert_int_equal(ask(&s, frame_of(PYI_FRAME_CALL, 5, NEVER), 30, NULL), PYI_EDEADLINE);
    int64_t value;
    assert_int_equal(ask(&s, frame_of(PYI_FRAME_CALL, 6, ECHO), 5000, &value), PYI_OK);
    assert_int_equal(value, 6); /* and not the late answer to 5 */
    close_world(&s);
}

static void an_aborted_send_ends_as_cancelled(void **state) {
    (void)state;
    world s;
    open_world(&s);
    outcome o = {0};
    sem_init(&o.done, 0, 0);
    pyi_bus_token token;
    pyi_bus_send(s.bus, frame_of(PYI_FRAME_CALL, 5, NEVER), 0, on_done, &o, &token);
    pyi_bus_abort(s.bus, token);
    sem_wait(&o.done);
    assert_int_equal(o.code, PYI_ECANCELLED);
    pyi_bus_abort(s.bus, token); /* stale: harmless */
    sem_destroy(&o.done);
    close_world(&s);
}

static void cancel_and_ping_are_answered_by_the_link(void **state) {
    (void)state;
    world s;
    open_world(&s);
    assert_int_equal(ask(&s, frame_of(PYI_FRAME_PING, 1, 0), 5000, NULL), PYI_OK);
    assert_int_equal(ask(&s, frame_of(PYI_FRAME_CANCEL, 9, 0), 5000, NULL), PYI_OK);
    assert_int_equal(s.cancels, 1);
    assert_int_equal(s.served, 0);
    close_world(&s);
}

static void closing_ends_what_is_in_flight(void **state) {
    (void)state;
    world s;
    open_world(&s);
    assert_int_equal(ask(&s, frame_of(PYI_FRAME_PING, 1, 0), 5000, NULL), PYI_OK); /* both are up */
    outcome o[4];
    for (size_t i = 0; i < PYI_COUNT(o); i++) {
        sem_init(&o[i].done, 0, 0);
        pyi_bus_send(s.bus, frame_of(PYI_FRAME_CALL, 50 + i, NEVER), 0, on_done, &o[i], NULL);
    }
    pyi_bus_close(s.bus);
    for (size_t i = 0; i < PYI_COUNT(o); i++) {
        sem_wait(&o[i].done);
        assert_int_equal(o[i].code, PYI_EDIED);
        sem_destroy(&o[i].done);
    }
    assert_int_equal(ask(&s, frame_of(PYI_FRAME_CALL, 1, ECHO), 0, NULL), PYI_EDIED);
    pthread_join(s.server, NULL); /* the link saw the host go */
    pyi_link_close(s.link);
    pyi_bus_free(s.bus);
    rmdir(s.dir);
}

static void a_stranger_is_not_let_in(void **state) {
    (void)state;
    world s;
    open_bus(&s);
    pyi_bus_expect(s.bus, getppid()); /* anybody but us */
    open_link(&s);
    assert_int_equal(ask(&s, frame_of(PYI_FRAME_PING, 1, 0), 200, NULL), PYI_EDEADLINE);
    assert_int_equal(s.hellos, 0);
    pyi_link_close(s.link);
    pyi_bus_close(s.bus);
    pyi_bus_free(s.bus);
    rmdir(s.dir);
}

static void the_loss_of_the_connection_is_told(void **state) {
    (void)state;
    world s;
    open_world(&s);
    assert_int_equal(ask(&s, frame_of(PYI_FRAME_STOP, 0, 0), 5000, NULL), PYI_OK);
    pthread_join(s.server, NULL);
    assert_int_equal(s.lost, 0);
    pyi_link_close(s.link);
    for (int i = 0; i < 500 && s.lost == 0; i++) {
        usleep(2000);
    }
    assert_true(s.lost > 0);
    pyi_bus_close(s.bus);
    pyi_bus_free(s.bus);
    rmdir(s.dir);
}

static void a_frame_over_the_limit_is_the_writers_error(void **state) {
    (void)state;
    pyi_frame *f = pyi_frame_new(1000);
    char *big = calloc(1, 100000);
    assert_non_null(big);
    pyi_put_bin(pyi_frame_writer(f), big, 100000);
    pyi_error e;
    assert_int_equal(pyi_writer_error(pyi_frame_writer(f), &e), PYI_ETOOBIG);
    free(big);
    pyi_frame_free(f);
}

static void a_url_that_cannot_be_listened_on_is_named(void **state) {
    (void)state;
    pyi_bus_config c = {.call_url = "ipc:///nowhere/at/all/c", .service_url = "ipc:///nowhere/s"};
    pyi_bus *b;
    pyi_error e;
    assert_int_equal(pyi_bus_open(&c, &b, &e), PYI_ESYS);
    assert_non_null(strstr(e.msg, "/nowhere/at/all/c"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_is_answered),
        cmocka_unit_test(answers_may_come_out_of_order),
        cmocka_unit_test(thousands_of_calls_in_flight_each_get_their_own_answer),
        cmocka_unit_test(a_send_without_an_answer_ends_at_its_timeout),
        cmocka_unit_test(an_aborted_send_ends_as_cancelled),
        cmocka_unit_test(cancel_and_ping_are_answered_by_the_link),
        cmocka_unit_test(closing_ends_what_is_in_flight),
        cmocka_unit_test(a_stranger_is_not_let_in),
        cmocka_unit_test(the_loss_of_the_connection_is_told),
        cmocka_unit_test(a_frame_over_the_limit_is_the_writers_error),
        cmocka_unit_test(a_url_that_cannot_be_listened_on_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

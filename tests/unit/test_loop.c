/* The loop: order of posted work, timers, watches that are removed while their events are handled.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop.h"
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static pyi_loop *make_loop(void) {
    pyi_loop *l = NULL;
    pyi_error e;
    assert_int_equal(pyi_loop_new(&l, &e), PYI_OK);
    return l;
}

static void nothing(void *arg) {
    (void)arg;
}

static char order[8];

static void note_a(void *arg) {
    (void)arg;
    strcat(order, "a");
}

static void note_b(void *arg) {
    (void)arg;
    strcat(order, "b");
}

static void posted_work_runs_in_order(void **state) {
    (void)state;
    order[0] = '\0';
    pyi_loop *l = make_loop();
    pyi_loop_post(l, note_a, NULL);
    pyi_loop_post(l, note_b, NULL);
    pyi_loop_run(l, nothing, NULL);
    assert_string_equal(order, "ab");
    pyi_loop_free(l);
}

static void work_posted_before_free_is_run(void **state) {
    (void)state;
    order[0] = '\0';
    pyi_loop *l = make_loop();
    pyi_loop_post(l, note_a, NULL);
    pyi_loop_free(l);
    assert_string_equal(order, "a");
}

static void ask_current(void *arg) {
    pyi_loop *l = *(pyi_loop **)arg;
    *(pyi_loop **)arg = pyi_loop_is_current(l) ? NULL : l;
    pyi_loop_run(l, nothing, NULL); /* on the loop itself: at once, no deadlock */
}

static void the_loop_knows_its_own_thread(void **state) {
    (void)state;
    pyi_loop *l = make_loop(), *asked = l;
    assert_false(pyi_loop_is_current(l));
    pyi_loop_run(l, ask_current, &asked);
    assert_null(asked);
    pyi_loop_free(l);
}

typedef struct timers {
    pyi_loop *l;
    pyi_timer *cancelled;
    int fd;
} timers;

static void write_byte(void *arg) {
    timers *t = arg;
    assert_int_equal(write(t->fd, "x", 1), 1);
}

static void arm(void *arg) {
    timers *t = arg;
    t->cancelled = pyi_loop_after(t->l, 1, note_b, NULL);
    (void)pyi_loop_after(t->l, 20, write_byte, t);
    (void)pyi_loop_after(t->l, 5, note_a, NULL);
    pyi_loop_cancel(t->cancelled);
}

static void timers_fire_by_time_and_cancelled_ones_never(void **state) {
    (void)state;
    int p[2];
    char c;
    order[0] = '\0';
    assert_int_equal(pipe(p), 0);
    timers t = {.l = make_loop(), .fd = p[1]};
    pyi_loop_run(t.l, arm, &t);
    assert_int_equal(read(p[0], &c, 1), 1);
    assert_string_equal(order, "a");
    pyi_loop_free(t.l);
    close(p[0]);
    close(p[1]);
}

typedef struct pair {
    pyi_loop *l;
    int a[2], b[2], done[2];
    pyi_watch *on_a, *on_b;
    int seen;
} pair;

/* Whichever comes first removes both: the other's event of the same batch must not be handled. */
static void on_either(void *arg, uint32_t events) {
    (void)events;
    pair *p = arg;
    p->seen++;
    pyi_loop_unwatch(pyi_steal(&p->on_a));
    pyi_loop_unwatch(pyi_steal(&p->on_b));
    assert_int_equal(write(p->done[1], "x", 1), 1);
}

static void watch_both(void *arg) {
    pair *p = arg;
    pyi_error e;
    assert_int_equal(write(p->a[1], "x", 1), 1);
    assert_int_equal(write(p->b[1], "x", 1), 1);
    assert_int_equal(pyi_loop_watch(p->l, p->a[0], EPOLLIN, on_either, p, &p->on_a, &e), PYI_OK);
    assert_int_equal(pyi_loop_watch(p->l, p->b[0], EPOLLIN, on_either, p, &p->on_b, &e), PYI_OK);
}

static void a_watch_may_remove_itself_and_others(void **state) {
    (void)state;
    char c;
    pair p = {.l = make_loop()};
    assert_int_equal(pipe(p.a) | pipe(p.b) | pipe(p.done), 0);
    pyi_loop_run(p.l, watch_both, &p);
    assert_int_equal(read(p.done[0], &c, 1), 1);
    pyi_loop_run(p.l, nothing, NULL);
    assert_int_equal(p.seen, 1);
    pyi_loop_free(p.l);
    int all[] = {p.a[0], p.a[1], p.b[0], p.b[1], p.done[0], p.done[1]};
    for (size_t i = 0; i < PYI_COUNT(all); i++) {
        close(all[i]);
    }
}

static void watch_bad(void *arg) {
    pyi_watch *w;
    pyi_error e;
    assert_int_equal(pyi_loop_watch(arg, -1, EPOLLIN, on_either, NULL, &w, &e), PYI_ESYS);
}

static void a_bad_descriptor_is_refused(void **state) {
    (void)state;
    pyi_loop *l = make_loop();
    pyi_loop_run(l, watch_bad, l);
    pyi_loop_free(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posted_work_runs_in_order),
        cmocka_unit_test(work_posted_before_free_is_run),
        cmocka_unit_test(the_loop_knows_its_own_thread),
        cmocka_unit_test(timers_fire_by_time_and_cancelled_ones_never),
        cmocka_unit_test(a_watch_may_remove_itself_and_others),
        cmocka_unit_test(a_bad_descriptor_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

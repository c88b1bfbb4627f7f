/*
 * What other threads ask of an extension: wait, stop, restart, status. Orders are posted to the
 * loop; answers are waited for on the extension's condition.
 */
#include "extension.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const pyi_extension_config *pyi_extension_config_of(const pyi_extension *x) {
    return x->config;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static struct timespec at_ns(int64_t ns) {
    return (struct timespec){.tv_sec = ns / PYI_NS_PER_S, .tv_nsec = ns % PYI_NS_PER_S};
}

/* Under the lock. False: the time is up. */
static bool wait_changed(pyi_extension *x, int64_t until) {
    if (until == 0) {
        pthread_cond_wait(&x->changed, &x->lock);
        return true;
    }
    struct timespec ts = at_ns(until);
    return pthread_cond_timedwait(&x->changed, &x->lock, &ts) != ETIMEDOUT;
}

static bool is_pending(pyi_state s) {
    return s == PYI_STATE_NEW || s == PYI_STATE_PREPARING || s == PYI_STATE_STARTING ||
           s == PYI_STATE_BACKOFF;
}

/* Under the lock: why it is not READY. */
static pyi_err not_ready(const pyi_extension *x, char **ret_detail, pyi_error *e) {
    if (x->state == PYI_STATE_FAILED) {
        *e = x->error;
        if (ret_detail != NULL && x->detail != NULL) {
            *ret_detail = strdup(x->detail);
        }
        return e->code;
    }
    return pyi_error_set(e, PYI_ESTOPPED, "start", "extension \"%s\" was stopped", x->config->name);
}

pyi_err pyi_extension_wait_ready(pyi_extension *x, int64_t timeout_ms, char **ret_detail,
                                 pyi_error *e) {
    int64_t until = timeout_ms < 0 ? 0 : pyi_now_ns() + timeout_ms * PYI_NS_PER_MS;
    pyi_err err = PYI_OK;
    if (ret_detail != NULL) {
        *ret_detail = NULL;
    }
    pthread_mutex_lock(&x->lock);
    while (is_pending(x->state)) {
        if (!wait_changed(x, until)) {
            err = pyi_error_set(e, PYI_EDEADLINE, "start", "extension \"%s\" is still %s",
                                x->config->name, pyi_state_name(x->state));
            break;
        }
    }
    if (err == PYI_OK && x->state != PYI_STATE_READY) {
        err = not_ready(x, ret_detail, e);
    }
    pthread_mutex_unlock(&x->lock);
    return err;
}

void pyi_extension_when_settled(pyi_extension *x, void (*fn)(void *arg), void *arg) {
    pyi_settled *s = malloc(sizeof(*s));
    if (s == NULL) {
        abort();
    }
    *s = (pyi_settled){.fn = fn, .arg = arg};
    pthread_mutex_lock(&x->lock);
    bool now = !is_pending(x->state);
    if (!now) {
        s->next = x->settled;
        x->settled = s;
    }
    pthread_mutex_unlock(&x->lock);
    if (now) {
        free(s);
        fn(arg);
    }
}

bool pyi_extension_is_down(pyi_extension *x) {
    pthread_mutex_lock(&x->lock);
    bool down = x->state == PYI_STATE_STOPPED || x->state == PYI_STATE_FAILED;
    pthread_mutex_unlock(&x->lock);
    return down;
}

void pyi_extension_await_down(pyi_extension *x) {
    pthread_mutex_lock(&x->lock);
    while (x->state != PYI_STATE_STOPPED && x->state != PYI_STATE_FAILED) {
        (void)wait_changed(x, 0);
    }
    pthread_mutex_unlock(&x->lock);
}

/* ---- orders ---------------------------------------------------------------------------------- */

typedef struct order {
    pyi_extension *x;
    int64_t grace_ms;
    uint64_t attempt; /* restart: wait until there is another */
    pyi_err err;
    pyi_error *e;
} order;

static void do_stop(void *arg) {
    order *o = arg;
    pyi_extension_ask_stop(o->x, o->grace_ms);
}

void pyi_extension_stop(pyi_extension *x, int64_t grace_ms) {
    order o = {.x = x, .grace_ms = grace_ms};
    pyi_loop_run(pyi_manager_services_of(x->manager)->loop, do_stop, &o);
    pyi_extension_await_down(x);
}

/* Under the lock: makes the extension as new, as far as crashes go. False: it is on its way down.
 */
static bool begin_restart(pyi_extension *x, order *o) {
    if (x->state == PYI_STATE_DRAINING || pyi_manager_is_stopping(x->manager)) {
        return false;
    }
    o->attempt = x->attempt;
    x->crashes_in_row = 0;
    x->crash_loop = false;
    x->restarts++;
    return true;
}

/* A crashed or failed one starts at once; a serving one is replaced when the next is READY. */
static void do_restart(void *arg) {
    order *o = arg;
    pyi_extension *x = o->x;
    pthread_mutex_lock(&x->lock);
    bool begun = begin_restart(x, o);
    pthread_mutex_unlock(&x->lock);
    if (!begun) {
        o->err = pyi_error_set(o->e, PYI_ESTOPPED, "restart", "extension \"%s\" is being stopped",
                               x->config->name);
        return;
    }
    x->grace_ms = o->grace_ms;
    pyi_loop_cancel(pyi_steal(&x->backoff));
    if (!x->preparing && x->starting == NULL) {
        pyi_extension_start(x);
    }
}

pyi_err pyi_extension_restart(pyi_extension *x, int64_t grace_ms, pyi_error *e) {
    order o = {.x = x, .grace_ms = grace_ms, .err = PYI_OK, .e = e};
    pyi_loop_run(pyi_manager_services_of(x->manager)->loop, do_restart, &o);
    if (o.err != PYI_OK) {
        return o.err;
    }
    pthread_mutex_lock(&x->lock);
    while (x->attempt == o.attempt) {
        (void)wait_changed(x, 0);
    }
    pyi_err err = x->attempt_error.code;
    if (err != PYI_OK) {
        *e = x->attempt_error;
    }
    pthread_mutex_unlock(&x->lock);
    return err;
}

/* ---- status ---------------------------------------------------------------------------------- */

static uint64_t rss_of(int pid) {
    char path[64], line[256];
    unsigned long pages = 0;
    snprintf(path, sizeof(path), "/proc/%d/statm", pid);
    FILE *f = pid > 0 ? fopen(path, "re") : NULL;
    if (f == NULL) {
        return 0;
    }
    if (fgets(line, sizeof(line), f) == NULL || sscanf(line, "%*u %lu", &pages) != 1) {
        pages = 0;
    }
    fclose(f);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void status_of_generation(const pyi_generation *g, pyi_status *ret) {
    const pyi_generation_info *info = pyi_generation_info_of(g);
    int64_t ready_at = pyi_generation_ready_at(g);
    ret->pid = pyi_generation_pid(g);
    ret->generation = pyi_generation_number(g);
    ret->up_ms = ready_at != 0 ? (pyi_now_ns() - ready_at) / PYI_NS_PER_MS : 0;
    snprintf(ret->python, sizeof(ret->python), "%s", info->python);
    snprintf(ret->mode, sizeof(ret->mode), "%s", info->mode);
    snprintf(ret->transport, sizeof(ret->transport), "nng");
}

void pyi_extension_status(pyi_extension *x, pyi_status *ret) {
    memset(ret, 0, sizeof(*ret));
    snprintf(ret->sandbox, sizeof(ret->sandbox), "none");
    pthread_mutex_lock(&x->lock);
    ret->state = x->state;
    ret->calls = x->calls;
    ret->errors = x->errors;
    ret->in_flight = x->flying.count;
    ret->waiting = x->waiting.count;
    ret->restarts = x->restarts;
    ret->crashes_in_row = x->crashes_in_row;
    ret->crash_loop = x->crash_loop;
    ret->last_error = x->error;
    ret->detail = x->detail != NULL ? strdup(x->detail) : NULL;
    snprintf(ret->env_id, sizeof(ret->env_id), "%s", x->env_id);
    snprintf(ret->env_prefix, sizeof(ret->env_prefix), "%s", x->env_prefix);
    if (x->state == PYI_STATE_BACKOFF && x->next_start > pyi_now_ns()) {
        ret->next_start_ms = (x->next_start - pyi_now_ns()) / PYI_NS_PER_MS;
    }
    if (x->current != NULL) {
        status_of_generation(x->current, ret);
    }
    pthread_mutex_unlock(&x->lock);
    ret->rss = rss_of(ret->pid);
}

void pyi_status_fini(pyi_status *s) {
    free(pyi_steal(&s->detail));
}

char **pyi_extension_methods(pyi_extension *x, size_t *ret_count) {
    char **copy = NULL;
    *ret_count = 0;
    pthread_mutex_lock(&x->lock);
    if (x->current != NULL) {
        const pyi_generation_info *info = pyi_generation_info_of(x->current);
        size_t bytes = 0;
        for (size_t i = 0; i < info->method_count; i++) {
            bytes += strlen(info->methods[i]) + 1;
        }
        copy = malloc(info->method_count * sizeof(char *) + bytes + 1);
        char *text = (char *)(copy + info->method_count);
        for (size_t i = 0; copy != NULL && i < info->method_count; i++) {
            copy[i] = text;
            text = stpcpy(text, info->methods[i]) + 1;
        }
        *ret_count = copy != NULL ? info->method_count : 0;
    }
    pthread_mutex_unlock(&x->lock);
    return copy;
}

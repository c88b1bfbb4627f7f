/*
 * One extension's life. Generations come and go; the extension decides when.
 *
 *     NEW -> PREPARING -> STARTING -> READY <-> BACKOFF (crashed: again after a delay)
 *                 \           \          \
 *                  `-> FAILED  `-> FAILED  `-> DRAINING -> STOPPED
 *
 * A restart starts the next generation beside the old one and changes over when it is READY, so a
 * restart that fails leaves the old one serving.
 */
#include "extension.h"

#include "pyi_log.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

static const pyi_manager_services *services(const pyi_extension *x) {
    return pyi_manager_services_of(x->manager);
}

const char *pyi_state_name(pyi_state s) {
    static const char *const names[] = {
        [PYI_STATE_NEW] = "new",           [PYI_STATE_PREPARING] = "preparing",
        [PYI_STATE_STARTING] = "starting", [PYI_STATE_READY] = "ready",
        [PYI_STATE_BACKOFF] = "backoff",   [PYI_STATE_DRAINING] = "draining",
        [PYI_STATE_STOPPED] = "stopped",   [PYI_STATE_FAILED] = "failed",
    };
    return names[s];
}

/* ---- state ----------------------------------------------------------------------------------- */

static bool is_settled(pyi_state s) {
    return s == PYI_STATE_READY || s == PYI_STATE_FAILED || s == PYI_STATE_STOPPED;
}

static void tell_settled(pyi_settled *list) {
    while (list != NULL) {
        pyi_settled *next = list->next;
        list->fn(list->arg);
        free(list);
        list = next;
    }
}

static void set_state(pyi_extension *x, pyi_state state) {
    pthread_mutex_lock(&x->lock);
    x->state = state;
    pyi_settled *told = is_settled(state) ? pyi_steal(&x->settled) : NULL;
    pthread_cond_broadcast(&x->changed);
    pthread_mutex_unlock(&x->lock);
    tell_settled(told);
}

static void set_error(pyi_extension *x, const pyi_error *e, const char *detail) {
    char *copy = detail != NULL && detail[0] != '\0' ? strdup(detail) : NULL;
    pthread_mutex_lock(&x->lock);
    x->error = *e;
    char *old = x->detail;
    x->detail = copy;
    pthread_mutex_unlock(&x->lock);
    free(old);
}

/* A start has ended, well (NULL) or badly: a restart that waits for it goes on. */
static void count_attempt(pyi_extension *x, const pyi_error *e) {
    pthread_mutex_lock(&x->lock);
    x->attempt++;
    x->attempt_error = e != NULL ? *e : (pyi_error){.code = PYI_OK};
    pthread_cond_broadcast(&x->changed);
    pthread_mutex_unlock(&x->lock);
}

static void log_about(const pyi_extension *x, const pyi_generation *g, pyi_level level,
                      const char *id, const char *text) {
    pyi_log_subject subject = {.ext = x->config->name,
                               .generation = g != NULL ? pyi_generation_number(g) : 0,
                               .pid = g != NULL ? pyi_generation_pid(g) : 0};
    pyi_log(level, id, &subject, "%s", text);
}

static void log_error(const pyi_extension *x, const pyi_generation *g, const char *id,
                      const pyi_error *e, const char *detail) {
    log_about(x, g, PYI_ERROR, id, e->msg);
    if (detail != NULL && detail[0] != '\0') {
        pyi_log_subject subject = {.ext = x->config->name};
        pyi_log_bytes(PYI_ERROR, &subject, detail, strlen(detail));
    }
}

/* ---- ends of an extension -------------------------------------------------------------------- */

static void become_stopped(pyi_extension *x) {
    pyi_error e;
    pyi_error_set(&e, PYI_ESTOPPED, "stop", "extension \"%s\" was stopped", x->config->name);
    set_state(x, PYI_STATE_STOPPED);
    count_attempt(x, &e);
    pyi_router_fail_waiting(x, &e, NULL);
    log_about(x, NULL, PYI_INFO, "PYI-EXT-STOPPED", "stopped");
}

static void become_failed(pyi_extension *x, const pyi_generation *g, const pyi_error *e,
                          const char *detail) {
    set_error(x, e, detail);
    set_state(x, PYI_STATE_FAILED);
    count_attempt(x, e);
    log_error(x, g, "PYI-EXT-FAILED", e, detail);
    pyi_router_fail_waiting(x, e, detail);
}

/* A restart came to nothing; what served before goes on serving. */
static void restart_failed(pyi_extension *x, const pyi_generation *g, const pyi_error *e,
                           const char *detail) {
    set_error(x, e, detail);
    count_attempt(x, e);
    log_error(x, g, "PYI-EXT-RESTART-FAILED", e, detail);
}

/* ---- starting a generation ------------------------------------------------------------------- */

static void on_ready(void *arg, pyi_generation *g);
static void on_end(void *arg, pyi_generation *g);

static bool make_room(pyi_extension *x) {
    if (x->alive_count < x->alive_cap) {
        return true;
    }
    unsigned cap = x->alive_cap + 4;
    pyi_generation **grown = reallocarray(x->alive, cap, sizeof(pyi_generation *));
    if (grown != NULL) {
        x->alive = grown;
        x->alive_cap = cap;
    }
    return grown != NULL;
}

static void remove_alive(pyi_extension *x, pyi_generation *g) {
    for (unsigned i = 0; i < x->alive_count; i++) {
        if (x->alive[i] == g) {
            x->alive[i] = x->alive[--x->alive_count];
            pyi_generation_unref(g);
            return;
        }
    }
}

static pyi_err start_alive(pyi_extension *x, const pyi_generation_config *config, pyi_error *e) {
    if (!make_room(x)) {
        return pyi_error_set(e, PYI_ENOMEM, "start", "out of memory");
    }
    pyi_err err = pyi_generation_start(config, &x->starting, e);
    if (err == PYI_OK) {
        x->alive[x->alive_count++] = pyi_generation_ref(x->starting);
    }
    return err;
}

static void start_generation(pyi_extension *x) {
    const pyi_manager_services *s = services(x);
    pyi_generation_config config = {.loop = s->loop,
                                    .extension = x->config,
                                    .env = x->env,
                                    .paths = s->paths,
                                    .socket_dir = s->socket_dir,
                                    .number = ++x->number,
                                    .max_payload = pyi_max_payload_of(x->config),
                                    .on_ready = on_ready,
                                    .on_end = on_end,
                                    .arg = x};
    bool first = x->current == NULL;
    if (first) {
        set_state(x, PYI_STATE_STARTING);
    }
    pyi_error e;
    if (start_alive(x, &config, &e) != PYI_OK) {
        if (first) {
            become_failed(x, NULL, &e, NULL);
        } else {
            restart_failed(x, NULL, &e, NULL);
        }
    }
}

static void on_ready(void *arg, pyi_generation *g) {
    pyi_extension *x = arg;
    char text[128];
    snprintf(text, sizeof(text), "ready (python %s, %zu method%s)",
             pyi_generation_info_of(g)->python, pyi_generation_info_of(g)->method_count,
             pyi_generation_info_of(g)->method_count == 1 ? "" : "s");
    log_about(x, g, PYI_INFO, "PYI-EXT-READY", text);
    pthread_mutex_lock(&x->lock);
    pyi_generation *old = x->current;
    x->current = pyi_steal(&x->starting);
    x->crash_loop = false;
    pthread_mutex_unlock(&x->lock);
    x->has_served = true;
    set_state(x, PYI_STATE_READY);
    count_attempt(x, NULL);
    if (old != NULL) {
        pyi_generation_stop(old, x->grace_ms);
        pyi_generation_unref(old);
    }
    pyi_router_flush(x);
}

/* ---- crashes --------------------------------------------------------------------------------- */

static void on_backoff_over(void *arg) {
    pyi_extension *x = arg;
    x->backoff = NULL;
    start_generation(x);
}

static int64_t backoff_ms(unsigned crashes) {
    int64_t ms = PYI_BACKOFF_FIRST_MS;
    for (unsigned i = 1; i < crashes && ms < PYI_BACKOFF_CAP_MS; i++) {
        ms *= 2;
    }
    return ms < PYI_BACKOFF_CAP_MS ? ms : PYI_BACKOFF_CAP_MS;
}

static bool was_healthy(const pyi_generation *g) {
    int64_t ready_at = pyi_generation_ready_at(g);
    return ready_at != 0 && pyi_now_ns() - ready_at > PYI_HEALTHY_AFTER_MS * PYI_NS_PER_MS;
}

static void back_off(pyi_extension *x, const pyi_generation *g) {
    pthread_mutex_lock(&x->lock);
    x->crashes_in_row = was_healthy(g) ? 1 : x->crashes_in_row + 1;
    x->crash_loop = x->crashes_in_row >= PYI_CRASH_LOOP_COUNT;
    x->restarts++;
    int64_t delay = backoff_ms(x->crashes_in_row);
    x->next_start = pyi_now_ns() + delay * PYI_NS_PER_MS;
    bool loop = x->crash_loop;
    unsigned crashes = x->crashes_in_row;
    pthread_mutex_unlock(&x->lock);
    char text[160];
    snprintf(text, sizeof(text), "%s%u in a row: starts again in %.3g s",
             loop ? "crash loop, " : "crashes: ", crashes, (double)delay / 1000.0);
    log_about(x, g, loop ? PYI_ERROR : PYI_WARNING, loop ? "PYI-EXT-CRASH-LOOP" : "PYI-EXT-BACKOFF",
              text);
    set_state(x, PYI_STATE_BACKOFF);
    if (loop) {
        pyi_router_fail_waiting(x, pyi_generation_error(g), pyi_generation_detail(g));
    }
    x->backoff = pyi_loop_after(services(x)->loop, delay, on_backoff_over, x);
}

static void on_crash(pyi_extension *x, pyi_generation *g) {
    const pyi_error *e = pyi_generation_error(g);
    const char *detail = pyi_generation_detail(g);
    if (!x->has_served || x->config->restart == PYI_RESTART_NEVER) {
        become_failed(x, g, e, detail);
        return;
    }
    set_error(x, e, detail);
    /* stderr's last lines are in the log already; here they would come twice */
    log_error(x, g, "PYI-CHILD-EXIT", e, NULL);
    back_off(x, g);
}

/* Whoever is told that his call died may call again at once: he must not reach the dead generation.
 */
static void detach_current(pyi_extension *x) {
    pthread_mutex_lock(&x->lock);
    x->current = NULL;
    if (x->state == PYI_STATE_READY) {
        x->state = PYI_STATE_BACKOFF;
    }
    pthread_mutex_unlock(&x->lock);
}

static void on_current_end(pyi_extension *x, pyi_generation *g) {
    if (x->stop_asked) {
        return; /* the last one to end says so */
    }
    if (x->starting != NULL) { /* a restart is on its way already */
        set_state(x, PYI_STATE_STARTING);
    } else if (x->preparing) {
        set_state(x, PYI_STATE_PREPARING);
    } else {
        on_crash(x, g);
    }
}

static void on_starting_end(pyi_extension *x, pyi_generation *g) {
    x->starting = NULL;
    if (x->stop_asked) {
        return;
    }
    if (x->current == NULL) {
        on_crash(x, g);
        count_attempt(x, pyi_generation_error(g));
        return;
    }
    restart_failed(x, g, pyi_generation_error(g), pyi_generation_detail(g));
}

static void on_end(void *arg, pyi_generation *g) {
    pyi_extension *x = arg;
    bool was_current = g == x->current;
    if (was_current) {
        detach_current(x);
    }
    pyi_router_fail_lost(x, g);
    if (g == x->starting) {
        on_starting_end(x, g);
        pyi_generation_unref(g);
    } else if (was_current) {
        on_current_end(x, g);
        pyi_generation_unref(g);
    } else {
        log_about(x, g, PYI_DEBUG, "PYI-CHILD-EXIT", pyi_generation_error(g)->msg);
    }
    remove_alive(x, g);
    if (x->stop_asked && x->alive_count == 0 && !x->preparing) {
        become_stopped(x);
    }
}

/* ---- the environment: a thread of its own, because building blocks --------------------------- */

typedef struct preparation {
    pyi_extension *x;
    pyi_env *env;
    char *detail;
    pyi_err err;
    pyi_error error;
} preparation;

static void keep_env(pyi_extension *x, pyi_env *env) {
    pyi_env_free(x->env);
    x->env = env;
    pthread_mutex_lock(&x->lock);
    snprintf(x->env_id, sizeof(x->env_id), "%s", env->id != NULL ? env->id : "");
    snprintf(x->env_prefix, sizeof(x->env_prefix), "%s", env->prefix);
    pthread_mutex_unlock(&x->lock);
}

static void on_prepared(void *arg) {
    preparation *p = arg;
    pyi_extension *x = p->x;
    pthread_join(x->preparer, NULL);
    x->preparing = false;
    pyi_fd_close(&x->cancel_fd);
    if (p->err == PYI_OK) {
        keep_env(x, p->env);
    }
    if (x->stop_asked) {
        if (x->alive_count == 0) {
            become_stopped(x);
        }
    } else if (p->err == PYI_OK) {
        start_generation(x);
    } else if (x->current == NULL) {
        become_failed(x, NULL, &p->error, p->detail);
    } else {
        restart_failed(x, NULL, &p->error, p->detail);
    }
    free(p->detail);
    free(p);
}

static void *prepare(void *arg) {
    preparation *p = arg;
    const pyi_manager_services *s = services(p->x);
    pyi_manager_enter_build(p->x->manager);
    p->err = pyi_env_prepare(s->config, p->x->config, s->progress, p->x->cancel_fd, &p->env,
                             &p->detail, &p->error);
    pyi_manager_leave_build(p->x->manager);
    pyi_loop_post(s->loop, on_prepared, p);
    return NULL;
}

static void start_preparing(pyi_extension *x) {
    if (x->current == NULL) {
        set_state(x, PYI_STATE_PREPARING);
    }
    preparation *p = calloc(1, sizeof(*p));
    pyi_error e;
    x->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = p == NULL || x->cancel_fd < 0 ? ENOMEM : 0;
    if (rc == 0) {
        p->x = x;
        rc = pthread_create(&x->preparer, NULL, prepare, p);
    }
    if (rc != 0) {
        free(p);
        pyi_fd_close(&x->cancel_fd);
        pyi_error_sys(&e, rc, "env", "prepare the environment of extension \"%s\"",
                      x->config->name);
        become_failed(x, NULL, &e, NULL);
        return;
    }
    x->preparing = true;
}

/* ---- the loop's orders ----------------------------------------------------------------------- */

void pyi_extension_start(pyi_extension *x) {
    x->stop_asked = false;
    start_preparing(x);
}

void pyi_extension_ask_stop(pyi_extension *x, int64_t grace_ms) {
    pthread_mutex_lock(&x->lock);
    pyi_state state = x->state;
    pthread_mutex_unlock(&x->lock);
    bool idle = x->alive_count == 0 && !x->preparing;
    if (idle && (state == PYI_STATE_STOPPED || state == PYI_STATE_FAILED)) {
        return;
    }
    x->stop_asked = true;
    pyi_loop_cancel(pyi_steal(&x->backoff));
    if (x->preparing) {
        eventfd_write(x->cancel_fd, 1);
    }
    if (idle) {
        become_stopped(x);
        return;
    }
    set_state(x, PYI_STATE_DRAINING);
    pyi_error e;
    pyi_error_set(&e, PYI_ESTOPPED, "stop", "extension \"%s\" was stopped", x->config->name);
    pyi_router_fail_waiting(x, &e, NULL);
    for (unsigned i = 0; i < x->alive_count; i++) { /* what a restart replaced is told once more */
        pyi_generation_stop(x->alive[i], x->alive[i] == x->starting ? 0 : grace_ms);
    }
}

void pyi_extension_kill(pyi_extension *x) {
    pyi_extension_ask_stop(x, 0);
    for (unsigned i = 0; i < x->alive_count; i++) {
        pyi_generation_kill(x->alive[i], NULL);
    }
}

/* ---- new and free ---------------------------------------------------------------------------- */

pyi_err pyi_extension_new(pyi_manager *m, pyi_extension_config *config, pyi_extension **ret,
                          pyi_error *e) {
    pyi_extension *x = calloc(1, sizeof(*x));
    if (x == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "load", "out of memory");
    }
    x->manager = m;
    x->config = config;
    x->cancel_fd = -1;
    pthread_mutex_init(&x->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&x->changed, &attr);
    pthread_condattr_destroy(&attr);
    *ret = x;
    return PYI_OK;
}

void pyi_extension_free(pyi_extension *x) {
    if (x == NULL) {
        return;
    }
    pyi_env_free(x->env);
    free(x->alive);
    pyi_extension_config_free(x->config);
    free(x->detail);
    pthread_mutex_destroy(&x->lock);
    pthread_cond_destroy(&x->changed);
    free(x);
}

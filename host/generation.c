/*
 * One child's life.
 *
 *     loop thread                     nng threads                         child
 *     start: sockets, spec, spawn ------------------------------------->  exec, dial
 *                                     on_request HELLO: secret  <-------  HELLO
 *     on_ready  <------ posted ------ on_request READY          <-------  READY
 *     stop: drained? ---- STOP frame -------------------------------->    stop() hooks, exit
 *     on_exit (pidfd): reap, drain the output, close the bus, on_end
 *
 * The reason of the end is settled before the bus is closed, so whoever's call ends with PYI_EDIED
 * finds it.
 */
#include "generation_impl.h"

#include "spec.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define LOST_GRACE_MS   1000 /* connection gone, process alive: so long, then it is killed */
#define ABANDON_MS      1000 /* an in-process thread that saw no host any more: it ends within this */
#define FAILED_GRACE_MS 2000 /* FAILED told: the process ends by itself within this */

/* ---- references ------------------------------------------------------------------------------ */

static void destroy(void *arg) {
    pyi_generation *g = arg;
    pyi_bus_free(g->bus);
    free(g->info.methods);
    free(g->detail);
    free(g->failure_detail);
    free(g->dir);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

pyi_generation *pyi_generation_ref(pyi_generation *g) {
    atomic_fetch_add(&g->refs, 1);
    return g;
}

/* Freeing waits for nng's callbacks, so it cannot be done on one of its threads. */
void pyi_generation_unref(pyi_generation *g) {
    if (g != NULL && atomic_fetch_sub(&g->refs, 1) == 1) {
        pyi_loop_post(g->config.loop, destroy, g);
    }
}

/* ---- the end --------------------------------------------------------------------------------- */

void pyi_generation_settle(pyi_generation *g, const pyi_error *why) {
    if (g->error.code == PYI_OK) { /* the first cause wins */
        g->error = *why;
    }
}

static void remove_sockets(pyi_generation *g) {
    pyi_error ignored;
    if (g->dir != NULL) {
        (void)!pyi_remove_tree(g->dir, &ignored);
    }
}

static void end(pyi_generation *g) {
    phase before = g->phase;
    g->phase = ENDED;
    g->was_stopped = before == STOPPING && g->error.code == PYI_ESTOPPED;
    pyi_loop_cancel(pyi_steal(&g->timer));
    pyi_loop_cancel(pyi_steal(&g->lost_timer));
    pyi_loop_cancel(pyi_steal(&g->abandon_timer));
    pyi_bus_close(g->bus);
    remove_sockets(g);
    g->config.on_end(g->config.arg, g);
    pyi_generation_unref(g); /* the process's own reference */
}

static void describe_exit(pyi_generation *g, const siginfo_t *info, pyi_error *e) {
    pyi_err code = g->was_ready ? PYI_EDIED : PYI_ESTART;
    const char *when = g->was_ready ? "" : " before it was ready";
    if (info->si_code == CLD_EXITED) {
        pyi_error_set(e, code, "child.exit", "extension \"%s\" ended%s with exit status %d",
                      g->config.extension->name, when, info->si_status);
        return;
    }
    const char *abbrev = sigabbrev_np(info->si_status);
    pyi_error_set(e, code, "child.exit", "extension \"%s\" died%s: signal %d (SIG%s, %s)",
                  g->config.extension->name, when, info->si_status, abbrev != NULL ? abbrev : "?",
                  strsignal(info->si_status));
}

static void keep_detail(pyi_generation *g) {
    pthread_mutex_lock(&g->lock);
    char *failure = pyi_steal(&g->failure_detail);
    pthread_mutex_unlock(&g->lock);
    g->detail = failure != NULL ? failure : strdup(pyi_childlog_tail(g->log));
}

static void on_exit_event(void *arg, uint32_t events) {
    (void)events;
    pyi_generation *g = arg;
    siginfo_t info = {0};
    if (waitid(P_PIDFD, (id_t)g->child.pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ||
        info.si_pid == 0) {
        return;
    }
    /* What it forked and did not wait for is in its session's group; the pid cannot be reused yet.
     */
    kill(-g->child.pid, SIGKILL);
    waitid(P_PIDFD, (id_t)g->child.pidfd, &info, WEXITED);
    pyi_loop_unwatch(pyi_steal(&g->exit_watch));
    pyi_childlog_drain(g->log);
    keep_detail(g);
    pyi_error e;
    describe_exit(g, &info, &e);
    pyi_generation_settle(g, &e);
    pyi_childlog_free(pyi_steal(&g->log));
    pyi_spawned_close(&g->child);
    end(g);
}

static void end_without_process(pyi_generation *g) {
    pthread_mutex_lock(&g->lock);
    g->detail = pyi_steal(&g->failure_detail);
    pthread_mutex_unlock(&g->lock);
    pyi_error e;
    pyi_error_set(&e, g->was_ready ? PYI_EDIED : PYI_ESTART, "child.exit", "extension \"%s\" ended",
                  g->config.extension->name);
    pyi_generation_settle(g, &e);
    end(g);
}

static void on_thread_end(void *arg) {
    pyi_generation *g = arg;
    pyi_inproc_free(pyi_steal(&g->inproc));
    end_without_process(g);
}

/* A thread cannot be killed. What is stuck in C code must not keep the host from stopping. */
static void on_abandon_due(void *arg) {
    pyi_generation *g = arg;
    g->abandon_timer = NULL;
    if (!pyi_inproc_abandon(g->inproc)) {
        return; /* its end is on its way */
    }
    g->inproc = NULL;
    pyi_log_subject subject = {.ext = g->config.extension->name, .generation = g->config.number};
    pyi_log(PYI_WARNING, "PYI-EXT-STUCK", &subject,
            "its thread is stuck in a call and is left to itself; with isolated = true it could "
            "have been killed");
    end_without_process(g);
}

static void on_thread_status(void *arg, int status) {
    (void)status;
    pyi_generation *g = arg;
    pyi_loop_post(g->config.loop, on_thread_end, g);
}

void pyi_generation_kill(pyi_generation *g, const pyi_error *why) {
    if (g->phase == ENDED) {
        return;
    }
    if (why != NULL) {
        pyi_generation_settle(g, why);
    }
    g->killed = true;
    if (g->child.pidfd >= 0) {
        syscall(SYS_pidfd_send_signal, g->child.pidfd, SIGKILL, NULL, 0);
        return;
    }
    pyi_bus_close(g->bus); /* a thread cannot be killed: it ends when it sees the host gone */
    if (g->inproc != NULL && g->abandon_timer == NULL) {
        g->abandon_timer = pyi_loop_after(g->config.loop, ABANDON_MS, on_abandon_due, g);
    }
}

/* ---- stop ------------------------------------------------------------------------------------ */

static void on_kill_due(void *arg) {
    pyi_generation *g = arg;
    g->timer = NULL;
    pyi_generation_kill(g, NULL);
}

static void on_stop_answered(void *arg, pyi_err code, const void *frame, size_t len) {
    (void)code;
    (void)frame;
    (void)len;
    pyi_generation_unref(arg);
}

static void send_stop(pyi_generation *g) {
    if (g->stop_sent) {
        return;
    }
    g->stop_sent = true;
    atomic_store(&g->draining, false);
    int64_t timeout = g->config.extension->stop_timeout_ms;
    pyi_loop_cancel(pyi_steal(&g->timer));
    g->timer = pyi_loop_after(g->config.loop, timeout, on_kill_due, g);
    pyi_frame *f = pyi_frame_new(g->config.max_payload);
    if (f == NULL) {
        pyi_generation_kill(g, NULL);
        return;
    }
    pyi_writer *w = pyi_frame_writer(f);
    pyi_put_array(w, 3);
    pyi_put_uint(w, PYI_FRAME_STOP);
    pyi_put_uint(w, 0);
    pyi_put_int(w, timeout);
    pyi_bus_send(g->bus, f, timeout, on_stop_answered, pyi_generation_ref(g), NULL);
}

static void on_drain_due(void *arg) {
    pyi_generation *g = arg;
    g->timer = NULL;
    send_stop(g);
}

static void on_drained(void *arg) {
    pyi_generation *g = arg;
    if (g->phase == STOPPING) {
        send_stop(g);
    }
    pyi_generation_unref(g);
}

void pyi_generation_stop(pyi_generation *g, int64_t grace_ms) {
    if (g->phase == ENDED || g->stop_sent) {
        return;
    }
    phase before = g->phase;
    g->phase = STOPPING;
    pyi_error e;
    pyi_error_set(&e, PYI_ESTOPPED, "stop", "extension \"%s\" was stopped",
                  g->config.extension->name);
    pyi_generation_settle(g, &e);
    if (before == STARTING) {
        pyi_generation_kill(g, NULL);
        return;
    }
    pyi_loop_cancel(pyi_steal(&g->timer));
    atomic_store(&g->draining, true);
    if (atomic_load(&g->inside) == 0 || grace_ms <= 0) {
        send_stop(g);
    } else {
        g->timer = pyi_loop_after(g->config.loop, grace_ms, on_drain_due, g);
    }
}

void pyi_generation_enter(pyi_generation *g) {
    atomic_fetch_add(&g->inside, 1);
}

void pyi_generation_leave(pyi_generation *g) {
    if (atomic_fetch_sub(&g->inside, 1) == 1 && atomic_load(&g->draining)) {
        pyi_loop_post(g->config.loop, on_drained, pyi_generation_ref(g));
    }
}

/* ---- cancel ---------------------------------------------------------------------------------- */

static void on_stuck(void *arg) {
    pyi_generation *g = arg;
    pyi_error e;
    pyi_error_set(
        &e, PYI_EDIED, "call.cancel",
        "extension \"%s\" was killed: a call that was given up kept it busy for %d ms more",
        g->config.extension->name, PYI_CANCEL_GRACE_MS);
    pyi_generation_kill(g, &e);
    pyi_generation_unref(g);
}

static void on_cancel_answered(void *arg, pyi_err code, const void *frame, size_t len) {
    (void)frame;
    (void)len;
    pyi_generation *g = arg;
    if (code == PYI_EDEADLINE) {
        pyi_loop_post(g->config.loop, on_stuck, g);
    } else {
        pyi_generation_unref(g);
    }
}

void pyi_generation_cancel(pyi_generation *g, uint64_t id, bool deadline) {
    pyi_frame *f = pyi_frame_new(g->config.max_payload);
    if (f == NULL) {
        return;
    }
    pyi_writer *w = pyi_frame_writer(f);
    pyi_put_array(w, 3);
    pyi_put_uint(w, PYI_FRAME_CANCEL);
    pyi_put_uint(w, id);
    pyi_put_int(w, deadline ? 1 : 0);
    pyi_bus_send(g->bus, f, PYI_CANCEL_GRACE_MS, on_cancel_answered, pyi_generation_ref(g), NULL);
}

/* ---- what handshake.c tells ------------------------------------------------------------------ */

void pyi_generation_became_ready(pyi_generation *g) {
    if (g->phase == STARTING && g->error.code == PYI_OK) {
        g->phase = READY;
        g->was_ready = true;
        atomic_store(&g->ready_at, pyi_now_ns());
        pyi_loop_cancel(pyi_steal(&g->timer));
        g->config.on_ready(g->config.arg, g);
    }
}

void pyi_generation_expect_end(pyi_generation *g) {
    if (g->phase == STARTING) {
        pyi_loop_cancel(pyi_steal(&g->timer));
        g->timer = pyi_loop_after(g->config.loop, FAILED_GRACE_MS, on_kill_due, g);
    }
}

/* ---- the connection is gone ------------------------------------------------------------------ */

static void on_lost_due(void *arg) {
    pyi_generation *g = arg;
    g->lost_timer = NULL;
    pyi_error e;
    pyi_error_set(&e, PYI_EDIED, "bus", "extension \"%s\" closed its connection and was killed",
                  g->config.extension->name);
    pyi_generation_kill(g, &e);
}

static void on_lost_posted(void *arg) {
    pyi_generation *g = arg;
    if (g->phase != ENDED && g->lost_timer == NULL) {
        int64_t grace = g->stop_sent ? g->config.extension->stop_timeout_ms : LOST_GRACE_MS;
        g->lost_timer = pyi_loop_after(g->config.loop, grace, on_lost_due, g);
    }
    pyi_generation_unref(g);
}

static void on_lost(void *arg) {
    pyi_generation *g = arg;
    pyi_loop_post(g->config.loop, on_lost_posted, pyi_generation_ref(g));
}

/* ---- start ----------------------------------------------------------------------------------- */

static void on_start_due(void *arg) {
    pyi_generation *g = arg;
    g->timer = NULL;
    pyi_error e;
    pyi_error_set(
        &e, PYI_ESTART, "start",
        "extension \"%s\" was not ready after %lld ms and was killed; if its imports take "
        "longer, raise start_timeout",
        g->config.extension->name, (long long)g->config.extension->start_timeout_ms);
    pyi_generation_kill(g, &e);
}

static bool in_process(const pyi_generation *g) {
    return !g->config.extension->isolated;
}

static pyi_err make_urls(pyi_generation *g, char **ret_call, char **ret_service, pyi_error *e) {
    const char *scheme = in_process(g) ? "inproc" : "ipc";
    if (asprintf(&g->dir, "%s/%u-%s", g->config.socket_dir, g->config.number,
                 g->config.extension->name) < 0) {
        g->dir = NULL;
        return pyi_error_set(e, PYI_ENOMEM, "start", "out of memory");
    }
    size_t room = sizeof(((struct { char path[108]; } *)0)->path);
    if (strlen(g->dir) + sizeof("/s") > room) {
        g->dir[strlen(g->config.socket_dir) + 1] = '\0'; /* the name is for people: do without */
        char *shorter;
        if (asprintf(&shorter, "%s%u.%llx", g->dir, g->config.number,
                     (unsigned long long)(uintptr_t)g & 0xffffff) < 0) {
            return pyi_error_set(e, PYI_ENOMEM, "start", "out of memory");
        }
        free(g->dir);
        g->dir = shorter;
    }
    if (!in_process(g) && mkdir(g->dir, 0700) < 0) {
        return pyi_error_sys(e, errno, "start.sockets", "make the folder \"%s\"", g->dir);
    }
    if (asprintf(ret_call, "%s://%s/c", scheme, g->dir) < 0 ||
        asprintf(ret_service, "%s://%s/s", scheme, g->dir) < 0) {
        return pyi_error_set(e, PYI_ENOMEM, "start", "out of memory");
    }
    return PYI_OK;
}

/* The import name: as configured, else the last part of the path without ".py". */
static void module_name(const pyi_extension_config *x, char *ret, size_t size) {
    if (x->module != NULL) {
        snprintf(ret, size, "%s", x->module);
        return;
    }
    size_t end = strlen(x->module_path);
    while (end > 1 && x->module_path[end - 1] == '/') {
        end--;
    }
    size_t start = end;
    while (start > 0 && x->module_path[start - 1] != '/') {
        start--;
    }
    if (end - start > 3 && strncmp(x->module_path + end - 3, ".py", 3) == 0) {
        end -= 3;
    }
    snprintf(ret, size, "%.*s", (int)(end - start), x->module_path + start);
}

static pyi_err write_spec(pyi_generation *g, const char *call_url, const char *service_url,
                          pyi_writer *w, pyi_error *e) {
    const pyi_generation_config *c = &g->config;
    const pyi_extension_config *x = c->extension;
    char module[256];
    module_name(x, module, sizeof(module));
    pyi_spec spec = {
        .call_url = call_url,
        .service_url = service_url,
        .name = x->name,
        .generation = c->number,
        .prefix = c->env->prefix,
        .python = c->env->python,
        .libpython = x->embed ? c->env->interpreter->libpython : NULL,
        .sys_version = c->env->interpreter->sys_version,
        .core = c->paths->core,
        .runtime = c->paths->python,
        .module_path = x->module_path,
        .module = module,
        .entrypoint = x->entrypoint,
        .extension_type = x->extension_type,
        .max_payload = c->max_payload,
        .threads = x->threads,
        .max_concurrency = x->max_concurrency,
        .in_process = in_process(g),
    };
    memcpy(spec.secret, g->secret, sizeof(spec.secret));
    pyi_spec_write(&spec, w);
    return pyi_writer_error(w, e);
}

static pyi_err launch_process(pyi_generation *g, const pyi_writer *spec, pyi_error *e) {
    const pyi_generation_config *c = &g->config;
    char **envp = pyi_environment_new(c->extension, c->env->prefix);
    if (envp == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "start", "out of memory");
    }
    pyi_err err = pyi_spawn_child(c->paths->child, envp, spec->data, spec->len, &g->child, e);
    pyi_environment_free(envp);
    if (err != PYI_OK) {
        return err;
    }
    pyi_bus_expect(g->bus, g->child.pid);
    err = pyi_childlog_new(c->loop, c->extension->name, c->number, &g->child, &g->log, e);
    if (err == PYI_OK) {
        err = pyi_loop_watch(c->loop, g->child.pidfd, EPOLLIN, on_exit_event, g, &g->exit_watch, e);
    }
    if (err != PYI_OK) {
        kill(g->child.pid, SIGKILL);
        waitpid(g->child.pid, NULL, 0);
        pyi_childlog_free(pyi_steal(&g->log));
        pyi_spawned_close(&g->child);
    }
    return err;
}

static pyi_err launch(pyi_generation *g, const pyi_writer *spec, pyi_error *e) {
    const pyi_generation_config *c = &g->config;
    if (!in_process(g)) {
        return launch_process(g, spec, e);
    }
    pyi_bus_expect(g->bus, -1);
    return pyi_inproc_start(c->paths, c->env, spec->data, spec->len, on_thread_status, g,
                            &g->inproc, e);
}

static pyi_err open_and_launch(pyi_generation *g, pyi_error *e) {
    PYI_AUTO_FREE char *call_url = NULL;
    PYI_AUTO_FREE char *service_url = NULL;
    if (getrandom(g->secret, sizeof(g->secret), 0) != sizeof(g->secret)) {
        return pyi_error_sys(e, errno, "start", "make a secret");
    }
    pyi_err err = make_urls(g, &call_url, &service_url, e);
    if (err != PYI_OK) {
        return err;
    }
    pyi_bus_config bus = {.call_url = call_url,
                          .service_url = service_url,
                          .max_payload = g->config.max_payload,
                          .on_request = pyi_handshake_on_request,
                          .on_lost = on_lost,
                          .arg = g};
    if ((err = pyi_bus_open(&bus, &g->bus, e)) != PYI_OK) {
        return err;
    }
    pyi_writer spec;
    pyi_writer_init(&spec, PYI_MAX_SPEC);
    err = write_spec(g, call_url, service_url, &spec, e);
    if (err == PYI_OK) {
        err = launch(g, &spec, e);
    }
    if (spec.data != NULL) {
        explicit_bzero(spec.data, spec.len);
    }
    pyi_writer_fini(&spec);
    return err;
}

pyi_err pyi_generation_start(const pyi_generation_config *config, pyi_generation **ret,
                             pyi_error *e) {
    pyi_generation *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "start", "out of memory");
    }
    g->config = *config;
    g->child = (pyi_spawned){.pidfd = -1, .out_fd = -1, .err_fd = -1, .log_fd = -1, .lane_fd = -1};
    pthread_mutex_init(&g->lock, NULL);
    atomic_init(&g->refs, 2); /* the process's own, and the caller's */
    pyi_err err = open_and_launch(g, e);
    if (err != PYI_OK) {
        pyi_error_wrap(e, "start extension \"%s\"", config->extension->name);
        if (g->bus != NULL) {
            pyi_bus_close(g->bus);
        }
        remove_sockets(g);
        destroy(g);
        return e->code;
    }
    g->timer = pyi_loop_after(config->loop, config->extension->start_timeout_ms, on_start_due, g);
    *ret = g;
    return PYI_OK;
}

/* ---- what others may know -------------------------------------------------------------------- */

pyi_bus *pyi_generation_bus(const pyi_generation *g) {
    return g->bus;
}

unsigned pyi_generation_number(const pyi_generation *g) {
    return g->config.number;
}

int pyi_generation_pid(const pyi_generation *g) {
    return g->child.pid;
}

const pyi_generation_info *pyi_generation_info_of(const pyi_generation *g) {
    return &g->info;
}

int64_t pyi_generation_ready_at(const pyi_generation *g) {
    return atomic_load(&g->ready_at);
}

void pyi_generation_calls_told(pyi_generation *g) {
    atomic_store(&g->calls_told, true);
}

bool pyi_generation_were_calls_told(const pyi_generation *g) {
    return atomic_load(&g->calls_told);
}

bool pyi_generation_was_ready(const pyi_generation *g) {
    return g->was_ready;
}

bool pyi_generation_was_stopped(const pyi_generation *g) {
    return g->was_stopped;
}

const pyi_error *pyi_generation_error(const pyi_generation *g) {
    return &g->error;
}

const char *pyi_generation_detail(const pyi_generation *g) {
    return g->detail != NULL ? g->detail : "";
}

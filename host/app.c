/*
 * The order in which a configuration comes up and goes down:
 *
 *   up:   manager -> control socket (so that a second host is refused before anything starts) ->
 * extensions
 *         -> handles of the Lua side -> settled -> main, or serve
 *   down: extensions (calls in flight, stop hooks) -> control socket (its clients wait for the end)
 * -> manager
 *
 * A stop is one eventfd that everything which waits polls: settle, serve and Lua's main.
 */
#include "app.h"
#include "control.h"
#include "loop.h"
#include "lua_api.h"
#include "notify.h"
#include "output.h"
#include "progress.h"
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

struct pyi_app {
    pyi_config *config; // borrowed
    pyi_manager *manager;
    pyi_control *control;
    pyi_progress *progress;
    pyi_extension **by_index; // owned array; NULL where it could not be loaded
    size_t count;
    pyi_err first_failure;
    int stop_fd, settled_fd;
    atomic_uint asked;
    atomic_bool now;
    _Atomic int64_t grace_ms, asked_ns;
};

/* ---- stop ------------------------------------------------------------------------------------ */

static void kill_all(void *arg) {
    pyi_app *a = arg;
    pyi_manager_kill(a->manager);
}

unsigned pyi_app_ask_stop(pyi_app *a, bool now, int64_t grace_ms) {
    unsigned times = atomic_fetch_add(&a->asked, 1) + 1;
    if (times == 1) {
        atomic_store(&a->grace_ms, grace_ms);
        atomic_store(&a->asked_ns, pyi_now_ns());
        pyi_notify("STOPPING=1\nSTATUS=stopping");
        pyi_log(PYI_INFO, "PYI-HOST-STOP", NULL, now ? "stopping now" : "stopping");
    }
    if (now || times > 1) {
        atomic_store(&a->now, true);
        pyi_loop_post(pyi_manager_loop(a->manager), kill_all, a);
    }
    eventfd_write(a->stop_fd, 1);
    pyi_lua_interrupt();
    return times;
}

bool pyi_app_stopping(const pyi_app *a) {
    return atomic_load(&a->asked) > 0;
}

static void on_control_stop(void *arg, bool now, int64_t grace_ms) {
    pyi_app_ask_stop(arg, now, grace_ms);
}

/* Without a word from who asked: as long as the most patient extension wants. */
static int64_t grace_of(const pyi_app *a) {
    int64_t grace = atomic_load(&a->grace_ms);
    if (atomic_load(&a->now)) {
        return 0;
    }
    if (grace >= 0) {
        return grace;
    }
    grace = -1;
    for (size_t i = 0; i < a->count; i++) {
        int64_t own =
            a->by_index[i] != NULL ? pyi_extension_config_of(a->by_index[i])->stop_timeout_ms : -1;
        grace = own > grace ? own : grace;
    }
    return grace >= 0 ? grace : PYI_STOP_TIMEOUT_MS;
}

/* What is left of it: main, and then the extensions, share one grace time. */
static int64_t grace_left(void *arg) {
    const pyi_app *a = arg;
    int64_t asked_ns = atomic_load(&a->asked_ns);
    int64_t gone = asked_ns != 0 ? (pyi_now_ns() - asked_ns) / PYI_NS_PER_MS : 0;
    int64_t grace = grace_of(a);
    return grace > gone ? grace - gone : 0;
}

/* ---- start ----------------------------------------------------------------------------------- */

static pyi_err start_control(pyi_app *a, const pyi_app_options *o, pyi_error *e) {
    char path[108];
    PYI_AUTO_FREE char *absolute = realpath(o->path, NULL);
    if (o->control_path == NULL) {
        pyi_err err = pyi_control_path(o->path, path, sizeof path, e);
        if (err != PYI_OK) {
            return err;
        }
    } else if (snprintf(path, sizeof path, "%s", o->control_path) >= (int)sizeof path) {
        return pyi_error_set(e, PYI_EINVAL, "control.start",
                             "--socket '%s' is too long: 107 bytes at most", o->control_path);
    }
    pyi_control_options options = {path, absolute, on_control_stop, a};
    return pyi_control_start(a->manager, &options, &a->control, e);
}

static void on_settled(void *arg) {
    pyi_app *a = arg;
    eventfd_write(a->settled_fd, 1);
}

/* One that cannot be loaded is reported and the others go on: calls to it raise. */
static void load_extension(pyi_app *a, size_t index) {
    pyi_extension_config *config = pyi_config_take_extension(a->config, index);
    pyi_error e = {0};
    if (pyi_manager_load(a->manager, config, &a->by_index[index], &e) == PYI_OK) {
        pyi_extension_when_settled(a->by_index[index], on_settled, a);
        return;
    }
    a->first_failure = a->first_failure == PYI_OK ? e.code : a->first_failure;
    pyi_log_subject subject = {.ext = config->name};
    pyi_log(PYI_ERROR, "PYI-EXT-REFUSED", &subject, "%s", e.msg);
    pyi_extension_config_free(config);
    on_settled(a);
}

/* Until there is a sandbox, nobody may believe that there is one. */
static void warn_unsandboxed(const pyi_app *a) {
    char names[512] = "";
    size_t len = 0, many = 0;
    for (size_t i = 0; i < a->count; i++) {
        const pyi_extension_config *x =
            a->by_index[i] != NULL ? pyi_extension_config_of(a->by_index[i]) : NULL;
        if (x == NULL || !x->isolated || x->sandbox_mode != PYI_SANDBOX_ABSENT) {
            continue;
        }
        many++;
        if (len < sizeof names) {
            int more =
                snprintf(names + len, sizeof names - len, "%s%s", len > 0 ? ", " : "", x->name);
            len += more > 0 ? (size_t)more : 0;
        }
    }
    if (many > 0) {
        pyi_log(PYI_WARNING, "PYI-SANDBOX-ABSENT", NULL,
                "NO SANDBOX: %s run%s with all of your rights; there is no sandbox yet; "
                "sandbox_mode = \"disabled\" says that this is meant",
                names, many == 1 ? "s" : "");
    }
}

static pyi_err load_all(pyi_app *a, pyi_error *e) {
    a->count = pyi_config_count(a->config);
    a->by_index = calloc(a->count > 0 ? a->count : 1, sizeof *a->by_index);
    if (a->by_index == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "app.start", "out of memory");
    }
    pyi_manager_on_progress(a->manager, pyi_progress_hooks(a->progress));
    for (size_t i = 0; i < a->count; i++) {
        load_extension(a, i);
    }
    warn_unsandboxed(a);
    return pyi_lua_attach(a->config, a->manager, a->by_index, e);
}

static pyi_err start_manager(pyi_app *a, pyi_error *e) {
    pyi_manager_config *config = pyi_config_take_manager(a->config);
    pyi_err err = pyi_manager_new(config, &a->manager, e);
    if (err != PYI_OK) {
        pyi_manager_config_free(config);
    }
    return err;
}

pyi_err pyi_app_start(pyi_config *config, const pyi_app_options *o, pyi_app **ret, pyi_error *e) {
    pyi_app *a = calloc(1, sizeof *a);
    if (a == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "app.start", "out of memory");
    }
    a->config = config;
    atomic_store(&a->grace_ms, -1);
    a->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    a->settled_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pyi_err err = a->stop_fd < 0 || a->settled_fd < 0
                      ? pyi_error_sys(e, errno, "app.start", "make an eventfd")
                      : pyi_progress_new(STDERR_FILENO, o->quiet, &a->progress, e);
    if (err == PYI_OK) {
        err = start_manager(a, e);
    }
    if (err == PYI_OK) {
        err = start_control(a, o, e);
    }
    if (err == PYI_OK) {
        err = load_all(a, e);
    }
    if (err != PYI_OK) {
        pyi_app_free(a);
        return err;
    }
    *ret = a;
    return PYI_OK;
}

/* ---- run ------------------------------------------------------------------------------------- */

static bool is_ready(pyi_app *a, size_t index) {
    pyi_error e = {0};
    if (a->by_index[index] == NULL) {
        return false;
    }
    pyi_err err = pyi_extension_wait_ready(a->by_index[index], 0, NULL, &e);
    if (err != PYI_OK && a->first_failure == PYI_OK) {
        a->first_failure = err;
    }
    return err == PYI_OK;
}

size_t pyi_app_settle(pyi_app *a, size_t *ret_failed) {
    struct pollfd fds[] = {{.fd = a->stop_fd, .events = POLLIN},
                           {.fd = a->settled_fd, .events = POLLIN}};
    for (uint64_t settled = 0; settled < a->count && !pyi_app_stopping(a);) {
        eventfd_t more = 0;
        if (poll(fds, PYI_COUNT(fds), -1) > 0 && eventfd_read(a->settled_fd, &more) == 0) {
            settled += more;
        }
    }
    pyi_progress_end(a->progress);
    size_t ready = 0;
    for (size_t i = 0; i < a->count && !pyi_app_stopping(a); i++) {
        ready += is_ready(a, i);
    }
    *ret_failed = a->count - ready;
    return ready;
}

pyi_err pyi_app_first_failure(const pyi_app *a) {
    return a->first_failure;
}

int pyi_app_main(pyi_app *a, int argc, char *const *argv) {
    pyi_error e = {0};
    pyi_lua_stop stop = {a->stop_fd, grace_left, a};
    int status = pyi_lua_run_main(a->config, argc, argv, &stop, &e);
    pyi_output_flush();
    if (e.code == PYI_ESTOPPED) {
        pyi_log(PYI_INFO, "PYI-HOST-STOP", NULL, "main was stopped before it came to its end");
    }
    return status;
}

void pyi_app_serve(pyi_app *a) {
    struct pollfd fd = {.fd = a->stop_fd, .events = POLLIN};
    while (!pyi_app_stopping(a)) {
        (void)!poll(&fd, 1, -1);
    }
}

void pyi_app_dump(pyi_app *a) {
    size_t count = 0;
    PYI_AUTO_FREE pyi_extension **all = pyi_manager_extensions(a->manager, &count);
    for (size_t i = 0; i < count; i++) {
        pyi_status s = {0};
        pyi_extension_status(all[i], &s);
        pyi_log_subject subject = {pyi_extension_config_of(all[i])->name, s.generation, s.pid, NULL,
                                   NULL};
        pyi_log(PYI_INFO, "PYI-HOST-STATE", &subject,
                "%s, %llu calls (%llu failed), %u in flight, %u waiting, %u restarts, %llu KiB%s%s",
                s.crash_loop ? "crash loop" : pyi_state_name(s.state), (unsigned long long)s.calls,
                (unsigned long long)s.errors, s.in_flight, s.waiting, s.restarts,
                (unsigned long long)(s.rss >> 10),
                s.last_error.code != PYI_OK ? ", last error: " : "",
                s.last_error.code != PYI_OK ? s.last_error.msg : "");
        pyi_status_fini(&s);
    }
}

void pyi_app_finish(pyi_app *a) {
    if (a->progress != NULL) {
        pyi_progress_end(a->progress);
    }
    if (a->manager != NULL) {
        pyi_manager_stop(a->manager, grace_left(a));
    }
}

void pyi_app_free(pyi_app *a) {
    if (a == NULL) {
        return;
    }
    pyi_app_finish(a);
    pyi_control_stop(a->control);
    pyi_manager_free(a->manager);
    pyi_progress_free(a->progress);
    pyi_fd_close(&a->stop_fd);
    pyi_fd_close(&a->settled_fd);
    free(a->by_index);
    free(a);
}

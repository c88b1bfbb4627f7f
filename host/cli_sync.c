/*
 * sync: makes the environments ready, a few side by side, and starts nothing else. What was ready
 * before stays in use until the new one is.
 */
#include "cli.h"
#include "progress.h"
#include "signals.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>

enum { WORKERS = 4 };

typedef struct result {
    pyi_env *env; // owned
    char *detail; // owned: the installer's words
    pyi_error error;
} result;

typedef struct sync_state {
    const pyi_config *config;
    pyi_progress *progress;
    result *results;
    size_t count;
    atomic_size_t next;
    int cancel_fd;
    atomic_int signal;
} sync_state;

static void prepare(sync_state *s, size_t index) {
    const pyi_extension_config *x = pyi_config_extension(s->config, index);
    result *r = &s->results[index];
    pyi_err err = pyi_env_prepare(pyi_config_manager(s->config), x, pyi_progress_hooks(s->progress),
                                  s->cancel_fd, &r->env, &r->detail, &r->error);
    if (err != PYI_OK) {
        r->error.code = err;
        pyi_progress_failed(s->progress, x->name);
    }
}

static void *work(void *arg) {
    sync_state *s = arg;
    for (size_t i;
         (i = atomic_fetch_add(&s->next, 1)) < s->count && atomic_load(&s->signal) == 0;) {
        prepare(s, i);
    }
    return NULL;
}

static void on_signal(void *arg, int sig) {
    sync_state *s = arg;
    if (sig == SIGTERM || sig == SIGINT) {
        atomic_store(&s->signal, sig);
        eventfd_write(s->cancel_fd, 1);
    }
}

static void prepare_all(sync_state *s) {
    pthread_t threads[WORKERS];
    size_t started = 0;
    while (started < WORKERS && started + 1 < s->count &&
           pthread_create(&threads[started], NULL, work, s) == 0) {
        started++;
    }
    work(s); // this thread is one of them
    for (size_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    pyi_progress_end(s->progress);
}

/* ---- report ---------------------------------------------------------------------------------- */

static int name_width(const pyi_config *config) {
    int width = 0;
    for (size_t i = 0; i < pyi_config_count(config); i++) {
        int columns = pyi_term_columns(pyi_config_extension(config, i)->name);
        width = columns > width ? columns : width;
    }
    return width;
}

static void say_ready(const char *name, int width, const result *r) {
    int fd = STDOUT_FILENO;
    printf("%s%s%s%*s  ", pyi_term_style(fd, PYI_STYLE_BOLD), name,
           pyi_term_style(fd, PYI_STYLE_NONE), width - pyi_term_columns(name), "");
    if (strcmp(r->env->id, "host") == 0) {
        printf("runs in the host");
    } else if (r->env->built) {
        printf("%sbuilt in %.1f s%s", pyi_term_style(fd, PYI_STYLE_GREEN),
               (double)r->env->took_ns / (double)PYI_NS_PER_S, pyi_term_style(fd, PYI_STYLE_NONE));
    } else {
        printf("up to date");
    }
    printf("  python %s  %s%s%s\n",
           r->env->interpreter != NULL ? r->env->interpreter->version : "?",
           pyi_term_style(fd, PYI_STYLE_DIM), r->env->prefix, pyi_term_style(fd, PYI_STYLE_NONE));
}

static int report(const pyi_cli *cli, const sync_state *s) {
    int status = PYI_EXIT_OK;
    int width = name_width(s->config);
    for (size_t i = 0; i < s->count; i++) {
        const pyi_extension_config *x = pyi_config_extension(s->config, i);
        const result *r = &s->results[i];
        if (r->env != NULL) {
            if (cli->quiet == 0) {
                say_ready(x->name, width, r);
            }
        } else if (r->error.code != PYI_OK && r->error.code != PYI_ECANCELLED) {
            pyi_say_error("%s", r->error.msg); // it names the extension
            pyi_say_detail(r->detail);
            int own = pyi_exit_of(r->error.code);
            status = status == PYI_EXIT_OK || status == PYI_EXIT_FAILURE ? own : status;
        }
    }
    if (status != PYI_EXIT_OK) {
        pyi_say_hint("environments that were in use are as they were");
    }
    return status;
}

static int sync_config(const pyi_cli *cli, const pyi_config *config) {
    sync_state s = {.config = config, .count = pyi_config_count(config)};
    pyi_error e = {0};
    pyi_signals *signals = NULL;
    PYI_AUTO_FD int cancel_fd = eventfd(0, EFD_CLOEXEC);
    s.cancel_fd = cancel_fd;
    s.results = calloc(s.count > 0 ? s.count : 1, sizeof *s.results);
    if (s.results == NULL ||
        pyi_progress_new(STDERR_FILENO, cli->quiet > 0, &s.progress, &e) != PYI_OK ||
        pyi_signals_start(on_signal, &s, &signals, &e) != PYI_OK) {
        pyi_progress_free(s.progress);
        free(s.results);
        pyi_say_error("%s", e.code != PYI_OK ? e.msg : "out of memory");
        return PYI_EXIT_FAILURE;
    }
    prepare_all(&s);
    pyi_signals_stop(signals);
    int status = report(cli, &s);
    for (size_t i = 0; i < s.count; i++) {
        pyi_env_free(s.results[i].env);
        free(s.results[i].detail);
    }
    pyi_progress_free(s.progress);
    free(s.results);
    int sig = atomic_load(&s.signal);
    return sig != 0 ? PYI_EXIT_SIGNAL + sig : status;
}

static int sync_command(pyi_cli *cli, int argc, char **argv) {
    int status = PYI_EXIT_OK;
    pyi_config *config = pyi_cli_load(cli, "sync", argc > 0 ? argv[0] : NULL, &status);
    if (config == NULL) {
        return status;
    }
    status = pyi_cli_unavailable(config) > 0 ? PYI_EXIT_UNAVAILABLE : sync_config(cli, config);
    pyi_config_free(config);
    return status;
}

const pyi_command pyi_command_sync = {
    .name = "sync",
    .args = "[CONFIG.lua]",
    .summary = "build the environments, starting nothing",
    .text = "Builds what is missing or has changed, several extensions side by side, and leaves "
            "alone what is\n"
            "up to date. When an installation fails its own words are shown, and the environment "
            "that was in\n"
            "use stays in use.",
    .examples = "pyisolate-host sync config.lua\n"
                "  at deployment, so that the next start is quick\n",
    .most = 1,
    .handler = sync_command,
};

/*
 * run: the application that a configuration describes. With a main: its status is the program's.
 * Without: serves until it is told to stop.
 *
 * Signals: TERM and INT stop gracefully; a second one kills the extensions, and leaves after a
 * second even if main is deep in a computation; HUP checks the configuration; USR2 writes the state
 * to the log.
 */
#include "app.h"
#include "cli.h"
#include "notify.h"
#include "signals.h"
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

enum { LAST_WAIT_STEPS = 100, LAST_WAIT_STEP_US = 10000 };

typedef struct run_state {
    pyi_app *app;
    const char *path;
    bool served;       /* it had no main and came to serving: to be stopped is then its usual end */
    atomic_int signal; /* the last that asked for its end, or 0 */
    atomic_uint asked;
    atomic_bool finished; /* the extensions are down: the rest is quick */
} run_state;

static void check_again(const char *path) {
    pyi_config *config = NULL;
    pyi_error e = {0};
    const char *const *problems = NULL;
    if (pyi_config_load(path, &config, &e) != PYI_OK) {
        pyi_log(PYI_ERROR, "PYI-HOST-RELOAD", NULL, "%s", e.msg);
        return;
    }
    size_t count = pyi_config_problems(config, &problems);
    for (size_t i = 0; i < count; i++) {
        pyi_log(PYI_ERROR, "PYI-HOST-RELOAD", NULL, "%s", problems[i]);
    }
    pyi_log(count > 0 ? PYI_ERROR : PYI_WARNING, "PYI-HOST-RELOAD", NULL,
            count > 0
                ? "the configuration has problems; what runs goes on as it is"
                : "the configuration is good, but reloading is not available yet: restart the host "
                  "to use it; what runs goes on as it is");
    pyi_config_free(config);
}

/* The usual end comes first, unless main does not let go. */
static void leave_soon(const run_state *s, int sig) {
    for (int i = 0; i < LAST_WAIT_STEPS && !atomic_load(&s->finished); i++) {
        usleep(LAST_WAIT_STEP_US);
    }
    if (!atomic_load(&s->finished)) {
        _exit(PYI_EXIT_SIGNAL + sig);
    }
}

static void on_signal(void *arg, int sig) {
    run_state *s = arg;
    switch (sig) {
    case SIGHUP:
        check_again(s->path);
        break;
    case SIGUSR2:
        pyi_app_dump(s->app);
        break;
    default:
        atomic_store(&s->signal, sig);
        atomic_store(&s->asked, pyi_app_ask_stop(s->app, false, -1));
        if (atomic_load(&s->asked) > 1) {
            leave_soon(s, sig);
        }
        break;
    }
}

static int report_settled(const run_state *s, const pyi_config *config, size_t ready,
                          size_t failed) {
    size_t count = ready + failed;
    if (failed > 0) {
        pyi_log(PYI_WARNING, "PYI-HOST-READY", NULL, "%zu of %zu extensions %s ready", ready, count,
                ready == 1 ? "is" : "are");
    } else if (!pyi_config_has_main(config)) {
        pyi_log(PYI_INFO, "PYI-HOST-READY", NULL, "%zu extension%s ready; Ctrl-C stops", count,
                count == 1 ? "" : "s");
    }
    pyi_notify("READY=1\nSTATUS=%zu of %zu extensions ready", ready, count);
    if (ready == 0 && failed > 0 && !pyi_config_has_main(config)) {
        int status = pyi_exit_of(pyi_app_first_failure(s->app));
        pyi_log(PYI_ERROR, "PYI-HOST-STOP", NULL,
                "no extension is ready and there is no main: nothing to do");
        return status != PYI_EXIT_OK ? status : PYI_EXIT_FAILURE;
    }
    return PYI_EXIT_OK;
}

static int run_app(run_state *s, const pyi_config *config, int argc, char **argv) {
    size_t failed = 0;
    size_t ready = pyi_app_settle(s->app, &failed);
    int status = PYI_EXIT_OK;
    if (!pyi_app_stopping(s->app)) {
        status = report_settled(s, config, ready, failed);
    }
    if (status == PYI_EXIT_OK && !pyi_app_stopping(s->app)) {
        if (pyi_config_has_main(config)) {
            status = pyi_app_main(s->app, argc, argv);
        } else {
            s->served = true;
            pyi_app_serve(s->app);
        }
    }
    return status;
}

static int run_with_signals(const pyi_cli *cli, pyi_config *config, const char *path, int argc,
                            char **argv) {
    run_state s = {.path = path};
    pyi_app_options options = {path, cli->socket, cli->quiet > 0 || cli->log_format != NULL};
    pyi_error e = {0};
    if (pyi_app_start(config, &options, &s.app, &e) != PYI_OK) {
        return pyi_fail(&e);
    }
    pyi_signals *signals = NULL;
    int status;
    if (pyi_signals_start(on_signal, &s, &signals, &e) != PYI_OK) {
        status = pyi_fail(&e);
    } else {
        status = run_app(&s, config, argc, argv);
    }
    pyi_app_finish(s.app);
    atomic_store(&s.finished, true);
    pyi_signals_stop(signals);
    pyi_app_free(s.app);
    int sig = atomic_load(&s.signal);
    bool usual = s.served && atomic_load(&s.asked) < 2;
    return sig != 0 && !usual ? PYI_EXIT_SIGNAL + sig : status;
}

static void use_log_level(const pyi_cli *cli, const pyi_config *config) {
    const pyi_manager_config *manager = pyi_config_manager(config);
    if (!cli->has_log_level && manager->has_log_level) {
        pyi_log_level(manager->log_level);
    }
}

static int run(pyi_cli *cli, int argc, char **argv) {
    bool by_word = cli->config == NULL && argc > 0;
    const char *path = pyi_cli_config(cli, by_word ? argv[0] : NULL);
    int status = PYI_EXIT_OK;
    pyi_config *config = pyi_cli_load(cli, "run", path, &status);
    if (config == NULL) {
        return status;
    }
    if (pyi_cli_unavailable(config) > 0) {
        status = PYI_EXIT_UNAVAILABLE;
    } else if (pyi_config_count(config) == 0 && !pyi_config_has_main(config)) {
        pyi_say_error("'%s' has no extension and no main: there is nothing to run", path);
        status = PYI_EXIT_CONFIG;
    } else {
        use_log_level(cli, config);
        status = run_with_signals(cli, config, path, argc - by_word, argv + by_word);
    }
    pyi_config_free(config);
    return status;
}

const pyi_command pyi_command_run = {
    .name = "run",
    .args = "[CONFIG.lua] [ARGS...]",
    .summary = "run a configuration; `run` itself may be left out",
    .text = "Prepares the environments, starts the extensions, runs the configuration's main with "
            "ARGS and exits\n"
            "with what main returned: 0 to 255, nothing for 0; 1 after an error. Without a main it "
            "serves until\n"
            "SIGTERM or SIGINT. An extension that does not start is reported, and the others go "
            "on.",
    .examples = "pyisolate-host config.lua one two\n"
                "  main gets {\"one\", \"two\"}\n"
                "pyisolate-host run -v config.lua\n"
                "  with debug messages\n"
                "pyisolate-host --log-format=json config.lua 2> host.log\n"
                "  a log for machines\n",
    .most = -1,
    .passes_on = true,
    .handler = run,
};

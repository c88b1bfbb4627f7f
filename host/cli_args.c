/*
 * From argv to one command. `pyisolate-host CONFIG.lua [ARGS]` is `run`: a first word that is no
 * command but looks like a file (has a '/', ends in .lua, or exists) is a configuration. Global
 * options may stand before or after the command; after the configuration of `run` all words belong
 * to its main.
 */
#include "cli.h"
#include "output.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool looks_like_config(const char *word) {
    size_t len = strlen(word);
    struct stat st;
    return strchr(word, '/') != NULL || (len > 4 && strcmp(word + len - 4, ".lua") == 0) ||
           (stat(word, &st) == 0 && S_ISREG(st.st_mode));
}

static pyi_level least_level(const pyi_cli *cli) {
    pyi_level level = PYI_INFO;
    if (cli->log_level != NULL && pyi_level_parse(cli->log_level, &level)) {
        return level;
    }
    if (cli->verbose > 0) {
        return PYI_DEBUG;
    }
    return cli->quiet > 1 ? PYI_ERROR : cli->quiet == 1 ? PYI_WARNING : PYI_INFO;
}

static void open_log(pyi_cli *cli) {
    static const struct {
        const char *name;
        pyi_log_format format;
    } formats[] = {{"text", PYI_LOG_TEXT}, {"logfmt", PYI_LOG_LOGFMT}, {"json", PYI_LOG_JSON}};
    pyi_log_format format = PYI_LOG_AUTO;
    for (size_t i = 0; cli->log_format != NULL && i < PYI_COUNT(formats); i++) {
        if (strcmp(cli->log_format, formats[i].name) == 0) {
            format = formats[i].format;
        }
    }
    cli->has_log_level = cli->log_level != NULL || cli->verbose > 0 || cli->quiet > 0;
    pyi_log_open(STDERR_FILENO, format, least_level(cli));
}

/* Help and version asked for by option, whatever else is on the line; -1: not asked for. */
static int answer_about(const pyi_cli *cli, const pyi_command *command) {
    if (cli->help_full > 0) {
        pyi_help_full(cli, command);
        return PYI_EXIT_OK;
    }
    if (cli->help_short > 0) {
        pyi_help_short(cli, command);
        return PYI_EXIT_OK;
    }
    if (cli->version > 0) {
        return pyi_command_version.handler((pyi_cli *)cli, 0, NULL);
    }
    return -1;
}

static int wrong_count(const pyi_cli *cli, const pyi_command *c, int count, char **words) {
    if (count < c->least) {
        return pyi_say_usage(cli, c->name, "'%s' needs %s", c->name, c->args);
    }
    return pyi_say_usage(cli, c->name, "'%s' is one word too many for '%s'", words[c->most],
                         c->name);
}

static int run_command(pyi_cli *cli, const pyi_command *c, int argc, char **argv) {
    const pyi_options tables[] = {c->options, pyi_global_options};
    pyi_option_parse parse = {tables, PYI_COUNT(tables), cli, c->passes_on};
    pyi_error e = {0};
    int count = 0;
    if (pyi_options_parse(&parse, argc, argv, &count, &e) != PYI_OK) {
        return pyi_say_usage(cli, c->name, "%s", e.msg);
    }
    int answered = answer_about(cli, c);
    if (answered >= 0) {
        return answered;
    }
    if (count < c->least || (c->most >= 0 && count > c->most)) {
        return wrong_count(cli, c, count, argv);
    }
    open_log(cli);
    return c->handler(cli, count, argv);
}

static int unknown_command(const pyi_cli *cli, const char *word) {
    char inside[PATH_MAX];
    struct stat st;
    int len = snprintf(inside, sizeof inside, "%s/config.lua", word);
    if (len > 0 && (size_t)len < sizeof inside && stat(inside, &st) == 0) {
        return pyi_say_usage(cli, NULL, "'%s' is no command; did you mean '%s'?", word, inside);
    }
    const char *near = pyi_nearest(word, pyi_command_names(), pyi_command_count);
    if (near != NULL) {
        return pyi_say_usage(cli, NULL, "'%s' is no command and no file; did you mean '%s'?", word,
                             near);
    }
    return pyi_say_usage(cli, NULL, "'%s' is no command and no file", word);
}

static int run_words(int argc, char **argv) {
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    pyi_cli cli = {.program = slash != NULL ? slash + 1 : argc > 0 ? argv[0] : "pyisolate-host"};
    pyi_option_parse parse = {&pyi_global_options, 1, &cli, true};
    pyi_error e = {0};
    int count = 0;
    if (pyi_options_parse(&parse, argc - 1, argv + 1, &count, &e) != PYI_OK) {
        return pyi_say_usage(&cli, NULL, "%s", e.msg);
    }
    char **words = argv + 1;
    const pyi_command *command = count > 0 ? pyi_command_find(words[0]) : NULL;
    int answered = answer_about(&cli, command);
    if (answered >= 0) {
        return answered;
    }
    if (command != NULL) {
        return run_command(&cli, command, count - 1, words + 1);
    }
    if (count == 0 && cli.config == NULL) {
        pyi_help_short(&cli, NULL);
        return PYI_EXIT_USAGE;
    }
    if (count > 0 && cli.config == NULL && !looks_like_config(words[0])) {
        return unknown_command(&cli, words[0]);
    }
    open_log(&cli);
    return pyi_command_run.handler(&cli, count, words);
}

/* Output that is lost is no success. A reader that has gone (`| head`) knows that it went; what
 * failed otherwise has been told. */
static int check_output(int status) {
    int sys = pyi_output_error();
    if (sys == 0 || status != PYI_EXIT_OK) {
        return status;
    }
    if (sys != EPIPE) {
        pyi_say_error("not all output could be written to stdout: %s", strerror(sys));
    }
    return PYI_EXIT_FAILURE;
}

int pyi_cli_main(int argc, char **argv) {
    return check_output(run_words(argc, argv));
}

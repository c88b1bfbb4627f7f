/*
 * Help, made from the table. -h: what fits on a screen. --help: examples first, then everything.
 */
#include "cli.h"
#include <stdio.h>
#include <string.h>

static const char *bold(void) {
    return pyi_term_style(STDOUT_FILENO, PYI_STYLE_BOLD);
}

static const char *dim(void) {
    return pyi_term_style(STDOUT_FILENO, PYI_STYLE_DIM);
}

static const char *plain(void) {
    return pyi_term_style(STDOUT_FILENO, PYI_STYLE_NONE);
}

static void heading(const char *text) {
    printf("\n%s%s%s\n", bold(), text, plain());
}

/* Examples are pairs of lines: a command, then what it does, indented by two. */
static void examples(const char *text) {
    heading("Examples");
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        bool comment = text[0] == ' ';
        printf("  %s%s%.*s%s\n", comment ? dim() : "", comment ? "  " : "",
               (int)(comment ? len - 2 : len), comment ? text + 2 : text, plain());
        text += len + (text[len] == '\n');
    }
}

static void option_rows(const pyi_options *options) {
    for (size_t i = 0; i < options->count; i++) {
        const pyi_option *o = &options->rows[i];
        char left[64];
        char letter[8] = "";
        if (o->letter != 0) {
            snprintf(letter, sizeof letter, "-%c%s", o->letter, o->name != NULL ? ", " : "");
        }
        snprintf(left, sizeof left, "%-4s%s%s%s%s", letter, o->name != NULL ? "--" : "",
                 o->name != NULL ? o->name : "", o->arg != NULL ? "=" : "",
                 o->arg != NULL ? o->arg : "");
        printf(strlen(left) > 28 ? "  %s\n  %28s  %s\n" : "  %-28s%s  %s\n", left, "", o->help);
    }
}

static void usage_line(const pyi_cli *cli, const pyi_command *c) {
    printf("%sUsage:%s %s %s%s%s%s\n", bold(), plain(), cli->program, c->name,
           c->options.count > 0 ? " [OPTIONS]" : "", *c->args != '\0' ? " " : "", c->args);
}

static void command_list(void) {
    for (size_t i = 0; i < pyi_command_count; i++) {
        printf("  %s%-12s%s%s\n", bold(), pyi_commands[i]->name, plain(), pyi_commands[i]->summary);
    }
}

static void exit_statuses(void) {
    heading("Exit status");
    puts("  0      done; for run: what the configuration's main returned\n"
         "  1      failed: an error in main, an exception in the extension, a host that did not "
         "answer,\n"
         "         output that could not be written\n"
         "  2      wrong usage\n"
         "  69     something needed is missing: a running host, a Python, a package, a feature\n"
         "  77     permission denied\n"
         "  78     the configuration is wrong; nothing was changed\n"
         "  128+n  ended by signal n (130: Ctrl-C, 143: SIGTERM); a host that serves, has no main "
         "and was\n"
         "         stopped gracefully: 0");
}

void pyi_help_short(const pyi_cli *cli, const pyi_command *c) {
    if (c != NULL) {
        printf("%s: %s\n\n", c->name, c->summary);
        usage_line(cli, c);
        if (c->options.count > 0) {
            puts("");
            option_rows(&c->options);
        }
        printf("\nMore, with examples: %s %s --help\n", cli->program, c->name);
        return;
    }
    printf("%s: Python extensions in processes and environments of their own\n\n", cli->program);
    printf("%sUsage:%s %s CONFIG.lua [ARGS...]\n       %s COMMAND [...]\n\n", bold(), plain(),
           cli->program, cli->program);
    command_list();
    printf("\nMore, with examples: %s --help, %s COMMAND --help\n", cli->program, cli->program);
}

static void program_examples(void) {
    examples("pyisolate-host new hello && pyisolate-host hello/config.lua\n"
             "  a first extension, written and run\n"
             "pyisolate-host doctor\n"
             "  what this machine has and lacks\n"
             "pyisolate-host check config.lua\n"
             "  all mistakes in a configuration, with nothing started\n"
             "pyisolate-host config.lua one two\n"
             "  runs it; its main gets {\"one\", \"two\"}\n"
             "pyisolate-host call averages mean '[1, 2, 3]'\n"
             "  a call into the host that runs, from another terminal\n"
             "pyisolate-host status --json | jq '.extensions[].state'\n"
             "  for scripts\n");
}

static void program_full(const pyi_cli *cli) {
    printf("%s: Python extensions in processes and environments of their own, described in Lua\n",
           cli->program);
    program_examples();
    heading("Usage");
    printf("  %s [OPTIONS] CONFIG.lua [ARGS...]   short for: run CONFIG.lua [ARGS...]\n",
           cli->program);
    printf("  %s [OPTIONS] COMMAND [...]\n", cli->program);
    heading("Commands");
    command_list();
    heading("Options");
    option_rows(&pyi_global_options);
    heading("Signals, while it runs");
    puts(
        "  TERM, INT  stop: calls in flight may finish, then the children end; once more: at once\n"
        "  HUP        check the configuration and log what is wrong\n"
        "  USR2       write the state of all extensions to the log");
    exit_statuses();
    heading("Environment");
    puts("  NO_COLOR, CLICOLOR_FORCE     colour never, colour always\n"
         "  XDG_RUNTIME_DIR              where the sockets are, else /tmp/pyisolate-UID\n"
         "  XDG_CACHE_HOME               what is remembered about Pythons, else ~/.cache\n"
         "  PYISOLATE_PYTHON             the Python of extensions that name none\n"
         "  PYISOLATE_UV                 the uv that builds environments, else the one of PATH\n"
         "  PYISOLATE_LIBDIR             where pyisolate-child and its library are\n"
         "  PIP_INDEX_URL, PIP_FIND_LINKS, UV_*\n"
         "                               honoured when environments are built");
}

void pyi_help_full(const pyi_cli *cli, const pyi_command *c) {
    if (c == NULL) {
        program_full(cli);
        return;
    }
    printf("%s: %s\n", c->name, c->summary);
    if (c->examples != NULL) {
        examples(c->examples);
    }
    puts("");
    usage_line(cli, c);
    printf("\n%s\n", c->text);
    if (c->options.count > 0) {
        heading("Options");
        option_rows(&c->options);
    }
    heading("Options of all commands");
    option_rows(&pyi_global_options);
    exit_statuses();
}

static int help(pyi_cli *cli, int argc, char **argv) {
    if (argc == 0) {
        pyi_help_full(cli, NULL);
        return PYI_EXIT_OK;
    }
    const pyi_command *c = pyi_command_find(argv[0]);
    if (c == NULL) {
        const char *near = pyi_nearest(argv[0], pyi_command_names(), pyi_command_count);
        return pyi_say_usage(cli, NULL, "there is no command '%s'%s%s%s", argv[0],
                             near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                             near != NULL ? "'?" : "");
    }
    pyi_help_full(cli, c);
    return PYI_EXIT_OK;
}

const pyi_command pyi_command_help = {
    .name = "help",
    .args = "[COMMAND]",
    .summary = "explain the program or one command",
    .text = "The same as --help.",
    .most = 1,
    .handler = help,
};

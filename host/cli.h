#pragma once
/*
 * The commands of the program. Each has a file of its own, cli_<command>.c, that defines one
 * `const pyi_command`; cli_table.c lists them in alphabetical order, and the parser, --help and the
 * completions read that list and nothing else. Main thread only.
 *
 * A handler returns the process's exit status. Data goes to stdout, messages to stderr.
 */
#include "manager.h"
#include "options.h"
#include "term.h"

/* Listed in --help and in the man page; 128+n when signal n ended it. */
enum {
    PYI_EXIT_OK = 0,
    PYI_EXIT_FAILURE = 1,
    PYI_EXIT_USAGE = 2,
    PYI_EXIT_UNAVAILABLE =
        69, /* something this needs is missing: a host, a Python, a package, a feature */
    PYI_EXIT_PERMISSION = 77,
    PYI_EXIT_CONFIG = 78,
    PYI_EXIT_SIGNAL = 128
};

/* All options of all commands: a row of an option table names one of these fields. */
typedef struct pyi_cli {
    const char *program; /* argv[0]'s base name */
    const char *config, *socket, *log_format, *log_level;
    int quiet, verbose, help_short, help_full, version;
    int json, names, force;
    const char *kwargs, *timeout, *grace, *object;
    /* what is known once a log level was chosen: the configuration's own then does not count */
    bool has_log_level;
} pyi_cli;

typedef struct pyi_command {
    const char *name;
    const char *args;     /* "EXT METHOD [JSON...]", for the usage line and the completions */
    const char *summary;  /* a few words, for the list */
    const char *text;     /* a paragraph or more, for --help */
    const char *examples; /* "command\n  what it does\n" lines, for --help */
    pyi_options options;
    int least, most; /* words after the command; most < 0: any number */
    bool passes_on;  /* options after the first word belong to the configuration's main */
    int (*handler)(pyi_cli *cli, int argc, char **argv);
} pyi_command;

#define PYI_OPTION(letter, name, arg, help, field)                                                 \
    { letter, name, arg, help, offsetof(pyi_cli, field) }
#define PYI_OPTIONS(rows)                                                                          \
    { rows, PYI_COUNT(rows) }

extern const pyi_command pyi_command_call, pyi_command_check, pyi_command_completion,
    pyi_command_doctor, pyi_command_help, pyi_command_new, pyi_command_restart, pyi_command_run,
    pyi_command_schema, pyi_command_status, pyi_command_stop, pyi_command_sync, pyi_command_version;

/* ---- cli_table.c ----------------------------------------------------------------------------- */

extern const pyi_command *const pyi_commands[];
extern const size_t pyi_command_count;
extern const pyi_options pyi_global_options;

const pyi_command *pyi_command_find(const char *name);
/// Names of the commands for a suggestion; the array is static.
const char *const *pyi_command_names(void);

/* ---- cli_args.c ------------------------------------------------------------------------------ */

/// Parses argv, opens the log, runs one command; returns the exit status.
int pyi_cli_main(int argc, char **argv);

/* ---- cli_help.c ------------------------------------------------------------------------------ */

void pyi_help_short(const pyi_cli *cli, const pyi_command *command); /* NULL: of the program */
void pyi_help_full(const pyi_cli *cli, const pyi_command *command);

/* ---- cli_common.c ---------------------------------------------------------------------------- */

/// "error: TEXT" on stderr.
void pyi_say_error(const char *fmt, ...) PYI_PRINTF(1, 2);
void pyi_say_warning(const char *fmt, ...) PYI_PRINTF(1, 2);
/// "caused by: TEXT", below an error and its detail.
void pyi_say_cause(const char *fmt, ...) PYI_PRINTF(1, 2);
/// An indented line below a message: what to do next.
void pyi_say_hint(const char *fmt, ...) PYI_PRINTF(1, 2);
/// One line of text on stderr, with what a terminal would obey taken out.
void pyi_say_plain(const char *text);
/// Longer text below a message (a traceback, an installer's words), indented.
void pyi_say_detail(const char *text);
/// Usage error: the message and where help is. Returns PYI_EXIT_USAGE.
int pyi_say_usage(const pyi_cli *cli, const char *command, const char *fmt, ...) PYI_PRINTF(3, 4);
/// Which exit status an error means.
int pyi_exit_of(pyi_err code);
/// Prints the error and returns its exit status.
int pyi_fail(const pyi_error *e);
/// The same, where the configuration is what could not be read: it is absent, a folder, too long.
int pyi_fail_config(const pyi_error *e);

/// The configuration that a command without -c means: the word given, -c, or ./config.lua. NULL:
/// none.
const char *pyi_cli_config(const pyi_cli *cli, const char *word);
/// Writes JSON text to stdout: laid out in lines on a terminal, else as it is.
void pyi_print_json(const char *text);

/* ---- cli_remote.c: commands that talk to a running host -------------------------------------- */

struct pyi_client;

/// Finds the host that is meant and connects. NULL after printing why not; *ret_status is the exit
/// status.
struct pyi_client *pyi_remote_open(const pyi_cli *cli, int *ret_status);
/// Starts a request map of 1 + `more` entries with its operation.
void pyi_remote_begin(pyi_writer *w, const char *op, uint32_t more);
/// Sends it and waits. PYI_EXIT_OK with *ret_value, or the exit status of the error it printed. The
/// value lives until the client is closed.
int pyi_remote_request(struct pyi_client *client, pyi_writer *w, pyi_reader *ret_value);
/// The same, with the value as JSON text.
int pyi_remote_ask(struct pyi_client *client, pyi_writer *w, const char **ret_text);
/// Reads "--timeout=2.5": seconds. False: not a number (printed).
bool pyi_parse_seconds(const char *option, const char *text, double *ret);

/* ---- cli_load.c: commands that read a configuration ------------------------------------------ */

/// Loads the configuration that `word`, -c or ./config.lua names. NULL after printing what is
/// wrong; *ret_status is the exit status.
pyi_config *pyi_cli_load(const pyi_cli *cli, const char *command, const char *word,
                         int *ret_status);
/// Prints which extensions ask for what is not built yet or missing here; their number.
size_t pyi_cli_unavailable(const pyi_config *config);

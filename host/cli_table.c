/*
 * The one list of commands, alphabetical, and the options that every command has.
 */
#include "cli.h"
#include <string.h>

const pyi_command *const pyi_commands[] = {
    &pyi_command_call,    &pyi_command_check,  &pyi_command_completion, &pyi_command_doctor,
    &pyi_command_help,    &pyi_command_new,    &pyi_command_restart,    &pyi_command_run,
    &pyi_command_schema,  &pyi_command_status, &pyi_command_stop,       &pyi_command_sync,
    &pyi_command_version,
};
const size_t pyi_command_count = PYI_COUNT(pyi_commands);

static const pyi_option global_rows[] = {
    PYI_OPTION('c', "config", "FILE", "the configuration (default: ./config.lua)", config),
    PYI_OPTION(0, "socket", "PATH", "the control socket: of the running host; with run: to be made",
               socket),
    PYI_OPTION(0, "log-format", "text|logfmt|json", "default: text on a terminal, else logfmt",
               log_format),
    PYI_OPTION(0, "log-level", "debug|info|warning|error",
               "default: the configuration's, else info", log_level),
    PYI_OPTION('q', "quiet", NULL, "warnings and errors only; -qq errors only", quiet),
    PYI_OPTION('v', "verbose", NULL, "more: debug messages, all versions", verbose),
    PYI_OPTION('h', NULL, NULL, "short help", help_short),
    PYI_OPTION(0, "help", NULL, "full help, examples first", help_full),
    PYI_OPTION('V', "version", NULL, "the version", version),
};
const pyi_options pyi_global_options = PYI_OPTIONS(global_rows);

const pyi_command *pyi_command_find(const char *name) {
    for (size_t i = 0; i < pyi_command_count; i++) {
        if (strcmp(pyi_commands[i]->name, name) == 0) {
            return pyi_commands[i];
        }
    }
    return NULL;
}

const char *const *pyi_command_names(void) {
    static const char *names[PYI_COUNT(pyi_commands)];
    for (size_t i = 0; i < pyi_command_count; i++) {
        names[i] = pyi_commands[i]->name;
    }
    return names;
}

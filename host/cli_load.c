/*
 * From the command line to a good configuration: all problems at once, as file:line: message.
 */
#include "cli.h"
#include <stdio.h>

static int say_problems(const pyi_config *config, const char *path) {
    const char *const *problems = NULL;
    size_t count = pyi_config_problems(config, &problems);
    if (count == 0) {
        return PYI_EXIT_OK;
    }
    for (size_t i = 0; i < count; i++) {
        pyi_say_plain(problems[i]);
    }
    pyi_say_error("%zu problem%s in '%s'; nothing was started or changed", count,
                  count == 1 ? "" : "s", path);
    return PYI_EXIT_CONFIG;
}

pyi_config *pyi_cli_load(const pyi_cli *cli, const char *command, const char *word,
                         int *ret_status) {
    const char *path = pyi_cli_config(cli, word);
    if (path == NULL) {
        *ret_status =
            pyi_say_usage(cli, command, "there is no config.lua here; say which configuration");
        return NULL;
    }
    pyi_config *config = NULL;
    pyi_error e = {0};
    if (pyi_config_load(path, &config, &e) != PYI_OK) {
        *ret_status = pyi_fail_config(&e);
        return NULL;
    }
    *ret_status = say_problems(config, path);
    if (*ret_status != PYI_EXIT_OK) {
        pyi_config_free(config);
        return NULL;
    }
    return config;
}

size_t pyi_cli_unavailable(const pyi_config *config) {
    size_t refused = 0;
    for (size_t i = 0; i < pyi_config_count(config); i++) {
        const pyi_extension_config *x = pyi_config_extension(config, i);
        pyi_error e = {0};
        if (pyi_extension_available(x, &e) != PYI_OK) {
            pyi_say_error("%s: extension '%s': %s", x->declared_at, x->name, e.msg);
            refused++;
        }
    }
    return refused;
}

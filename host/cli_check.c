/*
 * check: everything that can be known about a configuration without starting anything.
 */
#include "cli.h"
#include "env_store.h"
#include "paths.h"
#include <stdio.h>

/* Whether the Python that an extension asks for is on this machine; it prints what is missing. */
static bool python_is_there(const pyi_config *config, const pyi_extension_config *x,
                            const char *cache) {
    const char *request = x->python != NULL ? x->python : pyi_config_manager(config)->python;
    if (!x->isolated || x->package_manager != PYI_PM_UV) {
        return true; // that Python is the host's, or conda brings it
    }
    pyi_interpreter *found = NULL;
    pyi_error e = {0};
    pyi_err err = x->environment != NULL ? pyi_env_existing(x->environment, cache, &found, &e)
                                         : pyi_interpreter_find(request, cache, &found, &e);
    pyi_interpreter_free(found);
    if (err == PYI_OK) {
        return true;
    }
    pyi_say_error("%s: extension '%s': %s", x->declared_at, x->name, e.msg);
    return false;
}

static size_t missing_pythons(const pyi_config *config) {
    char cache[4096];
    pyi_error e = {0};
    if (pyi_cache_dir(cache, sizeof cache, &e) != PYI_OK) {
        pyi_say_warning("%s", e.msg);
        return 0;
    }
    size_t missing = 0;
    for (size_t i = 0; i < pyi_config_count(config); i++) {
        missing += !python_is_there(config, pyi_config_extension(config, i), cache);
    }
    return missing;
}

static int check(pyi_cli *cli, int argc, char **argv) {
    int status = PYI_EXIT_OK;
    pyi_config *config = pyi_cli_load(cli, "check", argc > 0 ? argv[0] : NULL, &status);
    if (config == NULL) {
        return status;
    }
    size_t count = pyi_config_count(config);
    size_t lacks = pyi_cli_unavailable(config);
    lacks += missing_pythons(config);
    if (lacks > 0) {
        pyi_say_hint("the configuration is valid, but it cannot run here as it is");
        status = PYI_EXIT_UNAVAILABLE;
    } else if (cli->quiet == 0) {
        printf("ok: %zu extension%s%s\n", count, count == 1 ? "" : "s",
               pyi_config_has_main(config) ? " and main" : "");
    }
    pyi_config_free(config);
    return status;
}

const pyi_command pyi_command_check = {
    .name = "check",
    .args = "[CONFIG.lua]",
    .summary = "check a configuration, starting nothing",
    .text = "Reports all mistakes at once, as file:line: message, and exits 78; nothing is started "
            "or changed.\n"
            "Exits 69 when the configuration is right but asks for what is not there: a Python "
            "that is not\n"
            "installed, an environment without one, a feature that is not available yet.",
    .examples = "pyisolate-host check config.lua\n"
                "  before every deployment\n",
    .most = 1,
    .handler = check,
};

/*
 * schema: the documentation of all keys of a configuration, made from the table that validates
 * them.
 */
#include "cli.h"
#include <stdio.h>

static int schema(pyi_cli *cli, int argc, char **argv) {
    pyi_error e = {0};
    pyi_err err = pyi_config_render(argc > 0 ? argv[0] : "markdown", stdout, &e);
    if (err == PYI_EINVAL) {
        return pyi_say_usage(cli, "schema", "%s", e.msg);
    }
    return err == PYI_OK ? PYI_EXIT_OK : pyi_fail(&e);
}

const pyi_command pyi_command_schema = {
    .name = "schema",
    .args = "[markdown|luals]",
    .summary = "print the keys of a configuration, or types for editors",
    .text = "markdown: docs/configuration.md. luals: annotations for the Lua language server.",
    .examples = "pyisolate-host schema luals > pyisolate.d.lua\n"
                "  completion and type checks for config.lua in an editor\n",
    .most = 1,
    .handler = schema,
};

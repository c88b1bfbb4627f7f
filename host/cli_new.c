/*
 * new: a configuration and an extension to start from.
 */
#include "cli.h"
#include "template.h"
#include <stdio.h>
#include <string.h>

/* "work/greeter/" is the folder work/greeter with an extension named greeter. */
static const char *name_of(char *path) {
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') {
        path[--len] = '\0';
    }
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static int new (pyi_cli *cli, int argc, char **argv) {
    (void)argc;
    const char *name = name_of(argv[0]);
    if (!pyi_template_name_ok(name)) {
        return pyi_say_usage(cli, "new",
                             "'%s' cannot name an extension: letters, digits, '_' and '-', "
                             "beginning with a letter",
                             name);
    }
    pyi_error e = {0};
    if (pyi_template_write(argv[0], name, &e) != PYI_OK) {
        return pyi_fail(&e);
    }
    if (cli->quiet == 0) {
        printf("%s/config.lua              the application, in Lua\n", argv[0]);
        printf("%s/extension/__init__.py   the extension, in Python\n", argv[0]);
        printf("\nRun it:  %s %s/config.lua\n", cli->program, argv[0]);
    }
    return PYI_EXIT_OK;
}

const pyi_command pyi_command_new = {
    .name = "new",
    .args = "NAME",
    .summary = "write a first configuration and extension",
    .text = "Makes the folder NAME with config.lua and extension/__init__.py: they run as they "
            "are. Overwrites\n"
            "nothing.",
    .examples = "pyisolate-host new hello && pyisolate-host hello/config.lua\n"
                "  written and run\n",
    .least = 1,
    .most = 1,
    .handler = new,
};

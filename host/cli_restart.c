/*
 * restart: a new generation of one extension; the old one drains.
 */
#include "cli.h"
#include "control_client.h"
#include <stdio.h>

static const pyi_option rows[] = {
    PYI_OPTION(0, "grace", "SECONDS",
               "how long its calls in flight may take (default: stop_timeout)", grace),
};

static void say_restarted(const pyi_cli *cli, const char *name, pyi_reader value) {
    if (cli->quiet == 0) {
        fprintf(stderr, "%s: ready (generation %lld, pid %lld)\n", name,
                (long long)pyi_map_int(value, "generation", 0),
                (long long)pyi_map_int(value, "pid", 0));
    }
}

static int restart(pyi_cli *cli, int argc, char **argv) {
    (void)argc;
    double grace = 0;
    if (cli->grace != NULL && !pyi_parse_seconds("grace", cli->grace, &grace)) {
        return PYI_EXIT_USAGE;
    }
    int status = PYI_EXIT_OK;
    pyi_client *client = pyi_remote_open(cli, &status);
    if (client == NULL) {
        return status;
    }
    pyi_writer w;
    pyi_remote_begin(&w, "restart", 1 + (cli->grace != NULL));
    pyi_put_cstr(&w, "extension");
    pyi_put_cstr(&w, argv[0]);
    if (cli->grace != NULL) {
        pyi_put_cstr(&w, "grace");
        pyi_put_float(&w, grace);
    }
    pyi_reader value;
    status = pyi_remote_request(client, &w, &value);
    if (status == PYI_EXIT_OK) {
        say_restarted(cli, argv[0], value);
    }
    pyi_client_close(client);
    return status;
}

const pyi_command pyi_command_restart = {
    .name = "restart",
    .args = "EXT",
    .summary = "restart one extension of the running host",
    .text = "Starts a new child for the extension and waits until it is ready; calls in flight "
            "finish on the\n"
            "old one. Also brings back an extension that has failed or was stopped.",
    .examples = "pyisolate-host restart averages\n"
                "  after its code was changed\n",
    .options = PYI_OPTIONS(rows),
    .least = 1,
    .most = 1,
    .handler = restart,
};

/*
 * stop: asks the running host to stop and waits until its process is gone.
 */
#include "cli.h"
#include "control_client.h"
#include <stdio.h>

static const pyi_option rows[] = {
    PYI_OPTION(0, "grace", "SECONDS", "how long calls in flight may take (default: stop_timeout)",
               grace),
    PYI_OPTION(0, "now", NULL, "kill the extensions at once", force),
};

static int stop(pyi_cli *cli, int argc, char **argv) {
    (void)argc, (void)argv;
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
    pyi_remote_begin(&w, "stop", 1 + (cli->grace != NULL));
    pyi_put_cstr(&w, "now");
    pyi_put_bool(&w, cli->force > 0);
    if (cli->grace != NULL) {
        pyi_put_cstr(&w, "grace");
        pyi_put_float(&w, grace);
    }
    pyi_reader value;
    pyi_error e = {0};
    status = pyi_remote_request(client, &w, &value);
    if (status == PYI_EXIT_OK && pyi_client_wait_end(client, -1, &e) != PYI_OK) {
        status = pyi_fail(&e);
    } else if (status == PYI_EXIT_OK && cli->quiet == 0) {
        fprintf(stderr, "stopped (pid %d)\n", pyi_client_peer(client));
    }
    pyi_client_close(client);
    return status;
}

const pyi_command pyi_command_stop = {
    .name = "stop",
    .args = "",
    .summary = "stop the running host",
    .text = "Calls in flight may finish, the extensions' stop() hooks run, the children end; then "
            "it returns.",
    .examples = "pyisolate-host stop\n"
                "  the host of ./config.lua, or the only one that runs\n"
                "pyisolate-host stop -c /srv/app/config.lua --grace 30\n"
                "  half a minute for calls in flight\n",
    .options = PYI_OPTIONS(rows),
    .handler = stop,
};

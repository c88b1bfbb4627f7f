/*
 * The program pyisolate-host. All that it does is in the commands: cli_table.c has the list.
 */
#include "cli.h"

int main(int argc, char **argv) {
    return pyi_cli_main(argc, argv);
}

/*
 * The program pyisolate-host. All that it does is in the commands: cli_table.c has the list.
 */
#include "cli.h"
#include "output.h"

int main(int argc, char **argv) {
    pyi_output_reserve();
    return pyi_cli_main(argc, argv);
}

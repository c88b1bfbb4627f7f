/*
 * status: what runs. A table on a terminal, tab-separated columns in a pipe, JSON with --json.
 */
#include "cli.h"
#include "control_client.h"
#include <stdio.h>
#include <string.h>

enum { COLUMNS = 10, CELL = 320, ERROR_COLUMN = COLUMNS - 1 };

static const pyi_option rows[] = {
    PYI_OPTION(0, "json", NULL, "everything, for programs; names are stable", json),
    PYI_OPTION(0, "names", NULL, "only the names of the extensions, one a line", names),
};

typedef struct line {
    char cell[COLUMNS][CELL];
    pyi_style style; /* of the state */
} line;

static const char *const titles[COLUMNS] = {"NAME",  "STATE",     "PID",    "PYTHON",
                                            "CALLS", "IN FLIGHT", "MEMORY", "RESTARTS",
                                            "UP",    "LAST ERROR"};

/* ---- cells ----------------------------------------------------------------------------------- */

static void format_bytes(char *ret, size_t size, int64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < PYI_COUNT(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(ret, size, value < 10 && unit > 0 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

static void format_seconds(char *ret, size_t size, double seconds) {
    long long s = (long long)seconds;
    if (s < 60) {
        snprintf(ret, size, seconds < 10 ? "%.1f s" : "%.0f s", seconds);
    } else if (s < 3600) {
        snprintf(ret, size, "%lld m %02lld s", s / 60, s % 60);
    } else if (s < 86400) {
        snprintf(ret, size, "%lld h %02lld m", s / 3600, s / 60 % 60);
    } else {
        snprintf(ret, size, "%lld d %02lld h", s / 86400, s / 3600 % 24);
    }
}

static void set_text(char *cell, pyi_reader map, const char *key) {
    PYI_AUTO_FREE char *text = pyi_map_string(map, key);
    snprintf(cell, CELL, "%s", text != NULL && *text != '\0' ? text : "-");
}

static void set_number(char *cell, pyi_reader map, const char *key) {
    snprintf(cell, CELL, "%lld", (long long)pyi_map_int(map, key, 0));
}

static pyi_style state_style(const char *state, bool crash_loop) {
    if (crash_loop || strcmp(state, "failed") == 0) {
        return PYI_STYLE_RED;
    }
    if (strcmp(state, "ready") == 0) {
        return PYI_STYLE_GREEN;
    }
    return strcmp(state, "stopped") == 0 ? PYI_STYLE_DIM : PYI_STYLE_YELLOW;
}

static void set_state(line *l, pyi_reader x) {
    PYI_AUTO_FREE char *state = pyi_map_string(x, "state");
    double next = pyi_map_number(x, "next_start_s", 0);
    bool loop = pyi_map_bool(x, "crash_loop", false);
    const char *name = state != NULL ? state : "?";
    if (next > 0) {
        snprintf(l->cell[1], CELL, "%s (%.1f s)", loop ? "crash loop" : name, next);
    } else {
        snprintf(l->cell[1], CELL, "%s", loop ? "crash loop" : name);
    }
    l->style = state_style(name, loop);
}

static void set_error(char *cell, pyi_reader x) {
    pyi_reader error;
    snprintf(cell, CELL, "-");
    if (pyi_map_kind(x, "last_error") == PYI_MAP && pyi_map_get(x, "last_error", &error)) {
        set_text(cell, error, "message");
        for (char *c = cell; *c != '\0'; c++) { // one line, and nothing that a terminal would obey
            *c = (unsigned char)*c < 0x20 || *c == 0x7F ? ' ' : *c;
        }
    }
}

static void fill(line *l, pyi_reader x) {
    set_text(l->cell[0], x, "name");
    set_state(l, x);
    if (pyi_map_int(x, "pid", 0) > 0) {
        set_number(l->cell[2], x, "pid");
    } else {
        snprintf(l->cell[2], CELL, "-");
    }
    set_text(l->cell[3], x, "python");
    set_number(l->cell[4], x, "calls");
    int64_t errors = pyi_map_int(x, "errors", 0);
    if (errors > 0) {
        snprintf(l->cell[4], CELL, "%lld (%lld failed)", (long long)pyi_map_int(x, "calls", 0),
                 (long long)errors);
    }
    long long waiting = pyi_map_int(x, "waiting", 0);
    snprintf(l->cell[5], CELL, "%lld", waiting + (long long)pyi_map_int(x, "in_flight", 0));
    int64_t rss = pyi_map_int(x, "rss_bytes", 0);
    snprintf(l->cell[6], CELL, "-");
    if (rss > 0) {
        format_bytes(l->cell[6], CELL, rss);
    }
    set_number(l->cell[7], x, "restarts");
    double up = pyi_map_number(x, "up_s", 0);
    snprintf(l->cell[8], CELL, "-");
    if (up > 0) {
        format_seconds(l->cell[8], CELL, up);
    }
    set_error(l->cell[ERROR_COLUMN], x);
}

/* ---- output ---------------------------------------------------------------------------------- */

static bool right_aligned(int column) {
    return column == 2 || (column >= 4 && column <= 8);
}

static void print_cell(const line *l, int column, int width) {
    const char *text = l->cell[column];
    int pad = width - pyi_term_columns(text);
    const char *start = column == 1 ? pyi_term_style(STDOUT_FILENO, l->style) : "";
    const char *end = *start != '\0' ? pyi_term_style(STDOUT_FILENO, PYI_STYLE_NONE) : "";
    printf("%*s%s%s%s%*s", right_aligned(column) ? pad : 0, "", start, text, end,
           right_aligned(column) ? 0 : pad, "");
    fputs(column == ERROR_COLUMN - 1 ? "\n" : "  ", stdout);
}

static void print_title(int column, int width) {
    printf(right_aligned(column) ? "%*s" : "%-*s", width, titles[column]);
    fputs(column == ERROR_COLUMN - 1 ? "" : "  ", stdout);
}

/* On a terminal an error has a line of its own, below the table: they are long. */
static void print_errors(const line *lines, size_t count) {
    const char *before = "\n";
    for (size_t i = 0; i < count; i++) {
        if (strcmp(lines[i].cell[ERROR_COLUMN], "-") != 0) {
            printf("%s%s%s%s: %s\n", before, pyi_term_style(STDOUT_FILENO, PYI_STYLE_RED),
                   lines[i].cell[0], pyi_term_style(STDOUT_FILENO, PYI_STYLE_NONE),
                   lines[i].cell[ERROR_COLUMN]);
            before = "";
        }
    }
}

static void print_table(const line *lines, size_t count) {
    int widths[COLUMNS] = {0};
    for (int c = 0; c < ERROR_COLUMN; c++) {
        widths[c] = pyi_term_columns(titles[c]);
        for (size_t i = 0; i < count; i++) {
            int columns = pyi_term_columns(lines[i].cell[c]);
            widths[c] = columns > widths[c] ? columns : widths[c];
        }
    }
    printf("%s", pyi_term_style(STDOUT_FILENO, PYI_STYLE_BOLD));
    for (int c = 0; c < ERROR_COLUMN; c++) {
        print_title(c, widths[c]);
    }
    printf("%s\n", pyi_term_style(STDOUT_FILENO, PYI_STYLE_NONE));
    for (size_t i = 0; i < count; i++) {
        for (int c = 0; c < ERROR_COLUMN; c++) {
            print_cell(&lines[i], c, widths[c]);
        }
    }
    print_errors(lines, count);
}

static void print_tabs(const line *lines, size_t count) {
    for (int c = 0; c < COLUMNS; c++) {
        printf("%s%c", titles[c], c + 1 < COLUMNS ? '\t' : '\n');
    }
    for (size_t i = 0; i < count; i++) {
        for (int c = 0; c < COLUMNS; c++) {
            printf("%s%c", lines[i].cell[c], c + 1 < COLUMNS ? '\t' : '\n');
        }
    }
}

static void print_host(pyi_reader value) {
    pyi_reader host;
    if (!isatty(STDOUT_FILENO) || !pyi_map_get(value, "host", &host)) {
        return;
    }
    char up[32];
    PYI_AUTO_FREE char *config = pyi_map_string(host, "config");
    format_seconds(up, sizeof up, pyi_map_number(host, "up_s", 0));
    printf("%s%s%s  pid %lld, up %s\n\n", pyi_term_style(STDOUT_FILENO, PYI_STYLE_DIM),
           config != NULL ? config : "", pyi_term_style(STDOUT_FILENO, PYI_STYLE_NONE),
           (long long)pyi_map_int(host, "pid", 0), up);
}

static int print_status(const pyi_cli *cli, pyi_reader value) {
    pyi_reader items = {0};
    uint32_t count = pyi_map_array(value, "extensions", &items);
    line *lines = calloc(count > 0 ? count : 1, sizeof *lines);
    if (lines == NULL) {
        pyi_say_error("out of memory");
        return PYI_EXIT_FAILURE;
    }
    for (uint32_t i = 0; i < count; i++) {
        pyi_reader x = {0};
        if (pyi_take_value(&items, &x) == PYI_OK) {
            fill(&lines[i], x);
        }
    }
    if (cli->names) {
        for (uint32_t i = 0; i < count; i++) {
            puts(lines[i].cell[0]);
        }
    } else if (isatty(STDOUT_FILENO)) {
        print_host(value);
        print_table(lines, count);
    } else {
        print_tabs(lines, count);
    }
    free(lines);
    return PYI_EXIT_OK;
}

static int status_command(pyi_cli *cli, int argc, char **argv) {
    (void)argc, (void)argv;
    int status = PYI_EXIT_OK;
    pyi_client *client = pyi_remote_open(cli, &status);
    if (client == NULL) {
        return status;
    }
    pyi_writer w;
    pyi_reader value;
    const char *text = NULL;
    pyi_remote_begin(&w, "status", 0);
    status = cli->json ? pyi_remote_ask(client, &w, &text) : pyi_remote_request(client, &w, &value);
    if (status == PYI_EXIT_OK && cli->json) {
        pyi_print_json(text);
    } else if (status == PYI_EXIT_OK) {
        status = print_status(cli, value);
    }
    pyi_client_close(client);
    return status;
}

const pyi_command pyi_command_status = {
    .name = "status",
    .args = "",
    .summary = "show the running host and its extensions",
    .text = "A table on a terminal, tab-separated columns in a pipe. States: preparing, starting, "
            "ready, backoff\n"
            "(crashed; starts again after a delay), draining, stopped, failed; \"crash loop\" "
            "after five crashes\n"
            "in a row.",
    .examples = "pyisolate-host status\n"
                "  the host of ./config.lua, or the only one that runs\n"
                "pyisolate-host status --json | jq '.extensions[] | {name, state, rss_bytes}'\n"
                "  for scripts\n",
    .options = PYI_OPTIONS(rows),
    .handler = status_command,
};

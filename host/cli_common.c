/*
 * What the commands share: messages on stderr in one form, exit statuses, the configuration meant.
 */
#include "cli.h"
#include "json_text.h"
#include "output.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Text on its way to a terminal: extensions write tracebacks, and may not move the cursor with
 * them. */
static void put_safe(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool c1 = c == 0xC2 && i + 1 < len && ((unsigned char)text[i + 1] & 0xE0) == 0x80;
        bool control = (c < 0x20 && c != '\n' && c != '\t') || c == 0x7F || c1;
        fputc(control ? '?' : c, stderr);
        i += c1;
    }
}

static void say(const char *label, pyi_style style, const char *fmt, va_list args) {
    char text[8192];
    vsnprintf(text, sizeof text, fmt, args);
    pyi_output_flush(); // a terminal shows both streams: keep them in order
    fprintf(stderr, "%s%s:%s ", pyi_term_style(STDERR_FILENO, style), label,
            pyi_term_style(STDERR_FILENO, PYI_STYLE_NONE));
    put_safe(text, strlen(text));
    fputc('\n', stderr);
}

void pyi_say_error(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    say("error", PYI_STYLE_RED, fmt, args);
    va_end(args);
}

void pyi_say_cause(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    say("caused by", PYI_STYLE_RED, fmt, args);
    va_end(args);
}

void pyi_say_warning(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    say("warning", PYI_STYLE_YELLOW, fmt, args);
    va_end(args);
}

void pyi_say_hint(const char *fmt, ...) {
    char text[8192];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fputs("       ", stderr);
    pyi_say_plain(text);
}

void pyi_say_plain(const char *text) {
    put_safe(text, strlen(text));
    fputc('\n', stderr);
}

void pyi_say_detail(const char *text) {
    while (text != NULL && *text != '\0') {
        size_t len = strcspn(text, "\n");
        fputs("    ", stderr);
        put_safe(text, len);
        fputc('\n', stderr);
        text += len + (text[len] == '\n');
    }
}

int pyi_say_usage(const pyi_cli *cli, const char *command, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    say("error", PYI_STYLE_RED, fmt, args);
    va_end(args);
    pyi_say_hint("see: %s %s%s-h", cli->program, command != NULL ? command : "",
                 command != NULL ? " " : "");
    return PYI_EXIT_USAGE;
}

int pyi_exit_of(pyi_err code) {
    switch (code) {
    case PYI_OK:
        return PYI_EXIT_OK;
    case PYI_ECONFIG:
        return PYI_EXIT_CONFIG;
    case PYI_EPERM:
        return PYI_EXIT_PERMISSION;
    case PYI_EENV:
    case PYI_EUNAVAILABLE:
        return PYI_EXIT_UNAVAILABLE;
    case PYI_EINVAL:
    case PYI_ENOMEM:
    case PYI_ESYS:
    case PYI_EPROTO:
    case PYI_ETOOBIG:
    case PYI_ETYPE:
    case PYI_ENOTFOUND:
    case PYI_EDEADLINE:
    case PYI_ECANCELLED:
    case PYI_EDIED:
    case PYI_ESTOPPED:
    case PYI_EREMOTE:
    case PYI_ESTART:
    case PYI_EINTERNAL:
    case PYI_ERR_COUNT:
        break;
    }
    return PYI_EXIT_FAILURE;
}

int pyi_fail(const pyi_error *e) {
    pyi_say_error("%s", e->msg);
    bool denied = e->code == PYI_ESYS && (e->sys == EACCES || e->sys == EPERM);
    return denied ? PYI_EXIT_PERMISSION : pyi_exit_of(e->code);
}

int pyi_fail_config(const pyi_error *e) {
    int status = pyi_fail(e);
    bool ours = status == PYI_EXIT_FAILURE && e->code != PYI_ENOMEM && e->code != PYI_EINTERNAL;
    return ours ? PYI_EXIT_CONFIG : status;
}

const char *pyi_cli_config(const pyi_cli *cli, const char *word) {
    if (word != NULL) {
        return word;
    }
    if (cli->config != NULL) {
        return cli->config;
    }
    return access("config.lua", F_OK) == 0 ? "config.lua" : NULL;
}

void pyi_print_json(const char *text) {
    if (isatty(STDOUT_FILENO)) {
        pyi_json_pretty(stdout, text, 80);
        putchar('\n');
    } else {
        puts(text);
    }
}

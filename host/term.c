/*
 * Terminal conventions in one place, so that status, progress and error messages agree about when
 * to colour and when to draw. Everything is decided from the descriptor and the environment on each
 * call: these run a few times a second at most, and a cached answer would be wrong after a
 * redirect.
 */
#include "term.h"
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>

static bool dumb(void) {
    const char *term = getenv("TERM");
    return term == NULL || *term == '\0' || strcmp(term, "dumb") == 0;
}

bool pyi_term_colour(int fd) {
    if (getenv("NO_COLOR") != NULL && *getenv("NO_COLOR") != '\0') {
        return false;
    }
    const char *force = getenv("CLICOLOR_FORCE");
    if (force != NULL && *force != '\0' && strcmp(force, "0") != 0) {
        return true;
    }
    return isatty(fd) && !dumb();
}

bool pyi_term_live(int fd) {
    return isatty(fd) && !dumb();
}

int pyi_term_width(int fd) {
    struct winsize size = {0};
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    const char *columns = getenv("COLUMNS");
    int width = columns != NULL ? atoi(columns) : 0;
    return width > 0 ? width : 80;
}

bool pyi_term_utf8(void) {
    const char *names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < PYI_COUNT(names); i++) {
        const char *value = getenv(names[i]);
        if (value != NULL && *value != '\0') {
            return strcasestr(value, "utf-8") != NULL || strcasestr(value, "utf8") != NULL;
        }
    }
    return false;
}

const char *pyi_term_style(int fd, pyi_style style) {
    static const char *const sequences[] = {
        [PYI_STYLE_NONE] = "\033[0m",   [PYI_STYLE_BOLD] = "\033[1m",
        [PYI_STYLE_DIM] = "\033[2m",    [PYI_STYLE_RED] = "\033[31m",
        [PYI_STYLE_GREEN] = "\033[32m", [PYI_STYLE_YELLOW] = "\033[33m",
        [PYI_STYLE_CYAN] = "\033[36m",
    };
    return pyi_term_colour(fd) ? sequences[style] : "";
}

static bool continues(char c) {
    return ((unsigned char)c & 0xC0) == 0x80;
}

int pyi_term_columns(const char *text) {
    int columns = 0;
    for (; *text != '\0'; text++) {
        columns += !continues(*text);
    }
    return columns;
}

size_t pyi_term_fit(const char *text, int columns) {
    size_t len = 0;
    for (; text[len] != '\0'; len++) {
        if (!continues(text[len]) && columns-- <= 0) {
            break;
        }
    }
    return len;
}

#pragma once
/*
 * What the terminal can do: colour, width, Unicode. Conventions: NO_COLOR (any value) off,
 * CLICOLOR_FORCE (not "0") on, TERM=dumb off, else colour on a terminal only. Any thread; nothing
 * is cached but the locale.
 */
#include "pyi_base.h"

typedef enum pyi_style {
    PYI_STYLE_NONE,
    PYI_STYLE_BOLD,
    PYI_STYLE_DIM,
    PYI_STYLE_RED,
    PYI_STYLE_GREEN,
    PYI_STYLE_YELLOW,
    PYI_STYLE_CYAN
} pyi_style;

/// Whether text on `fd` may be coloured.
bool pyi_term_colour(int fd);
/// Whether `fd` is a terminal on which lines may be redrawn.
bool pyi_term_live(int fd);
/// Columns of the terminal `fd`, 80 where that is unknown.
int pyi_term_width(int fd);
/// Whether the user's locale writes UTF-8.
bool pyi_term_utf8(void);
/// The escape sequence that starts a style on `fd`, "" where colour is off. NONE: the one that ends
/// it.
const char *pyi_term_style(int fd, pyi_style style);
/// Columns that UTF-8 text takes, counting one for each code point.
int pyi_term_columns(const char *text);
/// Bytes of `text` that fit in `columns` columns, never cutting a code point in two.
size_t pyi_term_fit(const char *text, int columns);

/*
 * Escaping. Runs of harmless characters are copied in one piece; the rest is looked at one by one.
 */
#include "pyi_escape.h"
#include <stdio.h>

typedef struct glyph {
    uint32_t code; /* character, or the byte itself if it is not UTF-8 */
    uint8_t size;  /* bytes it takes */
    bool broken;   /* not UTF-8 */
} glyph;

static uint32_t decode(const uint8_t *s, size_t size) {
    switch (size) {
    case 1:
        return s[0];
    case 2:
        return (uint32_t)(s[0] & 0x1F) << 6 | (s[1] & 0x3Fu);
    case 3:
        return (uint32_t)(s[0] & 0x0F) << 12 | (uint32_t)(s[1] & 0x3F) << 6 | (s[2] & 0x3Fu);
    default:
        return (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3F) << 12 |
               (uint32_t)(s[2] & 0x3F) << 6 | (s[3] & 0x3Fu);
    }
}

static bool is_surrogate_at(const uint8_t *s, size_t left) {
    return left >= 3 && s[0] == 0xED && s[1] >= 0xA0 && s[1] <= 0xBF && (s[2] & 0xC0) == 0x80;
}

static glyph glyph_at(const uint8_t *s, size_t left) {
    size_t size = pyi_utf8_step(s, left);
    if (size == 0 && is_surrogate_at(s, left)) {
        size = 3;
    }
    if (size == 0) {
        return (glyph){.code = s[0], .size = 1, .broken = true};
    }
    return (glyph){.code = decode(s, size), .size = (uint8_t)size};
}

static bool is_control(uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0);
}

/// Ends a line, or makes a terminal or editor show text in another order than it has.
static bool is_deceptive(uint32_t c) {
    return c == 0x2028 || c == 0x2029 || c == 0x200E || c == 0x200F || c == 0x061C ||
           (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

static bool is_surrogate(uint32_t c) {
    return c >= 0xD800 && c <= 0xDFFF;
}

static void put_formatted(pyi_writer *w, const char *fmt, uint32_t value) {
    char text[16];
    int len = snprintf(text, sizeof(text), fmt, value);
    pyi_put_raw(w, text, (size_t)len);
}

/// The letter of a two-character escape that JSON and people share, or 0.
static char short_escape(uint32_t c) {
    switch (c) {
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    case '"':
        return '"';
    case '\\':
        return '\\';
    default:
        return 0;
    }
}

static void put_short(pyi_writer *w, char letter) {
    char text[2] = {'\\', letter};
    pyi_put_raw(w, text, sizeof(text));
}

static bool json_needs(const glyph *g) {
    return g->broken || is_control(g->code) || g->code == '"' || g->code == '\\' ||
           is_surrogate(g->code) || is_deceptive(g->code);
}

static void put_json_escape(pyi_writer *w, const glyph *g) {
    char letter = g->broken ? 0 : short_escape(g->code);
    if (letter) {
        put_short(w, letter);
    } else {
        put_formatted(w, "\\u%04x", g->broken ? 0xDC00 + g->code : g->code);
    }
}

void pyi_escape_json_part(pyi_writer *w, const void *text, size_t len) {
    const uint8_t *s = text;
    size_t plain = 0; // where the run of harmless bytes began
    for (size_t at = 0; at < len;) {
        glyph g = glyph_at(s + at, len - at);
        if (json_needs(&g)) {
            pyi_put_raw(w, s + plain, at - plain);
            put_json_escape(w, &g);
            plain = at + g.size;
        }
        at += g.size;
    }
    if (len > plain) {
        pyi_put_raw(w, s + plain, len - plain);
    }
}

void pyi_escape_json(pyi_writer *w, const void *text, size_t len) {
    pyi_put_raw(w, "\"", 1);
    pyi_escape_json_part(w, text, len);
    pyi_put_raw(w, "\"", 1);
}

/// A tab is harmless, but not within quotes, where a reader splits at blanks.
static bool text_needs(const glyph *g, bool quote) {
    if (quote && (g->code == '"' || g->code == '\\')) {
        return true;
    }
    bool tab = g->code == '\t' && !quote;
    return g->broken || (is_control(g->code) && !tab) || is_surrogate(g->code) ||
           is_deceptive(g->code);
}

static void put_text_escape(pyi_writer *w, const glyph *g) {
    char letter = g->broken ? 0 : short_escape(g->code);
    if (letter) {
        put_short(w, letter);
    } else if (g->broken || g->code < 0x100) {
        put_formatted(w, "\\x%02x", g->code);
    } else {
        put_formatted(w, "\\u%04x", g->code);
    }
}

void pyi_escape_text(pyi_writer *w, const void *text, size_t len, bool quote) {
    const uint8_t *s = text;
    size_t plain = 0;
    for (size_t at = 0; at < len;) {
        glyph g = glyph_at(s + at, len - at);
        if (text_needs(&g, quote)) {
            pyi_put_raw(w, s + plain, at - plain);
            put_text_escape(w, &g);
            plain = at + g.size;
        }
        at += g.size;
    }
    if (len > plain) {
        pyi_put_raw(w, s + plain, len - plain);
    }
}

/*
 * UTF-8 as Python has it: shortest forms only, up to U+10FFFF, no surrogates (but for
 * PYI_EXT_SURROGATE, whose payload is UTF-8 with them).
 */
#include "pyi_wire.h"

static bool is_tail(uint8_t c) {
    return (c & 0xC0) == 0x80;
}

static size_t step_3(const uint8_t *s, size_t left, bool surrogates) {
    if (left < 3 || !is_tail(s[1]) || !is_tail(s[2])) {
        return 0;
    }
    if (s[0] == 0xE0 && s[1] < 0xA0) {
        return 0; // could be shorter
    }
    if (s[0] == 0xED && s[1] >= 0xA0 && !surrogates) {
        return 0;
    }
    return 3;
}

static size_t step_4(const uint8_t *s, size_t left) {
    if (left < 4 || !is_tail(s[1]) || !is_tail(s[2]) || !is_tail(s[3])) {
        return 0;
    }
    if (s[0] == 0xF0 && s[1] < 0x90) {
        return 0; // could be shorter
    }
    if (s[0] == 0xF4 && s[1] >= 0x90) {
        return 0; // beyond U+10FFFF
    }
    return 4;
}

static size_t step_any(const uint8_t *s, size_t left, bool surrogates) {
    if (left == 0) {
        return 0;
    }
    if (s[0] < 0x80) {
        return 1;
    }
    if (s[0] >= 0xC2 && s[0] <= 0xDF) {
        return left >= 2 && is_tail(s[1]) ? 2 : 0;
    }
    if (s[0] >= 0xE0 && s[0] <= 0xEF) {
        return step_3(s, left, surrogates);
    }
    return s[0] >= 0xF0 && s[0] <= 0xF4 ? step_4(s, left) : 0;
}

static bool valid(const uint8_t *s, size_t len, bool surrogates) {
    size_t at = 0;
    while (at < len) {
        uint64_t word;
        if (len - at >= sizeof(word)) { // eight ASCII bytes at once: most of most strings
            memcpy(&word, s + at, sizeof(word));
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                at += sizeof(word);
                continue;
            }
        }
        size_t step = step_any(s + at, len - at, surrogates);
        if (step == 0) {
            return false;
        }
        at += step;
    }
    return true;
}

size_t pyi_utf8_step(const uint8_t *s, size_t left) {
    return step_any(s, left, false);
}

bool pyi_utf8_valid(const uint8_t *s, size_t len) {
    return valid(s, len, false);
}

bool pyi_utf8_valid_surrogates(const uint8_t *s, size_t len) {
    return valid(s, len, true);
}

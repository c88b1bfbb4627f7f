/*
 * The option parser. GNU conventions: --name=value, --name value, -x value, -xvalue, -abc for three
 * flags, options and other words in any order, "--" ends the options. Long names may not be
 * shortened: a script that relies on a prefix breaks on the day a second option gets it.
 */
#include "options.h"
#include <stdio.h>
#include <string.h>

enum { NAMES_MAX = 64, WORD_MAX = 48 };

/* ---- nearest name ---------------------------------------------------------------------------- */

/* Levenshtein distance with one row; words longer than WORD_MAX are compared by their beginnings.
 */
static size_t distance(const char *a, const char *b) {
    size_t row[WORD_MAX + 1];
    size_t la = strnlen(a, WORD_MAX), lb = strnlen(b, WORD_MAX);
    for (size_t j = 0; j <= lb; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t swap = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t best = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = swap < best ? swap : best;
        }
    }
    return row[lb];
}

const char *pyi_nearest(const char *word, const char *const *names, size_t count) {
    const char *best = NULL;
    size_t len = strlen(word);
    size_t limit = len <= 2 ? 1 : len / 3 + 1;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, names[i]);
        if (d < strlen(names[i]) && d <= limit) {
            best = names[i];
            limit = d > 0 ? d - 1 : 0; // the first of equally near ones wins
            if (d == 0) {
                break;
            }
        }
    }
    return best;
}

bool pyi_option_is_choice(const char *choices, const char *value) {
    size_t len = strlen(value);
    if (strchr(value, '|') != NULL) {
        return false; // it would match two neighbours at once
    }
    for (const char *p = choices; p != NULL && len > 0; p = strchr(p, '|'), p += p != NULL) {
        if (strncmp(p, value, len) == 0 && (p[len] == '|' || p[len] == '\0')) {
            return true;
        }
    }
    return false;
}

/* ---- parser ---------------------------------------------------------------------------------- */

static const pyi_option *find_long(const pyi_option_parse *p, const char *name, size_t len) {
    for (size_t t = 0; t < p->table_count; t++) {
        for (size_t i = 0; i < p->tables[t].count; i++) {
            const pyi_option *o = &p->tables[t].rows[i];
            if (o->name != NULL && strlen(o->name) == len && memcmp(o->name, name, len) == 0) {
                return o;
            }
        }
    }
    return NULL;
}

static const pyi_option *find_letter(const pyi_option_parse *p, char letter) {
    for (size_t t = 0; t < p->table_count; t++) {
        for (size_t i = 0; i < p->tables[t].count; i++) {
            if (p->tables[t].rows[i].letter == letter) {
                return &p->tables[t].rows[i];
            }
        }
    }
    return NULL;
}

static pyi_err unknown_long(const pyi_option_parse *p, const char *word, size_t len, pyi_error *e) {
    const char *names[NAMES_MAX];
    size_t count = 0;
    for (size_t t = 0; t < p->table_count; t++) {
        for (size_t i = 0; i < p->tables[t].count && count < NAMES_MAX; i++) {
            if (p->tables[t].rows[i].name != NULL) {
                names[count++] = p->tables[t].rows[i].name;
            }
        }
    }
    char name[WORD_MAX + 1];
    snprintf(name, sizeof name, "%.*s", (int)len, word);
    const char *near = pyi_nearest(name, names, count);
    if (near != NULL) {
        return pyi_error_set(e, PYI_EINVAL, "cli.options",
                             "unknown option '--%s'; did you mean '--%s'?", name, near);
    }
    return pyi_error_set(e, PYI_EINVAL, "cli.options", "unknown option '--%s'", name);
}

static pyi_err store(const pyi_option_parse *p, const pyi_option *o, const char *value,
                     pyi_error *e) {
    char *at = (char *)p->target + o->field;
    if (o->arg == NULL) {
        *(int *)(void *)at += 1;
        return PYI_OK;
    }
    if (strchr(o->arg, '|') != NULL && !pyi_option_is_choice(o->arg, value)) {
        return pyi_error_set(e, PYI_EINVAL, "cli.options", "--%s is '%s'; it may be one of %s",
                             o->name, value, o->arg);
    }
    *(const char **)(void *)at = value;
    return PYI_OK;
}

/* `*i` is the index of the option's word; moved on when the value is the next word. */
static pyi_err take_value(const pyi_option_parse *p, const pyi_option *o, const char *attached,
                          int argc, char **argv, int *i, pyi_error *e) {
    if (attached != NULL) {
        return store(p, o, attached, e);
    }
    if (*i + 1 >= argc) {
        return pyi_error_set(e, PYI_EINVAL, "cli.options", "option '--%s' needs a value: --%s=%s",
                             o->name, o->name, o->arg);
    }
    return store(p, o, argv[++*i], e);
}

static pyi_err parse_long(const pyi_option_parse *p, int argc, char **argv, int *i, pyi_error *e) {
    const char *word = argv[*i] + 2;
    size_t len = strcspn(word, "=");
    const char *attached = word[len] == '=' ? word + len + 1 : NULL;
    const pyi_option *o = find_long(p, word, len);
    if (o == NULL) {
        return unknown_long(p, word, len, e);
    }
    if (o->arg != NULL) {
        return take_value(p, o, attached, argc, argv, i, e);
    }
    if (attached != NULL) {
        return pyi_error_set(e, PYI_EINVAL, "cli.options", "option '--%s' takes no value", o->name);
    }
    return store(p, o, NULL, e);
}

static pyi_err parse_letters(const pyi_option_parse *p, int argc, char **argv, int *i,
                             pyi_error *e) {
    for (const char *c = argv[*i] + 1; *c != '\0'; c++) {
        const pyi_option *o = find_letter(p, *c);
        if (o == NULL) {
            return pyi_error_set(e, PYI_EINVAL, "cli.options", "unknown option '-%c'", *c);
        }
        if (o->arg != NULL) {
            return take_value(p, o, c[1] != '\0' ? c + 1 : NULL, argc, argv, i, e);
        }
        pyi_err err = store(p, o, NULL, e);
        if (err != PYI_OK) {
            return err;
        }
    }
    return PYI_OK;
}

/* "-" alone and negative numbers are words: `call averages add -1 2` must work. */
static bool is_option(const char *word) {
    return word[0] == '-' && word[1] != '\0' && !(word[1] >= '0' && word[1] <= '9') &&
           strcmp(word, "-Infinity") != 0;
}

pyi_err pyi_options_parse(const pyi_option_parse *p, int argc, char **argv, int *ret_rest,
                          pyi_error *e) {
    int rest = 0;
    bool ended = false;
    for (int i = 0; i < argc; i++) {
        if (!ended && strcmp(argv[i], "--") == 0) {
            ended = true;
        } else if (ended || !is_option(argv[i])) {
            argv[rest++] = argv[i];
            ended = ended || p->stop_at_first;
        } else {
            pyi_err err = argv[i][1] == '-' ? parse_long(p, argc, argv, &i, e)
                                            : parse_letters(p, argc, argv, &i, e);
            if (err != PYI_OK) {
                return err;
            }
        }
    }
    *ret_rest = rest;
    return PYI_OK;
}

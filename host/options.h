#pragma once
/*
 * Options of the command line, by table: the same rows make the parser, --help, the man page's
 * synopsis and the completions. A row names a field of the caller's struct, where the value goes.
 * Any thread; allocates nothing, strings are borrowed from argv.
 */
#include "pyi_error.h"

typedef struct pyi_option {
    char letter;      /* 0: long form only */
    const char *name; /* without the dashes; NULL: the letter only (a flag) */
    const char *arg;  /* NULL: a flag. "FILE", "EXT": a value. "text|json": one of these */
    const char *help; /* one line */
    size_t field;     /* offset: of an int (a flag counts its uses) or of a const char * */
} pyi_option;

typedef struct pyi_options {
    const pyi_option *rows;
    size_t count;
} pyi_options;

typedef struct pyi_option_parse {
    const pyi_options *tables; /* looked through in order */
    size_t table_count;
    void *target;       /* the struct that the rows' fields are in */
    bool stop_at_first; /* options end at the first word that is not one */
} pyi_option_parse;

/// Reads the options in argv[0..argc) and moves all other words to its front, in order; *ret_rest
/// is their number. "--" ends the options and is dropped. PYI_EINVAL names the nearest right
/// option.
pyi_err pyi_options_parse(const pyi_option_parse *p, int argc, char **argv, int *ret_rest,
                          pyi_error *e) PYI_MUST_CHECK;

/// Whether `value` is one of `choices` ("text|logfmt|json").
bool pyi_option_is_choice(const char *choices, const char *value);

/// The name nearest to `word`, or NULL when none is near enough to be what was meant.
const char *pyi_nearest(const char *word, const char *const *names, size_t count);

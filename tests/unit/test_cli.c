/*
 * What the command line is read with: the option parser, the nearest name, the template of `new`,
 * the terminal's conventions. The commands themselves are tested by tests/functional.
 */
#include "options.h"
#include "template.h"
#include "term.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

typedef struct fields {
    int json, quiet, verbose;
    const char *config, *format;
} fields;

static const pyi_option rows[] = {
    {'j', "json", NULL, "", offsetof(fields, json)},
    {'q', "quiet", NULL, "", offsetof(fields, quiet)},
    {'v', NULL, NULL, "", offsetof(fields, verbose)},
    {'c', "config", "FILE", "", offsetof(fields, config)},
    {0, "format", "text|json", "", offsetof(fields, format)},
};
static const pyi_options table = {rows, PYI_COUNT(rows)};

enum { WORDS_MAX = 16 };

typedef struct parsed {
    fields f;
    pyi_err err;
    pyi_error e;
    int rest;
    char *words[WORDS_MAX];
} parsed;

/* Words are given as one text, separated by spaces. */
static parsed parse_with(const char *line, bool stop_at_first) {
    static char text[256];
    parsed p = {.err = PYI_OK};
    int count = 0;
    snprintf(text, sizeof text, "%s", line);
    for (char *w = strtok(text, " "); w != NULL && count < WORDS_MAX; w = strtok(NULL, " ")) {
        p.words[count++] = w;
    }
    pyi_option_parse how = {&table, 1, &p.f, stop_at_first};
    p.err = pyi_options_parse(&how, count, p.words, &p.rest, &p.e);
    return p;
}

static parsed parse(const char *line) {
    return parse_with(line, false);
}

static void flags_are_counted_and_may_be_joined(void **state) {
    (void)state;
    parsed p = parse("-qq --json -vj");
    assert_int_equal(p.err, PYI_OK);
    assert_int_equal(p.f.quiet, 2);
    assert_int_equal(p.f.json, 2);
    assert_int_equal(p.f.verbose, 1);
    assert_int_equal(p.rest, 0);
}

static void values_may_be_attached_or_follow(void **state) {
    (void)state;
    const char *const lines[] = {"--config=a.lua", "--config a.lua", "-c a.lua", "-ca.lua",
                                 "-qca.lua"};
    for (size_t i = 0; i < PYI_COUNT(lines); i++) {
        parsed p = parse(lines[i]);
        assert_int_equal(p.err, PYI_OK);
        assert_string_equal(p.f.config, "a.lua");
    }
    parsed empty = parse("--config=");
    assert_int_equal(empty.err, PYI_OK);
    assert_string_equal(empty.f.config, "");
}

static void other_words_keep_their_order_between_options(void **state) {
    (void)state;
    parsed p = parse("one -q two --config x three");
    assert_int_equal(p.rest, 3);
    assert_string_equal(p.words[0], "one");
    assert_string_equal(p.words[1], "two");
    assert_string_equal(p.words[2], "three");
}

static void two_dashes_end_the_options(void **state) {
    (void)state;
    parsed p = parse("-q -- --json -x");
    assert_int_equal(p.err, PYI_OK);
    assert_int_equal(p.f.json, 0);
    assert_int_equal(p.rest, 2);
    assert_string_equal(p.words[0], "--json");
}

static void what_follows_the_first_word_can_be_left_alone(void **state) {
    (void)state;
    parsed p = parse_with("-q config.lua --json -unknown", true);
    assert_int_equal(p.err, PYI_OK);
    assert_int_equal(p.f.quiet, 1);
    assert_int_equal(p.f.json, 0);
    assert_int_equal(p.rest, 3);
    assert_string_equal(p.words[2], "-unknown");
}

static void negative_numbers_are_words(void **state) {
    (void)state;
    parsed p = parse("add -1 -0.5 -");
    assert_int_equal(p.err, PYI_OK);
    assert_int_equal(p.rest, 4);
}

static void an_unknown_option_names_the_nearest(void **state) {
    (void)state;
    parsed p = parse("--jsn");
    assert_int_equal(p.err, PYI_EINVAL);
    assert_non_null(strstr(p.e.msg, "'--jsn'"));
    assert_non_null(strstr(p.e.msg, "'--json'"));
    assert_null(strstr(parse("--something-else").e.msg, "did you mean"));
    assert_non_null(strstr(parse("-x").e.msg, "'-x'"));
}

static void a_missing_or_unwanted_value_is_an_error(void **state) {
    (void)state;
    assert_int_equal(parse("--config").err, PYI_EINVAL);
    assert_int_equal(parse("-c").err, PYI_EINVAL);
    assert_int_equal(parse("--json=yes").err, PYI_EINVAL);
}

static void a_choice_must_be_one_of_its_words(void **state) {
    (void)state;
    assert_int_equal(parse("--format=json").err, PYI_OK);
    const char *const wrong[] = {"--format=jso", "--format=text|json", "--format=xml", "--format="};
    for (size_t i = 0; i < PYI_COUNT(wrong); i++) {
        parsed p = parse(wrong[i]);
        assert_int_equal(p.err, PYI_EINVAL);
        assert_non_null(strstr(p.e.msg, "text|json"));
    }
}

static void an_option_with_a_letter_only_has_no_long_form(void **state) {
    (void)state;
    assert_int_equal(parse("--v").err, PYI_EINVAL);
}

static void typos_find_the_name_that_was_meant(void **state) {
    (void)state;
    const char *const names[] = {"call", "check",  "doctor", "restart",
                                 "run",  "status", "stop",   "sync"};
    static const struct {
        const char *typo, *meant;
    } cases[] = {{"stauts", "status"}, {"statu", "status"}, {"retsart", "restart"},
                 {"docter", "doctor"}, {"chek", "check"},   {"snyc", "sync"},
                 {"rnu", "run"},       {"stp", "stop"}};
    for (size_t i = 0; i < PYI_COUNT(cases); i++) {
        const char *near = pyi_nearest(cases[i].typo, names, PYI_COUNT(names));
        assert_non_null(near);
        assert_string_equal(near, cases[i].meant);
    }
    assert_null(pyi_nearest("frobnicate", names, PYI_COUNT(names)));
    assert_null(pyi_nearest("", names, PYI_COUNT(names)));
}

static void a_very_long_word_is_compared_without_harm(void **state) {
    (void)state;
    char word[5000];
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    const char *const names[] = {"status"};
    assert_null(pyi_nearest(word, names, 1));
}

static void extension_names_are_words(void **state) {
    (void)state;
    assert_true(pyi_template_name_ok("hello"));
    assert_true(pyi_template_name_ok("my-ext_2"));
    const char *const wrong[] = {"", "2fast", "-x", "a b", "a/b", "..", "a.b", "a\"b", "\xc3\xa9"};
    for (size_t i = 0; i < PYI_COUNT(wrong); i++) {
        assert_false(pyi_template_name_ok(wrong[i]));
    }
}

static void the_template_is_filled_in_and_never_written_over(void **state) {
    (void)state;
    char dir[] = "/tmp/pyi-new-XXXXXX", path[128], text[4096] = "";
    assert_non_null(mkdtemp(dir));
    pyi_error e = {0};
    assert_int_equal(pyi_template_write(dir, "greeter", &e), PYI_OK);
    snprintf(path, sizeof path, "%s/config.lua", dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_true(fread(text, 1, sizeof text - 1, f) > 0);
    fclose(f);
    assert_non_null(strstr(text, "name = \"greeter\""));
    assert_null(strstr(text, "@NAME@"));

    assert_int_equal(pyi_template_write(dir, "other", &e), PYI_EINVAL);
    assert_non_null(strstr(e.msg, path));
    unlink(path); // the module alone is in the way too, and then no configuration appears
    assert_int_equal(pyi_template_write(dir, "other", &e), PYI_EINVAL);
    struct stat st;
    assert_int_not_equal(stat(path, &st), 0);
    snprintf(path, sizeof path, "%s/extension/__init__.py", dir);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/extension", dir);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void colour_follows_the_conventions(void **state) {
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    unsetenv("NO_COLOR");
    unsetenv("CLICOLOR_FORCE");
    assert_false(pyi_term_colour(fds[1]));
    setenv("CLICOLOR_FORCE", "1", 1);
    assert_true(pyi_term_colour(fds[1]));
    assert_string_equal(pyi_term_style(fds[1], PYI_STYLE_RED), "\033[31m");
    setenv("CLICOLOR_FORCE", "0", 1);
    assert_false(pyi_term_colour(fds[1]));
    setenv("CLICOLOR_FORCE", "1", 1);
    setenv("NO_COLOR", "1", 1);
    assert_false(pyi_term_colour(fds[1]));
    assert_string_equal(pyi_term_style(fds[1], PYI_STYLE_RED), "");
    unsetenv("NO_COLOR");
    unsetenv("CLICOLOR_FORCE");
    close(fds[0]);
    close(fds[1]);
}

static void text_is_cut_between_characters(void **state) {
    (void)state;
    assert_int_equal(pyi_term_columns("h\xc3\xa9llo"), 5);
    assert_int_equal(pyi_term_fit("h\xc3\xa9llo", 2), 3);
    assert_int_equal(pyi_term_fit("h\xc3\xa9llo", 1), 1);
    assert_int_equal(pyi_term_fit("abc", 10), 3);
    assert_int_equal(pyi_term_fit("abc", 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_are_counted_and_may_be_joined),
        cmocka_unit_test(values_may_be_attached_or_follow),
        cmocka_unit_test(other_words_keep_their_order_between_options),
        cmocka_unit_test(two_dashes_end_the_options),
        cmocka_unit_test(what_follows_the_first_word_can_be_left_alone),
        cmocka_unit_test(negative_numbers_are_words),
        cmocka_unit_test(an_unknown_option_names_the_nearest),
        cmocka_unit_test(a_missing_or_unwanted_value_is_an_error),
        cmocka_unit_test(a_choice_must_be_one_of_its_words),
        cmocka_unit_test(an_option_with_a_letter_only_has_no_long_form),
        cmocka_unit_test(typos_find_the_name_that_was_meant),
        cmocka_unit_test(a_very_long_word_is_compared_without_harm),
        cmocka_unit_test(extension_names_are_words),
        cmocka_unit_test(the_template_is_filled_in_and_never_written_over),
        cmocka_unit_test(colour_follows_the_conventions),
        cmocka_unit_test(text_is_cut_between_characters),
    };
    return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}

/* Requirement files: what they include and which local projects they name. */
#include "pyi_base.h"
#include "requirement_file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char dir[64];

static void put(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *out = fopen(path, "we");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

/* Reads main.txt with `text`; the local requirements in one line. */
static char *locals_of(const char *text, pyi_requirement_set *set) {
    char path[128];
    put("main.txt", text);
    snprintf(path, sizeof(path), "%s/main.txt", dir);
    pyi_requirement_set_add(set, path, "/cwd");
    assert_false(set->files.failed || set->local.failed);
    return pyi_list_join(&set->local, "|");
}

static void check(const char *text, const char *expected) {
    __attribute__((cleanup(pyi_requirement_set_fini))) pyi_requirement_set set = {0};
    PYI_AUTO_FREE char *found = locals_of(text, &set);
    assert_string_equal(found, expected);
}

static void names_and_urls_elsewhere_are_no_projects(void **state) {
    (void)state;
    check("numpy\nnumpy>=2 ; python_version > '3.9'  # ./x\n# ./y\n\n", "");
    check("https://127.0.0.1/a/b.whl\ngit+https://127.0.0.1/a@main\na @ https://127.0.0.1/b.zip\n",
          "");
    check("--index-url http://127.0.0.1/simple\n--find-links ./wheels\n", "");
}

static void projects_are_found_however_they_are_written(void **state) {
    (void)state;
    check("./a\n../b\nc/d\n/e\n.\n", "/cwd/./a|/cwd/../b|/cwd/c/d|/e|/cwd/.");
    check("./a[x,y] ; os_name == 'posix'\n  ./b  # why\n", "/cwd/./a[x,y]|/cwd/./b");
    check("-e ./a\n--editable=/b\n--editable c/d\n", "-e /cwd/./a|-e /b|-e /cwd/c/d");
    check("file:a\nfile:///b%20c\na @ file:./d\na[x]@/e\n",
          "file:///cwd/a|file:///b%20c|file:///cwd/./d|/e");
    check("a-1.0-py3-none-any.whl\nb-1.tar.gz\n", "/cwd/a-1.0-py3-none-any.whl|/cwd/b-1.tar.gz");
}

static void variables_are_replaced_and_unknown_ones_stay(void **state) {
    (void)state;
    setenv("PYI_TEST_DIR", "/here", 1);
    unsetenv("PYI_TEST_NONE");
    check("${PYI_TEST_DIR}/a\n./${PYI_TEST_NONE}/b\n./${open\n",
          "/here/a|/cwd/./${PYI_TEST_NONE}/b|/cwd/./${open");
    unsetenv("PYI_TEST_DIR");
}

static void includes_lie_beside_their_file_and_a_circle_ends(void **state) {
    (void)state;
    __attribute__((cleanup(pyi_requirement_set_fini))) pyi_requirement_set set = {0};
    put("one.txt", "./one\n-c two.txt\n");
    put("two.txt", "./two\n-r one.txt\n--requirement missing.txt\n");
    PYI_AUTO_FREE char *found = locals_of("-rone.txt\n", &set);
    assert_string_equal(found, "/cwd/./one|/cwd/./two");
    assert_int_equal(set.files.count, 4); /* main, one, two, missing */
}

static int make_dir(void **state) {
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/pyi-rf-XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int remove_dir(void **state) {
    (void)state;
    static const char *const names[] = {"main.txt", "one.txt", "two.txt"};
    for (size_t i = 0; i < PYI_COUNT(names); i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_urls_elsewhere_are_no_projects),
        cmocka_unit_test(projects_are_found_however_they_are_written),
        cmocka_unit_test(variables_are_replaced_and_unknown_ones_stay),
        cmocka_unit_test(includes_lie_beside_their_file_and_a_circle_ends),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

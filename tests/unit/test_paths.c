/* Folders: an installation's pieces, the private runtime folder, and trees made and removed. */
#include "paths.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

typedef struct folder {
    char dir[64];
    pyi_error e;
} folder;

static int folder_new(void **state) {
    static folder f;
    snprintf(f.dir, sizeof(f.dir), "/tmp/pyi-paths-XXXXXX");
    pyi_error_init(&f.e);
    *state = &f;
    return mkdtemp(f.dir) == NULL ? -1 : 0;
}

static int folder_free(void **state) {
    folder *f = *state;
    pyi_error_init(&f->e);
    return pyi_remove_tree(f->dir, &f->e) == PYI_OK ? 0 : -1;
}

static const char *at(const folder *f, const char *name) {
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", f->dir, name);
    return path;
}

static void touch(const char *path, int mode) {
    FILE *out = fopen(path, "we");
    assert_non_null(out);
    fclose(out);
    assert_int_equal(chmod(path, (mode_t)mode), 0);
}

static void the_folder_that_the_user_names_must_be_whole(void **state) {
    folder *f = *state;
    pyi_paths p;
    setenv("PYISOLATE_LIBDIR", f->dir, 1);
    assert_int_equal(pyi_paths_find(&p, &f->e), PYI_EUNAVAILABLE);
    assert_non_null(strstr(f->e.msg, "PYISOLATE_LIBDIR"));
    touch(at(f, "pyisolate-child"), 0755);
    pyi_error_init(&f->e);
    assert_int_equal(pyi_paths_find(&p, &f->e), PYI_EUNAVAILABLE);
    assert_non_null(strstr(f->e.msg, "libpyisolate-core.abi3.so"));
    touch(at(f, "libpyisolate-core.abi3.so"), 0644);
    pyi_error_init(&f->e);
    assert_int_equal(pyi_paths_find(&p, &f->e), PYI_EUNAVAILABLE);
    assert_non_null(strstr(f->e.msg, "python/pyisolate"));
    pyi_error_init(&f->e);
    assert_int_equal(pyi_mkdirs(at(f, "python/pyisolate"), 0755, &f->e), PYI_OK);
    assert_int_equal(pyi_paths_find(&p, &f->e), PYI_OK);
    unsetenv("PYISOLATE_LIBDIR");
    assert_string_equal(p.child, at(f, "pyisolate-child"));
    assert_string_equal(p.python, at(f, "python"));
}

static void the_runtime_folder_is_private(void **state) {
    folder *f = *state;
    char dir[128];
    struct stat st;
    unsetenv("RUNTIME_DIRECTORY");
    setenv("XDG_RUNTIME_DIR", f->dir, 1);
    assert_int_equal(mkdir(at(f, "pyisolate"), 0755), 0); /* too open: is made private */
    assert_int_equal(pyi_runtime_dir(dir, sizeof(dir), &f->e), PYI_OK);
    assert_string_equal(dir, at(f, "pyisolate"));
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    unsetenv("XDG_RUNTIME_DIR");
}

static void a_link_in_place_of_the_runtime_folder_is_refused(void **state) {
    folder *f = *state;
    char dir[128];
    setenv("XDG_RUNTIME_DIR", f->dir, 1);
    assert_int_equal(symlink("/tmp", at(f, "pyisolate")), 0);
    assert_int_equal(pyi_runtime_dir(dir, sizeof(dir), &f->e), PYI_ESYS);
    unsetenv("XDG_RUNTIME_DIR");
}

static void the_runtime_folder_of_another_user_is_refused(void **state) {
    folder *f = *state;
    char dir[128];
    if (geteuid() != 0) {
        print_message("  needs root: not run\n");
        skip();
    }
    assert_int_equal(mkdir(at(f, "theirs"), 0700), 0);
    assert_int_equal(chown(at(f, "theirs"), 65534, 65534), 0);
    setenv("RUNTIME_DIRECTORY", at(f, "theirs"), 1);
    assert_int_equal(pyi_runtime_dir(dir, sizeof(dir), &f->e), PYI_EPERM);
    unsetenv("RUNTIME_DIRECTORY");
    assert_non_null(strstr(f->e.msg, "65534"));
}

static void a_runtime_folder_too_long_for_sockets_gives_way_to_tmp(void **state) {
    folder *f = *state;
    char dir[128];
    const char *deep =
        at(f, "a-folder-whose-name-is-so-long-that-no-socket-path-would-fit-below-it");
    assert_int_equal(mkdir(deep, 0700), 0);
    unsetenv("RUNTIME_DIRECTORY");
    setenv("XDG_RUNTIME_DIR", deep, 1);
    assert_int_equal(pyi_runtime_dir(dir, sizeof(dir), &f->e), PYI_OK);
    unsetenv("XDG_RUNTIME_DIR");
    assert_true(strncmp(dir, "/tmp/pyisolate-", 15) == 0);
}

static void the_cache_folder_is_made_where_xdg_says(void **state) {
    folder *f = *state;
    char dir[128];
    struct stat st;
    PYI_AUTO_FREE char *before = getenv("XDG_CACHE_HOME") ? strdup(getenv("XDG_CACHE_HOME")) : NULL;
    setenv("XDG_CACHE_HOME", at(f, "cache"), 1);
    assert_int_equal(pyi_cache_dir(dir, sizeof(dir), &f->e), PYI_OK);
    unsetenv("XDG_CACHE_HOME");
    if (before != NULL) {
        setenv("XDG_CACHE_HOME", before, 1);
    }
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): its cleanup frees it
    assert_string_equal(dir, at(f, "cache/pyisolate"));
    assert_int_equal(stat(dir, &st), 0);
}

static void folders_are_made_with_their_parents_and_a_file_in_the_way_is_named(void **state) {
    folder *f = *state;
    struct stat st;
    assert_int_equal(pyi_mkdirs(at(f, "a//b/c/"), 0700, &f->e), PYI_OK);
    assert_int_equal(pyi_mkdirs(at(f, "a/b/c"), 0700, &f->e), PYI_OK);
    assert_int_equal(stat(at(f, "a/b/c"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    touch(at(f, "file"), 0644);
    assert_int_equal(pyi_mkdirs(at(f, "file/below"), 0700, &f->e), PYI_ESYS);
    assert_non_null(strstr(f->e.msg, "file"));
}

static void a_tree_is_removed_without_following_its_links(void **state) {
    folder *f = *state;
    struct stat st;
    assert_int_equal(pyi_mkdirs(at(f, "tree/x/y"), 0755, &f->e), PYI_OK);
    assert_int_equal(pyi_mkdirs(at(f, "kept"), 0755, &f->e), PYI_OK);
    touch(at(f, "kept/file"), 0644);
    touch(at(f, "tree/x/y/file"), 0444);
    assert_int_equal(symlink("../kept", at(f, "tree/link")), 0);
    assert_int_equal(symlink("nowhere", at(f, "tree/broken")), 0);
    assert_int_equal(chmod(at(f, "tree/x/y"), 0500), 0);
    assert_int_equal(pyi_remove_tree(at(f, "tree"), &f->e), PYI_OK);
    assert_int_equal(lstat(at(f, "tree"), &st), -1);
    assert_int_equal(stat(at(f, "kept/file"), &st), 0);
    assert_int_equal(pyi_remove_tree(at(f, "tree"), &f->e), PYI_OK); /* missing is fine */
    assert_int_equal(symlink("kept", at(f, "alias")), 0);
    assert_int_equal(pyi_remove_tree(at(f, "alias"), &f->e), PYI_OK);
    assert_int_equal(stat(at(f, "kept/file"), &st), 0);
}

int main(void) {
#define WITH(test) cmocka_unit_test_setup_teardown(test, folder_new, folder_free)
    const struct CMUnitTest tests[] = {
        WITH(the_folder_that_the_user_names_must_be_whole),
        WITH(the_runtime_folder_is_private),
        WITH(a_link_in_place_of_the_runtime_folder_is_refused),
        WITH(the_runtime_folder_of_another_user_is_refused),
        WITH(a_runtime_folder_too_long_for_sockets_gives_way_to_tmp),
        WITH(the_cache_folder_is_made_where_xdg_says),
        WITH(folders_are_made_with_their_parents_and_a_file_in_the_way_is_named),
        WITH(a_tree_is_removed_without_following_its_links),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* pyi_arena: memory of one lifetime. */
#include "pyi_arena.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static int open_arena(void **state) {
    *state = pyi_arena_new();
    return *state ? 0 : -1;
}

static int close_arena(void **state) {
    pyi_arena_free(*state);
    return 0;
}

static void memory_is_zeroed_aligned_and_does_not_overlap(void **state) {
    enum { COUNT = 3000 };
    unsigned char *p[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = i % 97;
        p[i] = pyi_arena_alloc(*state, size);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % _Alignof(max_align_t), 0);
        for (size_t b = 0; b < size; b++) {
            assert_int_equal(p[i][b], 0);
        }
        memset(p[i], (int)(i % 251), size);
    }
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t b = 0; b < i % 97; b++) {
            assert_int_equal(p[i][b], i % 251);
        }
    }
}

static void a_large_block_leaves_the_small_ones_their_room(void **state) {
    char *first = pyi_arena_alloc(*state, 16);
    char *large = pyi_arena_alloc(*state, 1 << 20);
    char *second = pyi_arena_alloc(*state, 16);
    assert_non_null(large);
    memset(large, 1, 1 << 20);
    assert_ptr_equal(second, first + 16);
}

static void a_large_block_may_come_first(void **state) {
    char *large = pyi_arena_alloc(*state, 1 << 16);
    assert_non_null(large);
    large[(1 << 16) - 1] = 1;
    assert_non_null(pyi_arena_alloc(*state, 1));
}

static void empty_blocks_have_addresses_of_their_own(void **state) {
    void *a = pyi_arena_alloc(*state, 0);
    void *b = pyi_arena_alloc(*state, 0);
    assert_non_null(a);
    assert_ptr_not_equal(a, b);
}

static void an_impossible_size_gives_null(void **state) {
    assert_null(pyi_arena_alloc(*state, SIZE_MAX));
    assert_null(pyi_arena_alloc(*state, SIZE_MAX - 64));
    assert_null(pyi_arena_strndup(*state, "x", SIZE_MAX));
    assert_non_null(pyi_arena_alloc(*state, 1)); /* it still works */
}

static void strings_are_copied_and_terminated(void **state) {
    assert_string_equal(pyi_arena_strdup(*state, "abc"), "abc");
    assert_string_equal(pyi_arena_strndup(*state, "abcdef", 3), "abc");
    assert_string_equal(pyi_arena_strndup(*state, NULL, 0), "");
    assert_memory_equal(pyi_arena_strndup(*state, "a\0b", 3), "a\0b", 4);
    assert_string_equal(pyi_arena_printf(*state, "%s-%d", "x", 7), "x-7");
    char *wide = pyi_arena_printf(*state, "%9000d", 1);
    assert_int_equal(strlen(wide), 9000);
}

static void freeing_nothing_is_fine(void **state) {
    (void)state;
    pyi_arena_free(NULL);
    pyi_arena_free(pyi_arena_new());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_is_zeroed_aligned_and_does_not_overlap, open_arena,
                                        close_arena),
        cmocka_unit_test_setup_teardown(a_large_block_leaves_the_small_ones_their_room, open_arena,
                                        close_arena),
        cmocka_unit_test_setup_teardown(a_large_block_may_come_first, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(empty_blocks_have_addresses_of_their_own, open_arena,
                                        close_arena),
        cmocka_unit_test_setup_teardown(an_impossible_size_gives_null, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(strings_are_copied_and_terminated, open_arena, close_arena),
        cmocka_unit_test(freeing_nothing_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

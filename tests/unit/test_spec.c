/* The spec: what is written is read back; what is broken is refused with the key's name. */
#include "pyi_wire.h"
#include "spec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
// after the headers above
#include <cmocka.h>

static pyi_spec whole_spec(void) {
    pyi_spec s = {
        .call_url = "ipc:///run/c",
        .service_url = "ipc:///run/s",
        .name = "averages",
        .generation = 7,
        .prefix = "/venvs/averages",
        .python = "/venvs/averages/bin/python",
        .libpython = "/usr/lib/libpython3.11.so.1.0",
        .sys_version = "3.11.2 (main)",
        .core = "/usr/lib/pyisolate/core.so",
        .runtime = "/usr/lib/pyisolate/python",
        .module_path = "/ext/averages",
        .module = "averages",
        .entrypoint = "averages:Main",
        .extension_type = "app.base:Base",
        .max_payload = UINT64_C(1) << 40,
        .threads = 3,
        .max_concurrency = 64,
        .in_process = true,
    };
    memset(s.secret, 0xA5, sizeof s.secret);
    return s;
}

static pyi_err parse(const pyi_writer *w, pyi_spec *ret, pyi_error *e) {
    pyi_error_init(e);
    return pyi_spec_parse(w->data, w->len, ret, e);
}

static void assert_same_spec(const pyi_spec *a, const pyi_spec *b) {
    assert_memory_equal(a->secret, b->secret, PYI_SECRET_SIZE);
    assert_string_equal(a->call_url, b->call_url);
    assert_string_equal(a->service_url, b->service_url);
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->prefix, b->prefix);
    assert_string_equal(a->python, b->python);
    assert_string_equal(a->libpython, b->libpython);
    assert_string_equal(a->sys_version, b->sys_version);
    assert_string_equal(a->core, b->core);
    assert_string_equal(a->runtime, b->runtime);
    assert_string_equal(a->module_path, b->module_path);
    assert_string_equal(a->module, b->module);
    assert_string_equal(a->entrypoint, b->entrypoint);
    assert_string_equal(a->extension_type, b->extension_type);
    assert_int_equal(a->generation, b->generation);
    assert_true(a->max_payload == b->max_payload);
    assert_int_equal(a->threads, b->threads);
    assert_int_equal(a->max_concurrency, b->max_concurrency);
    assert_int_equal(a->in_process, b->in_process);
}

static void a_written_spec_reads_back_whole(void **state) {
    (void)state;
    pyi_spec in = whole_spec(), out;
    pyi_writer w;
    pyi_error e;
    pyi_writer_init(&w, PYI_MAX_SPEC);
    pyi_spec_write(&in, &w);
    assert_int_equal(parse(&w, &out, &e), PYI_OK);
    assert_same_spec(&in, &out);
    pyi_spec_fini(&out);
    pyi_writer_fini(&w);
}

static void absent_options_are_null(void **state) {
    (void)state;
    pyi_spec in = whole_spec(), out;
    in.libpython = in.entrypoint = in.extension_type = NULL;
    pyi_writer w;
    pyi_error e;
    pyi_writer_init(&w, PYI_MAX_SPEC);
    pyi_spec_write(&in, &w);
    assert_int_equal(parse(&w, &out, &e), PYI_OK);
    assert_null(out.libpython);
    assert_null(out.entrypoint);
    assert_null(out.extension_type);
    pyi_spec_fini(&out);
    pyi_writer_fini(&w);
}

static void a_spec_is_read_from_a_descriptor_twice(void **state) {
    (void)state;
    pyi_spec in = whole_spec(), out;
    pyi_writer w;
    pyi_error e;
    pyi_error_init(&e);
    pyi_writer_init(&w, PYI_MAX_SPEC);
    pyi_spec_write(&in, &w);
    int fd = memfd_create("spec", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, w.data, w.len), w.len);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pyi_spec_read(fd, &out, &e), PYI_OK);
        assert_same_spec(&in, &out);
        pyi_spec_fini(&out);
    }
    close(fd);
    pyi_writer_fini(&w);
}

static void what_is_no_memfd_is_refused(void **state) {
    (void)state;
    pyi_spec out;
    pyi_error e;
    pyi_error_init(&e);
    assert_int_not_equal(pyi_spec_read(-1, &out, &e), PYI_OK);
    assert_non_null(strstr(e.msg, "pyisolate-host"));
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(pyi_spec_read(pair[0], &out, &e), PYI_ETOOBIG);
    close(pair[0]);
    close(pair[1]);
}

/* A spec with one pair after the secret, and nothing else. */
static void begin(pyi_writer *w, size_t pairs) {
    uint8_t secret[PYI_SECRET_SIZE] = {1};
    pyi_writer_init(w, PYI_MAX_SPEC);
    pyi_put_map(w, pairs + 1);
    pyi_put_cstr(w, "secret");
    pyi_put_bin(w, secret, sizeof secret);
}

static void assert_refused(pyi_writer *w, const char *named) {
    pyi_spec out;
    pyi_error e;
    assert_int_equal(parse(w, &out, &e), PYI_EPROTO);
    assert_non_null(strstr(e.msg, named));
    pyi_writer_fini(w);
}

static void a_missing_key_is_named(void **state) {
    (void)state;
    pyi_writer w;
    begin(&w, 1);
    pyi_put_cstr(&w, "call_url");
    pyi_put_cstr(&w, "ipc:///x");
    assert_refused(&w, "\"name\"");
}

static void a_wrong_type_is_named(void **state) {
    (void)state;
    pyi_writer w;
    begin(&w, 1);
    pyi_put_cstr(&w, "threads");
    pyi_put_cstr(&w, "many");
    assert_refused(&w, "\"threads\"");
    begin(&w, 1);
    pyi_put_cstr(&w, "in_process");
    pyi_put_int(&w, 1);
    assert_refused(&w, "\"in_process\"");
    begin(&w, 1);
    pyi_put_cstr(&w, "name");
    pyi_put_str(&w, "a\0b", 3);
    assert_refused(&w, "\"name\"");
    begin(&w, 1);
    pyi_put_cstr(&w, "generation");
    pyi_put_int(&w, -1);
    assert_refused(&w, "\"generation\"");
}

static void a_short_secret_is_refused(void **state) {
    (void)state;
    pyi_writer w;
    pyi_writer_init(&w, PYI_MAX_SPEC);
    pyi_put_map(&w, 1);
    pyi_put_cstr(&w, "secret");
    pyi_put_bin(&w, "short", 5);
    assert_refused(&w, "\"secret\"");
}

static void every_cut_and_every_extra_byte_is_refused(void **state) {
    (void)state;
    pyi_spec in = whole_spec(), out;
    pyi_writer w;
    pyi_error e;
    pyi_writer_init(&w, PYI_MAX_SPEC);
    pyi_spec_write(&in, &w);
    for (size_t len = 0; len < w.len; len++) {
        pyi_error_init(&e);
        assert_int_not_equal(pyi_spec_parse(w.data, len, &out, &e), PYI_OK);
    }
    pyi_put_nil(&w);
    assert_int_equal(parse(&w, &out, &e), PYI_EPROTO);
    pyi_writer_fini(&w);
}

static void unknown_keys_are_skipped(void **state) {
    (void)state;
    pyi_spec in = whole_spec(), out;
    pyi_writer w, longer;
    pyi_error e;
    pyi_writer_init(&w, PYI_MAX_SPEC);
    pyi_spec_write(&in, &w);
    assert_int_equal(w.data[0], 0xDE); /* a map of 19 pairs has a 16-bit count */
    pyi_writer_init(&longer, PYI_MAX_SPEC);
    uint8_t head[3] = {0xDE, 0, (uint8_t)(w.data[2] + 1)};
    pyi_put_raw(&longer, head, sizeof head);
    pyi_put_cstr(&longer, "a later key");
    pyi_put_array(&longer, 2);
    pyi_put_nil(&longer);
    pyi_put_map(&longer, 0);
    pyi_put_raw(&longer, w.data + 3, w.len - 3);
    assert_int_equal(parse(&longer, &out, &e), PYI_OK);
    assert_same_spec(&in, &out);
    pyi_spec_fini(&out);
    pyi_writer_fini(&longer);
    pyi_writer_fini(&w);
}

static void fini_wipes_the_secret(void **state) {
    (void)state;
    pyi_spec in = whole_spec(), out;
    pyi_writer w;
    pyi_error e;
    pyi_writer_init(&w, PYI_MAX_SPEC);
    pyi_spec_write(&in, &w);
    assert_int_equal(parse(&w, &out, &e), PYI_OK);
    pyi_spec_fini(&out);
    uint8_t zero[PYI_SECRET_SIZE] = {0};
    assert_memory_equal(out.secret, zero, sizeof zero);
    assert_null(out.arena);
    pyi_writer_fini(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_written_spec_reads_back_whole),
        cmocka_unit_test(absent_options_are_null),
        cmocka_unit_test(a_spec_is_read_from_a_descriptor_twice),
        cmocka_unit_test(what_is_no_memfd_is_refused),
        cmocka_unit_test(a_missing_key_is_named),
        cmocka_unit_test(a_wrong_type_is_named),
        cmocka_unit_test(a_short_secret_is_refused),
        cmocka_unit_test(every_cut_and_every_extra_byte_is_refused),
        cmocka_unit_test(unknown_keys_are_skipped),
        cmocka_unit_test(fini_wipes_the_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

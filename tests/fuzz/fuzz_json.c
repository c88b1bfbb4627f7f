/*
 * Fuzzes the JSON of the command line: what is taken must be a valid value on the wire, show as
 * JSON again, and come out of that the same.
 */
#include "json.h"
#include "pyi_wire.h"

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void show_and_read_again(const pyi_writer *w) {
    char *text = NULL;
    size_t len = 0;
    pyi_error e;
    pyi_writer again;
    pyi_reader r = pyi_reader_on(w->data, w->len);
    MUST(pyi_wire_to_json(&r, &text, &len, &e) == PYI_OK);
    MUST(r.p == r.end);
    pyi_writer_init(&again, SIZE_MAX / 2);
    MUST(pyi_json_to_wire(text, len, &again, &e) == PYI_OK);
    MUST(again.len == w->len && memcmp(again.data, w->data, w->len) == 0);
    pyi_writer_fini(&again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pyi_error e;
    pyi_error_init(&e);
    pyi_writer w;
    pyi_writer_init(&w, 1u << 24);
    if (pyi_json_to_wire((const char *)data, size, &w, &e) == PYI_OK) {
        MUST(pyi_validate(w.data, w.len, &e) == PYI_OK);
        show_and_read_again(&w);
    } else {
        MUST(e.code != PYI_OK && e.msg[0] != '\0');
    }
    pyi_writer_fini(&w);
    return 0;
}

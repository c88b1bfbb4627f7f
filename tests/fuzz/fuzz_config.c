/*
 * Any text as a configuration: loading must end within its budget, and either give problems that
 * begin with the file's name, or structs that can be taken. Nothing is started; `stat` is all it
 * does to the machine.
 */
#include "config.h"
#include <string.h>

#define PYI_FUZZ_LONGEST (128u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void touch(const char *text) {
    if (text != NULL && strlen(text) > PYI_FUZZ_LONGEST) {
        abort();
    }
}

static void look_at(const pyi_extension_config *x) {
    if (x->name == NULL || x->module_path == NULL || x->module_path[0] != '/' ||
        x->max_concurrency == 0) {
        abort();
    }
    for (size_t i = 0; i < x->dependencies.count; i++) {
        touch(x->dependencies.items[i]);
    }
    for (size_t i = 0; i < x->env.count; i++) {
        touch(x->env.items[i].key);
        touch(x->env.items[i].value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pyi_config *c = NULL;
    pyi_error e;
    const char *const *problems;
    pyi_error_init(&e);
    if (pyi_config_load_string((const char *)data, size, "fuzz.lua", "/tmp", &c, &e) != PYI_OK) {
        return 0;
    }
    size_t count = pyi_config_problems(c, &problems);
    for (size_t i = 0; i < count; i++) {
        if (strstr(problems[i], ":") == NULL) {
            abort();
        }
    }
    if (count > 0 && pyi_config_count(c) > 0) {
        abort();
    }
    for (size_t i = 0; i < pyi_config_count(c); i++) {
        look_at(pyi_config_extension(c, i));
        pyi_extension_config_free(pyi_config_take_extension(c, i));
    }
    pyi_manager_config_free(pyi_config_take_manager(c));
    pyi_config_free(c);
    return 0;
}

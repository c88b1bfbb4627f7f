#pragma once
/*
 * For tests of the core with real children: a manager in a folder of its own, extensions from
 * tests/ext on an environment without packages.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "manager.h"
#include "paths.h"
#include "remote_error.h"
#include <stdio.h>
#include <string.h>

static inline pyi_extension_config *make_extension(const char *name, const char *module) {
    pyi_extension_config *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->arena = pyi_arena_new();
    c->name = pyi_arena_strdup(c->arena, name);
    c->module = pyi_arena_strdup(c->arena, module);
    c->module_path = pyi_arena_printf(c->arena, "%s/tests/ext/%s.py", PYI_SOURCE_DIR, module);
    c->isolated = true;
    c->embed = true;
    c->sandbox_mode = PYI_SANDBOX_DISABLED;
    c->start_timeout_ms = PYI_START_TIMEOUT_MS;
    c->stop_timeout_ms = PYI_STOP_TIMEOUT_MS;
    c->max_concurrency = 1024;
    return c;
}

/* One venv root for all tests of a run: what is built once is found again. */
static inline pyi_manager *make_manager(void) {
    pyi_manager_config *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->arena = pyi_arena_new();
    c->directory = pyi_arena_strdup(c->arena, PYI_BUILD_DIR);
    c->venv_root_path = pyi_arena_printf(c->arena, "%s/tests/venvs", PYI_BUILD_DIR);
    pyi_manager *m;
    pyi_error e;
    if (pyi_manager_new(c, &m, &e) != PYI_OK) {
        fail_msg("%s: %s", e.where, e.msg);
    }
    return m;
}

static inline pyi_extension *load_config(pyi_manager *m, pyi_extension_config *c) {
    pyi_extension *x;
    pyi_error e;
    if (pyi_manager_load(m, c, &x, &e) != PYI_OK) {
        fail_msg("%s: %s", e.where, e.msg);
    }
    return x;
}

static inline pyi_extension *load(pyi_manager *m, const char *name) {
    pyi_extension *x = load_config(m, make_extension(name, "basic"));
    pyi_error e;
    PYI_AUTO_FREE char *detail = NULL;
    if (pyi_extension_wait_ready(x, 60000, &detail, &e) != PYI_OK) {
        fail_msg("%s: %s\n%s", e.where, e.msg, detail != NULL ? detail : "");
    }
    return x;
}

/* METHOD(values...): each of `types` is i (int), d (double) or s (string). Waits. */
static inline pyi_call *begin(pyi_extension *x, int64_t timeout_ms, const char *method,
                              const char *types, va_list ap) {
    pyi_call *c;
    pyi_error e;
    if (pyi_call_begin(x, NULL, method, timeout_ms, &c, &e) != PYI_OK) {
        fail_msg("%s: %s", e.where, e.msg);
    }
    pyi_writer *w = pyi_call_writer(c);
    pyi_put_array(w, strlen(types));
    for (const char *t = types; *t != '\0'; t++) {
        if (*t == 'i') {
            pyi_put_int(w, va_arg(ap, int));
        } else if (*t == 'd') {
            pyi_put_float(w, va_arg(ap, double));
        } else {
            pyi_put_cstr(w, va_arg(ap, const char *));
        }
    }
    pyi_put_map(w, 0);
    return c;
}

static inline pyi_result *call(pyi_extension *x, int64_t timeout_ms, const char *method,
                               const char *types, ...) {
    va_list ap;
    va_start(ap, types);
    pyi_call *c = begin(x, timeout_ms, method, types, ap);
    va_end(ap);
    return pyi_call_wait(c);
}

static inline pyi_call *begin_call(pyi_extension *x, int64_t timeout_ms, const char *method,
                                   const char *types, ...) {
    va_list ap;
    va_start(ap, types);
    pyi_call *c = begin(x, timeout_ms, method, types, ap);
    va_end(ap);
    return c;
}

static inline int64_t int_of(pyi_result *r) {
    pyi_token t = {0};
    if (r->code != PYI_OK) {
        fail_msg("%s: %s\n%s", pyi_err_name(r->code), r->error.msg, r->detail ? r->detail : "");
    }
    assert_int_equal(pyi_read_kind(&r->value, PYI_INT, &t), PYI_OK);
    pyi_result_free(r);
    return t.i;
}

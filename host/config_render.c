/* What is made from the schema by lua/docs.lua, in a state of its own. */
#include "config.h"
#include "lua_vm.h"
#include <errno.h>
#include <string.h>

static const char SCRIPT[] =
    "local kind = ...\n"
    "local docs = require 'pyisolate.docs'\n"
    "if kind == 'markdown' or kind == 'luals' then return docs[kind]() end\n";

static pyi_err render(pyi_lua *vm, const char *kind, FILE *out, pyi_error *e) {
    lua_State *L = pyi_lua_state(vm);
    pyi_err err = pyi_lua_compile(vm, SCRIPT, sizeof(SCRIPT) - 1, "=render", e);
    if (err == PYI_OK) {
        err = pyi_lua_push_bytes(L, kind, strlen(kind), e);
    }
    if (err == PYI_OK) {
        err = pyi_lua_call(vm, 1, 1, e);
    }
    if (err != PYI_OK) {
        return err;
    }
    size_t len = 0;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
    if (text == NULL) {
        return pyi_error_set(e, PYI_EINVAL, "config.render",
                             "'%s' is not made here: \"markdown\" or \"luals\"", kind);
    }
    if (fwrite(text, 1, len, out) != len || fflush(out) != 0) {
        return pyi_error_sys(e, errno, "config.render", "not all output could be written");
    }
    return PYI_OK;
}

pyi_err pyi_config_render(const char *kind, FILE *out, pyi_error *e) {
    pyi_lua *vm = NULL;
    pyi_err err = pyi_lua_new(&vm, e);
    if (err == PYI_OK) {
        err = render(vm, kind, out, e);
    }
    pyi_lua_free(vm);
    return err;
}

/*
 * version: one line; with -v everything that a bug report should say.
 */
#include "cli.h"
#include "env_backend.h"
#include "interpreter.h"
#include "json.h"
#include "paths.h"
#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

static const pyi_option rows[] = {
    PYI_OPTION(0, "json", NULL, "for programs; names are stable", json),
};

enum { VALUE = 512, FACTS = 24 };

typedef struct facts {
    const char *name[FACTS];
    char value[FACTS][VALUE];
    uint32_t count;
} facts;

static void add(facts *f, const char *name, const char *fmt, ...) PYI_PRINTF(3, 4);
static void add(facts *f, const char *name, const char *fmt, ...) {
    va_list args;
    if (f->count == FACTS) {
        return;
    }
    f->name[f->count] = name;
    va_start(args, fmt);
    vsnprintf(f->value[f->count++], VALUE, fmt, args);
    va_end(args);
}

/* Asked of the libraries that are loaded, not of the headers that this was built with. */
static void add_libraries(facts *f) {
    const char *(*nng)(void) = NULL;
    *(void **)&nng = dlsym(RTLD_DEFAULT, "nng_version");
    add(f, "nng", "%s", nng != NULL ? nng() : "linked in");
    const char *lua = dlsym(RTLD_DEFAULT, "lua_ident"); // "$LuaVersion: Lua 5.4.4  Copyright ..."
    const char *number = lua != NULL ? strstr(lua, "Lua 5") : NULL;
    add(f, "lua", "%.*s", number != NULL ? (int)strcspn(number + 4, " $") : 9,
        number != NULL ? number + 4 : "linked in");
    const char *(*jansson)(void) = NULL;
    *(void **)&jansson = dlsym(RTLD_DEFAULT, "jansson_version_str"); // since 2.13
    add(f, "jansson", "%s", jansson != NULL ? jansson() : "linked in");
    add(f, "libc", "glibc %s", gnu_get_libc_version());
}

static const char *sanitizer(void) {
#if defined(__SANITIZE_ADDRESS__)
    return "address";
#elif defined(__SANITIZE_THREAD__)
    return "thread";
#else
    return "none";
#endif
}

static void add_build(facts *f) {
#ifdef __OPTIMIZE__
    const char *type = "optimized";
#else
    const char *type = "debug";
#endif
    add(f, "build", "%s, gcc-compatible %s", type, __VERSION__);
    add(f, "sanitizer", "%s", sanitizer());
}

static void add_paths(facts *f) {
    pyi_paths paths = {0};
    pyi_error e = {0};
    char dir[256];
    if (pyi_paths_find(&paths, &e) == PYI_OK) {
        add(f, "child", "%.500s", paths.child);
        add(f, "core", "%.500s", paths.core);
        add(f, "python package", "%.500s", paths.python);
    } else {
        add(f, "child", "%s", e.msg);
    }
    if (pyi_runtime_dir(dir, sizeof dir, &e) == PYI_OK) {
        add(f, "runtime folder", "%s", dir);
    }
    PYI_AUTO_FREE char *uv = pyi_uv_find();
    add(f, "uv", "%.500s", uv != NULL ? uv : "not found");
}

static void add_python(facts *f) {
    char cache[4096];
    pyi_error e = {0};
    pyi_interpreter *python = NULL;
    if (pyi_cache_dir(cache, sizeof cache, &e) == PYI_OK &&
        pyi_interpreter_find(NULL, cache, &python, &e) == PYI_OK) {
        add(f, "default python", "%s, %.480s", python->version, python->executable);
    } else {
        add(f, "default python", "%s", e.msg);
    }
    pyi_interpreter_free(python);
}

static void collect(facts *f) {
    struct utsname os = {0};
    uname(&os);
    add(f, "version", "%s", PYI_VERSION);
    add(f, "protocol", "%d", PYI_PROTOCOL_VERSION);
    add_build(f);
    add_libraries(f);
    add(f, "kernel", "%s %s %s", os.sysname, os.release, os.machine);
    add_paths(f);
    add_python(f);
}

static int print_facts_json(const facts *f) {
    pyi_writer w;
    pyi_writer_init(&w, PYI_MAX_CONTROL_LINE);
    pyi_put_map(&w, f->count);
    for (uint32_t i = 0; i < f->count; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s", f->name[i]);
        for (char *space; (space = strchr(name, ' ')) != NULL;) {
            *space = '_';
        }
        pyi_put_cstr(&w, name);
        pyi_put_cstr(&w, f->value[i]);
    }
    PYI_AUTO_FREE char *text = NULL;
    size_t len = 0;
    pyi_error e = {0};
    pyi_reader r = pyi_reader_on(w.data, w.len);
    pyi_err err = pyi_wire_to_json(&r, &text, &len, &e);
    pyi_writer_fini(&w);
    if (err != PYI_OK) {
        return pyi_fail(&e);
    }
    pyi_print_json(text);
    return PYI_EXIT_OK;
}

static int version(pyi_cli *cli, int argc, char **argv) {
    (void)argc, (void)argv;
    if (cli->verbose == 0 && cli->json == 0) {
        printf("pyisolate-host %s\n", PYI_VERSION);
        return PYI_EXIT_OK;
    }
    facts f = {.count = 0};
    collect(&f);
    if (cli->json) {
        return print_facts_json(&f);
    }
    printf("pyisolate-host %s\n", PYI_VERSION);
    for (uint32_t i = 1; i < f.count; i++) {
        printf("  %-16s%s\n", f.name[i], f.value[i]);
    }
    return PYI_EXIT_OK;
}

const pyi_command pyi_command_version = {
    .name = "version",
    .args = "",
    .summary = "print the version; -v: of everything, with paths",
    .text = "With -v: the protocol, the libraries, how it was built, where its parts are, the "
            "default Python.",
    .examples = "pyisolate-host version -v\n"
                "  for a bug report\n",
    .options = PYI_OPTIONS(rows),
    .handler = version,
};

#pragma once
/*
 * What the tests of environments share: a temporary folder per test, files, and wheels made by the
 * standard library's zipfile, so that most tests need no index.
 */
#include "env_store.h"
#include "paths.h"
#include "process.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

typedef struct fixture {
    char dir[256];  /* all below here is removed at the end */
    char root[300]; /* venv_root_path */
    char wheels[300];
    pyi_manager_config manager;
    pyi_extension_config extension;
    const char *deps[8];
    const char *links[2];
    char said[16384]; /* every progress line: "STEP text\n" */
    char *detail;
    pyi_error e;
} fixture;

static PYI_UNUSED const char *at(const fixture *f, const char *name) {
    static char paths[8][600];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", f->dir, name);
    return path;
}

static PYI_UNUSED void put_file(const char *path, const char *text) {
    FILE *out = fopen(path, "we");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

/* Runs a program; returns its standard output, to be freed. */
static PYI_UNUSED char *output_of(const char *const *argv) {
    pyi_process p = {.argv = argv, .cancel_fd = -1, .timeout_ms = 60000};
    pyi_process_result r = {0};
    pyi_error e;
    pyi_error_init(&e);
    if (pyi_process_run(&p, &r, &e) != PYI_OK) {
        fail_msg("%s: %s", argv[0], e.msg);
    }
    if (r.status != 0) {
        fail_msg("%s ended with %d: %s", argv[0], r.status, r.err);
    }
    char *out = pyi_steal(&r.out);
    pyi_process_result_fini(&r);
    return out;
}

/* A pure wheel with one module of the same name, which has VERSION, and perhaps a requirement. */
static PYI_UNUSED void put_wheel(const fixture *f, const char *name, const char *version,
                                 const char *requires) {
    static const char script[] =
        "import sys, zipfile\n"
        "d, n, v, r = sys.argv[1:]\n"
        "i = '%s-%s.dist-info/' % (n, v)\n"
        "files = {n + '.py': 'VERSION = %r\\n' % v,\n"
        "  i + 'METADATA': 'Metadata-Version: 2.1\\nName: %s\\nVersion: %s\\n' % (n, v)\n"
        "     + ('Requires-Dist: %s\\n' % r if r else ''),\n"
        "  i + 'WHEEL': 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'}\n"
        "record = ''.join('%s,,\\n' % k for k in files) + i + 'RECORD,,\\n'\n"
        "with zipfile.ZipFile('%s/%s-%s-py3-none-any.whl' % (d, n, v), 'w') as z:\n"
        "    for k, t in files.items(): z.writestr(k, t)\n"
        "    z.writestr(i + 'RECORD', record)\n";
    const char *const argv[] = {"python3", "-I", "-S",    "-c",     script,
                                f->wheels, name, version, requires, NULL};
    free(output_of(argv));
}

static PYI_UNUSED void on_step(void *arg, const char *extension, pyi_env_step step,
                               const char *text) {
    fixture *f = arg;
    size_t used = strlen(f->said);
    (void)extension;
    snprintf(f->said + used, sizeof(f->said) - used, "%d %s\n", (int)step, text);
}

static PYI_UNUSED void want(fixture *f, const char *first, const char *second) {
    f->deps[0] = first;
    f->deps[1] = second;
    f->extension.dependencies.items = f->deps;
    f->extension.dependencies.count = first == NULL ? 0 : second == NULL ? 1 : 2;
}

/* Prepares; NULL if that failed: f->e and f->detail say why. */
static PYI_UNUSED pyi_env *prepare(fixture *f) {
    pyi_env *env = NULL;
    pyi_env_progress progress = {.step = on_step, .arg = f};
    free(pyi_steal(&f->detail));
    f->said[0] = '\0';
    pyi_error_init(&f->e);
    pyi_err err =
        pyi_env_prepare(&f->manager, &f->extension, &progress, -1, &env, &f->detail, &f->e);
    assert_int_equal(err, f->e.code);
    assert_true((err == PYI_OK) == (env != NULL));
    return env;
}

static PYI_UNUSED pyi_env *prepared(fixture *f) {
    pyi_env *env = prepare(f);
    if (env == NULL) {
        fail_msg("%s\n%s", f->e.msg, f->detail == NULL ? "" : f->detail);
    }
    return env;
}

/* What an expression is in an environment's own Python. */
static PYI_UNUSED void check_python(const char *python, const char *code, const char *expected) {
    const char *const argv[] = {python, "-I", "-c", code, NULL};
    char *out = output_of(argv);
    out[strcspn(out, "\n")] = '\0';
    assert_string_equal(out, expected);
    free(out);
}

/* A project "loc" with a build backend of its own, which needs no index. It notes each build in
 * `builds`, and stops for a minute where `slow` is there. */
static PYI_UNUSED void put_project(const fixture *f, const char *name) {
    static const char backend[] =
        "import os, time, zipfile\n"
        "def build_wheel(d, config_settings=None, metadata_directory=None):\n"
        "    open('../builds', 'a').write('x')\n"
        "    if os.path.exists('../slow'): time.sleep(60)\n"
        "    n = 'loc-1.0-py3-none-any.whl'\n"
        "    i = 'loc-1.0.dist-info/'\n"
        "    with zipfile.ZipFile(os.path.join(d, n), 'w') as z:\n"
        "        z.writestr('loc.py', open('loc.py').read())\n"
        "        z.writestr(i + 'METADATA', 'Metadata-Version: 2.1\\nName: loc\\nVersion: "
        "1.0\\n')\n"
        "        z.writestr(i + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n'\n"
        "                                'Tag: py3-none-any\\n')\n"
        "        z.writestr(i + 'RECORD', 'loc.py,,\\n')\n"
        "    return n\n";
    char dir[600], path[700];
    snprintf(dir, sizeof(dir), "%s/%s", f->dir, name);
    assert_int_equal(mkdir(dir, 0755), 0);
    snprintf(path, sizeof(path), "%s/be.py", dir);
    put_file(path, backend);
    snprintf(path, sizeof(path), "%s/loc.py", dir);
    put_file(path, "X = 1\n");
    snprintf(path, sizeof(path), "%s/pyproject.toml", dir);
    put_file(path, "[project]\nname = 'loc'\nversion = '1.0'\n[build-system]\nrequires = []\n"
                   "build-backend = 'be'\nbackend-path = ['.']\n");
}

static PYI_UNUSED long file_size(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? (long)st.st_size : -1;
}

static PYI_UNUSED int fixture_new(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    const char *tmp = getenv("TMPDIR");
    assert_non_null(f);
    snprintf(f->dir, sizeof(f->dir), "%s/pyi-env-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->root, sizeof(f->root), "%s/venvs", f->dir);
    snprintf(f->wheels, sizeof(f->wheels), "%s/wheels", f->dir);
    assert_int_equal(mkdir(f->wheels, 0755), 0);
    f->links[0] = f->wheels;
    f->manager = (pyi_manager_config){.directory = f->dir, .venv_root_path = f->root};
    f->extension = (pyi_extension_config){.name = "sample",
                                          .module_path = f->dir,
                                          .isolated = true,
                                          .find_links = {.items = f->links, .count = 1}};
    *state = f;
    return 0;
}

static PYI_UNUSED int fixture_free(void **state) {
    fixture *f = *state;
    pyi_error e;
    pyi_error_init(&e);
    free(f->detail);
    pyi_err err = pyi_remove_tree(f->dir, &e);
    free(f);
    return err == PYI_OK ? 0 : -1;
}

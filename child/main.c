/*
 * pyisolate-child: the thin executable. It has no symbol of Python: it reads the spec, then either
 *
 *   embed  loads the environment's libpython (RTLD_GLOBAL), checks that it is the right one, loads
 * the core library (whose Py* symbols then resolve), and gives it the process; or exec   becomes
 * the environment's own python, which loads the same core library as the module _pyisolate
 *          (interpreters without a shared libpython).
 *
 * Until the link to the host exists, an error is one line on stderr and an exit status: 70 broken
 * spec or core, 69 no libpython or no interpreter. The host shows the line.
 */
#include "core.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { EXIT_MISSING = 69, EXIT_BROKEN = 70 };

/* "exec" mode: loads the core by path with what the interpreter has in memory anyway, importing
 * nothing. */
static const char boot[] =
    "import sys,_frozen_importlib as b,_frozen_importlib_external as e;p=sys.argv.pop();"
    "b._load(b.ModuleSpec('_pyisolate',e.ExtensionFileLoader('_pyisolate',p),origin=p)).main()";

static int fail(int status, const char *what, const char *why) {
    fprintf(stderr, "pyisolate-child: %s: %s\n", what, why ? why : "unknown reason");
    return status;
}

static int check_version(void *libpython, const pyi_spec *spec) {
    const char *(*version)(void) = NULL;
    *(void **)&version = dlsym(libpython, "Py_GetVersion");
    if (!version) {
        return fail(EXIT_MISSING, spec->libpython, "it has no Py_GetVersion: not a libpython");
    }
    const char *found = version();
    if (spec->sys_version && strcmp(found, spec->sys_version) != 0) {
        fprintf(
            stderr,
            "pyisolate-child: %s is Python %s, but the environment %s was made for %s; remove the "
            "environment and run `pyisolate-host sync`\n",
            spec->libpython, found, spec->prefix, spec->sys_version);
        return EXIT_MISSING;
    }
    return 0;
}

static int embed(pyi_spec *spec) {
    void *libpython = dlopen(spec->libpython, RTLD_NOW | RTLD_GLOBAL);
    if (!libpython) {
        return fail(EXIT_MISSING, "cannot load libpython", dlerror());
    }
    int status = check_version(libpython, spec);
    if (status != 0) {
        return status;
    }
    void *core = dlopen(spec->core, RTLD_NOW | RTLD_LOCAL);
    if (!core) {
        return fail(EXIT_BROKEN, "cannot load the core library", dlerror());
    }
    pyi_core_embed_fn start = NULL;
    *(void **)&start = dlsym(core, "pyi_core_embed");
    if (!start) {
        return fail(EXIT_BROKEN, spec->core, "it has no pyi_core_embed: reinstall pyisolate-host");
    }
    close(PYI_SPEC_FD);
    return start(spec);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
/*
 * A sanitizer's run-time must be there before the interpreter, which is not built with it: the one
 * that this program runs with is preloaded. Test builds only.
 */
static void preload_sanitizer(void) {
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[4096], *path;
    while (maps && fgets(line, sizeof(line), maps)) {
        if ((strstr(line, "/libasan.so") || strstr(line, "/libtsan.so")) &&
            (path = strchr(line, '/'))) {
            path[strcspn(path, "\n")] = '\0';
            setenv("LD_PRELOAD", path, 1);
            break;
        }
    }
    if (maps) {
        fclose(maps);
    }
}
#else
static void preload_sanitizer(void) {
}
#endif

static int become_python(const pyi_spec *spec) {
    preload_sanitizer();
    fcntl(PYI_SPEC_FD, F_SETFD, 0); /* the core reads the spec again, from inside python */
    execl(spec->python, spec->python, "-s", "-X", "utf8", "-c", boot, spec->core, (char *)NULL);
    return fail(EXIT_MISSING, spec->python, strerror(errno));
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    fcntl(PYI_SPEC_FD, F_SETFD, FD_CLOEXEC);
    fcntl(PYI_LANE_FD, F_SETFD, FD_CLOEXEC);
    fcntl(PYI_LOG_FD, F_SETFD, FD_CLOEXEC);
    static pyi_spec spec;
    pyi_error e;
    pyi_error_init(&e);
    if (pyi_spec_read(PYI_SPEC_FD, &spec, &e) != PYI_OK) {
        return fail(EXIT_BROKEN, e.where, e.msg);
    }
    if (!spec.core) {
        return fail(EXIT_BROKEN, "spec.read", "\"core\" must name the core library");
    }
    if (spec.libpython) {
        return embed(&spec);
    }
    fcntl(PYI_LANE_FD, F_SETFD, 0); /* exec keeps them; the core marks them again */
    fcntl(PYI_LOG_FD, F_SETFD, 0);
    return become_python(&spec);
}

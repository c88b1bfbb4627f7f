#pragma once
/*
 * A configuration as const structs. Made by config.c from a table that lua/schema.lua has validated
 * (so values are sound here: types, ranges, combinations, absolute paths). Immutable once made; any
 * thread may read. Strings belong to the struct's arena and live until its free.
 */
#include "pyi_arena.h"
#include "pyi_error.h"
#include "pyi_limits.h"
#include "pyi_log.h"
#include <stdio.h>

typedef struct pyi_strings {
    const char *const *items;
    size_t count;
} pyi_strings;

typedef struct pyi_pair {
    const char *key, *value;
} pyi_pair;

typedef struct pyi_pairs {
    const pyi_pair *items;
    size_t count;
} pyi_pairs;

typedef enum pyi_sandbox_mode {
    PYI_SANDBOX_ABSENT,
    PYI_SANDBOX_REQUIRED,
    PYI_SANDBOX_PREFERRED,
    PYI_SANDBOX_DISABLED
} pyi_sandbox_mode;
typedef enum pyi_package_manager { PYI_PM_UV, PYI_PM_CONDA } pyi_package_manager;
typedef enum pyi_execution_model { PYI_HOST_COUPLED, PYI_SEALED_WORKER } pyi_execution_model;
typedef enum pyi_restart {
    PYI_RESTART_ON_CRASH,
    PYI_RESTART_ALWAYS,
    PYI_RESTART_NEVER
} pyi_restart;

typedef struct pyi_manager_config {
    pyi_arena *arena;           // owned
    const char *path;           /* the configuration file, absolute, or NULL (made in code) */
    const char *directory;      /* relative paths are relative to this */
    const char *venv_root_path; /* absolute */
    const char *python; /* interpreter path or version request, or NULL: the machine's default */
    pyi_level log_level;
    bool has_log_level;
    pyi_pairs not_yet; /* keys given that a later issue builds: key, what to do instead */
} pyi_manager_config;

typedef struct pyi_extension_config {
    pyi_arena *arena; // owned
    const char *name;
    const char *module_path; /* absolute */
    const char *module;      /* import name, or NULL: the folder's base name */
    const char *declared_at; /* "config.lua:5", for messages */
    bool isolated;
    pyi_strings dependencies; /* requirement specifiers as written; local paths made absolute */
    pyi_strings requirements; /* files, absolute */
    pyi_strings constraints, overrides; /* specifiers */
    const char *index_url;
    pyi_strings extra_index_urls, find_links;
    const char *python;         /* path or version request, or NULL */
    const char *environment;    /* an existing environment, absolute, used as it is; or NULL */
    const char *entrypoint;     /* name of a function or class in the module, or NULL */
    const char *extension_type; /* "package.module:Class", or NULL */
    pyi_strings apis;           /* names of ProxiedSingletons */
    bool share_torch, share_torch_no_deps, share_cuda_ipc;
    pyi_package_manager package_manager;
    pyi_execution_model execution_model;
    pyi_sandbox_mode sandbox_mode;
    bool has_sandbox;        /* a `sandbox` table was given */
    pyi_pairs env;           /* for the child */
    pyi_strings env_inherit; /* name patterns with *, let in from the host's environment */
    pyi_restart restart;
    int64_t call_timeout_ms; /* 0: none */
    int64_t start_timeout_ms, stop_timeout_ms;
    unsigned max_concurrency;
    unsigned threads; /* 0: def methods run inline */
    pyi_strings conda_channels, conda_dependencies, conda_platforms;
    const char *conda_python;
    pyi_strings sealed_host_ro_paths, filtered_subdirs, may_call, publish, subscribe;
    const char *transport; /* "nng" or "ring" */
    pyi_pairs not_yet; /* keys given (here and in the manager) that a later issue builds: key, what
                          to do */
    unsigned max_payload; /* bytes of a message; 0: PYI_MAX_PAYLOAD_DEFAULT (hidden key
                             `max_payload`, for tests) */
    bool embed; /* false: run inside the venv's own python (hidden key `embed`, for tests) */
} pyi_extension_config;

static inline uint64_t pyi_max_payload_of(const pyi_extension_config *c) {
    return c->max_payload != 0 ? c->max_payload : PYI_MAX_PAYLOAD_DEFAULT;
}

void pyi_manager_config_free(pyi_manager_config *c);
void pyi_extension_config_free(pyi_extension_config *c);

/* ---- a configuration file ----------------------------------------------------------------------
 * One Lua state per configuration, used by one thread (the host's main thread): load it, look at
 * the problems, take the structs, start a manager with them, then lua_api.h runs its `main`. */
typedef struct pyi_config pyi_config;

/// Loads and validates the file. PYI_OK even when its text is wrong (also its syntax): then
/// pyi_config_problems says how, and there is nothing to take. Errors: PYI_ENOTFOUND, PYI_ESYS
/// (unreadable), PYI_ETOOBIG, PYI_ENOMEM. Starts nothing, changes nothing. Bounded in time and
/// memory.
pyi_err pyi_config_load(const char *path, pyi_config **ret, pyi_error *e) PYI_MUST_CHECK;
/// The same for a text; `name` stands for the file in messages, `directory` is its (absolute)
/// folder.
pyi_err pyi_config_load_string(const char *text, size_t len, const char *name,
                               const char *directory, pyi_config **ret,
                               pyi_error *e) PYI_MUST_CHECK;
/// What is wrong: "config.lua:5: ..." each, in the order of the text. 0: the configuration is good.
/// Borrowed.
size_t pyi_config_problems(const pyi_config *c, const char *const **ret_problems);
/// The extensions, in the order of declaration (0 if there are problems).
size_t pyi_config_count(const pyi_config *c);
/// Borrowed, until it is taken; NULL once taken or beyond the count.
const pyi_manager_config *pyi_config_manager(const pyi_config *c);
const pyi_extension_config *pyi_config_extension(const pyi_config *c, size_t index);
/// Owned by the caller from now on (for pyi_manager_new, pyi_manager_load, or the _free functions
/// above). NULL if there are problems or it has been taken.
pyi_manager_config *pyi_config_take_manager(pyi_config *c);
pyi_extension_config *pyi_config_take_extension(pyi_config *c, size_t index);
/// Whether it defines `pyisolate.main`.
bool pyi_config_has_main(const pyi_config *c);
/// NULL is fine. Not while pyi_lua_run_main runs.
void pyi_config_free(pyi_config *c);

/// Writes what is made from the schema: "markdown" (docs/configuration.md) or "luals" (editor
/// types). PYI_EINVAL: another kind.
pyi_err pyi_config_render(const char *kind, FILE *out, pyi_error *e) PYI_MUST_CHECK;

#pragma once
/*
 * Where packages come from for one extension: what the configuration says, then what this machine's
 * uv and pip settings say. uv reads none of pip's settings, so they are translated here. Any
 * thread.
 */
#include "config.h"
#include "hash.h"
#include "list.h"

typedef struct pyi_env_sources {
    char *default_index;       /* NULL: uv's own */
    pyi_list indexes;          /* in addition; empty: uv's own */
    pyi_list find_links;       /* folders or pages; empty: uv's own */
    pyi_list constraint_files; /* of the machine */
    pyi_list override_files;   /* of the machine */
    pyi_list trusted_hosts;
    pyi_list uv_config; /* configuration files that uv will read */
    char *cert;         /* certificates that pip is told to trust; NULL: uv's own */
    bool no_index;
    bool like_pip; /* take the best version of all indexes, as pip does with the same settings */
} pyi_env_sources;

/// `cwd` is where the installer will stand: uv looks for its configuration there and above.
pyi_err pyi_env_sources_read(const pyi_extension_config *extension, const char *cwd,
                             pyi_env_sources *ret, pyi_error *e) PYI_MUST_CHECK;
void pyi_env_sources_fini(pyi_env_sources *s);
/// Adds all that can change what is resolved. Credentials are left out: a rotated token is no
/// change.
void pyi_env_sources_hash(const pyi_env_sources *s, pyi_hash *h);
/// The environment to run uv with.
pyi_err pyi_env_sources_environ(const pyi_env_sources *s, pyi_list *ret,
                                pyi_error *e) PYI_MUST_CHECK;

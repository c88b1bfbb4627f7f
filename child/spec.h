#pragma once
/*
 * What the host tells a child at start: one msgpack map in a sealed memfd that the child inherits
 * as PYI_SPEC_FD. Never argv, never the environment: it holds the spawn's secret. Written by
 * host/spawn.c, read by child/spec.c. In "exec" mode main.c leaves the descriptor open for the
 * interpreter it executes, and the core reads it again from offset 0.
 */
#include "pyi_arena.h"
#include "pyi_error.h"
#include "pyi_limits.h"

#define PYI_SPEC_FD 5 /* sealed memfd: this spec */
#define PYI_LANE_FD 3 /* SOCK_SEQPACKET pair, host <-> child, descriptors only */
#define PYI_LOG_FD                                                                                 \
    4 /* SOCK_SEQPACKET, child -> host, one log record a message (docs/protocol.md) */

typedef struct pyi_spec {
    pyi_arena *arena;
    uint8_t secret[PYI_SECRET_SIZE];
    const char *call_url, *service_url; /* nng URLs the child dials */
    const char *name;                   /* extension name */
    unsigned generation;
    const char *prefix;         /* the environment */
    const char *python;         /* <prefix>/bin/python: argv[0] */
    const char *libpython;      /* NULL: run inside the environment's own python */
    const char *sys_version;    /* what Py_GetVersion() must say */
    const char *core;           /* libpyisolate-core.abi3.so */
    const char *runtime;        /* folder put first on sys.path: has the package pyisolate */
    const char *module_path;    /* folder (package) or .py file */
    const char *module;         /* import name */
    const char *entrypoint;     /* or NULL */
    const char *extension_type; /* or NULL */
    uint64_t max_payload;
    unsigned threads, max_concurrency;
    bool in_process; /* isolated = false: served on a thread of the host's process */
} pyi_spec;

/// Reads the spec from the whole of `fd` (which stays open).
pyi_err pyi_spec_read(int fd, pyi_spec *ret, pyi_error *e) PYI_MUST_CHECK;
/// Parses a spec from bytes (also used by `isolated = false`, in the host's process).
pyi_err pyi_spec_parse(const void *data, size_t len, pyi_spec *ret, pyi_error *e) PYI_MUST_CHECK;
/// Frees all and wipes the secret.
void pyi_spec_fini(pyi_spec *s);

struct pyi_writer;
/// Writes the spec as one msgpack map, keyed by the names of the fields above (host/spawn.c and the
/// tests).
void pyi_spec_write(const pyi_spec *s, struct pyi_writer *w);

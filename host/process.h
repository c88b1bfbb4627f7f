#pragma once
/*
 * Runs a helper program to its end (uv, a python probe, a compiler): argv, environment, captured
 * output, a deadline and a descriptor that cancels. The whole process group is killed on cancel,
 * and it dies with the thread that runs it. Not for extensions: those are spawn.h. Any thread;
 * blocks.
 */
#include "pyi_error.h"

typedef struct pyi_process {
    const char *const *argv; /* NULL-terminated; argv[0] is looked up on PATH if it has no slash */
    const char *const *envp; /* NULL: the host's */
    const char *cwd;         /* NULL: the host's */
    int64_t timeout_ms;      /* 0: none */
    int cancel_fd;           /* -1: none */
    /// Each line of stderr as it comes, without its line end; lines end at \r as well. May be NULL.
    void (*on_line)(void *arg, const char *line);
    void *arg;
    size_t keep; /* most bytes of each stream to keep; 0: 1 MiB */
} pyi_process;

typedef struct pyi_process_result {
    int status;      /* exit status, or 128 + signal */
    char *out, *err; /* NUL-terminated, the last `keep` bytes */
    size_t out_len, err_len;
} pyi_process_result;

/// PYI_OK when the program ran and ended, whatever its status. PYI_ENOTFOUND: no such program.
/// PYI_EDEADLINE, PYI_ECANCELLED: it was killed.
pyi_err pyi_process_run(const pyi_process *p, pyi_process_result *ret, pyi_error *e) PYI_MUST_CHECK;
void pyi_process_result_fini(pyi_process_result *r);

#pragma once
/*
 * What this machine has and lacks, found out by trying where that can be done, and what to do about
 * each lack. Blocks for a second or so: it runs python, uv and bwrap.
 */
#include "pyi_error.h"

typedef enum pyi_verdict {
    PYI_FINE,
    PYI_WARN, /* something works less well, or will be missed later */
    PYI_LACK  /* the main job cannot run: environments, children, calls */
} pyi_verdict;

typedef struct pyi_finding {
    const char *name; /* stable: "kernel", "python", "uv", ... ; several may share one */
    pyi_verdict verdict;
    char what[512];
    char remedy[256]; /* "" where nothing is to be done */
} pyi_finding;

typedef struct pyi_findings {
    pyi_finding *items; // owned
    size_t count, cap;
    bool failed; /* out of memory: some are missing */
} pyi_findings;

/// Looks at everything.
void pyi_doctor_examine(pyi_findings *ret);
void pyi_findings_fini(pyi_findings *f);
/// Whether the main job can run: no LACK.
bool pyi_findings_healthy(const pyi_findings *f);
const char *pyi_verdict_name(pyi_verdict v); /* "ok", "warn", "lack" */

/// Adds one; the new finding to be given a remedy, or NULL on out-of-memory. For the checks.
pyi_finding *pyi_finding_add(pyi_findings *f, const char *name, pyi_verdict verdict,
                             const char *fmt, ...) PYI_PRINTF(4, 5);
void pyi_finding_remedy(pyi_finding *f, const char *fmt, ...) PYI_PRINTF(2, 3);
/// Writes `value` with the password of each URL in it masked.
void pyi_mask_credentials(const char *value, char *ret, size_t size);

/*
 * The list of checks and what they are collected in.
 */
#include "doctor.h"
#include "doctor_checks.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void (*const checks[])(pyi_findings *f) = {
    pyi_check_child,   pyi_check_pythons,  pyi_check_uv,     pyi_check_indexes, pyi_check_kernel,
    pyi_check_cpu,     pyi_check_limits,   pyi_check_shm,    pyi_check_runtime, pyi_check_bwrap,
    pyi_check_seccomp, pyi_check_landlock, pyi_check_cgroup, pyi_check_gpu,
};

void pyi_doctor_examine(pyi_findings *ret) {
    *ret = (pyi_findings){0};
    for (size_t i = 0; i < PYI_COUNT(checks); i++) {
        checks[i](ret);
    }
}

void pyi_findings_fini(pyi_findings *f) {
    free(f->items);
    *f = (pyi_findings){0};
}

bool pyi_findings_healthy(const pyi_findings *f) {
    for (size_t i = 0; i < f->count; i++) {
        if (f->items[i].verdict == PYI_LACK) {
            return false;
        }
    }
    return !f->failed;
}

const char *pyi_verdict_name(pyi_verdict v) {
    switch (v) {
    case PYI_FINE:
        return "ok";
    case PYI_WARN:
        return "warn";
    case PYI_LACK:
        break;
    }
    return "lack";
}

static pyi_finding *grow(pyi_findings *f) {
    if (f->count == f->cap) {
        size_t cap = f->cap > 0 ? f->cap * 2 : 32;
        pyi_finding *items = realloc(f->items, cap * sizeof *items);
        if (items == NULL) {
            f->failed = true;
            return NULL;
        }
        f->items = items;
        f->cap = cap;
    }
    return &f->items[f->count++];
}

pyi_finding *pyi_finding_add(pyi_findings *f, const char *name, pyi_verdict verdict,
                             const char *fmt, ...) {
    pyi_finding *item = grow(f);
    if (item == NULL) {
        return NULL;
    }
    *item = (pyi_finding){.name = name, .verdict = verdict};
    va_list args;
    va_start(args, fmt);
    vsnprintf(item->what, sizeof item->what, fmt, args);
    va_end(args);
    return item;
}

void pyi_finding_remedy(pyi_finding *f, const char *fmt, ...) {
    if (f == NULL) {
        return;
    }
    va_list args;
    va_start(args, fmt);
    vsnprintf(f->remedy, sizeof f->remedy, fmt, args);
    va_end(args);
}

/* Of "scheme://user:secret@host/...", everything between "//" and the '@'. */
void pyi_mask_credentials(const char *value, char *ret, size_t size) {
    size_t len = 0;
    while (*value != '\0' && len + 5 < size) {
        bool authority = strncmp(value, "//", 2) == 0;
        size_t span = authority ? strcspn(value + 2, "/ \t\n?#") : 0;
        const char *at = authority ? memrchr(value + 2, '@', span) : NULL;
        if (at != NULL) {
            memcpy(ret + len, "//***", 5);
            len += 5;
            value = at;
        } else {
            ret[len++] = *value++;
        }
    }
    ret[len] = '\0';
}

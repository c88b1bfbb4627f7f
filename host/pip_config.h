#pragma once
/*
 * pip's settings, as far as they say where packages come from: its configuration files and PIP_*
 * variables, read as pip reads them. Any thread.
 */
#include "pyi_error.h"

typedef enum pyi_pip_key {
    PYI_PIP_INDEX_URL,
    PYI_PIP_EXTRA_INDEX_URL,
    PYI_PIP_FIND_LINKS,
    PYI_PIP_CONSTRAINT,
    PYI_PIP_NO_INDEX,
    PYI_PIP_CERT,
    PYI_PIP_TRUSTED_HOST,
    PYI_PIP_KEYS
} pyi_pip_key;

typedef struct pyi_pip_config {
    char *value[PYI_PIP_KEYS]; /* NULL: not set; several values are separated by white space */
    int rank[PYI_PIP_KEYS];    /* how strong the setting is that gave it */
} pyi_pip_config;

pyi_err pyi_pip_config_read(pyi_pip_config *ret, pyi_error *e) PYI_MUST_CHECK;
void pyi_pip_config_fini(pyi_pip_config *c);

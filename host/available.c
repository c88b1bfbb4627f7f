/*
 * What the configuration may say and the host cannot do yet: refused by name when it is asked for,
 * never ignored. The keys themselves are marked `later` in lua/schema.lua; they arrive here as
 * pairs.
 */
#include "manager.h"
#include <stdio.h>

pyi_err pyi_extension_available(const pyi_extension_config *config, pyi_error *e) {
    char text[sizeof(e->msg)] = "";
    size_t len = 0;
    for (size_t i = 0; i < config->not_yet.count && len < sizeof(text); i++) {
        const pyi_pair *key = &config->not_yet.items[i];
        int more = snprintf(text + len, sizeof(text) - len, "%s'%s' is not available yet: %s",
                            i > 0 ? "; " : "", key->key, key->value);
        len += more > 0 ? (size_t)more : 0;
    }
    if (len == 0) {
        return PYI_OK;
    }
    return pyi_error_set(e, PYI_EUNAVAILABLE, "config.available", "%s", text);
}

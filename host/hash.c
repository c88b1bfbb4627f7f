/*
 * SHA-256 through mbed TLS's generic digest interface: the one that is the same in its versions 2
 * and 3.
 */
#include "hash.h"
#include <fcntl.h>
#include <mbedtls/md.h>
#include <stdio.h>
#include <string.h>

#define MAX_FILE (64u << 20)

struct pyi_hash {
    mbedtls_md_context_t md;
};

static void update(pyi_hash *h, const void *data, size_t len) {
    (void)mbedtls_md_update(&h->md, data, len); /* fails only on a context that was not set up */
}

static void head(pyi_hash *h, const char *name, long long len) {
    char text[160];
    int n = snprintf(text, sizeof(text), "%.120s %lld:", name, len);
    update(h, text, (size_t)n);
}

pyi_hash *pyi_hash_new(void) {
    pyi_hash *h = calloc(1, sizeof(*h));
    if (h == NULL) {
        return NULL;
    }
    mbedtls_md_init(&h->md);
    const mbedtls_md_info_t *info = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
    if (mbedtls_md_setup(&h->md, info, 0) != 0 || mbedtls_md_starts(&h->md) != 0) {
        pyi_hash_free(h);
        return NULL;
    }
    return h;
}

void pyi_hash_free(pyi_hash *h) {
    if (h != NULL) {
        mbedtls_md_free(&h->md);
        free(h);
    }
}

void pyi_hash_bytes(pyi_hash *h, const char *name, const void *data, size_t len) {
    head(h, name, (long long)len);
    update(h, data, len);
}

void pyi_hash_field(pyi_hash *h, const char *name, const char *value) {
    if (value == NULL) {
        head(h, name, -1);
    } else {
        pyi_hash_bytes(h, name, value, strlen(value));
    }
}

void pyi_hash_file(pyi_hash *h, const char *name, const char *path) {
    PYI_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    char block[16384];
    size_t total = 0;
    ssize_t n = fd < 0 ? -1 : 0;
    head(h, name, fd < 0 ? -1 : 0);
    while (n >= 0 && total < MAX_FILE && (n = read(fd, block, sizeof(block))) > 0) {
        update(h, block, (size_t)n);
        total += (size_t)n;
    }
    head(h, "end", (long long)total); /* the length is only known now */
}

void pyi_hash_hex(pyi_hash *h, char *ret, size_t size) {
    unsigned char digest[32];
    char hex[PYI_HASH_HEX];
    (void)mbedtls_md_finish(&h->md, digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    snprintf(ret, size, "%s", hex);
}

/*
 * A linear search is right here: these maps have a dozen keys and are looked at once.
 */
#include "wire_map.h"

pyi_err pyi_take_value(pyi_reader *r, pyi_reader *ret_value) {
    pyi_reader whole = *r;
    pyi_err err = pyi_skip(r);
    if (err == PYI_OK) {
        whole.end = r->p;
        *ret_value = whole;
    }
    return err;
}

static bool is_key(const pyi_token *t, const char *key) {
    return t->kind == PYI_STR && t->len == strlen(key) && memcmp(t->data, key, t->len) == 0;
}

bool pyi_map_get(pyi_reader map, const char *key, pyi_reader *ret_value) {
    pyi_token head;
    if (pyi_read(&map, &head) != PYI_OK || head.kind != PYI_MAP) {
        return false;
    }
    for (uint32_t i = 0; i < head.count; i++) {
        pyi_reader name, value;
        if (pyi_take_value(&map, &name) != PYI_OK || pyi_take_value(&map, &value) != PYI_OK) {
            return false;
        }
        pyi_token t;
        if (pyi_read(&name, &t) == PYI_OK && is_key(&t, key)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool token_of(pyi_reader map, const char *key, pyi_token *ret) {
    pyi_reader value;
    return pyi_map_get(map, key, &value) && pyi_read(&value, ret) == PYI_OK;
}

pyi_kind pyi_map_kind(pyi_reader map, const char *key) {
    pyi_token t;
    return token_of(map, key, &t) ? t.kind : PYI_NIL;
}

char *pyi_map_string(pyi_reader map, const char *key) {
    pyi_token t;
    if (!token_of(map, key, &t) || t.kind != PYI_STR) {
        return NULL;
    }
    return strndup((const char *)t.data, t.len);
}

int64_t pyi_map_int(pyi_reader map, const char *key, int64_t otherwise) {
    pyi_token t;
    return token_of(map, key, &t) && t.kind == PYI_INT ? t.i : otherwise;
}

double pyi_map_number(pyi_reader map, const char *key, double otherwise) {
    pyi_token t;
    if (!token_of(map, key, &t)) {
        return otherwise;
    }
    return t.kind == PYI_FLOAT ? t.f : t.kind == PYI_INT ? (double)t.i : otherwise;
}

bool pyi_map_bool(pyi_reader map, const char *key, bool otherwise) {
    pyi_token t;
    return token_of(map, key, &t) && t.kind == PYI_BOOL ? t.b : otherwise;
}

uint32_t pyi_map_array(pyi_reader map, const char *key, pyi_reader *ret_items) {
    pyi_reader value;
    pyi_token t;
    if (!pyi_map_get(map, key, &value) || pyi_read(&value, &t) != PYI_OK || t.kind != PYI_ARRAY) {
        return 0;
    }
    *ret_items = value;
    return t.count;
}

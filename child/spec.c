/*
 * The spec on the wire: one msgpack map whose keys are the names of the fields of pyi_spec. One
 * table says where each field goes, so that reading and writing cannot drift apart. Unknown keys
 * are skipped: an older child can be started by a newer host as long as the protocol version is the
 * same.
 */
#include "spec.h"
#include "pyi_wire.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

typedef enum kind { TEXT, NUMBER, WIDE, FLAG } kind;

typedef struct field {
    const char *name;
    size_t at;
    kind kind;
    bool required;
} field;

#define AT(member) #member, offsetof(pyi_spec, member)

static const field fields[] = {
    {AT(call_url), TEXT, true},
    {AT(service_url), TEXT, false},
    {AT(name), TEXT, true},
    {AT(generation), NUMBER, false},
    {AT(prefix), TEXT, false},
    {AT(python), TEXT, true},
    {AT(libpython), TEXT, false},
    {AT(sys_version), TEXT, false},
    {AT(core), TEXT, false},
    {AT(runtime), TEXT, true},
    {AT(module_path), TEXT, true},
    {AT(module), TEXT, true},
    {AT(entrypoint), TEXT, false},
    {AT(extension_type), TEXT, false},
    {AT(max_payload), WIDE, false},
    {AT(threads), NUMBER, false},
    {AT(max_concurrency), NUMBER, false},
    {AT(in_process), FLAG, false},
};

static void *field_of(const pyi_spec *s, const field *f) {
    return (char *)(uintptr_t)s + f->at;
}

static const field *find_field(const pyi_token *key) {
    for (size_t i = 0; i < PYI_COUNT(fields); i++) {
        if (strlen(fields[i].name) == key->len && !memcmp(fields[i].name, key->data, key->len)) {
            return &fields[i];
        }
    }
    return NULL;
}

static pyi_err wrong(pyi_error *e, const char *name, const char *expected) {
    return pyi_error_set(e, PYI_EPROTO, "spec.read",
                         "\"%s\" must be %s; host and child do not belong together: reinstall them",
                         name, expected);
}

static pyi_err read_text(const pyi_token *t, const field *f, pyi_spec *s, pyi_error *e) {
    if (t->kind == PYI_NIL) {
        return PYI_OK;
    }
    if (t->kind != PYI_STR || memchr(t->data, 0, t->len)) {
        return wrong(e, f->name, "a text without NUL bytes");
    }
    char *copy = pyi_arena_strndup(s->arena, (const char *)t->data, t->len);
    if (!copy) {
        return pyi_error_set(e, PYI_ENOMEM, "spec.read", "out of memory for \"%s\"", f->name);
    }
    *(const char **)field_of(s, f) = copy;
    return PYI_OK;
}

static pyi_err read_number(const pyi_token *t, const field *f, pyi_spec *s, pyi_error *e) {
    bool wide = f->kind == WIDE;
    if (t->kind != PYI_INT || t->i < 0 || (!wide && t->i > UINT32_MAX)) {
        return wrong(e, f->name, "a number that is not negative");
    }
    if (wide) {
        *(uint64_t *)field_of(s, f) = (uint64_t)t->i;
    } else {
        *(unsigned *)field_of(s, f) = (unsigned)t->i;
    }
    return PYI_OK;
}

static pyi_err read_flag(const pyi_token *t, const field *f, pyi_spec *s, pyi_error *e) {
    if (t->kind != PYI_BOOL) {
        return wrong(e, f->name, "true or false");
    }
    *(bool *)field_of(s, f) = t->b;
    return PYI_OK;
}

static pyi_err read_field(pyi_reader *r, const field *f, pyi_spec *s, pyi_error *e) {
    pyi_token t;
    if (pyi_read(r, &t) != PYI_OK) {
        return wrong(e, f->name, "a value");
    }
    switch (f->kind) {
    case TEXT:
        return read_text(&t, f, s, e);
    case NUMBER:
    case WIDE:
        return read_number(&t, f, s, e);
    case FLAG:
        return read_flag(&t, f, s, e);
    }
    return PYI_OK;
}

static pyi_err read_secret(pyi_reader *r, pyi_spec *s, pyi_error *e) {
    pyi_token t;
    if (pyi_read_kind(r, PYI_BIN, &t) != PYI_OK || t.len != PYI_SECRET_SIZE) {
        return wrong(e, "secret", "32 bytes");
    }
    memcpy(s->secret, t.data, PYI_SECRET_SIZE);
    return PYI_OK;
}

static pyi_err read_pair(pyi_reader *r, pyi_spec *s, bool *has_secret, pyi_error *e) {
    pyi_token key;
    if (pyi_read_kind(r, PYI_STR, &key) != PYI_OK) {
        return wrong(e, "key", "a text");
    }
    if (key.len == 6 && !memcmp(key.data, "secret", 6)) {
        *has_secret = true;
        return read_secret(r, s, e);
    }
    const field *f = find_field(&key);
    if (f) {
        return read_field(r, f, s, e);
    }
    return pyi_skip(r) == PYI_OK ? PYI_OK : wrong(e, "value", "well-formed");
}

static pyi_err check_required(const pyi_spec *s, bool has_secret, pyi_error *e) {
    if (!has_secret) {
        return wrong(e, "secret", "present");
    }
    for (size_t i = 0; i < PYI_COUNT(fields); i++) {
        if (fields[i].required && !*(const char **)field_of(s, &fields[i])) {
            return wrong(e, fields[i].name, "present");
        }
    }
    return PYI_OK;
}

static pyi_err parse(pyi_reader *r, pyi_spec *s, pyi_error *e) {
    pyi_token map;
    if (pyi_read_kind(r, PYI_MAP, &map) != PYI_OK) {
        return wrong(e, "spec", "a map");
    }
    bool has_secret = false;
    for (uint32_t i = 0; i < map.count; i++) {
        pyi_err err = read_pair(r, s, &has_secret, e);
        if (err != PYI_OK) {
            return err;
        }
    }
    if (r->p != r->end) {
        return wrong(e, "spec", "one map and nothing after it");
    }
    return check_required(s, has_secret, e);
}

pyi_err pyi_spec_parse(const void *data, size_t len, pyi_spec *ret, pyi_error *e) {
    pyi_spec s = {.max_payload = PYI_MAX_PAYLOAD_DEFAULT, .max_concurrency = PYI_MAX_CONCURRENCY};
    s.arena = pyi_arena_new();
    if (!s.arena) {
        return pyi_error_set(e, PYI_ENOMEM, "spec.read", "out of memory");
    }
    pyi_reader r = pyi_reader_on(data, len);
    pyi_err err = parse(&r, &s, e);
    if (err != PYI_OK) {
        pyi_spec_fini(&s);
        return err;
    }
    *ret = s;
    explicit_bzero(s.secret, sizeof s.secret);
    return PYI_OK;
}

pyi_err pyi_spec_read(int fd, pyi_spec *ret, pyi_error *e) {
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return pyi_error_sys(e, errno, "spec.read",
                             "no spec on descriptor %d; this program is started by pyisolate-host",
                             fd);
    }
    if (st.st_size <= 0 || (uint64_t)st.st_size > PYI_MAX_SPEC) {
        return pyi_error_set(
            e, PYI_ETOOBIG, "spec.read",
            "the spec has %lld bytes, expected 1 to %u; this program is started by "
            "pyisolate-host",
            (long long)st.st_size, PYI_MAX_SPEC);
    }
    size_t len = (size_t)st.st_size;
    void *data = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
        return pyi_error_sys(e, errno, "spec.read", "cannot map the spec on descriptor %d", fd);
    }
    pyi_err err = pyi_spec_parse(data, len, ret, e);
    munmap(data, len);
    return err;
}

static void write_field(const pyi_spec *s, const field *f, pyi_writer *w) {
    const void *at = field_of(s, f);
    pyi_put_cstr(w, f->name);
    switch (f->kind) {
    case TEXT:
        pyi_put_cstr(w, *(const char *const *)at);
        return;
    case NUMBER:
        pyi_put_uint(w, *(const unsigned *)at);
        return;
    case WIDE:
        pyi_put_uint(w, *(const uint64_t *)at);
        return;
    case FLAG:
        pyi_put_bool(w, *(const bool *)at);
        return;
    }
}

void pyi_spec_write(const pyi_spec *s, pyi_writer *w) {
    pyi_put_map(w, PYI_COUNT(fields) + 1);
    pyi_put_cstr(w, "secret");
    pyi_put_bin(w, s->secret, sizeof s->secret);
    for (size_t i = 0; i < PYI_COUNT(fields); i++) {
        write_field(s, &fields[i], w);
    }
}

void pyi_spec_fini(pyi_spec *s) {
    explicit_bzero(s->secret, sizeof s->secret);
    pyi_arena_free(s->arena);
    *s = (pyi_spec){0};
}

/*
 * What a child says of itself: HELLO with the spawn's secret, then READY or FAILED. Everything here
 * comes from outside and is checked before it is used. Runs on nng threads; what changes the
 * generation is posted to the loop.
 */
#include "generation_impl.h"

#include "remote_error.h"
#include "wire_map.h"

#include <stdio.h>
#include <string.h>

/* ---- what the child says: nng threads -------------------------------------------------------- */

static void answer(pyi_bus_request *rq, const pyi_error *refusal) {
    pyi_frame *f = pyi_frame_new(PYI_FRAME_SLACK);
    if (f == NULL) {
        abort();
    }
    pyi_writer *w = pyi_frame_writer(f);
    pyi_put_array(w, 3);
    pyi_put_uint(w, refusal != NULL ? PYI_FRAME_ERROR : PYI_FRAME_REPLY);
    pyi_put_uint(w, 0);
    if (refusal != NULL) {
        pyi_put_error(w, refusal, pyi_err_python_type(refusal->code));
    } else {
        pyi_put_nil(w);
    }
    pyi_bus_answer(rq, f);
}

static bool same_secret(const uint8_t *a, const uint8_t *b) {
    uint8_t difference = 0;
    for (size_t i = 0; i < PYI_SECRET_SIZE; i++) {
        difference |= (uint8_t)(a[i] ^ b[i]);
    }
    return difference == 0;
}

static pyi_err on_hello(pyi_generation *g, uint64_t version, pyi_reader *r, pyi_error *e) {
    pyi_token t;
    if (version != PYI_PROTOCOL_VERSION) {
        return pyi_error_set(
            e, PYI_EPROTO, "handshake",
            "the host speaks protocol %d, the child %d: install both from one release",
            PYI_PROTOCOL_VERSION, (int)version);
    }
    if (pyi_read_kind(r, PYI_BIN, &t) != PYI_OK || t.len != PYI_SECRET_SIZE ||
        !same_secret(t.data, g->secret)) {
        return pyi_error_set(e, PYI_EPERM, "handshake", "wrong secret");
    }
    pthread_mutex_lock(&g->lock);
    bool again = g->said_hello;
    g->said_hello = true;
    pthread_mutex_unlock(&g->lock);
    return again ? pyi_error_set(e, PYI_EPERM, "handshake", "HELLO was said already") : PYI_OK;
}

static void copy_text(pyi_reader info, const char *key, char *ret, size_t size) {
    PYI_AUTO_FREE char *text = pyi_map_string(info, key);
    snprintf(ret, size, "%s", text != NULL ? text : "");
}

/* The names as one block: the pointers, then the texts. */
static pyi_err read_methods(pyi_reader info, pyi_generation_info *ret, pyi_error *e) {
    pyi_reader items;
    uint32_t count = pyi_map_array(info, "methods", &items);
    if (count > PYI_MAX_METHODS) {
        return pyi_error_set(e, PYI_ETOOBIG, "handshake", "%u methods; at most %u", count,
                             PYI_MAX_METHODS);
    }
    size_t bytes = (size_t)(items.end - items.p);
    char **block = malloc(count * sizeof(char *) + bytes + count + 1);
    if (block == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "handshake", "out of memory");
    }
    char *text = (char *)(block + count);
    for (uint32_t i = 0; i < count; i++) {
        pyi_token t;
        if (pyi_read_kind(&items, PYI_STR, &t) != PYI_OK || t.len > PYI_MAX_NAME) {
            free(block);
            return pyi_error_set(e, PYI_EPROTO, "handshake", "the method names are malformed");
        }
        block[i] = text;
        memcpy(text, t.data, t.len);
        text[t.len] = '\0';
        text += t.len + 1;
    }
    ret->methods = block;
    ret->method_count = count;
    return PYI_OK;
}

static void on_ready_posted(void *arg) {
    pyi_generation *g = arg;
    pyi_generation_became_ready(g);
    pyi_generation_unref(g);
}

static pyi_err on_ready(pyi_generation *g, pyi_reader info, pyi_error *e) {
    pyi_generation_info x = {0};
    pyi_err err = read_methods(info, &x, e);
    if (err != PYI_OK) {
        return err;
    }
    copy_text(info, "kind", x.kind, sizeof(x.kind));
    copy_text(info, "type", x.type, sizeof(x.type));
    copy_text(info, "python", x.python, sizeof(x.python));
    copy_text(info, "mode", x.mode, sizeof(x.mode));
    pthread_mutex_lock(&g->lock);
    bool refused = !g->said_hello || g->said_ready;
    g->said_ready = true;
    if (!refused) {
        g->info = x;
    }
    pthread_mutex_unlock(&g->lock);
    if (refused) {
        free(x.methods);
        return pyi_error_set(e, PYI_EPROTO, "handshake", "READY out of turn");
    }
    pyi_loop_post(g->config.loop, on_ready_posted, pyi_generation_ref(g));
    return PYI_OK;
}

/* An error on its way from an nng thread to the loop. */
typedef struct failure {
    pyi_generation *g;
    pyi_error error;
} failure;

static void on_failure_posted(void *arg) {
    failure *f = arg;
    pyi_generation_settle(f->g, &f->error);
    if (f->error.code == PYI_EPROTO || f->error.code == PYI_EPERM) {
        pyi_generation_kill(f->g, NULL);
    } else {
        pyi_generation_expect_end(f->g);
    }
    pyi_generation_unref(f->g);
    free(f);
}

static void post_failure(pyi_generation *g, const pyi_error *e) {
    failure *f = malloc(sizeof(*f));
    if (f == NULL) {
        abort();
    }
    *f = (failure){pyi_generation_ref(g), *e};
    pyi_loop_post(g->config.loop, on_failure_posted, f);
}

static pyi_err on_failed(pyi_generation *g, pyi_reader *r, pyi_error *e) {
    pyi_token stage;
    pyi_remote_error x;
    if (pyi_read_kind(r, PYI_STR, &stage) != PYI_OK || pyi_remote_error_read(r, &x, e) != PYI_OK) {
        return pyi_error_set(e, PYI_EPROTO, "handshake", "FAILED is malformed");
    }
    char where[sizeof(e->where)];
    snprintf(where, sizeof(where), "python.%.*s", (int)stage.len, (const char *)stage.data);
    pyi_error why;
    pyi_remote_error_describe(&x, where, &why);
    why.code = PYI_ESTART;
    pyi_error_wrap(&why, "extension \"%s\" could not be loaded", g->config.extension->name);
    pthread_mutex_lock(&g->lock);
    if (g->failure_detail == NULL && x.traceback.len > 0) {
        g->failure_detail = strndup(x.traceback.text, x.traceback.len);
    }
    pthread_mutex_unlock(&g->lock);
    post_failure(g, &why);
    return PYI_OK;
}

static pyi_err on_frame(pyi_generation *g, const void *frame, size_t len, pyi_error *e) {
    pyi_frame_type type;
    uint64_t id;
    uint32_t fields;
    pyi_reader r = pyi_reader_on(frame, len);
    if (pyi_validate(frame, len, e) != PYI_OK ||
        pyi_read_head(&r, &type, &id, &fields, e) != PYI_OK) {
        return e->code;
    }
    if (type == PYI_FRAME_HELLO && fields == 4) {
        return on_hello(g, id, &r, e);
    }
    pthread_mutex_lock(&g->lock);
    bool known = g->said_hello;
    pthread_mutex_unlock(&g->lock);
    if (!known) {
        return pyi_error_set(e, PYI_EPERM, "handshake", "HELLO comes first");
    }
    if (type == PYI_FRAME_READY && fields == 3) {
        return on_ready(g, r, e);
    }
    if (type == PYI_FRAME_FAILED && fields == 4) {
        return on_failed(g, &r, e);
    }
    return pyi_error_set(e, PYI_EPROTO, "bus", "a frame of type %d with %u fields is not served",
                         (int)type, fields);
}

void pyi_handshake_on_request(void *arg, pyi_bus_request *rq, const void *frame, size_t len) {
    pyi_generation *g = arg;
    pyi_error e;
    pyi_err err = on_frame(g, frame, len, &e);
    answer(rq, err == PYI_OK ? NULL : &e);
    if (err != PYI_OK) {
        pyi_error_wrap(&e, "extension \"%s\" was refused", g->config.extension->name);
        post_failure(g, &e);
    }
}

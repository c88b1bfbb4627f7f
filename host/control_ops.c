/*
 * The operations of the control socket, by one table. Each takes a job and answers it, at once or
 * later; what blocks (a restart waits until the extension is ready) has a thread of its own for so
 * long.
 */
#include "control_job.h"
#include "loop.h"
#include "options.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define ERROR_DEPTH_MAX PYI_MAX_CAUSES

/* ---- small puts ------------------------------------------------------------------------------ */

static void put_text(pyi_writer *w, const char *key, const char *text) {
    pyi_put_cstr(w, key);
    pyi_put_cstr(w, text);
}

static void put_number(pyi_writer *w, const char *key, int64_t n) {
    pyi_put_cstr(w, key);
    pyi_put_int(w, n);
}

static void put_seconds(pyi_writer *w, const char *key, int64_t ms) {
    pyi_put_cstr(w, key);
    pyi_put_float(w, (double)ms / 1000.0);
}

/* ---- errors from the wire -------------------------------------------------------------------- */

static const char *code_name(int64_t code) {
    return pyi_err_name(code > 0 && code < PYI_ERR_COUNT ? (pyi_err)code : PYI_EINTERNAL);
}

/* [code, type, module, message, traceback, notes, args, cause] to a map with names; without args,
 * which may hold what JSON cannot say. */
static pyi_err put_remote(pyi_writer *w, pyi_reader error, unsigned depth) {
    static const char *const names[] = {"type", "module", "message", "traceback", "notes"};
    pyi_token head, code;
    pyi_err err = pyi_read_kind(&error, PYI_ARRAY, &head);
    if (err != PYI_OK || head.count != PYI_ERROR_FIELDS || depth > ERROR_DEPTH_MAX) {
        return PYI_EPROTO;
    }
    err = pyi_read_kind(&error, PYI_INT, &code);
    pyi_put_map(w, 2 + PYI_COUNT(names));
    put_text(w, "code", err == PYI_OK ? code_name(code.i) : "internal");
    for (size_t i = 0; err == PYI_OK && i < PYI_COUNT(names); i++) {
        pyi_reader value;
        err = pyi_take_value(&error, &value);
        pyi_put_cstr(w, names[i]);
        if (err == PYI_OK) {
            pyi_put_raw(w, value.p, (size_t)(value.end - value.p));
        }
    }
    pyi_reader args, cause, peek;
    pyi_token kind;
    if (err != PYI_OK || pyi_take_value(&error, &args) != PYI_OK ||
        pyi_take_value(&error, &cause) != PYI_OK) {
        return PYI_EPROTO;
    }
    pyi_put_cstr(w, "cause");
    peek = cause;
    if (pyi_read(&peek, &kind) != PYI_OK || kind.kind != PYI_ARRAY) {
        pyi_put_nil(w);
        return PYI_OK;
    }
    return put_remote(w, cause, depth + 1);
}

/* ---- ping, version --------------------------------------------------------------------------- */

static void op_version(pyi_control_job *job) {
    pyi_writer *w = &job->value;
    pyi_put_map(w, 4);
    put_number(w, "pid", getpid());
    put_text(w, "version", PYI_VERSION);
    put_number(w, "protocol", PYI_PROTOCOL_VERSION);
    put_text(w, "config", pyi_control_config(job->control));
    pyi_control_answer(job);
}

/* ---- status ---------------------------------------------------------------------------------- */

static void put_last_error(pyi_writer *w, const pyi_status *s) {
    pyi_put_cstr(w, "last_error");
    if (s->last_error.code == PYI_OK) {
        pyi_put_nil(w);
        return;
    }
    pyi_put_map(w, 4);
    put_text(w, "code", pyi_err_name(s->last_error.code));
    put_text(w, "where", s->last_error.where);
    put_text(w, "message", s->last_error.msg);
    put_text(w, "detail", s->detail);
}

static void put_methods(pyi_writer *w, pyi_extension *x) {
    size_t count = 0;
    PYI_AUTO_FREE char **methods = pyi_extension_methods(x, &count);
    pyi_put_cstr(w, "methods");
    pyi_put_array(w, count);
    for (size_t i = 0; i < count; i++) {
        pyi_put_cstr(w, methods[i]);
    }
}

static void put_optional(pyi_writer *w, const char *key, const char *text) {
    put_text(w, key, *text != '\0' ? text : NULL);
}

static void put_extension(pyi_writer *w, pyi_extension *x) {
    const pyi_extension_config *config = pyi_extension_config_of(x);
    pyi_status s = {0};
    pyi_extension_status(x, &s);
    pyi_put_map(w, 24);
    put_text(w, "name", config->name);
    put_text(w, "state", pyi_state_name(s.state));
    put_number(w, "pid", s.pid);
    put_number(w, "generation", s.generation);
    put_optional(w, "python", s.python);
    put_number(w, "calls", (int64_t)s.calls);
    put_number(w, "errors", (int64_t)s.errors);
    put_number(w, "in_flight", s.in_flight);
    put_number(w, "waiting", s.waiting);
    put_number(w, "restarts", s.restarts);
    put_number(w, "crashes_in_row", s.crashes_in_row);
    pyi_put_cstr(w, "crash_loop");
    pyi_put_bool(w, s.crash_loop);
    put_seconds(w, "up_s", s.up_ms);
    put_seconds(w, "next_start_s", s.next_start_ms);
    put_number(w, "rss_bytes", (int64_t)s.rss);
    put_optional(w, "env_id", s.env_id);
    put_optional(w, "env", s.env_prefix);
    put_optional(w, "transport", s.transport);
    put_optional(w, "mode", s.mode);
    put_optional(w, "sandbox", s.sandbox);
    put_text(w, "module_path", config->module_path);
    put_text(w, "declared_at", config->declared_at);
    put_methods(w, x);
    put_last_error(w, &s);
    pyi_status_fini(&s);
}

static void op_status(pyi_control_job *job) {
    pyi_writer *w = &job->value;
    size_t count = 0;
    PYI_AUTO_FREE pyi_extension **all =
        pyi_manager_extensions(pyi_control_manager(job->control), &count);
    pyi_put_map(w, 2);
    pyi_put_cstr(w, "host");
    pyi_put_map(w, 5);
    put_number(w, "pid", getpid());
    put_text(w, "version", PYI_VERSION);
    put_number(w, "protocol", PYI_PROTOCOL_VERSION);
    put_text(w, "config", pyi_control_config(job->control));
    put_seconds(w, "up_s", (pyi_now_ns() - pyi_control_started_ns(job->control)) / PYI_NS_PER_MS);
    pyi_put_cstr(w, "extensions");
    pyi_put_array(w, count);
    for (size_t i = 0; i < count; i++) {
        put_extension(w, all[i]);
    }
    pyi_control_answer(job);
}

/* ---- the extension that a request names ------------------------------------------------------ */

static pyi_err find_extension(pyi_control_job *job, pyi_error *e) {
    pyi_manager *m = pyi_control_manager(job->control);
    PYI_AUTO_FREE char *name = pyi_map_string(job->request, "extension");
    if (name == NULL) {
        return pyi_error_set(e, PYI_EINVAL, "control.request", "\"extension\" must be a name");
    }
    job->extension = pyi_manager_find(m, name);
    if (job->extension != NULL) {
        return PYI_OK;
    }
    char names[160] = "";
    size_t count = 0;
    PYI_AUTO_FREE pyi_extension **all = pyi_manager_extensions(m, &count);
    for (size_t i = 0, len = 0; i < count && len < sizeof names - 1; i++) {
        len += (size_t)snprintf(names + len, sizeof names - len, "%s%s", i > 0 ? ", " : "",
                                pyi_extension_config_of(all[i])->name);
    }
    return pyi_error_set(e, PYI_ENOTFOUND, "control.request",
                         "there is no extension '%.60s'; there is: %s", name,
                         *names != '\0' ? names : "none");
}

static int64_t to_ms(double seconds, int64_t otherwise) {
    return seconds >= 0 && seconds < 1e12 ? (int64_t)ceil(seconds * 1000.0) : otherwise;
}

/* ---- call ------------------------------------------------------------------------------------ */

static void on_call_answered(void *arg) {
    pyi_control_job *job = arg;
    job->call_id = 0;
    pyi_control_answer(job);
}

typedef struct copied_error {
    pyi_control_job *job;
    pyi_error error;
    char *detail;
} copied_error;

static void on_call_failed(void *arg) {
    copied_error *c = arg;
    pyi_control_job *job = c->job;
    job->call_id = 0;
    pyi_control_refuse(job, &c->error, c->detail);
    free(c->detail);
    free(c);
}

static void post_failure(pyi_control_job *job, const pyi_error *e, const char *detail) {
    copied_error *c = calloc(1, sizeof *c);
    if (c == NULL) {
        abort(); // a call must end: as the loop itself, which aborts when it cannot post
    }
    *c = (copied_error){job, *e, detail != NULL ? strdup(detail) : NULL};
    pyi_loop_post(pyi_control_loop(job->control), on_call_failed, c);
}

/* From an internal thread of the manager: copies the bytes and hands over. The job's writer is not
 * touched by the control thread while a call is under way. */
static void on_reply(void *arg, const pyi_reply *reply) {
    pyi_control_job *job = arg;
    pyi_reader rest = reply->value, value;
    if (reply->code == PYI_OK && pyi_take_value(&rest, &value) == PYI_OK) {
        pyi_put_raw(&job->value, value.p, (size_t)(value.end - value.p));
        pyi_control_post(job, on_call_answered);
        return;
    }
    if (reply->code == PYI_EREMOTE && put_remote(&job->value, rest, 0) == PYI_OK) {
        job->failed = true;
        pyi_control_post(job, on_call_answered);
        return;
    }
    post_failure(job, reply->error, reply->detail);
}

static pyi_err put_arguments(pyi_control_job *job, pyi_writer *w, pyi_error *e) {
    pyi_reader value;
    if (!pyi_map_get(job->request, "args", &value)) {
        pyi_put_array(w, 0);
    } else if (pyi_map_kind(job->request, "args") == PYI_ARRAY) {
        pyi_put_raw(w, value.p, (size_t)(value.end - value.p));
    } else {
        return pyi_error_set(e, PYI_EINVAL, "control.request", "\"args\" must be a JSON array");
    }
    if (!pyi_map_get(job->request, "kwargs", &value)) {
        pyi_put_map(w, 0);
    } else if (pyi_map_kind(job->request, "kwargs") == PYI_MAP) {
        pyi_put_raw(w, value.p, (size_t)(value.end - value.p));
    } else {
        return pyi_error_set(e, PYI_EINVAL, "control.request", "\"kwargs\" must be a JSON object");
    }
    return PYI_OK;
}

static pyi_err start_call(pyi_control_job *job, pyi_error *e) {
    pyi_err err = find_extension(job, e);
    if (err != PYI_OK) {
        return err;
    }
    PYI_AUTO_FREE char *method = pyi_map_string(job->request, "method");
    PYI_AUTO_FREE char *object = pyi_map_string(job->request, "object");
    if (method == NULL) {
        return pyi_error_set(e, PYI_EINVAL, "control.request", "\"method\" must be a name");
    }
    int64_t timeout_ms = to_ms(pyi_map_number(job->request, "timeout", -1), -1);
    pyi_call *call = NULL;
    err = pyi_call_begin(job->extension, object, method, timeout_ms, &call, e);
    if (err != PYI_OK) {
        return err;
    }
    err = put_arguments(job, pyi_call_writer(call), e);
    if (err != PYI_OK) {
        pyi_call_abandon(call);
        return err;
    }
    job->call_id = pyi_call_send(call, on_reply, job); // its end is posted: later than this line
    return PYI_OK;
}

static void op_call(pyi_control_job *job) {
    pyi_error e = {0};
    if (start_call(job, &e) != PYI_OK) {
        pyi_control_refuse(job, &e, NULL);
    }
}

/* Ends another request of the same client: {"op":"cancel","id":9,"target":2}. */
static void op_cancel(pyi_control_job *job) {
    pyi_reader target;
    pyi_control_job *other = NULL;
    if (pyi_map_get(job->request, "target", &target)) {
        other = pyi_control_find_job(job->client, target);
    }
    bool found = other != NULL && other->call_id != 0;
    if (found) {
        pyi_call_cancel(other->extension, other->call_id);
    }
    pyi_put_bool(&job->value, found);
    pyi_control_answer(job);
}

/* ---- restart, stop --------------------------------------------------------------------------- */

static void *restart_thread(void *arg) {
    pyi_control_job *job = arg;
    pyi_error e = {0};
    if (pyi_extension_restart(job->extension, job->grace_ms, &e) != PYI_OK) {
        pyi_status s = {0};
        pyi_extension_status(job->extension, &s);
        post_failure(job, &e, s.detail);
        pyi_status_fini(&s);
        return NULL;
    }
    put_extension(&job->value, job->extension);
    pyi_control_post(job, on_call_answered);
    return NULL;
}

static void op_restart(pyi_control_job *job) {
    pyi_error e = {0};
    pthread_t thread;
    pthread_attr_t attr;
    pyi_err err = find_extension(job, &e);
    if (err == PYI_OK) {
        int64_t grace = pyi_extension_config_of(job->extension)->stop_timeout_ms;
        job->grace_ms = to_ms(pyi_map_number(job->request, "grace", -1), grace);
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED); // its end is the job's
        int sys = pthread_create(&thread, &attr, restart_thread, job);
        pthread_attr_destroy(&attr);
        if (sys == 0) {
            return;
        }
        pyi_error_sys(&e, sys, "control.restart", "start a thread");
    }
    pyi_control_refuse(job, &e, NULL);
}

static void op_stop(pyi_control_job *job) {
    pyi_control *c = job->control;
    bool now = pyi_map_bool(job->request, "now", false);
    int64_t grace = to_ms(pyi_map_number(job->request, "grace", -1), -1);
    pyi_put_map(&job->value, 1);
    put_number(&job->value, "pid", getpid());
    pyi_control_answer(job);
    pyi_control_ask_stop(c, now, grace);
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(pyi_control_job *job);
    const char *fields[8]; /* besides "op" and "id"; the rest is NULL */
} operations[] = {
    {"call", op_call, {"extension", "method", "object", "args", "kwargs", "timeout"}},
    {"cancel", op_cancel, {"target"}},
    {"ping", op_version, {NULL}},
    {"restart", op_restart, {"extension", "grace"}},
    {"status", op_status, {NULL}},
    {"stop", op_stop, {"grace", "now"}},
    {"version", op_version, {NULL}},
};

static pyi_err refuse_field(const pyi_token *key, const char *const *fields, size_t count,
                            pyi_error *e) {
    char name[64];
    snprintf(name, sizeof name, "%.*s", key->len < 60 ? (int)key->len : 60,
             (const char *)key->data);
    const char *near = pyi_nearest(name, fields, count);
    return pyi_error_set(e, PYI_EINVAL, "control.request", "this operation has no field '%s'%s%s%s",
                         name, near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                         near != NULL ? "'?" : "");
}

static bool is_field(const pyi_token *key, const char *name) {
    return key->len == strlen(name) && memcmp(key->data, name, key->len) == 0;
}

/* A field that is misspelt would be as good as absent: the call would go without its arguments. */
static pyi_err check_fields(pyi_reader request, const char *const *fields, pyi_error *e) {
    size_t count = 0;
    pyi_token map, key;
    while (fields[count] != NULL) {
        count++;
    }
    pyi_err err = pyi_read_kind(&request, PYI_MAP, &map);
    for (uint32_t i = 0; err == PYI_OK && i < map.count; i++) {
        err = pyi_read_kind(&request, PYI_STR, &key);
        bool known = err == PYI_OK && (is_field(&key, "op") || is_field(&key, "id"));
        for (size_t n = 0; err == PYI_OK && n < count; n++) {
            known |= is_field(&key, fields[n]);
        }
        if (err != PYI_OK || !known) {
            return err != PYI_OK ? pyi_error_set(e, err, "control.request", "malformed")
                                 : refuse_field(&key, fields, count, e);
        }
        err = pyi_skip(&request);
    }
    return PYI_OK;
}

static void run_operation(pyi_control_job *job, size_t index) {
    pyi_error e = {0};
    if (check_fields(job->request, operations[index].fields, &e) == PYI_OK) {
        operations[index].run(job);
    } else {
        pyi_control_refuse(job, &e, NULL);
    }
}

void pyi_control_operate(pyi_control_job *job) {
    PYI_AUTO_FREE char *name = pyi_map_string(job->request, "op");
    for (size_t i = 0; name != NULL && i < PYI_COUNT(operations); i++) {
        if (strcmp(name, operations[i].name) == 0) {
            run_operation(job, i);
            return;
        }
    }
    pyi_error e = {0};
    pyi_error_set(
        &e, PYI_EINVAL, "control.request",
        "\"op\" is %s%.60s%s; it may be call, cancel, ping, restart, status, stop or version",
        name != NULL ? "'" : "", name != NULL ? name : "absent", name != NULL ? "'" : "");
    pyi_control_refuse(job, &e, NULL);
}

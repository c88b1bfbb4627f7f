/*
 * Our calls, as a C application makes them: host/manager.h in this process, `async def echo` in an
 * embedded child.
 *
 *   bench_call VENVS MODULE calls SECONDS CELL...   one JSON line per cell; cells as in bench_nng
 *   bench_call VENVS MODULE start COUNT             load to first answer, environment already
 * prepared bench_call VENVS MODULE idle COUNT              COUNT children, their pids, then waits
 * for end of input
 *
 * MODULE is the folder of an extension that serves `async def echo(value)`. With one in flight the
 * calling thread waits for each answer (pyi_call_wait); with more, each answer's callback sends the
 * next call.
 */
#include "bench.h"
#include "manager.h"
#include <pthread.h>

static void must(pyi_err code, const pyi_error *e, const char *what) {
    if (code != PYI_OK) {
        fprintf(stderr, "bench_call: %s: %s: %s\n", what, e->where, e->msg);
        exit(1);
    }
}

/* ---- a manager and its extensions ------------------------------------------------------------ */

static pyi_manager *manager_of(const char *venvs) {
    pyi_error e = {0};
    pyi_arena *arena = pyi_arena_new();
    pyi_manager_config *config = calloc(1, sizeof *config);
    *config = (pyi_manager_config){.arena = arena,
                                   .directory = pyi_arena_strdup(arena, "/"),
                                   .venv_root_path = pyi_arena_strdup(arena, venvs),
                                   .log_level = PYI_WARNING,
                                   .has_log_level = true};
    pyi_manager *manager = NULL;
    must(pyi_manager_new(config, &manager, &e), &e, "manager");
    return manager;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static pyi_extension *load(pyi_manager *manager, const char *name, const char *module) {
    pyi_error e = {0};
    pyi_arena *arena = pyi_arena_new();
    pyi_extension_config *config = calloc(1, sizeof *config);
    *config = (pyi_extension_config){.arena = arena,
                                     .name = pyi_arena_strdup(arena, name),
                                     .module_path = pyi_arena_strdup(arena, module),
                                     .module = pyi_arena_strdup(arena, base_name(module)),
                                     .declared_at = "bench_call",
                                     .isolated = true,
                                     .sandbox_mode = PYI_SANDBOX_DISABLED,
                                     .restart = PYI_RESTART_NEVER,
                                     .start_timeout_ms = PYI_START_TIMEOUT_MS,
                                     .stop_timeout_ms = PYI_STOP_TIMEOUT_MS,
                                     .max_concurrency = 1024,
                                     .embed = true};
    pyi_extension *extension = NULL;
    must(pyi_manager_load(manager, config, &extension, &e), &e, "load");
    return extension;
}

static void wait_ready(pyi_extension *extension) {
    pyi_error e = {0};
    char *detail = NULL;
    pyi_err code = pyi_extension_wait_ready(extension, PYI_START_TIMEOUT_MS, &detail, &e);
    if (detail != NULL) {
        fputs(detail, stderr);
    }
    free(detail);
    must(code, &e, "ready");
}

/* ---- values ---------------------------------------------------------------------------------- */

static void put_text(pyi_writer *w, const char *text) {
    pyi_put_str(w, text, strlen(text));
}

/// Like an answer of a JSON API: 20 records of 6 fields, two of them containers. As in
/// bench_values.py.
static void put_dict(pyi_writer *w) {
    pyi_put_map(w, 2);
    put_text(w, "total");
    pyi_put_int(w, 20);
    put_text(w, "items");
    pyi_put_array(w, 20);
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "item number %d", i);
        pyi_put_map(w, 6);
        put_text(w, "id");
        pyi_put_int(w, 1000 + i);
        put_text(w, "name");
        put_text(w, name);
        put_text(w, "price");
        pyi_put_float(w, 9.99 + i);
        put_text(w, "available");
        pyi_put_bool(w, i % 2 == 0);
        put_text(w, "tags");
        pyi_put_array(w, 2);
        put_text(w, "new");
        put_text(w, "sale");
        put_text(w, "owner");
        pyi_put_map(w, 2);
        put_text(w, "id");
        pyi_put_int(w, i);
        put_text(w, "mail");
        pyi_put_nil(w);
    }
}

static void put_list(pyi_writer *w, int64_t count) {
    pyi_put_array(w, (size_t)count);
    for (int64_t i = 0; i < count; i++) {
        pyi_put_int(w, i);
    }
}

static void put_bytes(pyi_writer *w, size_t size) {
    static uint8_t data[1 << 20];
    pyi_put_bin(w, data, size);
}

static void put_value(pyi_writer *w, const char *cell) {
    if (strcmp(cell, "bytes_64k") == 0) {
        put_bytes(w, 65536);
    } else if (strcmp(cell, "bytes_1m") == 0) {
        put_bytes(w, 1 << 20);
    } else if (strcmp(cell, "list_1k") == 0) {
        put_list(w, 1000);
    } else if (strcmp(cell, "list_100k") == 0) {
        put_list(w, 100000);
    } else if (strcmp(cell, "dict") == 0) {
        put_dict(w);
    } else {
        pyi_put_int(w, 7);
    }
}

/* ---- calls ----------------------------------------------------------------------------------- */

typedef struct run {
    pthread_mutex_t lock;
    pthread_cond_t idle;
    recorder recorder;
    pyi_extension *extension;
    const char *cell;
    int64_t until_ns;
    unsigned active;
} run;

typedef struct slot {
    run *run;
    int64_t sent_ns;
} slot;

static pyi_call *begin(pyi_extension *extension, const char *cell) {
    pyi_error e = {0};
    pyi_call *call = NULL;
    must(pyi_call_begin(extension, NULL, "echo", 0, &call, &e), &e, "begin");
    pyi_writer *w = pyi_call_writer(call);
    pyi_put_array(w, 1);
    put_value(w, cell);
    pyi_put_map(w, 0);
    return call;
}

static void call_once(pyi_extension *extension, const char *cell) {
    pyi_result *result = pyi_call_wait(begin(extension, cell));
    must(result->code, &result->error, "call");
    pyi_result_free(result);
}

static void on_answer(void *arg, const pyi_reply *reply);

static void send_next(slot *s) {
    s->sent_ns = bench_now();
    (void)pyi_call_send(begin(s->run->extension, s->run->cell), on_answer, s);
}

static void on_answer(void *arg, const pyi_reply *reply) {
    slot *s = arg;
    run *r = s->run;
    must(reply->code, reply->error, "call");
    int64_t now = bench_now();
    pthread_mutex_lock(&r->lock);
    recorder_add(&r->recorder, now - s->sent_ns);
    bool more = now < r->until_ns;
    if (!more && --r->active == 0) {
        r->recorder.ended_ns = now;
        pthread_cond_signal(&r->idle);
    }
    pthread_mutex_unlock(&r->lock);
    if (more) {
        send_next(s);
    }
}

static void one_at_a_time(run *r) {
    while (bench_now() < r->until_ns) {
        int64_t sent = bench_now();
        call_once(r->extension, r->cell);
        recorder_add(&r->recorder, bench_now() - sent);
    }
    r->recorder.ended_ns = bench_now();
}

static void many_in_flight(run *r, unsigned count) {
    slot *slots = calloc(count, sizeof *slots);
    if (slots == NULL) {
        abort();
    }
    r->active = count;
    for (unsigned i = 0; i < count; i++) {
        slots[i].run = r;
        send_next(&slots[i]);
    }
    pthread_mutex_lock(&r->lock);
    while (r->active > 0) {
        pthread_cond_wait(&r->idle, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    free(slots);
}

static void run_for(run *r, double seconds) {
    unsigned count = cell_in_flight(r->cell);
    r->recorder.began_ns = bench_now();
    r->until_ns = r->recorder.began_ns + (int64_t)(seconds * (double)PYI_NS_PER_S);
    if (count == 1) {
        one_at_a_time(r);
    } else {
        many_in_flight(r, count);
    }
}

static int calls(pyi_manager *manager, const char *module, int argc, char **argv) {
    pyi_extension *extension = load(manager, "bench", module);
    wait_ready(extension);
    double seconds = strtod(argv[0], NULL);
    for (int i = 1; i < argc; i++) {
        run warm_up = {.lock = PTHREAD_MUTEX_INITIALIZER,
                       .idle = PTHREAD_COND_INITIALIZER,
                       .extension = extension,
                       .cell = argv[i]};
        run measured = warm_up;
        run_for(&warm_up, seconds * 0.2);
        free(warm_up.recorder.us);
        run_for(&measured, seconds);
        recorder_print(&measured.recorder, argv[i]);
    }
    return 0;
}

/* ---- start and memory ------------------------------------------------------------------------ */

/// A manager, an extension and its first answer; the first round builds what is missing and is not
/// counted.
static int start(const char *venvs, const char *module, int count) {
    recorder r = {.began_ns = bench_now()};
    for (int i = 0; i <= count; i++) {
        pyi_manager *manager = manager_of(venvs);
        int64_t began = bench_now();
        call_once(load(manager, "bench", module), "int_1");
        if (i > 0) {
            recorder_add(&r, bench_now() - began);
        }
        pyi_manager_stop(manager, 1000);
        pyi_manager_free(manager);
    }
    r.ended_ns = bench_now();
    recorder_print(&r, "start");
    return 0;
}

static int idle(pyi_manager *manager, const char *module, int count) {
    for (int i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "bench%d", i);
        pyi_extension *extension = load(manager, name, module);
        call_once(extension, "int_1");
        pyi_status status;
        pyi_extension_status(extension, &status);
        printf("%s%d", i == 0 ? "{\"pids\": [" : ", ", status.pid);
        pyi_status_fini(&status);
    }
    puts("]}");
    fflush(stdout);
    while (getchar() != EOF) {
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr,
                "usage: bench_call VENVS MODULE calls SECONDS CELL... | start N | idle N\n");
        return 2;
    }
    pyi_log_open(STDERR_FILENO, PYI_LOG_TEXT, PYI_WARNING);
    if (strcmp(argv[3], "start") == 0) {
        return start(argv[1], argv[2], atoi(argv[4]));
    }
    pyi_manager *manager = manager_of(argv[1]);
    int status = strcmp(argv[3], "idle") == 0 ? idle(manager, argv[2], atoi(argv[4]))
                                              : calls(manager, argv[2], argc - 4, argv + 4);
    pyi_manager_stop(manager, 1000);
    pyi_manager_free(manager);
    return status;
}

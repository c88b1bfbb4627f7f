/*
 * The control server.
 *
 *   client --line--> read_client --> job --> control_ops.c --> pyi_manager ... any thread
 *   client <--line-- write_client <-- pyi_control_answer  <-- posted back to the control thread
 *
 * Everything in here runs on the control thread but start and stop. A client's buffers are bounded:
 * a line at most PYI_MAX_CONTROL_LINE, answers that wait at most twice that (it is then not read
 * until it takes them). A client that goes cancels its calls; one that only ends its sending side
 * still gets its answers.
 */
#include "control.h"
#include "control_files.h"
#include "control_job.h"
#include "json.h"
#include "loop.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { MAX_CLIENTS = 64, MAX_JOBS = 1024, READ_SIZE = 65536 };

typedef struct buffer {
    char *data; // owned
    size_t len, cap;
} buffer;

struct pyi_control_client {
    pyi_control *control;
    pyi_control_client *next, *prev;
    int fd;
    pyi_watch *watch;
    buffer in, out;
    size_t scanned, sent; /* of in: has no newline; of out: is on its way */
    pyi_control_job *jobs;
    unsigned job_count;
    bool ended; /* it sends no more */
};

struct pyi_control {
    pyi_manager *manager; // borrowed
    pyi_loop *loop;
    char path[108];
    char *config; // owned, or NULL
    void (*on_stop)(void *arg, bool now, int64_t grace_ms);
    void *arg;
    int64_t started_ns;
    int lock_fd, listen_fd;
    pyi_watch *listen_watch;
    pyi_control_client *clients;
    unsigned client_count;
    pthread_mutex_t lock; /* the two below */
    pthread_cond_t idle;
    unsigned jobs;
};

/* ---- buffers --------------------------------------------------------------------------------- */

static bool buffer_room(buffer *b, size_t more) {
    if (b->cap - b->len >= more) {
        return true;
    }
    size_t cap = b->cap * 2 > b->len + more ? b->cap * 2 : b->len + more;
    char *data = realloc(b->data, cap);
    if (data == NULL) {
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

static void buffer_drop(buffer *b, size_t n) {
    if (n == 0) {
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
    if (b->len == 0 && b->cap > READ_SIZE) { // a large request or answer is over
        free(pyi_steal(&b->data));
        b->cap = 0;
    }
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static void count_jobs(pyi_control *c, int by) {
    pthread_mutex_lock(&c->lock);
    c->jobs += (unsigned)by;
    if (c->jobs == 0) {
        pthread_cond_broadcast(&c->idle);
    }
    pthread_mutex_unlock(&c->lock);
}

static pyi_control_job *job_new(pyi_control_client *client) {
    pyi_control_job *job = calloc(1, sizeof *job);
    if (job == NULL) {
        return NULL;
    }
    job->control = client->control;
    job->client = client;
    job->next = client->jobs;
    if (job->next != NULL) {
        job->next->prev = job;
    }
    client->jobs = job;
    client->job_count++;
    pyi_writer_init(&job->value, PYI_MAX_CONTROL_LINE);
    count_jobs(client->control, 1);
    return job;
}

static void job_detach(pyi_control_job *job) {
    pyi_control_client *client = job->client;
    if (client == NULL) {
        return;
    }
    if (job->prev != NULL) {
        job->prev->next = job->next;
    } else {
        client->jobs = job->next;
    }
    if (job->next != NULL) {
        job->next->prev = job->prev;
    }
    client->job_count--;
    job->client = NULL;
}

static void job_free(pyi_control_job *job) {
    pyi_control *c = job->control;
    job_detach(job);
    pyi_writer_fini(&job->value);
    free(job->bytes);
    free(job);
    count_jobs(c, -1);
}

pyi_control_job *pyi_control_find_job(pyi_control_client *client, pyi_reader id) {
    size_t len = (size_t)(id.end - id.p);
    for (pyi_control_job *j = client->jobs; j != NULL; j = j->next) {
        if ((size_t)(j->id.end - j->id.p) == len && len > 0 && memcmp(j->id.p, id.p, len) == 0) {
            return j;
        }
    }
    return NULL;
}

void pyi_control_post(pyi_control_job *job, void (*fn)(void *job)) {
    pyi_loop_post(job->control->loop, fn, job);
}

struct pyi_loop *pyi_control_loop(const pyi_control *c) {
    return c->loop;
}

pyi_manager *pyi_control_manager(const pyi_control *c) {
    return c->manager;
}

const char *pyi_control_config(const pyi_control *c) {
    return c->config;
}

int64_t pyi_control_started_ns(const pyi_control *c) {
    return c->started_ns;
}

void pyi_control_ask_stop(pyi_control *c, bool now, int64_t grace_ms) {
    if (c->on_stop != NULL) {
        c->on_stop(c->arg, now, grace_ms);
    }
}

/* ---- a client -------------------------------------------------------------------------------- */

static void client_close(pyi_control_client *client) {
    pyi_control *c = client->control;
    while (client->jobs != NULL) {
        pyi_control_job *job = client->jobs;
        job_detach(job); // it is freed when it ends
        if (job->call_id != 0) {
            pyi_call_cancel(job->extension, job->call_id);
        }
    }
    if (client->prev != NULL) {
        client->prev->next = client->next;
    } else {
        c->clients = client->next;
    }
    if (client->next != NULL) {
        client->next->prev = client->prev;
    }
    c->client_count--;
    pyi_loop_unwatch(client->watch);
    pyi_fd_close(&client->fd);
    free(client->in.data);
    free(client->out.data);
    free(client);
}

/* False: the client has gone (closed here). */
static bool client_flush(pyi_control_client *client) {
    while (client->sent < client->out.len) {
        ssize_t n = send(client->fd, client->out.data + client->sent,
                         client->out.len - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return true;
        }
        if (n < 0) {
            client_close(client);
            return false;
        }
        client->sent += (size_t)n;
    }
    buffer_drop(&client->out, client->sent);
    client->sent = 0;
    if (client->ended && client->jobs == NULL) {
        client_close(client);
        return false;
    }
    return true;
}

static void client_rewatch(pyi_control_client *client) {
    uint32_t events = 0;
    if (!client->ended && client->out.len < PYI_MAX_CONTROL_LINE && client->job_count < MAX_JOBS) {
        events |= EPOLLIN;
    }
    if (client->out.len > 0) {
        events |= EPOLLOUT;
    }
    pyi_loop_rewatch(client->watch, events);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void put_envelope(pyi_writer *w, const pyi_control_job *job) {
    bool has_id = job->id.p != job->id.end;
    pyi_put_map(w, has_id ? 3 : 2);
    if (has_id) {
        pyi_put_cstr(w, "id");
        pyi_put_raw(w, job->id.p, (size_t)(job->id.end - job->id.p));
    }
    pyi_put_cstr(w, "ok");
    pyi_put_bool(w, !job->failed);
    pyi_put_cstr(w, job->failed ? "error" : "value");
    pyi_put_raw(w, job->value.data, job->value.len);
}

/* The answer as a line of JSON in malloc'ed memory. */
static pyi_err render(const pyi_control_job *job, char **ret_text, size_t *ret_len, pyi_error *e) {
    pyi_err err = pyi_writer_error(&job->value, e);
    if (err != PYI_OK) {
        return err;
    }
    pyi_writer w;
    pyi_writer_init(&w, PYI_MAX_CONTROL_LINE);
    put_envelope(&w, job);
    err = pyi_writer_error(&w, e);
    if (err == PYI_OK) {
        pyi_reader r = pyi_reader_on(w.data, w.len);
        err = pyi_wire_to_json(&r, ret_text, ret_len, e);
    }
    pyi_writer_fini(&w);
    return err;
}

static void client_say(pyi_control_client *client, const char *line, size_t len) {
    if (!buffer_room(&client->out, len + 1)) {
        client_close(client);
        return;
    }
    memcpy(client->out.data + client->out.len, line, len);
    client->out.data[client->out.len + len] = '\n';
    client->out.len += len + 1;
    if (client_flush(client)) {
        client_rewatch(client);
    }
}

void pyi_control_refuse(pyi_control_job *job, const pyi_error *e, const char *detail) {
    pyi_writer *w = &job->value;
    pyi_writer_fini(w);
    pyi_writer_init(w, PYI_MAX_CONTROL_LINE);
    pyi_put_map(w, 5);
    pyi_put_cstr(w, "code");
    pyi_put_cstr(w, pyi_err_name(e->code));
    pyi_put_cstr(w, "type");
    pyi_put_cstr(w, pyi_err_python_type(e->code));
    pyi_put_cstr(w, "message");
    pyi_put_cstr(w, e->msg);
    pyi_put_cstr(w, "where");
    pyi_put_cstr(w, e->where);
    pyi_put_cstr(w, "detail");
    pyi_put_cstr(w, detail);
    job->failed = true;
    pyi_control_answer(job);
}

void pyi_control_answer(pyi_control_job *job) {
    PYI_AUTO_FREE char *line = NULL;
    size_t len = 0;
    pyi_error e = {0};
    if (job->client != NULL && render(job, &line, &len, &e) != PYI_OK) {
        if (!job->failed) {
            pyi_error_wrap(&e, "the result as JSON");
            pyi_control_refuse(job, &e, NULL);
            return;
        }
        len = 0; // an error that cannot be told: its text was not JSON's
    }
    pyi_control_client *client = job->client;
    job_free(job);
    if (client != NULL && line != NULL) {
        client_say(client, line, len);
    } else if (client != NULL) {
        client_close(client);
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

static void parse_request(pyi_control_job *job, const char *line, size_t len) {
    pyi_error e = {0};
    pyi_writer w;
    pyi_writer_init(&w, PYI_MAX_CONTROL_LINE);
    pyi_err err = pyi_json_to_wire(line, len, &w, &e);
    job->bytes = w.data;
    job->request = pyi_reader_on(w.data, w.len);
    pyi_token head = {0};
    pyi_reader r = job->request;
    if (err == PYI_OK && (pyi_read(&r, &head) != PYI_OK || head.kind != PYI_MAP)) {
        err = pyi_error_set(&e, PYI_EINVAL, "control.request",
                            "a request is a JSON object: {\"op\": ...}");
    }
    if (err != PYI_OK) {
        pyi_control_refuse(job, &e, NULL);
        return;
    }
    pyi_map_get(job->request, "id", &job->id);
    pyi_control_operate(job);
}

/* False: the client has gone. */
static bool take_line(pyi_control_client *client, size_t len) {
    pyi_control *c = client->control;
    pyi_control_job *job = job_new(client);
    if (job == NULL) {
        client_close(client);
        return false;
    }
    unsigned before = c->client_count;
    parse_request(job, client->in.data, len);
    if (c->client_count < before) {
        return false; // an answer found that it had gone
    }
    buffer_drop(&client->in, len + 1);
    client->scanned = 0;
    return true;
}

static bool refuse_long_line(pyi_control_client *client) {
    pyi_control_job *job = job_new(client);
    if (job == NULL) {
        client_close(client);
        return false;
    }
    client->ended = true;
    client->in.len = 0;
    pyi_error e = {0};
    pyi_error_set(&e, PYI_ETOOBIG, "control.request", "a request line may have %u bytes",
                  PYI_MAX_CONTROL_LINE);
    pyi_control_refuse(job, &e, NULL); // flushes, and closes as the client has "ended"
    return false;
}

static bool take_lines(pyi_control_client *client) {
    while (client->in.len > client->scanned) {
        char *from = client->in.data + client->scanned;
        char *newline = memchr(from, '\n', client->in.len - client->scanned);
        if (newline == NULL) {
            client->scanned = client->in.len;
            return client->in.len < PYI_MAX_CONTROL_LINE || refuse_long_line(client);
        }
        if (!take_line(client, (size_t)(newline - client->in.data))) {
            return false;
        }
    }
    return true;
}

/* False: the client has gone. */
static bool read_client(pyi_control_client *client) {
    if (!buffer_room(&client->in, READ_SIZE)) {
        client_close(client);
        return false;
    }
    ssize_t n = recv(client->fd, client->in.data + client->in.len, READ_SIZE, MSG_DONTWAIT);
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return true;
        }
        client_close(client);
        return false;
    }
    client->in.len += (size_t)n;
    client->ended = n == 0;
    return take_lines(client);
}

static void on_client(void *arg, uint32_t events) {
    pyi_control_client *client = arg;
    if (events & (EPOLLHUP | EPOLLERR)) {
        client_close(client);
        return;
    }
    if ((events & EPOLLIN) && !read_client(client)) {
        return;
    }
    if (client_flush(client)) {
        client_rewatch(client);
    }
}

/* ---- the socket ------------------------------------------------------------------------------ */

static bool may_connect(int fd) {
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

static void on_connection(void *arg, uint32_t events) {
    (void)events;
    pyi_control *c = arg;
    PYI_AUTO_FD int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 || !may_connect(fd) || c->client_count >= MAX_CLIENTS) {
        return; // closed: the other end sees the end of the stream
    }
    pyi_control_client *client = calloc(1, sizeof *client);
    pyi_error e = {0};
    if (client == NULL ||
        pyi_loop_watch(c->loop, fd, EPOLLIN, on_client, client, &client->watch, &e) != PYI_OK) {
        free(client);
        return;
    }
    client->control = c;
    client->fd = pyi_steal_fd(&fd);
    client->next = c->clients;
    if (client->next != NULL) {
        client->next->prev = client;
    }
    c->clients = client;
    c->client_count++;
}

static pyi_err listen_at(const char *path, int *ret_fd, pyi_error *e) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    PYI_AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return pyi_error_sys(e, errno, "control.listen", "make the control socket");
    }
    unlink(path); // we hold the lock: whoever made it is dead
    if (fchmod(fd, 0600) != 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        chmod(path, 0600) != 0 || listen(fd, MAX_CLIENTS) != 0) {
        return pyi_error_sys(e, errno, "control.listen", "listen at '%s'", path);
    }
    *ret_fd = pyi_steal_fd(&fd);
    return PYI_OK;
}

typedef struct watch_request {
    pyi_control *control;
    pyi_err err;
    pyi_error *e;
} watch_request;

static void watch_listener(void *arg) {
    watch_request *r = arg;
    r->err = pyi_loop_watch(r->control->loop, r->control->listen_fd, EPOLLIN, on_connection,
                            r->control, &r->control->listen_watch, r->e);
}

static void control_free(pyi_control *c) {
    pyi_loop_free(c->loop);
    pyi_fd_close(&c->listen_fd);
    pyi_control_unlock(c->path, &c->lock_fd);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->idle);
    free(c->config);
    free(c);
}

static pyi_err open_all(pyi_control *c, pyi_error *e) {
    pyi_err err = pyi_control_lock(c->path, c->config, &c->lock_fd, e);
    if (err == PYI_OK) {
        pyi_control_sweep();
        err = listen_at(c->path, &c->listen_fd, e);
    }
    if (err == PYI_OK) {
        err = pyi_loop_new(&c->loop, e);
    }
    if (err == PYI_OK) {
        watch_request r = {c, PYI_OK, e};
        pyi_loop_run(c->loop, watch_listener, &r);
        err = r.err;
    }
    return err;
}

pyi_err pyi_control_start(pyi_manager *m, const pyi_control_options *o, pyi_control **ret,
                          pyi_error *e) {
    pyi_control *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "control.start", "out of memory");
    }
    *c = (pyi_control){
        .manager = m, .on_stop = o->on_stop, .arg = o->arg, .lock_fd = -1, .listen_fd = -1};
    c->started_ns = pyi_now_ns();
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->idle, NULL);
    snprintf(c->path, sizeof c->path, "%s", o->path);
    c->config = o->config != NULL ? strdup(o->config) : NULL;
    pyi_err err = open_all(c, e);
    if (err != PYI_OK) {
        control_free(c);
        return err;
    }
    *ret = c;
    return PYI_OK;
}

static void close_all(void *arg) {
    pyi_control *c = arg;
    pyi_loop_unwatch(c->listen_watch);
    for (pyi_control_client *client = c->clients, *next; client != NULL; client = next) {
        next = client->next; // an answer that is still to come finds its job without a client
        client_close(client);
    }
}

void pyi_control_stop(pyi_control *c) {
    if (c == NULL) {
        return;
    }
    pyi_loop_run(c->loop, close_all, c);
    pthread_mutex_lock(&c->lock);
    while (c->jobs > 0) {
        pthread_cond_wait(&c->idle, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    control_free(c);
}

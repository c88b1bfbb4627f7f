/*
 * A child's output: bytes become lines, lines become log entries, the last of stderr is kept.
 *
 * While nobody reads the host's log, nothing is read from the child either: its writes wait, the
 * loop does not.
 */
#include "childlog.h"

#include "pyi_limits.h"
#include "pyi_log.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define LINE_MAX_BYTES 8192 /* a longer line is logged in pieces */
#define READS_A_TURN   16   /* then the loop's other work gets its turn */
#define PAUSE_MS       50   /* until the log's reader is looked for again */

typedef struct stream {
    pyi_childlog *log;
    const char *name; /* "stdout" or "stderr" */
    pyi_level level;
    size_t len;
    char line[LINE_MAX_BYTES];
} stream;

typedef struct source {
    pyi_childlog *log;
    int fd;
    bool closed;
    pyi_watch *watch;
    /// Reads once: false when nothing is left or the other end is closed.
    bool (*read_once)(struct source *s);
    stream *stream;
} source;

struct pyi_childlog {
    pyi_loop *loop;
    pyi_log_subject subject;
    source out, err, records;
    pyi_timer *resume;       /* while paused */
    stream raw_out, raw_err; /* descriptors 1 and 2 */
    stream py_out, py_err;   /* sys.stdout and sys.stderr */
    size_t tail_len;
    char tail[2 * PYI_STDERR_TAIL + 1];
};

static void keep_tail(pyi_childlog *c, const char *text, size_t len) {
    if (len > PYI_STDERR_TAIL) {
        text += len - PYI_STDERR_TAIL;
        len = PYI_STDERR_TAIL;
    }
    if (c->tail_len + len > 2 * PYI_STDERR_TAIL) { /* make room now and then, not at each line */
        size_t drop = c->tail_len + len - PYI_STDERR_TAIL;
        drop = drop > c->tail_len ? c->tail_len : drop;
        memmove(c->tail, c->tail + drop, c->tail_len - drop);
        c->tail_len -= drop;
    }
    memcpy(c->tail + c->tail_len, text, len);
    c->tail_len += len;
    c->tail[c->tail_len] = '\0';
}

static void log_line(stream *s) {
    pyi_log_subject subject = s->log->subject;
    subject.stream = s->name;
    pyi_log_bytes(s->level, &subject, s->line, s->len);
    s->len = 0;
}

static void feed(stream *s, const char *text, size_t len) {
    if (s->level == PYI_WARNING) {
        keep_tail(s->log, text, len);
    }
    while (len > 0) {
        const char *end = memchr(text, '\n', len);
        size_t n = end != NULL ? (size_t)(end - text) : len;
        bool whole = end != NULL && n <= LINE_MAX_BYTES - s->len;
        if (n > LINE_MAX_BYTES - s->len) {
            n = LINE_MAX_BYTES - s->len;
        }
        memcpy(s->line + s->len, text, n);
        s->len += n;
        if (whole || s->len == LINE_MAX_BYTES) {
            log_line(s);
        }
        text += n + (whole ? 1 : 0);
        len -= n + (whole ? 1 : 0);
    }
}

static bool level_of(char c, pyi_level *ret) {
    switch (c) {
    case 'd':
        *ret = PYI_DEBUG;
        return true;
    case 'i':
        *ret = PYI_INFO;
        return true;
    case 'w':
        *ret = PYI_WARNING;
        return true;
    case 'e':
        *ret = PYI_ERROR;
        return true;
    default:
        return false;
    }
}

/* One record: level, stream, length of the logger's name, the name, the text. A bad one is dropped.
 */
static void on_record(pyi_childlog *c, char *record, size_t len) {
    pyi_level level;
    if (len < 3 || !level_of(record[0], &level) || (size_t)(uint8_t)record[2] + 3 > len) {
        return;
    }
    size_t name_len = (uint8_t)record[2];
    const char *text = record + 3 + name_len;
    size_t text_len = len - 3 - name_len;
    if (record[1] == 'o') {
        feed(&c->py_out, text, text_len);
    } else if (record[1] == 'e') {
        feed(&c->py_err, text, text_len);
    } else if (record[1] == 'l') {
        char logger[256];
        memcpy(logger, record + 3, name_len);
        logger[name_len] = '\0';
        pyi_log_subject subject = c->subject;
        subject.stream = "logging";
        subject.logger = logger;
        pyi_log_bytes(level, &subject, text, text_len);
    }
}

static bool read_bytes(source *s) {
    char buffer[16384];
    ssize_t n = read(s->fd, buffer, sizeof(buffer));
    if (n > 0) {
        feed(s->stream, buffer, (size_t)n);
    }
    return n > 0 || (n < 0 && errno == EINTR);
}

static bool read_record(source *s) {
    char buffer[PYI_MAX_LOG_RECORD + 512];
    ssize_t n = recv(s->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n > 0) {
        on_record(s->log, buffer, (size_t)n);
    }
    return n > 0 || (n < 0 && errno == EINTR);
}

static void on_source(void *arg, uint32_t events);

/* A source that has been closed stays without a watch. */
static pyi_err watch(source *s, pyi_error *e) {
    return pyi_loop_watch(s->log->loop, s->fd, EPOLLIN, on_source, s, &s->watch, e);
}

static void on_resume(void *arg) {
    pyi_childlog *c = arg;
    source *sources[] = {&c->out, &c->err, &c->records};
    c->resume = NULL;
    for (size_t i = 0; i < PYI_COUNT(sources); i++) {
        pyi_error e;
        if (!sources[i]->closed && watch(sources[i], &e) != PYI_OK) {
            pyi_log(PYI_ERROR, "PYI-CHILD-OUTPUT", &c->subject,
                    "its output is not read any more: %s", e.msg);
        }
    }
}

static void pause_sources(pyi_childlog *c) {
    source *sources[] = {&c->out, &c->err, &c->records};
    for (size_t i = 0; i < PYI_COUNT(sources); i++) {
        pyi_loop_unwatch(pyi_steal(&sources[i]->watch));
    }
    c->resume = pyi_loop_after(c->loop, PAUSE_MS, on_resume, c);
}

static void on_source(void *arg, uint32_t events) {
    source *s = arg;
    int turns = 0;
    while (turns < READS_A_TURN && pyi_log_ready() && s->read_once(s)) {
        turns++;
    }
    if (!pyi_log_ready()) {
        pause_sources(s->log);
    } else if (turns == 0 && (events & (EPOLLHUP | EPOLLERR)) != 0) {
        s->closed = true; /* what follows is the end of the process */
        pyi_loop_unwatch(pyi_steal(&s->watch));
    }
}

static pyi_err open_source(pyi_childlog *c, source *s, int *fd, stream *to,
                           bool (*read_once)(source *s), pyi_error *e) {
    *s = (source){.log = c, .fd = pyi_steal_fd(fd), .read_once = read_once, .stream = to};
    return watch(s, e);
}

pyi_err pyi_childlog_new(pyi_loop *loop, const char *name, unsigned generation, pyi_spawned *s,
                         pyi_childlog **ret, pyi_error *e) {
    pyi_childlog *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "childlog", "out of memory");
    }
    c->loop = loop;
    c->subject = (pyi_log_subject){.ext = name, .generation = generation, .pid = s->pid};
    c->out.fd = c->err.fd = c->records.fd = -1;
    stream *streams[] = {&c->raw_out, &c->raw_err, &c->py_out, &c->py_err};
    for (size_t i = 0; i < PYI_COUNT(streams); i++) {
        streams[i]->log = c;
        streams[i]->name = i % 2 == 0 ? "stdout" : "stderr";
        streams[i]->level = i % 2 == 0 ? PYI_INFO : PYI_WARNING;
    }
    pyi_err err = open_source(c, &c->out, &s->out_fd, &c->raw_out, read_bytes, e);
    if (err == PYI_OK) {
        err = open_source(c, &c->err, &s->err_fd, &c->raw_err, read_bytes, e);
    }
    if (err == PYI_OK) {
        err = open_source(c, &c->records, &s->log_fd, NULL, read_record, e);
    }
    if (err != PYI_OK) {
        pyi_childlog_free(c);
        return err;
    }
    *ret = c;
    return PYI_OK;
}

void pyi_childlog_drain(pyi_childlog *c) {
    source *sources[] = {&c->out, &c->err, &c->records};
    for (size_t i = 0; i < PYI_COUNT(sources); i++) {
        /* A grandchild may hold the other end and go on writing: take what is there, within reason.
         */
        for (int n = 0; n < 4096 && sources[i]->read_once(sources[i]); n++) {
        }
    }
    stream *streams[] = {&c->raw_out, &c->raw_err, &c->py_out, &c->py_err};
    for (size_t i = 0; i < PYI_COUNT(streams); i++) {
        if (streams[i]->len > 0) {
            log_line(streams[i]);
        }
    }
}

const char *pyi_childlog_tail(const pyi_childlog *c) {
    return c->tail_len <= PYI_STDERR_TAIL ? c->tail : c->tail + c->tail_len - PYI_STDERR_TAIL;
}

void pyi_childlog_free(pyi_childlog *c) {
    if (c == NULL) {
        return;
    }
    source *sources[] = {&c->out, &c->err, &c->records};
    pyi_loop_cancel(c->resume);
    for (size_t i = 0; i < PYI_COUNT(sources); i++) {
        pyi_loop_unwatch(sources[i]->watch);
        pyi_fd_close(&sources[i]->fd);
    }
    free(c);
}

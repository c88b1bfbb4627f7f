/*
 * The log. A line is built in memory and leaves by one write(2) under a lock, so that lines of
 * several threads never mix. What comes from a child is escaped for the format: a child cannot
 * forge a line of the host's or of another extension, nor send a terminal anything but text.
 *
 * Whoever reads the log may stop reading. The host must not: a line waits WAIT_MS at most, and
 * while nobody reads not at all; lost lines are counted, and the count is the first that a reader
 * gets when he is back. Children's output is not lost: while pyi_log_ready says no, nobody reads it
 * from them, and they wait.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE // vasprintf
#endif
#include "pyi_log.h"
#include "pyi_escape.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define LINE_LIMIT (1u << 20)       /* bytes of one line, all escapes included */
#define TEXT_LIMIT (LINE_LIMIT / 8) /* bytes of its text: an escape makes 6 of one at most */
#define WAIT_MS    100              /* a full pipe or terminal that nobody reads */
#define PIECE      4096u            /* PIPE_BUF: where poll says writable, so much does not block */

static struct {
    pthread_mutex_t lock; /* of fd, while a line is written */
    int fd;
    pyi_log_format format;
    bool colour;
    bool may_block, stuck, cut;
    unsigned long lost; /* lines since the reader stopped */
    atomic_bool clear_below;
    atomic_int least;
} out = {.lock = PTHREAD_MUTEX_INITIALIZER,
         .fd = STDERR_FILENO,
         .format = PYI_LOG_LOGFMT,
         .least = PYI_INFO};

/// One event, before it has a format.
typedef struct event {
    pyi_level level;
    const char *id; /* or NULL */
    const pyi_log_subject *subject;
    const char *text;
    size_t len;
} event;

static const pyi_log_subject nobody;

static const char *const level_names[] = {
    [PYI_DEBUG] = "debug", [PYI_INFO] = "info", [PYI_WARNING] = "warning", [PYI_ERROR] = "error"};

/* ---- output ---------------------------------------------------------------------------------- */

static bool is_writable(int fd, int timeout_ms) {
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, timeout_ms) > 0 && !(p.revents & (POLLERR | POLLNVAL));
}

/* Under the lock. Files never block; the others are asked before each piece. */
static bool write_all(const uint8_t *start, size_t len) {
    const uint8_t *data = start;
    while (len > 0) {
        if (out.may_block && !is_writable(out.fd, out.stuck ? 0 : WAIT_MS)) {
            out.stuck = true;
            out.cut = data != start;
            return false;
        }
        out.stuck = false;
        ssize_t n = write(out.fd, data, out.may_block && len > PIECE ? PIECE : len);
        if (n >= 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno != EINTR && errno != EAGAIN) {
            return false;
        }
    }
    return true;
}

/* Under the lock: the gap in the log is told before it goes on. */
static void tell_lost(void) {
    char line[96];
    const char *format = out.format == PYI_LOG_JSON
                             ? "%s{\"level\":\"warning\",\"id\":\"PYI-LOG-LOST\",\"lines\":%lu}\n"
                             : "%swarning id=PYI-LOG-LOST lines=%lu msg=\"nobody read the log\"\n";
    int n = snprintf(line, sizeof(line), format, out.cut ? "\n" : "", out.lost);
    if (write_all((const uint8_t *)line, (size_t)n)) {
        out.lost = 0;
    }
}

static void emit(pyi_writer *w) {
    pyi_put_raw(w, "\n", 1);
    if (w->err == PYI_OK) {
        pthread_mutex_lock(&out.lock);
        if (out.lost > 0) {
            tell_lost();
        }
        if (out.lost > 0 || !write_all(w->data, w->len)) {
            out.lost++;
        }
        pthread_mutex_unlock(&out.lock);
    }
    pyi_writer_fini(w);
}

/* ---- parts of a line ------------------------------------------------------------------------- */

static void put(pyi_writer *w, const char *text) {
    pyi_put_raw(w, text, strlen(text));
}

static void put_number(pyi_writer *w, const char *before, unsigned long number) {
    char text[64];
    (void)snprintf(text, sizeof(text), "%s%lu", before, number);
    put(w, text);
}

static void put_clock(pyi_writer *w) {
    char text[16];
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    (void)strftime(text, sizeof(text), "%H:%M:%S", &tm);
    put(w, text);
}

static void put_timestamp(pyi_writer *w) {
    char seconds[32], text[48];
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    (void)strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(text, sizeof(text), "%s.%03dZ", seconds, (int)(now.tv_nsec / 1000000));
    put(w, text);
}

/* ---- text ------------------------------------------------------------------------------------ */

static const char *level_colour(pyi_level level) {
    static const char *const colours[] = {[PYI_DEBUG] = "\033[2m",
                                          [PYI_INFO] = "",
                                          [PYI_WARNING] = "\033[33m",
                                          [PYI_ERROR] = "\033[1;31m"};
    return colours[level];
}

static void put_level_text(pyi_writer *w, pyi_level level) {
    char name[16]; // 7 wide: the longest name, so that messages are a column
    (void)snprintf(name, sizeof(name), " %-7s ", pyi_level_name(level));
    if (out.colour) {
        put(w, level_colour(level));
    }
    put(w, name);
    if (out.colour) {
        put(w, "\033[0m");
    }
}

static void put_text_line(pyi_writer *w, const event *ev) {
    const pyi_log_subject *s = ev->subject;
    const char *source = s->logger && *s->logger ? s->logger : s->stream;
    if (atomic_load(&out.clear_below)) {
        put(w, "\033[J");
    }
    put_clock(w);
    put_level_text(w, ev->level);
    if (s->ext) {
        pyi_escape_text(w, s->ext, strlen(s->ext), false);
        if (source) {
            put(w, "/");
            pyi_escape_text(w, source, strlen(source), false);
        }
        put(w, ": ");
    }
    pyi_escape_text(w, ev->text, ev->len, false);
}

/* ---- logfmt ---------------------------------------------------------------------------------- */

static bool is_bare(const char *value) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/:+-@";
    return *value != '\0' && value[strspn(value, allowed)] == '\0';
}

static void put_pair(pyi_writer *w, const char *key, const char *value) {
    if (!value) {
        return;
    }
    put(w, key);
    if (is_bare(value)) {
        put(w, value);
        return;
    }
    put(w, "\"");
    pyi_escape_text(w, value, strlen(value), true);
    put(w, "\"");
}

static void put_logfmt_line(pyi_writer *w, const event *ev) {
    const pyi_log_subject *s = ev->subject;
    put_timestamp(w);
    put(w, " ");
    put(w, pyi_level_name(ev->level));
    put_pair(w, " id=", ev->id);
    put_pair(w, " ext=", s->ext);
    if (s->generation > 0) {
        put_number(w, " gen=", s->generation);
    }
    if (s->pid > 0) {
        put_number(w, " pid=", (unsigned long)s->pid);
    }
    put_pair(w, " stream=", s->stream);
    put_pair(w, " logger=", s->logger);
    put(w, " msg=\"");
    pyi_escape_text(w, ev->text, ev->len, true);
    put(w, "\"");
}

/* ---- json ------------------------------------------------------------------------------------ */

static void put_member(pyi_writer *w, const char *key, const char *value) {
    if (value) {
        put(w, key);
        pyi_escape_json(w, value, strlen(value));
    }
}

static void put_json_line(pyi_writer *w, const event *ev) {
    const pyi_log_subject *s = ev->subject;
    put(w, "{\"time\":\"");
    put_timestamp(w);
    put(w, "\"");
    put_member(w, ",\"level\":", pyi_level_name(ev->level));
    put_member(w, ",\"id\":", ev->id);
    put_member(w, ",\"ext\":", s->ext);
    if (s->generation > 0) {
        put_number(w, ",\"gen\":", s->generation);
    }
    if (s->pid > 0) {
        put_number(w, ",\"pid\":", (unsigned long)s->pid);
    }
    put_member(w, ",\"stream\":", s->stream);
    put_member(w, ",\"logger\":", s->logger);
    put(w, ",\"msg\":");
    pyi_escape_json(w, ev->text, ev->len);
    put(w, "}");
}

static void log_event(event *ev) {
    pyi_writer w;
    ev->len = ev->len < TEXT_LIMIT ? ev->len : TEXT_LIMIT;
    pyi_writer_init(&w, LINE_LIMIT);
    switch (out.format) {
    case PYI_LOG_TEXT:
        put_text_line(&w, ev);
        break;
    case PYI_LOG_JSON:
        put_json_line(&w, ev);
        break;
    case PYI_LOG_AUTO:
    case PYI_LOG_LOGFMT:
        put_logfmt_line(&w, ev);
        break;
    }
    emit(&w);
}

/* ---- exported -------------------------------------------------------------------------------- */

static bool env_set(const char *name) {
    const char *value = getenv(name);
    return value && *value;
}

/// NO_COLOR, then CLICOLOR_FORCE, then what the descriptor is: the usual order.
static bool wants_colour(int fd) {
    const char *force = getenv("CLICOLOR_FORCE");
    const char *term = getenv("TERM");
    if (env_set("NO_COLOR")) {
        return false;
    }
    if (force && *force && strcmp(force, "0") != 0) {
        return true;
    }
    return isatty(fd) && term && *term && strcmp(term, "dumb") != 0;
}

void pyi_log_open(int fd, pyi_log_format format, pyi_level least) {
    if (format == PYI_LOG_AUTO) {
        format = isatty(fd) ? PYI_LOG_TEXT : PYI_LOG_LOGFMT;
    }
    tzset(); // localtime_r need not do it
    out.fd = fd;
    out.format = format;
    out.colour = format == PYI_LOG_TEXT && wants_colour(fd);
    struct stat st;
    out.may_block = fstat(fd, &st) == 0 && !S_ISREG(st.st_mode);
    pyi_log_level(least);
}

void pyi_log_level(pyi_level least) {
    atomic_store_explicit(&out.least, (int)least, memory_order_relaxed);
}

void pyi_log_clear_below(bool on) {
    atomic_store(&out.clear_below, on);
}

bool pyi_log_ready(void) {
    return !out.may_block || is_writable(out.fd, 0);
}

bool pyi_log_enabled(pyi_level level) {
    return (int)level >= atomic_load_explicit(&out.least, memory_order_relaxed);
}

void pyi_log(pyi_level level, const char *id, const pyi_log_subject *subject, const char *fmt,
             ...) {
    if (!pyi_log_enabled(level)) {
        return;
    }
    PYI_AUTO_FREE char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int len = vasprintf(&text, fmt, args);
    va_end(args);
    if (len < 0) {
        text = NULL; // glibc leaves it undefined
    }
    const char *what = text ? text : fmt;
    log_event(&(event){.level = level,
                       .id = id,
                       .subject = subject ? subject : &nobody,
                       .text = what,
                       .len = strlen(what)});
}

/// Length of the first line of text[len], its "\n" or "\r\n" left out; *ret_next: where the next
/// begins.
static size_t line_length(const char *text, size_t len, size_t *ret_next) {
    const char *newline = memchr(text, '\n', len);
    size_t line = newline ? (size_t)(newline - text) : len;
    *ret_next = newline ? line + 1 : len;
    return line > 0 && newline && text[line - 1] == '\r' ? line - 1 : line;
}

void pyi_log_bytes(pyi_level level, const pyi_log_subject *subject, const char *text, size_t len) {
    if (!pyi_log_enabled(level)) {
        return;
    }
    event ev = {.level = level, .subject = subject ? subject : &nobody, .text = ""};
    if (len == 0) {
        log_event(&ev); // a record without text is an empty line
    }
    for (size_t at = 0, next; at < len; at += next) {
        ev.text = text + at;
        ev.len = line_length(ev.text, len - at, &next);
        log_event(&ev);
    }
}

bool pyi_level_parse(const char *name, pyi_level *ret_level) {
    if (strcmp(name, "warn") == 0) {
        *ret_level = PYI_WARNING;
        return true;
    }
    for (int i = PYI_DEBUG; i <= PYI_ERROR; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret_level = (pyi_level)i;
            return true;
        }
    }
    return false;
}

const char *pyi_level_name(pyi_level level) {
    return level_names[level];
}

/*
 * Bars are drawn by a thread of their own, ten times a second and only while something is being
 * built, so that the elapsed time moves on although an installer says nothing. The bars are the
 * last lines of the terminal: they are drawn, and the cursor goes back up to the first of them. A
 * log line that comes between clears them (pyi_log_clear_below), and they are drawn again below it.
 *
 *     averages  ━━━━━━━━━━━━━━━━────────  downloading  numpy 2.1.0 (17.2 MiB)   3.4 s
 */
#include "progress.h"
#include "pyi_limits.h"
#include "pyi_log.h"
#include "term.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_ROWS = 128, BAR_COLUMNS = 24, FRAME_MS = 100, TEXT_MAX = 128, OUT_MAX = 65536 };

typedef struct row {
    char name[PYI_MAX_NAME + 1];
    char text[TEXT_MAX];
    pyi_env_step step;
    int64_t since;
    bool active;
} row;

struct pyi_progress {
    int fd;
    bool live, quiet, utf8;
    pyi_env_progress hooks;
    pthread_t thread;
    bool drawing;         /* the thread runs */
    pthread_mutex_t lock; /* all below */
    pthread_cond_t changed;
    bool ended;
    row rows[MAX_ROWS];
    size_t count;
    unsigned active, drawn, frame; /* drawn: lines on the terminal now */
};

static const char *step_name(pyi_env_step step) {
    static const char *const names[] = {[PYI_STEP_RESOLVE] = "resolving",
                                        [PYI_STEP_DOWNLOAD] = "downloading",
                                        [PYI_STEP_BUILD] = "building",
                                        [PYI_STEP_INSTALL] = "installing",
                                        [PYI_STEP_DONE] = "ready"};
    return (size_t)step < PYI_COUNT(names) ? names[step] : "";
}

/* ---- text that is written at once ------------------------------------------------------------ */

typedef struct sink {
    char data[OUT_MAX];
    size_t len;
} sink;

static void put(sink *s, const char *fmt, ...) PYI_PRINTF(2, 3);
static void put(sink *s, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(s->data + s->len, sizeof s->data - s->len, fmt, args);
    va_end(args);
    s->len += n > 0 ? (size_t)n : 0;
    if (s->len >= sizeof s->data) {
        s->len = sizeof s->data - 1;
    }
}

static void flush(const pyi_progress *p, const sink *s) {
    for (size_t done = 0; done < s->len;) {
        ssize_t n = write(p->fd, s->data + done, s->len - done);
        if (n <= 0) {
            return; // progress is not worth an error
        }
        done += (size_t)n;
    }
}

/* ---- bars ------------------------------------------------------------------------------------ */

static void put_bar(sink *s, const pyi_progress *p, const row *r) {
    static const unsigned filled_at[] = {[PYI_STEP_RESOLVE] = 3,
                                         [PYI_STEP_DOWNLOAD] = 9,
                                         [PYI_STEP_BUILD] = 15,
                                         [PYI_STEP_INSTALL] = 20,
                                         [PYI_STEP_DONE] = BAR_COLUMNS};
    unsigned filled = filled_at[r->step];
    unsigned pulse = p->frame % BAR_COLUMNS; // a brighter spot that moves: it is alive
    put(s, "%s", pyi_term_style(p->fd, PYI_STYLE_CYAN));
    for (unsigned i = 0; i < BAR_COLUMNS; i++) {
        if (i == filled) {
            put(s, "%s%s", pyi_term_style(p->fd, PYI_STYLE_NONE),
                pyi_term_style(p->fd, PYI_STYLE_DIM));
        }
        bool spot = i == pulse;
        if (p->utf8) {
            put(s, "%s", i < filled ? (spot ? "╸" : "━") : (spot ? "╌" : "─"));
        } else {
            put(s, "%c", i < filled ? (spot ? '>' : '=') : (spot ? '.' : '-'));
        }
    }
    put(s, "%s", pyi_term_style(p->fd, PYI_STYLE_NONE));
}

static int name_width(const pyi_progress *p) {
    int width = 0;
    for (size_t i = 0; i < p->count; i++) {
        int columns = pyi_term_columns(p->rows[i].name);
        width = p->rows[i].active && columns > width ? columns : width;
    }
    return width;
}

static void put_row(sink *s, const pyi_progress *p, const row *r, int names, int width) {
    double seconds = (double)(pyi_now_ns() - r->since) / (double)PYI_NS_PER_S;
    put(s, "%s%s%s%*s  ", pyi_term_style(p->fd, PYI_STYLE_BOLD), r->name,
        pyi_term_style(p->fd, PYI_STYLE_NONE), names - pyi_term_columns(r->name), "");
    put_bar(s, p, r);
    put(s, "  %-11s %5.1f s", step_name(r->step), seconds);
    int left = width - names - BAR_COLUMNS - 26;
    if (left > 8 && r->text[0] != '\0') {
        put(s, "  %s%.*s%s", pyi_term_style(p->fd, PYI_STYLE_DIM), (int)pyi_term_fit(r->text, left),
            r->text, pyi_term_style(p->fd, PYI_STYLE_NONE));
    }
    put(s, "\033[K\n");
}

/* Lock held. `erase`: leaves nothing on the terminal. */
static void draw(pyi_progress *p, bool erase) {
    sink s = {.len = 0};
    int names = name_width(p), width = pyi_term_width(p->fd);
    unsigned lines = 0;
    for (size_t i = 0; !erase && i < p->count; i++) {
        if (p->rows[i].active) {
            put_row(&s, p, &p->rows[i], names, width);
            lines++;
        }
    }
    if (lines > 0 || p->drawn > 0) {
        put(&s, "\033[J"); // what an earlier, longer drawing left below
    }
    if (lines > 0) {
        put(&s, "\033[%uA\r", lines);
    }
    p->drawn = lines;
    p->frame++;
    flush(p, &s);
    pyi_log_clear_below(lines > 0);
}

static void *draw_thread(void *arg) {
    pyi_progress *p = arg;
    pthread_mutex_lock(&p->lock);
    while (!p->ended) {
        if (p->active == 0) {
            if (p->drawn > 0) {
                draw(p, true);
            }
            pthread_cond_wait(&p->changed, &p->lock);
            continue;
        }
        draw(p, false);
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += FRAME_MS * PYI_NS_PER_MS;
        until.tv_sec += until.tv_nsec / PYI_NS_PER_S;
        until.tv_nsec %= PYI_NS_PER_S;
        pthread_cond_timedwait(&p->changed, &p->lock, &until);
    }
    draw(p, true);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static row *find_row(pyi_progress *p, const char *name) {
    for (size_t i = 0; i < p->count; i++) {
        if (strcmp(p->rows[i].name, name) == 0) {
            return &p->rows[i];
        }
    }
    if (p->count == MAX_ROWS) {
        return NULL;
    }
    row *r = &p->rows[p->count++];
    *r = (row){.since = pyi_now_ns()};
    snprintf(r->name, sizeof r->name, "%s", name);
    return r;
}

static void set_active(pyi_progress *p, row *r, bool active) {
    if (r->active != active) {
        r->active = active;
        p->active += active ? 1 : -1u;
    }
}

/* One plain line, for a file or a pipe: the step in words, each once. */
static void say_step(const pyi_progress *p, const row *r, const char *text) {
    sink s = {.len = 0};
    double seconds = (double)(pyi_now_ns() - r->since) / (double)PYI_NS_PER_S;
    if (r->step == PYI_STEP_DONE) {
        put(&s, "%s: environment ready in %.1f s\n", r->name, seconds);
    } else {
        put(&s, "%s: %s%s%s\n", r->name, step_name(r->step),
            text != NULL && *text != '\0' ? ": " : "", text != NULL ? text : "");
    }
    flush(p, &s);
}

static void on_step(void *arg, const char *extension, pyi_env_step step, const char *text) {
    pyi_progress *p = arg;
    pthread_mutex_lock(&p->lock);
    row *r = p->ended || p->quiet ? NULL : find_row(p, extension);
    bool nothing_done = r != NULL && step == PYI_STEP_DONE && !r->active;
    if (r != NULL && !nothing_done) {
        bool new_step = !r->active || r->step != step;
        if (!r->active) {
            r->since = pyi_now_ns();
        }
        r->step = step;
        snprintf(r->text, sizeof r->text, "%s", text != NULL ? text : "");
        set_active(p, r, step != PYI_STEP_DONE);
        if (!p->live && new_step) {
            say_step(p, r, text);
        }
        pthread_cond_signal(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
}

/* ---- life ------------------------------------------------------------------------------------ */

pyi_err pyi_progress_new(int fd, bool quiet, pyi_progress **ret, pyi_error *e) {
    pyi_progress *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "progress.start", "out of memory");
    }
    p->fd = fd;
    p->quiet = quiet;
    p->live = !quiet && pyi_term_live(fd);
    p->utf8 = pyi_term_utf8();
    p->hooks = (pyi_env_progress){on_step, p};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    p->drawing = p->live && pthread_create(&p->thread, NULL, draw_thread, p) == 0;
    p->live = p->drawing; // without a thread: plain lines
    *ret = p;
    return PYI_OK;
}

const pyi_env_progress *pyi_progress_hooks(pyi_progress *p) {
    return &p->hooks;
}

void pyi_progress_failed(pyi_progress *p, const char *extension) {
    pthread_mutex_lock(&p->lock);
    row *r = find_row(p, extension);
    if (r != NULL) {
        set_active(p, r, false);
        pthread_cond_signal(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
}

void pyi_progress_end(pyi_progress *p) {
    pthread_mutex_lock(&p->lock);
    p->ended = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    if (p->drawing) {
        pthread_join(p->thread, NULL);
        p->drawing = false;
    }
}

void pyi_progress_free(pyi_progress *p) {
    if (p == NULL) {
        return;
    }
    pyi_progress_end(p);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->changed);
    free(p);
}

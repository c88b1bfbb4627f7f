#pragma once
/*
 * The host's log: one line per event on a descriptor (stderr by default). Thread safe: a line is
 * one write(2). Only the loop, the commands and child/main log; everything else returns errors.
 *
 *   text    15:04:05 info    averages: ready in 16 ms (python 3.11.2)        on a terminal
 *   logfmt  2026-11-23T15:04:05.123Z info id=PYI-EXT-READY ext=averages gen=1 pid=77 msg="..."
 *           15:04:05 warning averages/stdout: a line that the extension printed
 *   json    {"time":...,"level":...,"id":...,"ext":...,"gen":...,"pid":...,"msg":...}
 */
#include "pyi_base.h"

typedef enum pyi_level { PYI_DEBUG, PYI_INFO, PYI_WARNING, PYI_ERROR } pyi_level;
typedef enum pyi_log_format {
    PYI_LOG_AUTO,
    PYI_LOG_TEXT,
    PYI_LOG_LOGFMT,
    PYI_LOG_JSON
} pyi_log_format;

/// Who a line is about; every part may be absent.
typedef struct pyi_log_subject {
    const char *ext;     /* extension name or NULL */
    unsigned generation; /* 0: absent */
    int pid;             /* 0: absent */
    const char *stream;  /* "stdout", "stderr", "logging", or NULL for the host's own lines */
    const char *logger;  /* Python logger name or NULL */
} pyi_log_subject;

/// AUTO: text on a terminal, else logfmt. The descriptor is borrowed. Call before threads start.
void pyi_log_open(int fd, pyi_log_format format, pyi_level least);
void pyi_log_level(pyi_level least);
/// While on, a line of text first clears the terminal from the cursor down: there are bars, and who
/// draws them has left the cursor at the first. Any thread.
void pyi_log_clear_below(bool on);
bool pyi_log_enabled(pyi_level level);
/// Whether a line could be written now without waiting for the log's reader. Any thread.
bool pyi_log_ready(void);

/// `id` is a stable event name such as "PYI-CHILD-EXIT", or NULL for a child's own output.
void pyi_log(pyi_level level, const char *id, const pyi_log_subject *subject, const char *fmt, ...)
    PYI_PRINTF(4, 5);

/// One line of a child's output, any bytes, not NUL-terminated: escaped as the format needs.
void pyi_log_bytes(pyi_level level, const pyi_log_subject *subject, const char *text, size_t len);

/// "debug", "info", "warning", "error" (or "warn") to a level; false if it is none of them.
bool pyi_level_parse(const char *name, pyi_level *ret_level);
const char *pyi_level_name(pyi_level level);

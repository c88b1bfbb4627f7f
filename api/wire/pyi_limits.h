#pragma once
/*
 * Every bound on what comes from outside: the wire, Lua, a child, the command line. One place, so
 * that a reviewer can see them all and a test can name them.
 */

#define PYI_PROTOCOL_VERSION 1

#define PYI_MAX_PAYLOAD_DEFAULT (UINT64_C(1) << 30) /* one frame, bytes */
#define PYI_FRAME_SLACK         65536u              /* what a frame may add around its payload */
#define PYI_MAX_DEPTH           128u                /* nesting of containers in a value */
#define PYI_FRAME_DEPTH         32u                 /* and what a frame may put round a value */
#define PYI_MAX_NDIM            64u                 /* dimensions of an array */
#define PYI_MAX_NAME            128u                /* extension, object and method names, bytes */
#define PYI_MAX_CAUSES          16u                 /* links of a __cause__ chain that travel */
#define PYI_MAX_TRACEBACK       65536u              /* bytes of a traceback that travel */
#define PYI_MAX_ERROR_TEXT      65536u              /* bytes of an exception's text that travel */
#define PYI_MAX_METHODS         4096u               /* names in a READY frame */
#define PYI_MAX_CONCURRENCY     65536u              /* calls in flight to one extension */
#define PYI_MAX_LOG_RECORD      32768u              /* bytes of text in one child log record */
#define PYI_MAX_SPEC            (4u << 20)          /* bytes of a child's spec */
#define PYI_MAX_CONTROL_LINE    (64u << 20)         /* bytes of one control request or answer */
#define PYI_SECRET_SIZE         32u                 /* spawn secret, bytes */
#define PYI_STDERR_TAIL         4096u               /* bytes of stderr kept for a crash report */

#define PYI_POSTED_RECEIVES 128u /* nng context receives kept posted (throughput, see docs) */

#define PYI_START_TIMEOUT_MS 60000 /* spawn to READY; imports of torch take seconds */
#define PYI_STOP_TIMEOUT_MS  5000  /* STOP to SIGKILL */
#define PYI_CANCEL_GRACE_MS  5000  /* CANCEL unanswered for so long: the child is stuck, kill it */
#define PYI_BACKOFF_FIRST_MS 250   /* restart delay after the first crash, doubles */
#define PYI_BACKOFF_CAP_MS   30000 /* and stays there */
#define PYI_CRASH_LOOP_COUNT 5u    /* crashes in a row, each soon after start: a crash loop */
#define PYI_HEALTHY_AFTER_MS 30000 /* alive for so long: the backoff starts anew */

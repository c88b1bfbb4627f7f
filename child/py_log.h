#pragma once
/*
 * Log records of the child: one SOCK_SEQPACKET message each on PYI_LOG_FD.
 *
 *   byte 0   level: d i w e
 *   byte 1   stream: o (stdout), e (stderr), l (logging)
 *   byte 2   length of the logger's name, then the name
 *   the rest text, UTF-8, at most PYI_MAX_LOG_RECORD bytes
 *
 * No Python in here. Any thread; blocks while the host is slow, so nothing is lost.
 */
#include "pyi_base.h"

/// Sends `text`, split into as many records as it needs. False when the host no longer reads.
bool pyi_child_log(char level, char stream, const char *name, size_t name_len, const char *text,
                   size_t len);

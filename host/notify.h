#pragma once
/*
 * The service manager's notification protocol (sd_notify): one datagram to $NOTIFY_SOCKET. Nothing
 * happens, and nothing fails, where there is no service manager. Any thread.
 */
#include "pyi_base.h"

/// "READY=1\nSTATUS=3 extensions": lines of NAME=VALUE.
void pyi_notify(const char *fmt, ...) PYI_PRINTF(1, 2);

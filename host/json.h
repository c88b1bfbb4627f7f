#pragma once
/*
 * JSON on the command line and values on the wire. docs/protocol.md ("Values as JSON") has the
 * table. Any thread; nothing blocks. The output is text without newlines.
 */
#include "pyi_wire.h"

/// Puts one value: null, true, list, object (a map with str keys), int, float, str. Errors name
/// line and column: bad JSON, a key that comes twice, a float too large, nesting beyond
/// PYI_MAX_DEPTH. The writer's own error is told too. On an error the writer holds a part: throw it
/// away.
pyi_err pyi_json_to_wire(const char *text, size_t len, pyi_writer *w, pyi_error *e) PYI_MUST_CHECK;

/// Reads one value, which has passed pyi_validate or not, and moves r behind it. *ret_text is
/// NUL-terminated and the caller's to free; *ret_len does not count the NUL.
pyi_err pyi_wire_to_json(pyi_reader *r, char **ret_text, size_t *ret_len,
                         pyi_error *e) PYI_MUST_CHECK;

#pragma once
/*
 * Bytes of any origin as text that cannot do harm: in a JSON string, or on a terminal. Both write
 * to a pyi_writer, used as a growing buffer of bytes. Any thread.
 */
#include "pyi_wire.h"

/// A JSON string with its quotes. Controls are escaped; what is not UTF-8 becomes \udc80 to \udcff
/// byte by byte (Python's surrogateescape), lone surrogates (PYI_EXT_SURROGATE) \ud800 to \udfff.
void pyi_escape_json(pyi_writer *w, const void *text, size_t len);
/// The inside of such a string, for one that is put together from several parts.
void pyi_escape_json_part(pyi_writer *w, const void *text, size_t len);

/// One line of text for people: controls, bytes that are not UTF-8, and the characters that end a
/// line or turn its direction are escaped as \n, \x1b, \u202e. With `quote`, '"' and '\' too.
void pyi_escape_text(pyi_writer *w, const void *text, size_t len, bool quote);

#pragma once
/*
 * Single values as JSON: numbers, bytes, and the extension types of the wire that hold no other
 * values. For host/json.c. All append to a pyi_writer that is used as a growing text.
 */
#include "pyi_wire.h"

void pyi_json_int(pyi_writer *w, int64_t v);
void pyi_json_uint(pyi_writer *w, uint64_t v);
/// The shortest text that reads back as the same number, always with a '.' or an exponent;
/// {"$float": "nan"}, "inf" or "-inf" where JSON has no number.
void pyi_json_float(pyi_writer *w, double v);
/// A JSON string of base64.
void pyi_json_base64(pyi_writer *w, const uint8_t *data, size_t len);
/// Any extension type but tuple, set, frozenset. False: its payload is not well-formed.
bool pyi_json_ext(pyi_writer *w, const pyi_token *ext);

#pragma once
/*
 * Looking things up in a map that is on the wire (a control request, an answer), without building a
 * tree. The bytes have been validated or made by us. Any thread; allocates only where it says so.
 */
#include "pyi_wire.h"

/// A reader on exactly the value of `key`. False: `map` is not a map or has no such key.
bool pyi_map_get(pyi_reader map, const char *key, pyi_reader *ret_value);
/// The kind of the value of `key`; PYI_NIL where it is absent.
pyi_kind pyi_map_kind(pyi_reader map, const char *key);
/// A NUL-terminated copy of a string value, to be freed; NULL where it is absent or not a string.
char *pyi_map_string(pyi_reader map, const char *key);
int64_t pyi_map_int(pyi_reader map, const char *key, int64_t otherwise);
double pyi_map_number(pyi_reader map, const char *key, double otherwise);
bool pyi_map_bool(pyi_reader map, const char *key, bool otherwise);
/// Items of the array under `key`, and a reader at its first; 0 where it is absent.
uint32_t pyi_map_array(pyi_reader map, const char *key, pyi_reader *ret_items);
/// Takes one whole value off the front of `r`.
pyi_err pyi_take_value(pyi_reader *r, pyi_reader *ret_value) PYI_MUST_CHECK;

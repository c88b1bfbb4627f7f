#pragma once
/*
 * JSON as text, without parsing it into values: what the host has written goes to the user as it
 * is, so that numbers of any size pass through. The text is well-formed; nothing here checks that.
 * Any thread.
 */
#include "pyi_base.h"
#include <stdio.h>

/// The value of a member of the object that `text` is; false: no such member. Borrowed from the
/// text.
bool pyi_json_member(const char *text, const char *name, const char **ret_value, size_t *ret_len);

/// Writes the text laid out for people: what fits in `width` columns stays on a line, a longer list
/// or object has its items on lines of their own.
void pyi_json_pretty(FILE *out, const char *text, int width);

#pragma once
/*
 * What `new` writes: a configuration and an extension that run as they are. Any thread; blocks for
 * files.
 */
#include "pyi_error.h"

/// Whether `name` may be an extension's name: letters, digits, '_' and '-', beginning with a
/// letter.
bool pyi_template_name_ok(const char *name);

/// Writes <directory>/config.lua and <directory>/extension/__init__.py, making the folders. Nothing
/// that is there is overwritten: PYI_EINVAL names what is in the way, and then nothing was written.
pyi_err pyi_template_write(const char *directory, const char *name, pyi_error *e) PYI_MUST_CHECK;

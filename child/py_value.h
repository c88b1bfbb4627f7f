#pragma once
/*
 * PyObject <-> wire, straight: no tree between. What C does not know goes through
 * pyisolate._convert, which gives an extension type and a plainer object, or takes one. With the
 * GIL.
 */
#include "py_core.h"

/// Writes `value`. `root` names it in errors ("result"). On failure a Python exception is set, and
/// the code says its kind: PYI_ETYPE, PYI_ETOOBIG, PYI_EINVAL (nested too deep), PYI_EREMOTE (user
/// code raised).
pyi_err pyi_value_put(pyi_writer *w, PyObject *value, const char *root) PYI_MUST_CHECK;
/// New reference to the next value; NULL with an exception.
PyObject *pyi_value_get(pyi_reader *r);
/// True for what may travel as an exception's argument: small, and exactly a basic type.
bool pyi_value_is_plain(PyObject *value, unsigned depth);

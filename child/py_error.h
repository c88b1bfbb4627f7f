#pragma once
/*
 * A Python exception as an error on the wire: [code, type, module, message, traceback, notes, args,
 * cause]. Never fails and never leaves an exception set: whatever cannot be told is told as less.
 * With the GIL.
 */
#include "py_core.h"

/// Takes the exception that is set (at least one must be) as a normalized object with its
/// traceback.
PyObject *pyi_exception_take(void);
/// Writes it as an error of kind `code`.
void pyi_exception_put(pyi_writer *w, PyObject *exception, pyi_err code);

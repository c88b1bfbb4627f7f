#pragma once
/*
 * Entry points of libpyisolate-core.abi3.so, the library that has every line that touches Python.
 * It is not linked against libpython: its Py* symbols resolve from the libpython that main.c loaded
 * RTLD_GLOBAL, from the interpreter that imports it ("exec" mode), or from the libpython that the
 * host loaded ("host" mode).
 */
#include "spec.h"

/// "embed": initializes Python as <spec->python>, loads the extension, serves until stopped.
/// Returns the process's exit status. Called on the process's main thread.
typedef int (*pyi_core_embed_fn)(pyi_spec *spec);
PYI_EXPORT int pyi_core_embed(pyi_spec *spec);

/// "host": serves one extension (`isolated = false`) on the calling thread of the host's process
/// until it is stopped. Initializes Python the first time; never finalizes it. The thread must not
/// hold the GIL.
typedef int (*pyi_core_host_fn)(pyi_spec *spec);
PYI_EXPORT int pyi_core_host(pyi_spec *spec);

/* "exec": the library is imported as the module _pyisolate, and the boot line calls
 * _pyisolate.main(). */

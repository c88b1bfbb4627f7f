#pragma once
/*
 * Whether stdout took what was written. stdio remembers that a write failed but not why: so every
 * flush goes through here, and the program's exit status tells. Any thread.
 */
#include <stdbool.h>

/// Flushes stdout; remembers the first failure. EPIPE counts too: whoever reads has gone.
void pyi_output_flush(void);
/// Flushes, and gives 0, the errno of the first failure, or EIO where only stdio noticed it.
int pyi_output_error(void);
/// Makes sure that descriptors 0 to 2 are taken: a file or socket that got one of them would be
/// written to. What stands in refuses reads and writes. To be called first in main.
void pyi_output_reserve(void);

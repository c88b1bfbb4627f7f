"""An extension that is named like a standard module, which must go on working."""

import numbers

from .inner import answer


def own_and_standard():
    return int(answer() == 42 and issubclass(int, numbers.Number))

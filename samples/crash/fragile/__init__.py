"""Dies on request, as a bug in a C library would make it die."""

import ctypes
import os


def process() -> int:
    return os.getpid()


def double(number: int) -> int:
    return 2 * number


def segfault() -> None:
    ctypes.string_at(0)

"""What the tests of the core call: small methods with one behaviour each."""

import ctypes
import os
import signal
import sys
import time


def echo(value):
    return value


async def async_echo(value):
    return value


async def slow(value, seconds):
    import asyncio

    await asyncio.sleep(seconds)
    return value


def block(seconds):
    time.sleep(seconds)
    return "slept"


def spin_forever():
    while True:
        pass


def stuck_in_c():
    """Holds the GIL in C code, where no Python exception can reach it."""
    ctypes.PyDLL(None).sleep(60)


def fail(text):
    raise ValueError(text)


def fail_with_cause():
    try:
        {}["missing"]
    except KeyError as error:
        raise RuntimeError("no luck") from error


def unsendable():
    return {"a": [1, sys]}


def segfault():
    ctypes.string_at(0)


def leave(status):
    os._exit(status)


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def shout(text):
    print(text)
    print(text + " (err)", file=sys.stderr)


def pid():
    return os.getpid()


def where():
    return [sys.prefix, sys.executable, sys.version.split()[0]]


def _private():
    return "never"

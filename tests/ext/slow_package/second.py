import time

__all__ = ["TWO"]

_until = time.monotonic() + 1.5
while time.monotonic() < _until:  # where an exception could strike
    TWO = 2

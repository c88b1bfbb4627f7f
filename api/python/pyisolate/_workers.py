"""Worker threads for plain `def` methods of an extension that asks for them (`threads = N`)."""

from __future__ import annotations

import threading
from _queue import SimpleQueue
from typing import Callable

from ._cancelled import CallCancelled


class Pool:
    """At most `size` daemon threads, started when there is work and none is idle."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._threads = 0
        self._idle = 0
        self._lock = threading.Lock()
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def submit(self, run: Callable[[], None]) -> None:
        """Have a worker run it; never blocks."""
        with self._lock:
            self._idle -= 1
            start = self._idle < 0 and self._threads < self._size
            if start:
                self._threads += 1
                self._idle += 1
            number = self._threads
        self._work.put(run)
        if start:
            threading.Thread(target=self._loop, name=f"pyisolate-{number}", daemon=True).start()

    def _loop(self) -> None:
        while True:
            try:
                self._work.get()()
            except CallCancelled:
                continue
            finally:
                with self._lock:
                    self._idle += 1

"""sys.stdout and sys.stderr of an extension: text streams whose every write is a record in the host's log."""

from __future__ import annotations

import io
import sys

import _pyisolate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class RecordWriter(io.RawIOBase):
    """A raw stream that sends what is written as log records; to its descriptor when the host is gone."""

    def __init__(self, descriptor: int, level: str, stream: str, name: str) -> None:
        self._descriptor = descriptor
        self._level = level.encode()
        self._stream = stream.encode()
        self.name = name
        self.mode = "wb"

    def writable(self) -> bool:
        """Always true."""
        return True

    def fileno(self) -> int:
        """1 or 2: where C code and sub-processes write."""
        return self._descriptor

    def write(self, data: Any) -> int:
        """Send all of `data`."""
        text = bytes(data)
        if not _pyisolate.log(self._level, self._stream, "", text):
            import os

            os.write(self._descriptor, text)
        return len(text)


def _text_stream(raw: RecordWriter, errors: str) -> io.TextIOWrapper:
    stream = io.TextIOWrapper(raw, encoding="utf-8", errors=errors, line_buffering=True)
    stream.mode = "w"  # type: ignore[misc]
    return stream


def install() -> None:
    """Replace the interpreter's own streams."""
    out = _text_stream(RecordWriter(1, "i", "o", "<stdout>"), "surrogateescape")
    err = _text_stream(RecordWriter(2, "w", "e", "<stderr>"), "backslashreplace")
    sys.stdout = sys.__stdout__ = out  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = err  # type: ignore[misc]

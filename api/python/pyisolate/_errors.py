"""Tracebacks as text, without the frames of the runtime. Imported when the first error occurs."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Optional

_HERE = __file__.rpartition("/")[0] + "/_"
_IMPORT = "<frozen importlib"
_MOST = 60_000


def _is_ours(filename: str) -> bool:
    return filename.startswith((_HERE, _IMPORT)) or filename == "<string>"


def _frames(tb: Optional[TracebackType]) -> traceback.StackSummary:
    frames = traceback.extract_tb(tb)
    kept = [frame for frame in frames if not _is_ours(frame.filename)]
    return traceback.StackSummary.from_list(kept or frames)


def format_traceback(exc: BaseException) -> str:
    """The exception as Python shows it, without its causes (they travel by themselves)."""
    lines = ["Traceback (most recent call last):\n"]
    lines += _frames(exc.__traceback__).format()
    lines += traceback.format_exception_only(type(exc), exc)
    text = "".join(lines)
    if len(text) > _MOST:
        text = text[: _MOST // 2] + "\n  ... (cut)\n" + text[-_MOST // 2 :]
    return text

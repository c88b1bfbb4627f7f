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


def _frames(tb: Optional[TracebackType]) -> list[str]:
    kept = [frame for frame in traceback.extract_tb(tb) if not _is_ours(frame.filename)]
    if not kept:
        return []
    return [
        "Traceback (most recent call last):\n",
        *traceback.StackSummary.from_list(kept).format(),
    ]


def format_traceback(exc: BaseException) -> str:
    """The exception as Python shows it, without its causes (they travel by themselves)."""
    lines = _frames(exc.__traceback__)
    lines += traceback.format_exception_only(type(exc), exc)
    text = "".join(lines)
    if len(text) > _MOST:
        text = text[: _MOST // 2] + "\n  ... (cut)\n" + text[-_MOST // 2 :]
    return text

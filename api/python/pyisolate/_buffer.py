"""`Buffer`: an array that arrived where numpy cannot be imported, or whose dtype numpy lacks."""

from __future__ import annotations

from typing import NamedTuple


class Buffer(NamedTuple):
    """An array by value: `dtype` as numpy writes it ("<f8"), `shape`, and its bytes in C order."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview

"""Says which numpy it has, and proves it by what that numpy computes."""

import os
from typing import Any

import numpy as np


def describe() -> dict[str, Any]:
    return {"numpy": np.__version__, "process": os.getpid()}


def add_to_small(small: int, number: int) -> Any:
    """uint8 plus a Python int: numpy 1.x widens the result, 2.x (NEP 50) stays in uint8 and wraps around."""
    with np.errstate(over="ignore"):
        return np.uint8(small) + number


def sum_type() -> Any:
    """float32 plus a Python float: float64 before NEP 50, float32 since."""
    return (np.float32(1) + 1.0).dtype.name


def determinant(rows: Any) -> Any:
    return np.linalg.det(rows)


def countdown(start: int) -> Any:
    return np.arange(start, 0, -1).tolist()


def sort(numbers: Any) -> Any:
    return np.sort(numbers).tolist()

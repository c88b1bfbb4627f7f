"""Every public function of this module can be called from the configuration."""

import asyncio
from typing import Any

import numpy as np


def mean(numbers: Any) -> Any:
    """The mean of a list of numbers. TypeError for what is not a list, ValueError for an empty one."""
    if not isinstance(numbers, list):
        raise TypeError(f"mean needs a list of numbers, not {type(numbers).__name__}")
    if not numbers:
        raise ValueError("mean needs at least one number")
    return np.mean(numbers)


async def slow_mean(numbers: Any, delay: float = 1.0) -> Any:
    """The same, `delay` seconds later. Other calls go on meanwhile."""
    await asyncio.sleep(delay)
    return mean(numbers)

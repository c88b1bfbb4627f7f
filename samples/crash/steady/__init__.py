"""Keeps a count in its memory: if its process were another one, the count would start again."""

import asyncio

counted = 0


def count() -> int:
    global counted
    counted += 1
    return counted


async def slow_count(delay: float) -> int:
    await asyncio.sleep(delay)
    return count()

"""The cells of the benchmark for the Python rivals: values, timing, one JSON line per cell as bench.h prints."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable
from typing import Any, Callable

NAMES = ("int_1", "int_16", "int_64", "bytes_64k", "bytes_1m", "list_1k", "list_100k", "dict")


def in_flight(cell: str) -> int:
    return int(cell[4:]) if cell.startswith("int_") else 1


def value(cell: str) -> Any:
    """What is sent in a cell; put_value in bench_call.c makes the same."""
    if cell.startswith("int_"):
        return 7
    if cell.startswith("bytes_"):
        return bytes(65536 if cell == "bytes_64k" else 1 << 20)
    if cell.startswith("list_"):
        return list(range(1000 if cell == "list_1k" else 100000))
    items = [
        {
            "id": 1000 + i,
            "name": f"item number {i}",
            "price": 9.99 + i,
            "available": i % 2 == 0,
            "tags": ["new", "sale"],
            "owner": {"id": i, "mail": None},
        }
        for i in range(20)
    ]
    return {"total": 20, "items": items}


def report(cell: str, samples: list[int], elapsed_ns: int) -> None:
    """Samples in nanoseconds."""
    samples.sort()
    line = {
        "cell": cell,
        "p50": samples[len(samples) // 2] / 1000,
        "p99": samples[len(samples) * 99 // 100] / 1000,
        "per_s": len(samples) * 1e9 / elapsed_ns,
        "n": len(samples),
    }
    print(json.dumps(line), flush=True)


def cells() -> tuple[float, list[str]]:
    """SECONDS CELL... of the command line."""
    return float(sys.argv[1]), sys.argv[2:]


def measure(cell: str, seconds: float, call: Callable[[Any], Any]) -> None:
    """`call` answers before it returns; one at a time."""
    sent = value(cell)
    for share in (0.2, 1.0):
        samples = []
        began = now = time.perf_counter_ns()
        until = began + int(share * seconds * 1e9)
        while now < until:
            call(sent)
            after = time.perf_counter_ns()
            samples.append(after - now)
            now = after
    report(cell, samples, now - began)


def measure_bursts(cell: str, seconds: float, burst: Callable[[Any, int], Any]) -> None:
    """`burst(value, n)` sends n calls and waits for all answers: for peers that can have several in flight."""
    sent, count = value(cell), in_flight(cell)
    for share in (0.2, 1.0):
        samples = []
        began = now = time.perf_counter_ns()
        until = began + int(share * seconds * 1e9)
        while now < until:
            burst(sent, count)
            after = time.perf_counter_ns()
            samples += [after - now] * count
            now = after
    report(cell, samples, now - began)


async def measure_async(cell: str, seconds: float, call: Callable[[Any], Awaitable[Any]]) -> None:
    """As many coroutines as the cell has calls in flight, each awaiting one call after the other."""
    sent = value(cell)
    for share in (0.2, 1.0):
        samples: list[int] = []
        began = time.perf_counter_ns()
        until = began + int(share * seconds * 1e9)

        async def caller(until: int = until, samples: list[int] = samples) -> None:
            now = time.perf_counter_ns()
            while now < until:
                await call(sent)
                after = time.perf_counter_ns()
                samples.append(after - now)
                now = after

        await asyncio.gather(*(caller() for _ in range(in_flight(cell))))
        elapsed = time.perf_counter_ns() - began
    report(cell, samples, elapsed)

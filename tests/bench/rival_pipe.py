"""multiprocessing.Pipe between two Python processes: pickled objects, nothing else."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

import bench_values


def serve(end: Connection) -> None:
    while True:
        try:
            end.send(end.recv())
        except EOFError:
            return


def main() -> None:
    seconds, cells = bench_values.cells()
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    theirs.close()

    def call(value: Any) -> None:
        ours.send(value)
        ours.recv()

    def burst(value: Any, count: int) -> None:
        for _ in range(count):
            ours.send(value)
        for _ in range(count):
            ours.recv()

    for cell in cells:
        if bench_values.in_flight(cell) == 1:
            bench_values.measure(cell, seconds, call)
        else:
            bench_values.measure_bursts(cell, seconds, burst)
    ours.close()
    server.join()


if __name__ == "__main__":
    main()

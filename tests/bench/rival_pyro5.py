"""Pyro5 over a Unix socket, its default serializer. Several in flight: one proxy and thread each."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import tempfile
import threading
from typing import Any

import bench_values
import Pyro5.api

Pyro5.config.SERVERTYPE = "thread"
Pyro5.config.THREADPOOL_SIZE = 100


@Pyro5.api.expose
class Echo:
    def echo(self, value: Any) -> Any:
        return value


def serve(path: str, ready: Any) -> None:
    with Pyro5.api.Daemon(unixsocket=path) as daemon:
        daemon.register(Echo, "echo")
        ready.set()
        daemon.requestLoop()


def main() -> None:
    seconds, cells = bench_values.cells()
    path = tempfile.mktemp(prefix="pyi-pyro-")
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    server = context.Process(target=serve, args=(path, ready), daemon=True)
    server.start()
    ready.wait(30)
    uri = f"PYRO:echo@./u:{path}"
    local = threading.local()

    def call(value: Any) -> None:
        if not hasattr(local, "proxy"):
            local.proxy = Pyro5.api.Proxy(uri)
        local.proxy.echo(value)

    with concurrent.futures.ThreadPoolExecutor(64) as pool:

        def burst(value: Any, count: int) -> None:
            list(pool.map(call, [value] * count))

        for cell in cells:
            if bench_values.in_flight(cell) == 1:
                bench_values.measure(cell, seconds, call)
            else:
                bench_values.measure_bursts(cell, seconds, burst)
    server.terminate()
    server.join()
    if os.path.exists(path):
        os.unlink(path)


if __name__ == "__main__":
    main()

"""RPyC over a Unix socket. Containers are copied by its own `obtain` on the answer, as by-value calls need it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from typing import Any

import bench_values
import rpyc
from rpyc.utils.classic import obtain
from rpyc.utils.server import ThreadedServer

PROTOCOL = {"allow_pickle": True, "sync_request_timeout": 60}


class Echo(rpyc.Service):  # type: ignore[misc, no-any-unimported]
    def exposed_echo(self, value: Any) -> Any:
        return value if isinstance(value, (int, bytes)) else obtain(value)


def serve(path: str) -> None:
    ThreadedServer(Echo, socket_path=path, protocol_config=PROTOCOL).start()


def connect(path: str, server: Any) -> Any:
    while server.is_alive():
        try:
            return rpyc.utils.factory.unix_connect(path, config=PROTOCOL)
        except OSError:
            continue
    sys.exit("rival_rpyc: the server ended")


def main() -> None:
    seconds, cells = bench_values.cells()
    path = tempfile.mktemp(prefix="pyi-rpyc-")
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(path,), daemon=True)
    server.start()
    connection = connect(path, server)
    echo = connection.root.echo
    later = rpyc.async_(echo)

    def call(value: Any) -> None:
        answer = echo(value)
        if not isinstance(value, (int, bytes)):
            obtain(answer)

    def burst(value: Any, count: int) -> None:
        for pending in [later(value) for _ in range(count)]:
            pending.wait()

    for cell in cells:
        if bench_values.in_flight(cell) == 1:
            bench_values.measure(cell, seconds, call)
        else:
            bench_values.measure_bursts(cell, seconds, burst)
    connection.close()
    server.terminate()
    server.join()
    if os.path.exists(path):
        os.unlink(path)


if __name__ == "__main__":
    main()

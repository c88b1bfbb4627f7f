"""pyisolate from the index by its public API: `sealed_worker`, sandbox disabled, torch in neither process.

rival_pyisolate.py VENVS calls SECONDS CELL... | start COUNT | idle COUNT     (as bench_call)
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import bench_values
import pyisolate
from rival_pyisolate_api import Echo

HERE = str(Path(__file__).resolve().parent)


def load(venvs: str, name: str) -> tuple[Any, Any]:
    manager = pyisolate.ExtensionManager(Echo, {"venv_root_path": venvs})
    extension = manager.load_extension(
        {
            "name": name,
            "module_path": os.path.join(HERE, "ext_echo"),
            "isolated": True,
            "dependencies": [],
            "apis": [],
            "share_torch": False,
            "share_cuda_ipc": False,
            "sandbox": {},
            "sandbox_mode": pyisolate.SandboxMode.DISABLED,
            "env": {"PYTHONPATH": HERE},
            "execution_model": "sealed_worker",
            "sealed_host_ro_paths": [HERE],
        }
    )
    return manager, extension


async def calls(venvs: str, seconds: float, cells: list[str]) -> None:
    manager, extension = load(venvs, "bench")
    await extension.echo(1)
    for cell in cells:
        await bench_values.measure_async(cell, seconds, extension.echo)
    manager.stop_all_extensions()


async def start(venvs: str, count: int) -> None:
    samples = []
    began = time.perf_counter_ns()
    for round_number in range(count + 1):
        before = time.perf_counter_ns()
        manager, extension = load(venvs, "bench")
        await extension.echo(1)
        if round_number > 0:
            samples.append(time.perf_counter_ns() - before)
        manager.stop_all_extensions()
    bench_values.report("start", samples, time.perf_counter_ns() - began)


async def idle(venvs: str, count: int) -> None:
    kept = [load(venvs, f"bench{number}") for number in range(count)]
    pids = [await extension.pid() for _, extension in kept]
    print(json.dumps({"pids": pids}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for manager, _ in kept:
        manager.stop_all_extensions()


def main() -> None:
    venvs, what, number, *cells = sys.argv[1:]
    if what == "calls":
        asyncio.run(calls(venvs, float(number), cells))
    elif what == "start":
        asyncio.run(start(venvs, int(number)))
    else:
        asyncio.run(idle(venvs, int(number)))


if __name__ == "__main__":
    main()

"""Measures us and our rivals in one run, interleaved, and prints every target with its figure and ratio.

Every contestant is a program that prints one JSON line per cell. They take turns, round by round, once with the
scheduler's own placement ("free") and once with everything on one processor ("one"); what is shown is the median
over the rounds. Absolute times belong to the machine; the ratios are what the targets are about.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

HERE = Path(__file__).resolve().parent
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = os.environ.get("BENCH_SECONDS", "0.5")
CALLS = ["int_1", "int_16", "int_64"]
VALUES = ["bytes_64k", "bytes_1m", "list_1k", "list_100k", "dict"]
SLOW_CELLS = {"pyisolate": {"list_100k", "bytes_1m"}}  # a second each: once, not every round
LABELS = {
    "int_1": "int, 1 in flight",
    "int_16": "int, 16 in flight",
    "int_64": "int, 64 in flight",
    "bytes_64k": "bytes, 64 KiB",
    "bytes_1m": "bytes, 1 MiB",
    "list_1k": "list of 1,000 ints",
    "list_100k": "list of 100,000 ints",
    "dict": "nested dict, 20 records",
}
Cell = dict[str, float]
Results = dict[tuple[str, str, str], list[Cell]]  # (placement, contestant, cell) -> one entry a round


class Bench:
    """The build folder, a scratch folder, and what was measured so far."""

    def __init__(self, build: Path) -> None:
        self.build = build
        self.scratch = Path(tempfile.mkdtemp(prefix="pyi-bench-", dir="/tmp"))
        self.results: Results = {}
        self.notes: list[str] = []
        python = str(build / "bench-venv" / "bin" / "python")
        module = str(HERE / "ext_echo")
        ours = [str(build / "tests" / "bench_call"), str(self.scratch / "ours"), module]
        theirs = [python, str(HERE / "rival_pyisolate.py"), str(self.scratch / "pyisolate")]
        self.ours, self.theirs = ours, theirs
        self.contestants: dict[str, list[str]] = {
            "nng": [str(build / "tests" / "bench_nng"), SECONDS],
            "ours": [*ours, "calls", SECONDS],
            "pipe": [python, str(HERE / "rival_pipe.py"), SECONDS],
            "pyisolate": [*theirs, "calls", SECONDS],
            "rpyc": [python, str(HERE / "rival_rpyc.py"), SECONDS],
            "pyro5": [python, str(HERE / "rival_pyro5.py"), SECONDS],
        }

    def environment(self) -> dict[str, str]:
        rivals = self.build / "bench-venv" / "bin"
        return {
            **os.environ,
            "PATH": f"{rivals}:{os.environ['PATH']}",
            "PYISOLATE_LIBDIR": str(self.build),
            "XDG_RUNTIME_DIR": str(self.scratch),
            "XDG_CACHE_HOME": str(self.scratch / "cache"),
            "TMPDIR": str(self.scratch),
        }

    def run(self, words: list[str], placement: str = "free", timeout: float = 300) -> list[dict[str, Any]]:
        """Runs one program; its JSON lines."""
        prefix = ["taskset", "-c", "0"] if placement == "one" else []
        done = subprocess.run(
            [*prefix, *words], env=self.environment(), capture_output=True, text=True, timeout=timeout, cwd=self.scratch
        )
        if done.returncode != 0:
            raise RuntimeError(f"{words}: exit {done.returncode}\n{done.stderr[-3000:]}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def add(self, placement: str, name: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            self.results.setdefault((placement, name, line["cell"]), []).append(line)

    def round(self, number: int, placement: str) -> None:
        for name, words in self.contestants.items():
            cells = [cell for cell in CALLS + VALUES if number == 0 or cell not in SLOW_CELLS.get(name, ())]
            began = time.monotonic()
            self.add(placement, name, self.run([*words, *cells], placement))
            print(
                f"bench: round {number + 1}/{ROUNDS}, {placement}: {name} ({time.monotonic() - began:.1f} s)",
                flush=True,
            )

    def starts(self) -> None:
        for number in range(ROUNDS):
            self.add("free", "ours", self.run([*self.ours, "start", "5"]))
            self.add("free", "pyisolate", self.run([*self.theirs, "start", "2"]))
            print(f"bench: starts, round {number + 1}/{ROUNDS}", flush=True)

    def figure(self, placement: str, name: str, cell: str, key: str) -> Optional[float]:
        """Median over the rounds."""
        entries = self.results.get((placement, name, cell))
        return statistics.median(entry[key] for entry in entries) if entries else None


# ---- memory and processor time of idle children -----------------------------------------------------


def pss_kib(pid: int) -> int:
    """A process's proportional share of memory."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise RuntimeError(f"no Pss for {pid}")


def cpu_ticks(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[11]) + int(fields[12])


def switches(pid: int) -> int:
    """Context switches of all threads: wake-ups that cost too little to be counted in ticks."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def idle_figures(bench: Bench, words: list[str], count: int) -> dict[str, float]:
    """PSS per idle child in MB, and what the children and their host do in five idle seconds."""
    process = subprocess.Popen(
        [*words, "idle", str(count)],
        env=bench.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=bench.scratch,
        text=True,
    )
    assert process.stdin and process.stdout
    line = next((line for line in process.stdout if line.startswith('{"pids"')), None)
    if line is None:
        raise RuntimeError(f"{words} idle {count}: ended with {process.wait()}")
    pids = json.loads(line)["pids"]
    time.sleep(1)
    everyone = [*pids, process.pid]
    ticks, woken = sum(map(cpu_ticks, everyone)), sum(map(switches, everyone))
    time.sleep(5)
    result = {
        "pss_mb": statistics.median(map(pss_kib, pids)) / 1024,
        "cpu_ms_per_s": (sum(map(cpu_ticks, everyone)) - ticks) * 1000 / os.sysconf("SC_CLK_TCK") / 5,
        "switches_per_s": (sum(map(switches, everyone)) - woken) / 5,
    }
    process.stdin.close()
    process.wait(120)
    return result


# ---- the report -------------------------------------------------------------------------------------


def text_of(value: Optional[float], unit: str) -> str:
    if value is None:
        return "-"
    if unit == "per_s":
        return f"{value / 1000:.1f} k/s"
    return f"{value:.0f} us" if value < 10000 else f"{value / 1000:.1f} ms"


def side_by_side(bench: Bench, placement: str) -> list[str]:
    """p50 / p99 of every contestant, and calls per second where several are in flight."""
    names = list(bench.contestants)
    lines = [f"{'placement: ' + placement:<26}" + "".join(f"{name:>22}" for name in names)]
    for cell in CALLS + VALUES:
        key = "per_s" if cell in ("int_16", "int_64") else "p50"
        row = f"{LABELS[cell]:<26}"
        for name in names:
            first = bench.figure(placement, name, cell, key)
            second = bench.figure(placement, name, cell, "p99")
            row += f"{text_of(first, key) + ' / ' + text_of(second, 'p99'):>22}"
        lines.append(row)
    return lines


class Targets:
    """Rows of target, figure, ratio; counts what was met."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, str, bool]] = []

    def at_most(self, what: str, figure: Optional[float], reference: Optional[float], limit: float, unit: str) -> None:
        if figure is not None and reference is not None:
            ratio = figure / reference
            self.rows.append((what, f"<= {limit:g} x", text_of(figure, unit), f"{ratio:.2f} x", ratio <= limit))

    def faster(self, what: str, figure: Optional[float], reference: Optional[float], limit: float, unit: str) -> None:
        """`limit` times better than the reference: less time, or more calls per second."""
        if figure is not None and reference is not None:
            ratio = figure / reference if unit == "per_s" else reference / figure
            self.rows.append((what, f">= {limit:g} x", text_of(figure, unit), f"{ratio:.2f} x", ratio >= limit))

    def plain(self, what: str, target: str, figure: str, ratio: str, met: bool) -> None:
        self.rows.append((what, target, figure, ratio, met))

    def lines(self) -> list[str]:
        head = f"{'target':<66}{'wanted':>10}{'figure':>14}{'ratio':>10}"
        body = [
            f"{what:<66}{wanted:>10}{figure:>14}{ratio:>10}  {'met' if met else 'MISSED'}"
            for what, wanted, figure, ratio, met in self.rows
        ]
        return [head, *body, f"{sum(row[4] for row in self.rows)} of {len(self.rows)} met"]


def targets_of(bench: Bench, memory: dict[str, dict[int, dict[str, float]]]) -> Targets:
    targets = Targets()

    def of(placement: str, name: str, cell: str, key: str = "p50") -> Optional[float]:
        return bench.figure(placement, name, cell, key)

    for place in ("free", "one"):
        tag = f" [{place}]"
        targets.at_most(
            "int call, p50, against bare nng" + tag, of(place, "ours", "int_1"), of(place, "nng", "int_1"), 1.25, "p50"
        )
        targets.faster(
            "int call, p50, against pyisolate" + tag,
            of(place, "ours", "int_1"),
            of(place, "pyisolate", "int_1"),
            3,
            "p50",
        )
        ours = of(place, "ours", "int_64", "per_s")
        targets.faster(
            "64 in flight, calls/s, against bare nng" + tag, ours, of(place, "nng", "int_64", "per_s"), 0.5, "per_s"
        )
        targets.faster(
            "64 in flight, calls/s, against pyisolate" + tag,
            ours,
            of(place, "pyisolate", "int_64", "per_s"),
            12,
            "per_s",
        )
        targets.faster(
            "bytes 64 KiB, p50, against pyisolate" + tag,
            of(place, "ours", "bytes_64k"),
            of(place, "pyisolate", "bytes_64k"),
            8,
            "p50",
        )
        targets.faster(
            "list of 100,000 ints, p50, against pyisolate" + tag,
            of(place, "ours", "list_100k"),
            of(place, "pyisolate", "list_100k"),
            50,
            "p50",
        )
    targets.faster(
        "start to first answer, against pyisolate",
        of("free", "ours", "start"),
        of("free", "pyisolate", "start"),
        5,
        "p50",
    )
    for count in (1, 20):
        ours_mb, theirs_mb = memory["ours"][count]["pss_mb"], memory["pyisolate"][count]["pss_mb"]
        what = f"PSS per idle child, {count} of them, against pyisolate"
        targets.plain(
            what, "<= 0.33 x", f"{ours_mb:.1f} MB", f"{ours_mb / theirs_mb:.2f} x", ours_mb / theirs_mb <= 1 / 3
        )
        cpu = memory["ours"][count]
        figure = f"{cpu['cpu_ms_per_s']:.1f} ms/s"
        what = f"processor time when idle, {count} children and their host"
        targets.plain(what, "0", figure, f"{cpu['switches_per_s']:.1f} sw/s", cpu["cpu_ms_per_s"] == 0)
    return targets


def memory_lines(memory: dict[str, dict[int, dict[str, float]]]) -> list[str]:
    lines = [f"{'idle children':<26}{'PSS each, 1 / 20':>22}{'cpu ms/s, 1 / 20':>22}{'switches/s, 1 / 20':>22}"]
    for name, by_count in memory.items():
        row = f"{name:<26}"
        for key, digits in (("pss_mb", 1), ("cpu_ms_per_s", 1), ("switches_per_s", 0)):
            row += f"{' / '.join(f'{by_count[count][key]:.{digits}f}' for count in sorted(by_count)):>22}"
        lines.append(row)
    return lines


def machine() -> str:
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, python {platform.python_version()}"
    )


def main() -> int:
    build = Path(sys.argv[1]).resolve()
    bench = Bench(build)
    began = time.monotonic()
    try:
        for number in range(ROUNDS):
            for placement in ("free", "one"):
                bench.round(number, placement)
        bench.starts()
        memory = {
            name: {count: idle_figures(bench, words, count) for count in (1, 20)}
            for name, words in (("ours", bench.ours), ("pyisolate", bench.theirs))
        }
    finally:
        shutil.rmtree(bench.scratch, ignore_errors=True)
    targets = targets_of(bench, memory)
    starts = [
        f"start to first answer: ours {text_of(bench.figure('free', 'ours', 'start', 'p50'), 'p50')} / "
        f"{text_of(bench.figure('free', 'ours', 'start', 'p99'), 'p99')}, pyisolate "
        f"{text_of(bench.figure('free', 'pyisolate', 'start', 'p50'), 'p50')} / "
        f"{text_of(bench.figure('free', 'pyisolate', 'start', 'p99'), 'p99')}"
    ]
    lines = [
        f"pyisolate-host benchmark, {datetime.date.today()}, {machine()}",
        f"medians of {ROUNDS} interleaved rounds, {SECONDS} s a cell; p50 / p99, with several in flight calls/s / p99",
        "",
        *side_by_side(bench, "free"),
        "",
        *side_by_side(bench, "one"),
        "",
        *starts,
        "",
        *memory_lines(memory),
        "",
        *targets.lines(),
        f"took {time.monotonic() - began:.0f} s",
    ]
    (build / "bench.txt").write_text("\n".join(lines) + "\n")
    raw = {
        "machine": machine(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cells": [
            {"placement": placement, "contestant": name, "cell": cell, "rounds": entries}
            for (placement, name, cell), entries in bench.results.items()
        ],
        "memory": memory,
        "targets": [dict(zip(("what", "wanted", "figure", "ratio", "met"), row)) for row in targets.rows],
    }
    (build / "bench.json").write_text(json.dumps(raw, indent=1) + "\n")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())

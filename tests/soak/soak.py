"""One part of the soak: runs it, checks that nothing is left, records its figures, rewrites docs/soak.md.

`starts` and `kills` drive the real program through the functional tests' harness; the others run make's targets.
SOAK_STARTS, SOAK_KILLS, SOAK_ENVIRONMENT_ROUNDS and SOAK_FUZZ_SECONDS change the counts; docs/soak.md says which counts were run.
"""

from __future__ import annotations

import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "functional"))

import leaks  # noqa: E402
from harness import BUILD, Host, Workspace, alive, find_uv, wait_for  # noqa: E402

STARTS = int(os.environ.get("SOAK_STARTS", "200"))
KILLS = int(os.environ.get("SOAK_KILLS", "1000"))
FUZZ_SECONDS = os.environ.get("SOAK_FUZZ_SECONDS", "1800")
ROUNDS = int(os.environ.get("SOAK_ENVIRONMENT_ROUNDS", "50"))
STORMS = int(os.environ.get("SOAK_STORM_ROUNDS", "200"))
VICTIMS = 4
KILLS_A_HOST = 4 * VICTIMS  # a crashed child comes back after 0.25, 0.5, 1, ... seconds: few kills each, many hosts
RESULTS = ROOT / "build" / "soak"
ORDER = ("starts", "kills", "storm", "environments", "asan", "tsan", "fuzz")
Figures = dict[str, Any]

VICTIM = """
import asyncio, os, time

def pid(): return os.getpid()
def quick(x): return x
def block(seconds): time.sleep(seconds)
async def nap(seconds): await asyncio.sleep(seconds); return seconds
"""

CONTROL = """
import os

def go_on(path): return not os.path.exists(path)
"""

# Every worker calls without pause until the file `done` is there; main returns only when all their calls ended.
CALLERS = """
function pyisolate.main(args)
    local done, victims, ok, failed = args[1], {{ {victims} }}, 0, 0
    local workers = {{}}
    for number = 1, 8 * #victims do
        workers[number] = function()
            local victim = victims[number % #victims + 1]
            local i = number
            while control:go_on(done) do
                i = i + 1
                local good = pcall(function()
                    if i % 3 == 0 then return victim:nap(0.02) end
                    if i % 3 == 1 then return victim:quick {{ i }} end
                    return victim:block(0.005)
                end)
                if good then ok = ok + 1 else failed = failed + 1 end
            end
        end
    end
    pyisolate.all(table.unpack(workers))
    print(ok, failed)
end
"""


class Left(Exception):
    """Something was left behind, or a caller waited."""


def workspace(folder: Path, number: int) -> Workspace:
    own = folder / f"t{number}"
    (own / "run").mkdir(parents=True, mode=0o700)
    made = Workspace(own, own / "run", folder / "venvs", folder / "cache")
    uv = find_uv()
    if uv:
        made.environment["PYISOLATE_UV"] = uv
    return made


def check_nothing_left(made: Workspace, segments: set[str]) -> None:
    problems = [f"process: {words}" for words in leaks.processes_left(set())]
    problems += [f"file: {name}" for name in leaks.files_left(made.runtime)]
    problems += [f"/dev/shm: {name}" for name in sorted(leaks.shared_memory() - segments)]
    for text in made.outputs:
        problems += leaks.sanitizer_lines(text)
    if problems:
        raise Left("; ".join(problems))
    shutil.rmtree(made.folder, ignore_errors=True)


def starts(folder: Path) -> Figures:
    """A host with two extensions is started, answers and is stopped, in turn by each way to stop it."""
    segments = leaks.shared_memory()
    took = []
    for number in range(STARTS):
        made = workspace(folder, number)
        made.extension("one", VICTIM)
        made.extension("two", VICTIM, embed=False)
        made.configure()
        began = time.monotonic()
        with made.serve() as host:
            if number % 4 != 3:  # one in four is stopped while it may still be starting its callers
                assert host.call("one", "quick", number) == number
                assert host.call("two", "quick", number) == number
            (host.stop, lambda host=host: host.command("stop"), host.process.kill)[number % 3]()
            host.wait_end()
        took.append(time.monotonic() - began)
        if number % 3 == 2:  # a killed host leaves its files to the next start
            made.extensions[:] = made.extensions[:1]
            made.configure()
            with made.serve():
                pass
        check_nothing_left(made, segments)
        if (number + 1) % 20 == 0:
            print(f"soak: {number + 1} starts and stops", flush=True)
    return {"starts and stops": STARTS, "median seconds each": round(sorted(took)[len(took) // 2], 2)}


def children_of(pid: int) -> list[int]:
    """Direct children that are not zombies."""
    return [child for child, (parent, state) in leaks.parents().items() if parent == pid and state != "Z"]


def kill_round(made: Workspace, seed: int) -> tuple[int, int, int]:
    """One application with callers that never pause; kills; (kills, answered, failed)."""
    chance = random.Random(seed)
    names = [f"victim{i}" for i in range(VICTIMS)]
    for name in names:
        made.extension(name, VICTIM, embed=chance.random() < 0.7, restart="on-crash")
    made.extension("control", CONTROL)
    made.configure(CALLERS.format(victims=", ".join(names)))
    done = made.folder / "done"
    process = made.start("config.lua", str(done), stderr=(made.folder / "log").open("wb"))
    host = Host(made, process, made.folder / "log")
    host.wait_settled()
    spared = host.wait_state("control", "ready")["pid"]
    before = len(leaks.descriptors(process.pid))
    killed = 0
    while killed < KILLS_A_HOST:
        targets = [pid for pid in children_of(process.pid) if pid != spared]
        if targets:
            try:
                os.kill(chance.choice(targets), signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass
        time.sleep(chance.choice((0.0, 0.001, 0.01, 0.05, 0.2)) * chance.random() * 2)
    # "ready" alone may be the word of a moment before the last kill was noticed
    wait_for(lambda: all(x["state"] == "ready" and alive(x["pid"]) for x in host.status()["extensions"]), 90, "all up")
    if leaks.settles(lambda: len(leaks.descriptors(process.pid)) > before, 10):
        raise Left(f"descriptors: {before} -> {sorted(leaks.descriptors(process.pid).values())}")
    done.touch()
    finished = made.finish(process, timeout=60)  # a caller that waits for ever fails here
    made.outputs.append(host.log())
    if finished.status != 0:
        raise Left(f"exit {finished.status}\n{host.log()[-3000:]}")
    answered, failed = map(int, finished.out.split())
    return killed, answered, failed


def kills(folder: Path) -> Figures:
    segments = leaks.shared_memory()
    total = answered = failed = number = 0
    while total < KILLS:
        made = workspace(folder, number)
        one, good, bad = kill_round(made, number)
        total, answered, failed, number = total + one, answered + good, failed + bad, number + 1
        check_nothing_left(made, segments)
        print(f"soak: {total} kills, {answered} calls answered, {failed} ended with an error", flush=True)
    return {
        "children killed": total,
        "calls answered": answered,
        "calls that ended with an error": failed,
        "calls that did not end": 0,
        "hosts": number,
    }


def long_unit(folder: Path, program: str, **variables: str) -> None:
    """A unit test that can run for longer: its variables say for how long."""
    uv = find_uv()
    given = {**variables, "TMPDIR": str(folder), **({"PYISOLATE_UV": uv} if uv else {})}
    segments = leaks.shared_memory()
    finished = subprocess.run([str(BUILD / "tests" / program)], env={**os.environ, **given})
    if finished.returncode != 0:
        raise Left(f"{program} ended with {finished.returncode}")
    left = [f"process: {words}" for words in leaks.processes_left(set())]
    left += [f"file: {path}" for path in folder.iterdir()]
    left += [f"/dev/shm: {name}" for name in sorted(leaks.shared_memory() - segments)]
    if left:
        raise Left("; ".join(left))


def environments(folder: Path) -> Figures:
    """Eight processes prepare five environments at once, four are killed, in rounds."""
    long_unit(folder, "test_env_stress", PYI_STRESS_ROUNDS=str(ROUNDS))
    return {"rounds of 8 processes, 5 environments and 4 kills": ROUNDS}


def storm(folder: Path) -> Figures:
    """Calls, kills, restarts and stops that meet at random moments, in rounds of about a second."""
    long_unit(folder, "test_storm", PYI_STORM_ROUNDS=str(STORMS))
    return {"rounds of 4 callers, 2 killers and a stop, nobody left waiting": STORMS}


def make(target: str, closing: str, **environment: str) -> Figures:
    """Runs a make target; its closing lines are the figures."""
    process = subprocess.Popen(
        ["make", "--no-print-directory", target],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout
    kept = []
    for line in process.stdout:
        print(line, end="", flush=True)
        if re.search(closing, line):
            kept.append(line.strip())
    if process.wait() != 0:
        raise Left(f"make {target} failed")
    return {f"{target}": kept}


PARTS: dict[str, Callable[[Path], Figures]] = {
    "starts": starts,
    "kills": kills,
    "storm": storm,
    "environments": environments,
    "asan": lambda _: make("test-asan", r"^(unit|functional): "),
    "tsan": lambda _: make("test-tsan", r"^(unit|functional): "),
    "fuzz": lambda _: make("fuzz", r"^fuzz: ", FUZZ_SECONDS=FUZZ_SECONDS),
}


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def write_report() -> None:
    lines = ["# Last soak", "", "Made by `make soak`; a part that was run again replaces its section.", ""]
    for part in ORDER:
        path = RESULTS / f"{part}.json"
        if path.exists():
            result = json.loads(path.read_text())
            lines += [f"## {part}: {result['verdict']}", ""]
            lines += [
                f"{result['date']}, commit {result['commit']}, {result['machine']}, {result['minutes']} minutes",
                "",
            ]
            for name, value in result["figures"].items():
                values = value if isinstance(value, list) else [value]
                lines += [f"- {name}: {item}" for item in values]
            lines.append("")
    (ROOT / "docs").mkdir(exist_ok=True)
    (ROOT / "docs" / "soak.md").write_text("\n".join(lines).rstrip() + "\n")


def main() -> int:
    part = sys.argv[1]
    if part not in PARTS:
        print(f"soak: no part {part!r}; there are {', '.join(ORDER)}", file=sys.stderr)
        return 2
    leaks.become_subreaper()
    folder = Path(tempfile.mkdtemp(prefix="pyi-soak-", dir="/tmp"))
    began = time.monotonic()
    verdict, figures = "clean", {}
    try:
        figures = PARTS[part](folder)
    except (Left, AssertionError) as problem:
        print(f"soak: {part}: {problem}", file=sys.stderr)
        verdict, figures = "FAILED", {"why": str(problem).splitlines()[0][:300]}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    result = {
        "verdict": verdict,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": git("rev-parse", "--short", "HEAD")
        + ("" if not git("status", "--porcelain", "-uno") else " and changes"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "minutes": round((time.monotonic() - began) / 60, 1),
        "figures": figures,
    }
    (RESULTS / f"{part}.json").write_text(json.dumps(result, indent=1) + "\n")
    write_report()
    return 0 if verdict == "clean" else 1


if __name__ == "__main__":
    sys.exit(main())

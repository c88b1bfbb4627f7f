"""Fixtures, and the leak check that follows every test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import leaks
import pytest
from harness import PROGRAM, Workspace, find_uv
from pythons import all_pythons


def pytest_report_header(config: pytest.Config) -> list[str]:
    pythons = ", ".join(str(python) for python in all_pythons())
    return [f"program: {PROGRAM}", f"uv: {find_uv()}", f"pythons: {pythons}"]


def pytest_configure(config: pytest.Config) -> None:
    if not PROGRAM.exists():
        raise pytest.UsageError(f"{PROGRAM} is not there: run `make build` (or set PYI_BUILD)")
    leaks.become_subreaper()


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """Short, since sockets live below it, and shared by all tests: environments and probes are made once."""
    folder = Path(tempfile.mkdtemp(prefix="pyi-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def workspace(session_folder: Path, request: pytest.FixtureRequest) -> Iterator[Workspace]:
    """A test's own folder; after the test nothing of it may be left."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir=session_folder))
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    made = Workspace(folder, runtime, session_folder / "venvs", session_folder / "cache")
    uv = find_uv()
    if uv:
        made.environment["PYISOLATE_UV"] = uv
    known = leaks.descendants(os.getpid())
    segments = leaks.shared_memory()
    yield made
    problems = [f"process left: {words}" for words in leaks.processes_left(known)]
    problems += [f"file left in the runtime folder: {name}" for name in leaks.files_left(runtime)]
    leaks.settles(lambda: leaks.shared_memory() - segments)  # other programs come and go as well
    problems += [f"left in /dev/shm: {name}" for name in sorted(leaks.shared_memory() - segments)]
    for text in made.outputs:
        if leaks.sanitizer_lines(text):
            problems.append("sanitizer report:\n" + text[-20000:])
    shutil.rmtree(folder, ignore_errors=True)
    assert not problems, "\n".join(problems)


@pytest.fixture(params=["embed", "exec"])
def mode(request: pytest.FixtureRequest) -> dict[str, object]:
    """Keys of an extension for the two ways to run a CPython: embedded, or in the environment's own python."""
    return {} if request.param == "embed" else {"embed": False}

"""Drives the real program: a folder with a configuration and extensions, the host in the background, its commands.

A Workspace is one test's folder. `workspace.extension(...)` writes a package, `workspace.configure(...)` writes
config.lua, `workspace.run(...)` runs a command to its end, `workspace.serve()` starts the host and gives a Host.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from leaks import descriptors, settles, started

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("PYI_BUILD", ROOT / "build")).resolve()
PROGRAM = BUILD / "pyisolate-host"
SLOW = 4.0 if re.search(r"asan|tsan", BUILD.name) else 1.0  # sanitizers cost time
TIMEOUT_S = 60.0 * SLOW

Lua = Union[None, bool, int, float, str, "RawLua", list[Any], dict[str, Any]]


class RawLua(str):
    """Lua source to be used as it is."""


def lua(value: Lua) -> str:
    """A Python value as Lua source."""
    if isinstance(value, RawLua):
        return str(value)
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return '"' + re.sub(r'[\x00-\x1f"\\]', lambda m: f"\\{ord(m[0]):03d}", value) + '"'
    if isinstance(value, list):
        return "{ " + ", ".join(lua(item) for item in value) + " }"
    return "{ " + ", ".join(f"[{lua(key)}] = {lua(item)}" for key, item in value.items()) + " }"


@dataclass
class Finished:
    """A command that ran to its end."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class CallFailed(Exception):
    """`pyisolate-host call` did not succeed."""

    def __init__(self, finished: Finished) -> None:
        super().__init__(f"exit {finished.status}: {finished.err}{finished.out}")
        self.finished = finished


class Host:
    """A host that serves in the background."""

    def __init__(self, workspace: Workspace, process: subprocess.Popen[bytes], log: Path) -> None:
        self.workspace = workspace
        self.process = process
        self.log_path = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """What the host wrote to stderr so far."""
        return self.log_path.read_text(errors="replace")

    def log_has(self, text: str, seconds: float = 10.0) -> bool:
        """Waits until the log has `text`."""
        return not settles(lambda: text not in self.log(), seconds * SLOW)

    def command(self, *words: str, timeout: float = TIMEOUT_S) -> Finished:
        """Runs a command against this host."""
        return self.workspace.run(*words, timeout=timeout)

    def call(self, extension: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a method; arguments and the result are JSON."""
        words = ["call", extension, method, *(json.dumps(arg) for arg in args)]
        if kwargs:
            words += ["--kwargs", json.dumps(kwargs)]
        finished = self.command(*words)
        if finished.status != 0:
            raise CallFailed(finished)
        return finished.json()

    def start_call(self, extension: str, method: str, *args: Any) -> subprocess.Popen[bytes]:
        """Starts a call and returns at once; see `finish`."""
        return self.workspace.start("call", extension, method, *(json.dumps(arg) for arg in args))

    def status(self) -> dict[str, Any]:
        """`status --json`."""
        finished = self.command("status", "--json")
        assert finished.status == 0, finished.err
        answer: dict[str, Any] = finished.json()
        return answer

    def extension(self, name: str) -> dict[str, Any]:
        """The part of the status that is about one extension."""
        for entry in self.status()["extensions"]:
            if entry["name"] == name:
                found: dict[str, Any] = entry
                return found
        raise AssertionError(f"status has no extension {name!r}")

    def wait_state(self, name: str, *states: str, seconds: float = 30.0) -> dict[str, Any]:
        """Waits until an extension is in one of `states`."""
        entry: dict[str, Any] = {}

        def elsewhere() -> bool:
            entry.update(self.extension(name))
            return entry["state"] not in states

        assert not settles(elsewhere, seconds * SLOW), f"{name} is {entry['state']}, not {states}\n{self.log()}"
        return entry

    def wait_settled(self) -> None:
        """Waits until no extension is on its way to READY."""

        def moving() -> bool:
            assert self.process.poll() is None, f"the host ended with {self.process.returncode}\n{self.log()}"
            finished = self.command("status", "--json")
            if finished.status != 0:
                return True
            states = [entry["state"] for entry in finished.json()["extensions"]]
            return len(states) < len(self.workspace.extensions) or any(
                state in ("new", "preparing", "starting") for state in states
            )

        if settles(moving, 120.0 * SLOW):
            raise AssertionError(f"the host did not become ready\n{self.log()}")

    def wait_end(self, seconds: float = 20.0) -> int:
        """Waits for the host's end; returns its exit status."""
        try:
            status = self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the host did not end within {seconds} s\n{self.log()}") from None
        started.discard(self.process.pid)
        return status

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM, and waits; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait_end(seconds)


@dataclass
class Workspace:
    """One test's folder: configuration, extensions, runtime folder, everything that the programs wrote."""

    folder: Path
    runtime: Path
    venvs: Path
    cache: Path
    extensions: list[dict[str, Any]] = field(default_factory=list)
    manager: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "config.lua"

    def extension(self, name: str, source: str, **keys: Any) -> None:
        """Writes a package with this __init__.py and names it in the configuration."""
        package = self.folder / name
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text(textwrap.dedent(source), encoding="utf-8", errors="surrogatepass")
        self.extensions.append({"name": name, "module_path": f"./{name}", "sandbox_mode": "disabled", **keys})

    def configure(self, body: str = "", **manager: Any) -> Path:
        """Writes config.lua: the manager, every extension as a local of its own name, then `body`."""
        keys: dict[str, Any] = {"venv_root_path": str(self.venvs), **self.manager, **manager}
        lines = ['local pyisolate = require "pyisolate"', f"pyisolate.manager {lua(keys)}"]
        for extension in self.extensions:
            lines.append(f"local {extension['name']} = pyisolate.extension {lua(extension)}")
        self.config.write_text("\n".join(lines) + "\n" + textwrap.dedent(body), encoding="utf-8")
        return self.config

    def full_environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "XDG_RUNTIME_DIR": str(self.runtime),
            "XDG_CACHE_HOME": str(self.cache),
            "ASAN_OPTIONS": "detect_leaks=0:exitcode=99:detect_stack_use_after_return=1:handle_segv=0:handle_abort=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "TSAN_OPTIONS": f"suppressions={ROOT}/tests/tsan.supp:exitcode=99:handle_segv=0:handle_abort=0",
            "LSAN_OPTIONS": f"suppressions={ROOT}/tests/lsan.supp:print_suppressions=0",
            "NO_COLOR": "1",
            **self.environment,
        }

    def start(self, *words: str, **popen: Any) -> subprocess.Popen[bytes]:
        """Starts the program; the owner waits for it with `finish`."""
        popen.setdefault("stdout", subprocess.PIPE)
        popen.setdefault("stderr", subprocess.PIPE)
        process = subprocess.Popen(
            [str(PROGRAM), *words],
            cwd=self.folder,
            env=self.full_environment(),
            stdin=subprocess.DEVNULL,
            **popen,
        )
        started.add(process.pid)
        return process

    def finish(self, process: subprocess.Popen[bytes], timeout: float = TIMEOUT_S) -> Finished:
        """Waits for a started program and keeps what it wrote for the checks after the test."""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(
                f"{process.args!r} did not end within {timeout} s\n{err.decode(errors='replace')}"
            ) from None
        finally:
            started.discard(process.pid)
        finished = Finished(
            process.returncode, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace")
        )
        self.outputs.append(finished.err)
        return finished

    def run(self, *words: str, timeout: float = TIMEOUT_S) -> Finished:
        """Runs the program to its end."""
        return self.finish(self.start(*words), timeout)

    def run_main(self, body: str, *args: str, timeout: float = TIMEOUT_S) -> Finished:
        """Runs config.lua with `body` as the inside of its main function."""
        self.configure("function pyisolate.main(args)\n" + textwrap.dedent(body) + "\nend\n")
        return self.run("config.lua", *args, timeout=timeout)

    @contextmanager
    def serve(self, *words: str, ready: bool = True) -> Iterator[Host]:
        """Starts `pyisolate-host run config.lua` in the background; stops it at the end if it still runs."""
        log = self.folder / f"host-{len(self.hosts)}.log"
        with log.open("wb") as stream:
            process = self.start(*words, "run", "config.lua", stderr=stream, stdout=subprocess.DEVNULL)
        host = Host(self, process, log)
        self.hosts.append(host)
        try:
            if ready:
                host.wait_settled()
            yield host
        finally:
            if process.poll() is None:
                host.stop()
            else:
                host.wait_end()
            self.outputs.append(host.log())

    @contextmanager
    def no_new_descriptors(self, host: Host) -> Iterator[None]:
        """What runs inside must leave the host with as many open descriptors as before."""
        before = descriptors(host.pid)
        yield
        settles(lambda: len(descriptors(host.pid)) > len(before), 5.0 * SLOW)
        after = descriptors(host.pid)
        new = sorted(set(after.items()) - set(before.items()))
        assert len(after) <= len(before), f"descriptors leaked: {len(before)} -> {len(after)}: {new}"


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] != "Z"


def wait_for(condition: Any, seconds: float, what: str) -> None:
    """Waits until `condition()` is true; fails with `what`."""
    deadline = time.monotonic() + seconds * SLOW
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.02)


def find_uv() -> Optional[str]:
    """The uv that the tests give the host."""
    for candidate in (os.environ.get("PYISOLATE_UV"), str(ROOT / ".tools/bin/uv")):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    return None

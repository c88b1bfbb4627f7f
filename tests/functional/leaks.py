"""What a test may not leave behind: processes, descriptors, files, shared memory, sanitizer reports.

The test process is a child subreaper, so whatever a host leaves running becomes a descendant of ours
and is seen, whatever its session, environment or command line.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Callable

PR_SET_CHILD_SUBREAPER = 36
SETTLE_S = 5.0  # how long what was asked to end may take

SANITIZER_MARKS = (
    "ERROR: AddressSanitizer",
    "ERROR: LeakSanitizer",
    "WARNING: ThreadSanitizer",
    "FATAL: ThreadSanitizer",
    "runtime error:",
    "AddressSanitizer:DEADLYSIGNAL",
)


def become_subreaper() -> None:
    """Orphans of our descendants become our children from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def parents() -> dict[int, tuple[int, str]]:
    """pid -> (parent, state) of every process that can be seen."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/stat").read_text(errors="replace")
            except OSError:
                continue
            fields = text[text.rindex(")") + 2 :].split()
            found[int(entry)] = (int(fields[1]), fields[0])
    return found


def descendants(root: int) -> set[int]:
    """Every process below `root`, zombies left out."""
    table = parents()
    found: set[int] = set()
    edge = {root}
    while edge:
        edge = {pid for pid, (parent, _) in table.items() if parent in edge} - found
        found |= edge
    return {pid for pid in found if table[pid][1] != "Z"}


def describe(pid: int) -> str:
    """A process in words, for a failure message."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        command = "(gone)"
    return f"{pid}: {command.strip()}"


def reap() -> None:
    """Collects adopted orphans that have ended. Children that Popen started are waited for by their owner."""
    table = parents()
    for pid, (parent, state) in table.items():
        if parent == os.getpid() and state == "Z" and pid not in started:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue


started: set[int] = set()  # children of ours that a Popen object waits for


def settles(check: Callable[[], object], seconds: float = SETTLE_S) -> object:
    """Calls `check` until it returns something false or the time is over; returns its last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if not answer or time.monotonic() > deadline:
            return answer
        time.sleep(0.02)


def processes_left(known: set[int]) -> list[str]:
    """Descendants that are still there after a while; they are killed so that the next test starts clean."""

    def left() -> set[int]:
        reap()
        return descendants(os.getpid()) - known

    settles(left)
    remaining = left()
    words = [describe(pid) for pid in sorted(remaining)]
    for pid in remaining:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    settles(left)
    return words


def files_left(folder: Path) -> list[str]:
    """Everything below a runtime folder but empty folders."""

    def left() -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())

    settles(left, 1.0)
    return left()


def shared_memory() -> set[str]:
    """Names in /dev/shm."""
    return set(os.listdir("/dev/shm"))


def descriptors(pid: int) -> dict[str, str]:
    """Open descriptors of a process: number -> what it is."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[number] = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue
    return found


def sanitizer_lines(text: str) -> list[str]:
    """Lines in which a sanitizer complains."""
    return [line for line in text.splitlines() if any(mark in line for mark in SANITIZER_MARKS)]

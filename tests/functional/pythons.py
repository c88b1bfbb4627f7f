"""The CPythons of this machine that the tests run extensions on: one of each minor version, 3.9 and up."""

from __future__ import annotations

import functools
import glob
import os
import subprocess
from dataclasses import dataclass

PROBE = "import sys; print(sys.version_info[0], sys.version_info[1], sys.implementation.name, sys.executable)"


@dataclass(frozen=True)
class Python:
    version: str  # "3.12"
    path: str

    def __str__(self) -> str:
        return f"{self.version} ({self.path})"


@functools.cache
def probe(path: str) -> tuple[int, int, str] | None:
    """(major, minor, executable) of a CPython, None for anything else."""
    try:
        out = subprocess.run([path, "-I", "-S", "-c", PROBE], capture_output=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    major, minor, name, executable = out.decode().split(None, 3)
    return (int(major), int(minor), executable.strip()) if name == "cpython" else None


def candidates() -> list[str]:
    found = sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3")))
    for folder in ("/usr/bin", "/usr/local/bin"):
        found += [path for minor in range(9, 20) if os.path.exists(path := f"{folder}/python3.{minor}")]
    return found


@functools.cache
def all_pythons() -> tuple[Python, ...]:
    """One interpreter for each minor version; a distribution's own comes as a second one of its version."""
    chosen: dict[tuple[int, int, bool], Python] = {}
    for path in candidates():
        found = probe(path)
        if found and found[:2] >= (3, 9):
            major, minor, _ = found
            chosen.setdefault((major, minor, path.startswith("/usr/bin")), Python(f"{major}.{minor}", path))
    return tuple(chosen[key] for key in sorted(chosen))

"""What the exit status says: every failure is told, with the status that --help names for it."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
from harness import PROGRAM, Workspace

pytestmark = pytest.mark.sanitizer

ADDER = "def add(a: int, b: int) -> int:\n    return a + b\n"


@pytest.mark.parametrize(
    ("returned", "status"),
    [("0", 0), ("255", 255), ("3.0", 3), ("true", 0), ("false", 1)],
)
def test_what_main_returns_is_the_status(workspace: Workspace, returned: str, status: int) -> None:
    finished = workspace.run_main(f"return {returned}")
    assert finished.status == status
    assert "returned" not in finished.err


@pytest.mark.parametrize(
    ("returned", "shown"),
    [
        ("256", "256"),
        ("-1", "-1"),
        ("1.5", "1.5"),
        ("0/0", "nan"),
        ("'7'", "a string"),
        ("{}", "a table"),
    ],
)
def test_what_is_no_exit_status_is_told_and_a_failure(workspace: Workspace, returned: str, shown: str) -> None:
    finished = workspace.run_main(f"return {returned}")
    assert finished.status == 1
    assert shown in finished.err and "0 to 255" in finished.err


@pytest.mark.parametrize(
    "words",
    [
        ["version"],
        ["--help"],
        ["-h"],
        ["schema"],
        ["completion", "bash"],
        ["config.lua"],
    ],
)
def test_output_that_does_not_fit_is_a_failure(workspace: Workspace, words: list[str]) -> None:
    workspace.configure("function pyisolate.main()\n  print('hello')\nend\n")
    with open("/dev/full", "wb") as full:
        finished = workspace.finish(workspace.start(*words, stdout=full))
    assert finished.status == 1
    assert "No space left on device" in finished.err


def test_the_output_of_a_call_and_of_status_is_checked_too(
    workspace: Workspace,
) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    with workspace.serve(), open("/dev/full", "wb") as full:
        for words in (
            ["call", "adder", "add", "1", "2"],
            ["status"],
            ["status", "--json"],
        ):
            finished = workspace.finish(workspace.start(*words, stdout=full))
            assert finished.status == 1, words
            assert "No space left on device" in finished.err


def test_a_reader_that_has_gone_is_a_quiet_failure(workspace: Workspace) -> None:
    workspace.configure("function pyisolate.main()\n  print('hello')\nend\n")
    for words in (["version"], ["config.lua"]):
        reading, writing = os.pipe()
        os.close(reading)
        finished = workspace.finish(workspace.start(*words, stdout=writing))
        os.close(writing)
        assert finished.status not in (0, None)
        assert "stdout" not in finished.err


def test_a_closed_stdout_is_a_failure_and_nothing_else_gets_its_place(
    workspace: Workspace,
) -> None:
    workspace.configure("function pyisolate.main()\n  print('hello')\nend\n")
    done = subprocess.run(
        ["sh", "-c", f"exec {PROGRAM} config.lua >&- <&-"],
        cwd=workspace.folder,
        env=workspace.full_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Bad file descriptor" in done.stderr


COMMANDS = [
    ["check", "{}"],
    ["sync", "{}"],
    ["run", "{}"],
    ["-c", "{}", "status"],
    ["-c", "{}", "stop"],
]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_configuration_that_is_not_there_is_78_with_every_command(workspace: Workspace, words: list[str]) -> None:
    finished = workspace.run(*(word.format("nope.lua") for word in words))
    assert finished.status == 78
    assert "'nope.lua' does not exist" in finished.err


@pytest.mark.parametrize("words", COMMANDS[:3])
def test_a_folder_as_a_configuration_is_78(workspace: Workspace, words: list[str]) -> None:
    (workspace.folder / "folder.lua").mkdir()
    finished = workspace.run(*(word.format("folder.lua") for word in words))
    assert finished.status == 78
    assert "'folder.lua' is not a file" in finished.err


@pytest.mark.parametrize("words", COMMANDS[:4])
def test_a_configuration_that_may_not_be_read_is_77(workspace: Workspace, words: list[str]) -> None:
    closed = workspace.folder / "closed"
    closed.mkdir()
    (closed / "config.lua").write_text("")
    closed.chmod(0)
    popen: dict[str, Any] = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    finished = workspace.finish(workspace.start(*(word.format("closed/config.lua") for word in words), **popen))
    closed.chmod(0o700)
    assert finished.status == 77, finished.err
    assert "Permission denied" in finished.err

"""What messages say: each names what was wrong and what to do, once."""

from __future__ import annotations

import pytest
from harness import Workspace

pytestmark = pytest.mark.sanitizer

WORDS = """
    import asyncio

    def count(text: str) -> int:
        return len(text.split())

    async def nap(seconds: float) -> None:
        await asyncio.sleep(seconds)
"""


def test_an_error_without_frames_is_told_once(workspace: Workspace) -> None:
    workspace.extension("words", WORDS)
    workspace.configure()
    with workspace.serve() as host:
        finished = host.command("call", "words", "count")
        assert finished.status == 1
        assert finished.err.count("missing") == 1, finished.err


@pytest.mark.parametrize("argument", ["{x: 1}", "[1,", '"open'])
def test_broken_json_is_not_taken_for_text(workspace: Workspace, argument: str) -> None:
    finished = workspace.run("call", "words", "count", argument)
    assert finished.status == 2
    assert "not JSON at line 1" in finished.err
    assert "is it text" not in finished.err


def test_a_deadline_says_how_long_it_was(workspace: Workspace) -> None:
    workspace.extension("words", WORDS, call_timeout=0.25)
    finished = workspace.run_main("words:nap(60)")
    assert "did not answer within 0.25 s" in finished.err


def test_a_folder_with_a_configuration_is_suggested(workspace: Workspace) -> None:
    assert workspace.run("new", "hello").status == 0
    finished = workspace.run("hello")
    assert finished.status == 2
    assert "did you mean 'hello/config.lua'?" in finished.err


def test_an_error_that_is_a_table_shows_what_is_in_it(workspace: Workspace) -> None:
    finished = workspace.run_main('error { why = "no reason", 7 }')
    assert finished.status == 1
    assert 'why = "no reason"' in finished.err and "7" in finished.err
    assert "table: 0x" not in finished.err
    assert "main failed: { code = 5 }" in workspace.run_main("error { code = 5 }").err


def test_help_fits_into_a_hundred_columns(workspace: Workspace) -> None:
    commands = [line.split()[0] for line in workspace.run("-h").out.splitlines() if line.startswith("  ")]
    assert len(commands) >= 13
    for words in ([], *([command] for command in commands)):
        for line in workspace.run(*words, "--help").out.splitlines():
            assert len(line) <= 100, line


def test_what_is_withheld_from_main_is_told_as_that(workspace: Workspace) -> None:
    finished = workspace.run_main("io.write('x')")
    assert finished.status == 1
    assert "io is withheld from configurations" in finished.err

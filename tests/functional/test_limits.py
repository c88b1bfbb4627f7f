"""Payloads larger than the limit: told on the sender's side with both sizes; the connection stays usable."""

from __future__ import annotations

from typing import Any

import pytest
from harness import CallFailed, Workspace

LIMIT = 1 << 20
SOURCE = """
    def size(value):
        return len(value)

    def make(count):
        return "x" * count

    def many(count):
        return [1.5] * count

    def fail(count):
        raise ValueError("x" * count)

    def args(count):
        raise ValueError(b"x" * count)
"""


def numbers(text: str) -> list[int]:
    """The sizes that a message names."""
    return sorted(int(word) for word in "".join(c if c.isdigit() else " " for c in text).split() if len(word) > 5)


@pytest.mark.sanitizer
def test_arguments_over_the_limit_are_refused_by_the_host(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("probe", SOURCE, max_payload=LIMIT, **mode)
    finished = workspace.run_main(
        f"""
        print(probe:size(("x"):rep({LIMIT})))
        local ok, err = pcall(function() return probe:size(("x"):rep({3 * LIMIT})) end)
        print(ok, err.type, err.code, err.message)
        local list = {{}}
        for i = 1, {LIMIT // 4} do list[i] = 1.5 end
        ok, err = pcall(function() return probe:size(list) end)
        print(ok, err.type, err.code, err.message)
        print(probe:size("after"))
        """
    )
    assert finished.status == 0, finished.err
    fits, text, items, after = finished.out.splitlines()
    assert (fits, after) == (str(LIMIT), "5")
    for line in (text, items):
        assert line.startswith("false\tValueError\ttoo-big\t"), line
        limit, wanted = numbers(line)
        assert LIMIT <= limit < LIMIT + 70000 and wanted > limit, line


@pytest.mark.sanitizer
def test_results_over_the_limit_are_refused_by_the_child(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("probe", SOURCE, max_payload=LIMIT, **mode)
    workspace.configure()
    with workspace.serve() as host, workspace.no_new_descriptors(host):
        pid = host.extension("probe")["pid"]
        assert len(host.call("probe", "make", LIMIT)) == LIMIT
        for method, count in (("make", 3 * LIMIT), ("many", LIMIT // 4)):
            with pytest.raises(CallFailed) as failed:
                host.call("probe", method, count)
            text = failed.value.finished.err
            limit, *_, wanted = numbers(text)
            assert "ValueError" in text and LIMIT <= limit < LIMIT + 70000 and wanted > limit, text
        for method in ("fail", "args"):
            with pytest.raises(CallFailed) as failed:
                host.call("probe", method, 3 * LIMIT)
            assert "ValueError" in failed.value.finished.err
        assert host.call("probe", "size", "after") == 5
        assert host.extension("probe")["pid"] == pid


def test_arguments_over_the_limit_on_the_command_line_are_refused(
    workspace: Workspace,
) -> None:
    workspace.extension("probe", SOURCE, max_payload=100_000)
    workspace.configure()
    with workspace.serve() as host:
        big = [
            "x" * 100_000,
            "y" * 100_000,
        ]  # one argument of a program may have 128 KiB
        with pytest.raises(CallFailed) as failed:
            host.call("probe", "size", *big)
        assert len(numbers(failed.value.finished.err)) >= 2, failed.value.finished.err
        assert host.call("probe", "size", "after") == 5

"""Calls: kinds of methods, errors, deadlines, many in flight, both ways to run a CPython."""

from __future__ import annotations

import time
from typing import Any

import pytest
from harness import SLOW, CallFailed, Workspace

WORK = """
    import asyncio, os, threading, time

    calls = []

    def plain(x): return x

    async def quick(x): return x

    async def nap(seconds, value=None):
        calls.append(value)
        await asyncio.sleep(seconds)
        return value

    def block(seconds):
        time.sleep(seconds)
        return "done"

    def fail(name, *args):
        raise __builtins__[name](*args) if isinstance(__builtins__, dict) else getattr(__builtins__, name)(*args)

    def chain():
        try:
            try:
                {}["missing"]
            except KeyError as error:
                raise ValueError("inner") from error
        except ValueError as error:
            raise RuntimeError("outer") from error

    def empty():
        raise TimeoutError

    class Odd(Exception):
        pass

    def odd():
        raise Odd("strange", 1)

    def count(): return len(calls)

    def _hidden(): return "secret"

    def kwonly(a, *, b): return [a, b]

    def ids(): return [os.getpid(), threading.current_thread() is threading.main_thread()]
"""


def text(failed: pytest.ExceptionInfo[CallFailed]) -> str:
    return failed.value.finished.err + failed.value.finished.out


@pytest.mark.sanitizer
def test_plain_and_async_methods_answer(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("work", WORK, **mode)
    workspace.configure()
    with workspace.serve() as host, workspace.no_new_descriptors(host):
        assert host.call("work", "plain", 1) == 1
        assert host.call("work", "quick", [2]) == [2]
        assert host.call("work", "nap", 0.05, "late") == "late"
        assert host.call("work", "nap", 0, value=3) == 3
        assert host.call("work", "kwonly", 1, b=2) == [1, 2]
        pid, main_thread = host.call("work", "ids")
        assert pid == host.extension("work")["pid"]
        assert main_thread is True


@pytest.mark.sanitizer
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("ValueError", ["grü\U0001f600"]),
        ("KeyError", ["k"]),
        ("TimeoutError", []),
        ("OSError", [2, "no"]),
        ("StopIteration", []),
    ],
)
def test_exceptions_arrive_with_type_text_and_traceback(
    workspace: Workspace, name: str, args: list[Any], mode: dict[str, Any]
) -> None:
    workspace.extension("work", WORK, **mode)
    workspace.configure()
    with workspace.serve() as host:
        with pytest.raises(CallFailed) as failed:
            host.call("work", "fail", name, *args)
        shown = text(failed)
        assert name in shown or (name == "OSError" and "FileNotFoundError" in shown)
        assert "work/__init__.py" in shown
        for arg in args:
            assert str(arg) in shown
        assert host.call("work", "plain", 1) == 1


def test_an_error_without_text_is_still_an_error(workspace: Workspace) -> None:
    workspace.extension("work", WORK)
    finished = workspace.run_main(
        """
        local ok, err = pcall(function() return work:empty() end)
        print(ok, err.type, err.message)
        ok, err = pcall(function() return work:odd() end)
        print(ok, err.type)
        """
    )
    assert finished.out.splitlines() == ["false\tTimeoutError\t", "false\tOdd"], finished.err


def test_the_cause_chain_arrives(workspace: Workspace) -> None:
    workspace.extension("work", WORK)
    finished = workspace.run_main(
        """
        local ok, err = pcall(function() return work:chain() end)
        print(err.type, err.cause.type, err.cause.cause.type, err.cause.cause.cause)
        """
    )
    assert finished.out == "RuntimeError\tValueError\tKeyError\tnil\n", finished.err


def test_an_unknown_method_is_named_with_a_suggestion(workspace: Workspace) -> None:
    workspace.extension("work", WORK)
    workspace.configure()
    with workspace.serve() as host:
        with pytest.raises(CallFailed) as failed:
            host.call("work", "plian", 1)
        assert "plian" in text(failed) and "plain" in text(failed)
        with pytest.raises(CallFailed) as failed:
            host.call("wrok", "plain", 1)
        assert "wrok" in text(failed) and "work" in text(failed)


@pytest.mark.parametrize("method", ["_hidden", "__class__", "calls", "os", "asyncio.sleep", "__init__"])
def test_only_public_functions_are_served(workspace: Workspace, method: str) -> None:
    workspace.extension("work", WORK)
    workspace.configure()
    with workspace.serve() as host:
        with pytest.raises(CallFailed):
            host.call("work", method)
        assert host.call("work", "plain", 1) == 1


def test_wrong_arguments_are_a_type_error(workspace: Workspace) -> None:
    workspace.extension("work", WORK)
    workspace.configure()
    with workspace.serve() as host:
        with pytest.raises(CallFailed) as failed:
            host.call("work", "plain")
        assert "TypeError" in text(failed)


@pytest.mark.sanitizer
def test_many_coroutine_calls_overlap(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("work", WORK, **mode)
    finished = workspace.run_main(
        """
        local calls = {}
        for i = 1, 200 do calls[i] = function() return work:nap(0.5, i) end end
        local results = table.pack(pyisolate.all(table.unpack(calls)))
        local sum = 0
        for i = 1, 200 do assert(results[i] == i); sum = sum + results[i] end
        print(sum)
        """,
        timeout=60 * SLOW,
    )
    assert finished.status == 0, finished.err
    assert finished.out == "20100\n"


def test_overlapping_calls_take_as_long_as_one(workspace: Workspace) -> None:
    workspace.extension("work", WORK)
    workspace.configure()
    with workspace.serve() as host:
        host.call("work", "nap", 0)
        began = time.monotonic()
        calls = [host.start_call("work", "nap", 1.0, i) for i in range(8)]
        answers = [workspace.finish(call) for call in calls]
        assert [answer.json() for answer in answers] == list(range(8))
        assert time.monotonic() - began < 4 * SLOW


@pytest.mark.sanitizer
@pytest.mark.parametrize("method", ["nap", "block"])
def test_a_deadline_ends_the_call(workspace: Workspace, method: str, mode: dict[str, Any]) -> None:
    workspace.extension("work", WORK, call_timeout=0.5, **mode)
    workspace.configure()
    with workspace.serve() as host:
        began = time.monotonic()
        with pytest.raises(CallFailed) as failed:
            host.call("work", method, 3)
        assert time.monotonic() - began < 2.5 * SLOW
        assert "TimeoutError" in text(failed) or "deadline" in text(failed).lower()
        time.sleep(0.1)
        host.wait_state("work", "ready")


def test_a_deadline_cancels_a_coroutine_and_the_extension_goes_on(workspace: Workspace) -> None:
    workspace.extension(
        "work",
        """
        import asyncio
        seen = []
        async def nap():
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
        def what(): return seen
        """,
        call_timeout=0.5,
    )
    workspace.configure()
    with workspace.serve() as host:
        pid = host.extension("work")["pid"]
        with pytest.raises(CallFailed):
            host.call("work", "nap")
        time.sleep(0.2)
        assert host.call("work", "what") == ["cancelled"]
        assert host.extension("work")["pid"] == pid


def test_extension_base_subclasses_are_served_with_their_hooks(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension(
        "classy",
        """
        from pyisolate import ExtensionBase

        class Classy(ExtensionBase):
            async def before_module_loaded(self):
                self.order = ["before"]

            async def on_module_loaded(self, module):
                self.order.append(module.__name__)

            def seen(self):
                return self.order

            async def double(self, x):
                return 2 * x

            async def stop(self):
                print("stopped well", flush=True)
        """,
        **mode,
    )
    workspace.configure()
    with workspace.serve() as host:
        assert host.call("classy", "double", 4) == 8
        assert host.call("classy", "seen")[-1].endswith("classy")
        host.stop()
        assert "stopped well" in host.log()


def test_isolated_false_runs_in_the_host_s_own_process(workspace: Workspace) -> None:
    workspace.extension("work", WORK, isolated=False)
    workspace.configure()
    with workspace.serve() as host:
        assert host.call("work", "plain", [1, "a"]) == [1, "a"]
        assert host.call("work", "nap", 0.01, 5) == 5
        assert host.call("work", "ids")[0] == host.pid
        with pytest.raises(CallFailed) as failed:
            host.call("work", "fail", "ValueError", "no")
        assert "ValueError" in text(failed)

"""A main that computes and one that waits, told to stop.

Not under sanitizers: ThreadSanitizer holds signals back from a thread that computes.
"""

from __future__ import annotations

import signal
import time

import pytest
from harness import Finished, Workspace, wait_for

WORKER = """
    import asyncio, time

    def nap(seconds):
        time.sleep(seconds)
        return seconds

    async def rest(seconds):
        await asyncio.sleep(seconds)
        return seconds
"""


def stopped_after(workspace: Workspace, body: str, seconds: float, sig: int = signal.SIGTERM) -> tuple[Finished, float]:
    """Runs `body` as main; once it has printed "on", waits, sends one signal; also how long the end took."""
    workspace.configure("function pyisolate.main()\n" + body + "\nend\n")
    out = workspace.folder / "out"
    with out.open("wb") as stream:
        process = workspace.start("config.lua", stdout=stream)
    wait_for(lambda: out.read_bytes().startswith(b"on"), 30, "main")
    time.sleep(seconds)
    process.send_signal(sig)
    begin = time.monotonic()
    finished = workspace.finish(process, timeout=30)
    return Finished(finished.status, out.read_text(), finished.err), time.monotonic() - begin


BUSY = {
    "a loop": "while true do end",
    "a loop in pcall": "while true do pcall(function() while true do end end) end",
    "a loop in xpcall": "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "a coroutine": "coroutine.wrap(function() while true do pcall(function() while true do end end) end end)()",
    "a coroutine in a coroutine": "local co = coroutine.create(function() coroutine.wrap(function() while true do end end)() end) "
    "while true do coroutine.resume(co) end",
    "a comparison": "local t = {} for i = 1, 100 do t[i] = i end while true do table.sort(t, function() while true do end end) end",
    "a task": "pyisolate.spawn(function() while true do end end) pyisolate.sleep(100)",
}


@pytest.mark.parametrize("source", BUSY.values(), ids=BUSY.keys())
def test_a_main_that_computes_for_ever_ends_at_the_first_signal(workspace: Workspace, source: str) -> None:
    finished, seconds = stopped_after(workspace, "print('on') " + source, 0.2)
    assert finished.status == 143, finished.err
    assert seconds < 3, finished.err
    assert "failed" not in finished.err


def test_a_main_that_computes_cleans_up_and_says_how_it_ended(
    workspace: Workspace,
) -> None:
    body = """
      print('on')
      local ok, err = pcall(function() while true do end end)
      print(ok, err.code, tostring(err))
      error('on the way out')
    """
    finished, _ = stopped_after(workspace, body, 0.2, signal.SIGINT)
    assert finished.status == 130
    assert finished.out.splitlines()[1].startswith("false\tstopped\t"), finished.out
    assert "main failed" in finished.err and "on the way out" in finished.err


def test_a_short_computation_comes_to_its_end_after_the_signal(
    workspace: Workspace,
) -> None:
    workspace.extension("worker", WORKER, stop_timeout=10)
    body = "print('on') local got = worker:nap(1) local n = 0 for i = 1, 1000000 do n = n + i end print(got, n) pyisolate.sleep(5) print 'not this'"
    finished, _ = stopped_after(workspace, body, 0.3)
    assert finished.status == 143
    assert finished.out == "on\n1\t500000500000\n", finished.err


@pytest.mark.parametrize("method", ["nap", "rest"])
def test_a_call_in_flight_has_the_grace_time(workspace: Workspace, method: str) -> None:
    workspace.extension("worker", WORKER, stop_timeout=10)
    body = f"""
      print('on')
      print(pyisolate.all(function() return worker:{method}(1) end, function() return worker:{method}(1.5) end))
      print(select(2, pcall(function() return worker:{method}(0) end)))
    """
    finished, seconds = stopped_after(workspace, body, 0.3)
    assert finished.status == 143
    _, results, refused = finished.out.splitlines()
    assert results == "1\t1.5"
    assert "the host is stopping" in refused
    assert seconds < 6


def test_one_branch_that_wants_more_does_not_end_the_others_call(
    workspace: Workspace,
) -> None:
    workspace.extension("worker", WORKER, stop_timeout=10)
    body = """
      print('on')
      pyisolate.spawn(function() print('spawned', worker:rest(1.5)) end)
      pyisolate.all(function() while true do worker:rest(0.1) end end, function() print('other', worker:rest(1)) end)
    """
    finished, seconds = stopped_after(workspace, body, 0.3)
    assert finished.status == 143
    assert finished.out.splitlines() == ["on", "other\t1", "spawned\t1.5"], finished.err
    assert seconds < 6 and "failed" not in finished.err


def test_a_call_that_takes_longer_than_the_grace_is_cancelled(
    workspace: Workspace,
) -> None:
    workspace.extension("worker", WORKER, stop_timeout=1)
    finished, seconds = stopped_after(
        workspace,
        "print('on') local ok, err = pcall(function() return worker:rest(60) end) print(ok, err.code, err)",
        0.3,
    )
    assert finished.status == 143
    assert finished.out.splitlines()[1].startswith("false\tstopped\t"), finished.out
    assert 0.7 < seconds < 4, (seconds, finished.err)


def test_a_main_that_never_returns_from_c_ends_at_the_second_signal(
    workspace: Workspace,
) -> None:
    body = "print('on') return #string.rep(' ', 3000000):match('.-.-.-.-b')"
    workspace.configure("function pyisolate.main()\n" + body + "\nend\n")
    process = workspace.start("config.lua")
    wait_for(lambda: workspace.run("status").status == 0, 20, "the host")
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert workspace.finish(process, timeout=20).status == 143
    assert workspace.run_main("return 0").status == 0  # it clears what the other could not

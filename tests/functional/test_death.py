"""A child that dies, anyhow and at any moment, costs only its own calls; nobody waits; nothing is left."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from harness import SLOW, CallFailed, Workspace, alive, wait_for

VICTIM = """
    import asyncio, ctypes, os, signal, subprocess, sys, threading, time

    def pid(): return os.getpid()
    def block(seconds): time.sleep(seconds)
    async def nap(seconds): await asyncio.sleep(seconds)
    def segfault(): ctypes.string_at(0)
    def abort(): os.abort()
    def exit_hard(): os._exit(3)
    def exit_soft(): sys.exit(4)
    def kill_self(): os.kill(os.getpid(), signal.SIGKILL)
    def exit_in_thread():
        threading.Thread(target=os._exit, args=(5,)).start()
        time.sleep(30)
    def spin():
        while True:
            pass
    def stubborn():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    def grandchild():
        return subprocess.Popen(["sleep", "600"]).pid
"""

WAYS = ["segfault", "abort", "exit_hard", "exit_soft", "kill_self", "exit_in_thread"]


def failed_call(host: Any, method: str, *args: Any) -> str:
    with pytest.raises(CallFailed) as failed:
        host.call("victim", method, *args)
    return failed.value.finished.err + failed.value.finished.out


@pytest.mark.sanitizer
@pytest.mark.parametrize("way", WAYS)
def test_a_dying_child_ends_its_call_and_a_new_one_answers(
    workspace: Workspace, way: str, mode: dict[str, Any]
) -> None:
    workspace.extension("victim", VICTIM, **mode)
    workspace.extension("other", "def ok(): return True\n")
    workspace.configure()
    with workspace.serve() as host:
        before = host.call("victim", "pid")
        began = time.monotonic()
        shown = failed_call(host, way)
        assert time.monotonic() - began < 10 * SLOW
        if way == "exit_soft" and "SystemExit" in shown:
            assert host.call("victim", "pid") == before
            return
        assert 'extension "victim" died' in shown or 'extension "victim" ended' in shown, shown
        assert host.call("other", "ok") is True
        after = host.call("victim", "pid")
        assert after != before and not alive(before)
        entry = host.extension("victim")
        assert entry["generation"] == 2 and entry["state"] == "ready"


@pytest.mark.parametrize(
    ("way", "word"),
    [("segfault", "SIGSEGV"), ("kill_self", "SIGKILL"), ("abort", "SIGABRT"), ("exit_hard", "3")],
)
def test_the_error_names_the_cause_of_death(workspace: Workspace, way: str, word: str) -> None:
    workspace.extension("victim", VICTIM)
    workspace.configure()
    with workspace.serve() as host:
        assert word in failed_call(host, way)


def test_a_segfault_s_python_traceback_reaches_the_log(workspace: Workspace) -> None:
    workspace.extension("victim", VICTIM)
    workspace.configure()
    with workspace.serve() as host:
        failed_call(host, "segfault")
        assert host.log_has("in segfault"), host.log()


@pytest.mark.sanitizer
def test_every_call_in_flight_ends_when_the_child_is_killed(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("victim", VICTIM, **mode)
    workspace.configure()
    with workspace.serve() as host, workspace.no_new_descriptors(host):
        calls = [host.start_call("victim", "nap", 600) for _ in range(10)]
        wait_for(lambda: host.extension("victim")["in_flight"] == 10, 20, "ten calls in flight")
        os.kill(host.extension("victim")["pid"], signal.SIGKILL)
        for call in calls:
            assert workspace.finish(call, timeout=20 * SLOW).status != 0
        assert host.call("victim", "pid") == host.wait_state("victim", "ready")["pid"]


def test_a_crash_loop_is_shown_and_backs_off(workspace: Workspace) -> None:
    workspace.extension("victim", VICTIM)
    workspace.configure()
    with workspace.serve() as host:
        for _ in range(3):
            host.wait_state("victim", "ready")
            os.kill(host.extension("victim")["pid"], signal.SIGKILL)
            wait_for(lambda: host.extension("victim")["state"] != "ready", 10, "the crash to be seen")
        entry = host.extension("victim")
        assert entry["crashes_in_row"] >= 3
        assert entry["restarts"] >= 2


@pytest.mark.sanitizer
def test_stop_in_mid_call_ends_the_call(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("victim", VICTIM, stop_timeout=1, **mode)
    workspace.configure()
    with workspace.serve() as host:
        calls = [host.start_call("victim", "nap", 600), host.start_call("victim", "block", 600)]
        wait_for(lambda: host.extension("victim")["in_flight"] >= 2, 20, "two calls in flight")
        began = time.monotonic()
        host.stop(seconds=30)
        assert time.monotonic() - began < 15 * SLOW
        for call in calls:
            assert workspace.finish(call, timeout=10 * SLOW).status != 0


@pytest.mark.parametrize("method", ["spin", "stubborn"])
def test_a_child_that_ignores_everything_is_killed_at_stop(workspace: Workspace, method: str) -> None:
    workspace.extension("victim", VICTIM, stop_timeout=1)
    workspace.configure()
    with workspace.serve() as host:
        pid = host.call("victim", "pid")
        call = host.start_call("victim", method)
        wait_for(lambda: host.extension("victim")["in_flight"] >= 1, 20, "the call")
        assert host.stop(seconds=30) in (0, 143)
        assert not alive(pid)
        assert workspace.finish(call, timeout=10 * SLOW).status != 0


def test_a_second_signal_stops_at_once(workspace: Workspace) -> None:
    workspace.extension("victim", VICTIM, stop_timeout=60)
    workspace.configure()
    with workspace.serve() as host:
        call = host.start_call("victim", "block", 600)
        wait_for(lambda: host.extension("victim")["in_flight"] >= 1, 20, "the call")
        host.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        host.process.send_signal(signal.SIGTERM)
        host.wait_end(10)
        assert workspace.finish(call, timeout=10 * SLOW).status != 0


def test_children_die_with_a_killed_host_and_the_next_start_is_clean(workspace: Workspace) -> None:
    workspace.extension("victim", VICTIM)
    workspace.configure()
    with workspace.serve() as host:
        pid = host.call("victim", "pid")
        host.process.kill()
        host.process.wait()
        wait_for(lambda: not alive(pid), 10, "the child to die with its host")
    with workspace.serve() as host:
        assert host.call("victim", "pid") != pid


def test_restart_brings_a_new_generation(workspace: Workspace) -> None:
    workspace.extension("victim", VICTIM)
    workspace.configure()
    with workspace.serve() as host, workspace.no_new_descriptors(host):
        before = host.call("victim", "pid")
        assert host.command("restart", "victim").status == 0
        after = host.call("victim", "pid")
        assert after != before
        wait_for(lambda: not alive(before), 10, "the old generation to end")


def test_the_stop_command_ends_the_host(workspace: Workspace) -> None:
    workspace.extension("victim", VICTIM)
    workspace.configure()
    with workspace.serve() as host:
        assert host.command("stop").status == 0
        assert host.wait_end() == 0


def test_ctrl_c_does_not_reach_the_children(workspace: Workspace) -> None:
    workspace.extension("victim", VICTIM)
    workspace.configure()
    with workspace.serve() as host:
        assert os.getsid(host.call("victim", "pid")) != os.getsid(host.pid)

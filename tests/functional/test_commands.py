"""The commands against a running host: which host is meant, stop and restart, cancelled calls, what a terminal sees."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from harness import PROGRAM, ROOT, Workspace, wait_for

ADDER = """
    import asyncio

    begun, cancelled = [], []

    def add(a, b=1):
        return a + b

    def big():
        return 2 ** 200

    async def nap(seconds):
        begun.append(seconds)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            cancelled.append(seconds)
            raise
        return seconds

    def have_begun():
        return begun

    def were_cancelled():
        return cancelled

    def coloured():
        raise ValueError("\\033[31mred")
"""

pytestmark = pytest.mark.sanitizer


def test_a_call_prints_json(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    with workspace.serve() as host:
        assert host.call("adder", "add", -5, b=10) == 5
        assert host.call("adder", "big") == 2**200


def test_an_argument_that_is_not_json_is_a_usage_error_with_the_right_quoting(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    finished = workspace.run("call", "adder", "add", "hello")
    assert finished.status == 2
    assert "'\"hello\"'" in finished.err


def test_an_extension_cannot_send_commands_to_the_terminal(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    with workspace.serve() as host:
        finished = host.command("call", "adder", "coloured")
        assert finished.status == 1
        assert "\x1b" not in finished.err and "red" in finished.err


def test_a_call_whose_command_goes_is_cancelled(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    with workspace.serve() as host:
        process = host.start_call("adder", "nap", 60)
        wait_for(lambda: host.call("adder", "have_begun") == [60], 10, "the call to be under way")
        process.kill()
        workspace.finish(process)
        wait_for(lambda: host.call("adder", "were_cancelled") == [60], 10, "the call to be cancelled")


def test_a_timeout_ends_the_call(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    with workspace.serve() as host:
        finished = host.command("call", "adder", "nap", "60", "--timeout", "0.2")
        assert finished.status == 1
        assert "deadline" in finished.err


def test_stop_returns_when_the_host_is_gone(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    with workspace.serve() as host:
        finished = host.command("stop")
        assert finished.status == 0, finished.err
        assert host.process.poll() is not None or host.wait_end(1) == 0
        assert host.process.returncode == 0


def test_stop_lets_a_call_in_flight_finish(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    with workspace.serve() as host:
        process = host.start_call("adder", "nap", 1)
        wait_for(lambda: host.extension("adder")["in_flight"] == 1, 10, "the call to be under way")
        assert host.command("stop", "--grace=20").status == 0
        finished = workspace.finish(process)
        assert finished.status == 0, finished.err
        assert finished.json() == 1


def test_restart_makes_a_new_generation(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    with workspace.serve() as host:
        before = host.extension("adder")
        finished = host.command("restart", "adder")
        assert finished.status == 0, finished.err
        after = host.extension("adder")
        assert after["pid"] != before["pid"] and after["generation"] > before["generation"]
        assert host.call("adder", "add", 1) == 2


def test_an_unknown_extension_is_told_with_those_that_there_are(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    with workspace.serve() as host:
        for words in (("call", "ader", "add"), ("restart", "ader")):
            finished = host.command(*words)
            assert finished.status == 1
            assert "'ader'" in finished.err and "adder" in finished.err


def test_a_second_host_of_a_configuration_is_refused(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    with workspace.serve() as host:
        finished = workspace.run("config.lua")
        assert finished.status == 69
        assert str(host.process.pid) in finished.err
        assert host.call("adder", "add", 1) == 2


def test_a_killed_host_is_followed_by_a_new_one(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    with workspace.serve() as host:
        host.process.kill()
        host.wait_end()
    with workspace.serve() as again:
        assert again.call("adder", "add", 1) == 2


def test_a_host_is_found_from_elsewhere_and_several_are_listed(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    (workspace.folder / "other.lua").write_text(workspace.config.read_text())
    elsewhere = {"cwd": "/", "env": workspace.full_environment(), "capture_output": True, "text": True}
    status = [str(PROGRAM), "status", "--names"]
    with workspace.serve():
        only = subprocess.run(status, check=True, **elsewhere)  # type: ignore[call-overload]
        assert only.stdout == "adder\n"
        other = workspace.start("other.lua")
        wait_for(lambda: workspace.run("status", "-c", "other.lua").status == 0, 20, "the other host")
        both = subprocess.run(status, check=False, **elsewhere)  # type: ignore[call-overload]
        assert both.returncode == 69
        assert "config.lua" in both.stderr and "other.lua" in both.stderr
        assert workspace.run("stop", "-c", "other.lua").status == 0
        workspace.finish(other)


def test_ctrl_c_in_main_is_status_130(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure("function pyisolate.main()\n  print('on')\n  adder:nap(60)\nend\n")
    process = workspace.start("config.lua")
    wait_for(lambda: workspace.run("status").status == 0, 20, "the host")
    wait_for(lambda: '"in_flight":1' in workspace.run("status", "--json").out, 20, "the call")
    process.send_signal(signal.SIGINT)
    assert workspace.finish(process, timeout=20).status == 130


def test_the_state_is_logged_on_usr2_and_the_configuration_checked_on_hup(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    with workspace.serve() as host:
        host.process.send_signal(signal.SIGUSR2)
        assert host.log_has("PYI-HOST-STATE")
        workspace.config.write_text("local x = = 1\n")
        host.process.send_signal(signal.SIGHUP)
        assert host.log_has("config.lua:1")
        assert host.call("adder", "add", 1) == 2


def test_a_service_manager_is_told(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    path = workspace.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        workspace.environment["NOTIFY_SOCKET"] = str(path)
        with workspace.serve() as host:
            assert b"READY=1" in manager.recv(1000)
            assert host.command("stop").status == 0
            assert b"STOPPING=1" in manager.recv(1000)


def on_terminal(workspace: Workspace, *words: str) -> str:
    """What a command writes to a terminal."""
    master, slave = pty.openpty()
    environment = {**workspace.full_environment(), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    environment.pop("NO_COLOR")
    process = subprocess.Popen(
        [str(PROGRAM), *words], cwd=workspace.folder, env=environment, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    text = b""
    try:
        while chunk := os.read(master, 65536):
            text += chunk
    except OSError:  # EIO: the other end is closed
        pass
    finally:
        os.close(master)
        process.wait()
    return text.decode()


def test_status_is_a_table_on_a_terminal_and_tabs_in_a_pipe(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    with workspace.serve() as host:
        table = on_terminal(workspace, "status")
        assert "\x1b[32mready\x1b[0m" in table and "\t" not in table
        header, row = host.command("status").out.splitlines()
        assert header.split("\t")[:2] == ["NAME", "STATE"]
        assert row.split("\t")[:2] == ["adder", "ready"]


def test_progress_is_a_bar_on_a_terminal_and_lines_in_a_pipe(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure(venv_root_path="./one")
    bar = on_terminal(workspace, "sync")
    assert "━" in bar or "─" in bar
    assert bar.rstrip().splitlines()[-1].count("built in") == 1
    workspace.configure(venv_root_path="./two")
    lines = workspace.run("sync")
    assert re.search(r"^adder: resolving", lines.err, re.M)
    assert "\x1b" not in lines.err and "━" not in lines.err


@pytest.mark.parametrize(
    ("shell", "file"), [("bash", "pyisolate-host.bash"), ("zsh", "_pyisolate-host"), ("fish", "pyisolate-host.fish")]
)
def test_the_installed_completions_are_those_that_the_program_makes(
    workspace: Workspace, shell: str, file: str
) -> None:
    assert workspace.run("completion", shell).out == (ROOT / "docs" / "completions" / file).read_text()


def complete(workspace: Workspace, *words: str) -> list[str]:
    """What bash offers for the last of `words`."""
    script = (
        f"source {ROOT}/docs/completions/pyisolate-host.bash; compopt() {{ :; }}; "
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pyisolate_host "$1"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", str(PROGRAM), *words],
        cwd=workspace.folder,
        env=workspace.full_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_bash_completes_commands_options_values_and_extensions(workspace: Workspace) -> None:
    workspace.extension("adder", ADDER)
    workspace.configure()
    assert complete(workspace, "stat") == ["status"]
    assert "--json" in complete(workspace, "status", "--")
    assert complete(workspace, "--log-format", "=", "js") == ["json"]
    with workspace.serve():
        assert complete(workspace, "call", "") == ["adder"]


def test_the_manual_has_every_command_and_option(workspace: Workspace) -> None:
    manual = (ROOT / "docs" / "pyisolate-host.1").read_text().replace("\\-", "-").replace("\\fR", "")
    commands = re.findall(r"^  (\w+) {2,}\S", workspace.run("-h").out, re.M)
    assert len(commands) >= 13
    for command in commands:
        assert re.search(rf"^\.(TP|BI|BR|B)? ?\"?{command}\b", manual, re.M), command
        for option in re.findall(r"--[a-z-]+", workspace.run(command, "-h").out.split("More,")[0]):
            assert option in manual, f"{command} {option}"
    for option in re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", workspace.run("--help").out, re.M):
        assert option in manual, option


def test_doctor_tells_programs_too(workspace: Workspace) -> None:
    finished = workspace.run("doctor", "--json")
    answer = json.loads(finished.out)
    assert answer["ok"] == (finished.status == 0)
    names = {check["name"] for check in answer["checks"]}
    assert {"python", "uv", "kernel", "child", "core", "runtime"} <= names


def test_a_broken_installation_is_told_by_doctor_and_run(workspace: Workspace, tmp_path: Path) -> None:
    workspace.environment["PYISOLATE_LIBDIR"] = str(tmp_path)
    finished = workspace.run("doctor")
    assert finished.status == 69
    assert str(tmp_path) in finished.out
    workspace.extension("adder", ADDER)
    assert workspace.run_main("print(adder:add(1))").status == 69

"""`isolated = false`: extensions on threads of the host, in the manager's own Python."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from harness import Workspace, find_uv
from pythons import Python, all_pythons

FACTS = """
    import os, sys, threading, time

    count = 0

    def facts():
        return {"prefix": sys.prefix, "base": sys.base_prefix, "executable": sys.executable, "path": sys.path,
                "pid": os.getpid(), "thread": threading.get_ident(), "isolated": sys.flags.no_user_site}

    def version(): return "%d.%d" % sys.version_info[:2]
    def add(n):
        global count
        count += n
        return count
    def fail(): raise LookupError("not here")
    def spin():
        while True: pass
    def block(seconds): time.sleep(seconds)
    async def nap(seconds):
        import asyncio
        await asyncio.sleep(seconds)
    def mean(values):
        import numpy
        return {"mean": float(numpy.mean(values)), "numpy": numpy.__version__}
    def marked():
        import marked
        return marked.VALUE
"""


def embeddable(python: Python) -> bool:
    """Whether this Python has the shared library that the host loads."""
    code = "import sysconfig; print(sysconfig.get_config_var('Py_ENABLE_SHARED'))"
    out = subprocess.run([python.path, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    return out.strip() == "1"


PYTHONS = [python for python in all_pythons() if embeddable(python)]


def in_process(workspace: Workspace, name: str, **keys: object) -> None:
    workspace.extension(name, FACTS, isolated=False, **keys)


def make_venv(workspace: Workspace, python: Python) -> Path:
    folder = workspace.folder / "venv"
    subprocess.run([python.path, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


def site_of(venv: Path) -> Path:
    return next(venv.glob("lib/python3.*/site-packages"))


def pretend(site: Path, name: str, version: str, *requires: str) -> None:
    """Puts the metadata of a package there, as an installer would."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("python", PYTHONS, ids=str)
def test_the_environment_is_the_managers_python_itself(workspace: Workspace, python: Python) -> None:
    in_process(workspace, "one")
    in_process(workspace, "two")
    workspace.configure(python=python.path, venv_root_path="./venvs")
    with workspace.serve() as host:
        one, two = host.call("one", "facts"), host.call("two", "facts")
        code = "import json, sys; print(json.dumps([sys.prefix, sys.path]))"
        prefix, path = json.loads(subprocess.check_output([python.path, "-I", "-c", code]))
        assert one["prefix"] == one["base"] == prefix
        assert set(path) <= set(one["path"])
        assert one["isolated"] == 1
        assert one["pid"] == two["pid"] == host.pid
        assert one["thread"] != two["thread"]
        entry = host.extension("one")
        assert (entry["env_id"], entry["env"]) == ("host", prefix)
        assert not (workspace.folder / "venvs").exists()


@pytest.mark.parametrize("python", PYTHONS, ids=str)
def test_a_virtual_environment_can_be_the_managers_python(workspace: Workspace, python: Python) -> None:
    venv = make_venv(workspace, python)
    (site_of(venv) / "marked.py").write_text("VALUE = 'of the venv'\n")
    pretend(site_of(venv), "marked", "1.5")
    in_process(workspace, "one", dependencies=["marked>=1.2"])
    workspace.configure(python=str(venv / "bin" / "python"))
    with workspace.serve() as host:
        facts = host.call("one", "facts")
        assert facts["prefix"] == str(venv.resolve())
        assert facts["executable"] == str(venv / "bin" / "python")
        assert host.call("one", "marked") == "of the venv"


def test_variables_of_another_python_do_not_reach_it(workspace: Workspace) -> None:
    workspace.environment.update(PYTHONHOME="/nonexistent", PYTHONPATH="/nonexistent/lib")
    in_process(workspace, "one")
    workspace.configure()
    with workspace.serve() as host:
        assert "/nonexistent/lib" not in host.call("one", "facts")["path"]


def test_every_unmet_dependency_is_named_with_what_is_there_and_the_remedy(workspace: Workspace) -> None:
    venv = make_venv(workspace, PYTHONS[0])
    pretend(site_of(venv), "depa", "1.0", "depb>=3 ; python_version >= '3'", "unneeded ; python_version < '3'")
    (workspace.folder / "more.txt").write_text("# comment\ndepa < 0.5  # too old\n")
    in_process(
        workspace,
        "one",
        dependencies=["depa>=2", "no-such-thing", "Depa == 1.*", "./folder"],
        requirements=["./more.txt"],
    )
    (workspace.folder / "folder").mkdir()
    workspace.configure(python=str(venv / "bin" / "python"))
    finished = workspace.run("sync")
    assert finished.status != 0
    for words in (
        "'one'",
        "depa>=2 (depa 1.0 is installed)",
        "no-such-thing (not installed)",
        "depa < 0.5 (depa 1.0 is installed)",
        "depb>=3 ; python_version >= '3' (not installed; depa 1.0 needs it)",
        str(workspace.folder / "folder"),
        "isolated = true",
    ):
        assert words in finished.err, finished.err
    assert "unneeded" not in finished.err
    started = workspace.run("config.lua")
    assert started.status != 0
    assert "no-such-thing" in started.err


def test_numpy_serves_two_extensions_where_it_is_installed(workspace: Workspace) -> None:
    uv = find_uv()
    assert uv, "the tests need uv"
    venv = make_venv(workspace, PYTHONS[0])
    python = str(venv / "bin" / "python")
    in_process(workspace, "one", dependencies=["numpy"])
    in_process(workspace, "two", dependencies=["numpy>=1"])
    workspace.configure(python=python)
    assert workspace.run("sync").status != 0
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "numpy"], check=True, timeout=300)
    synced = workspace.run("sync")
    assert synced.status == 0, synced.err
    with workspace.serve() as host:
        first, second = host.call("one", "mean", [1, 2, 6]), host.call("two", "mean", [4.0])
        assert (first["mean"], second["mean"]) == (3.0, 4.0)
        assert first["numpy"] == second["numpy"]


def test_calls_errors_and_deadlines_are_as_in_a_process_of_its_own(workspace: Workspace) -> None:
    in_process(workspace, "one")
    in_process(workspace, "two")
    finished = workspace.run_main(
        """
        local function late(f) return pcall(function() return pyisolate.timeout(0.3, f) end) end
        local ok, err = pcall(function() return one:fail() end)
        print(ok, err.type, err.message, err.traceback:find("fail", 1, true) ~= nil)
        for _, x in ipairs { one, two } do
          local ok, err = late(function() return x:spin() end)
          print(x.name, ok, err.type)
          ok, err = late(function() return x:nap(30) end)
          print(x.name, ok, err.type)
          print(x.name, x:add(1), x:add(1))
        end
        """
    )
    assert finished.status == 0, finished.err
    lines = finished.out.splitlines()
    assert lines[0] == "false\tLookupError\tnot here\ttrue"
    for name, at in (("one", 1), ("two", 4)):
        assert lines[at : at + 3] == [f"{name}\tfalse\tTimeoutError"] * 2 + [f"{name}\t1\t2"]


def test_one_stops_and_restarts_while_the_other_goes_on(workspace: Workspace) -> None:
    in_process(workspace, "one")
    in_process(workspace, "two")
    finished = workspace.run_main(
        """
        print(one:add(5), two:add(1))
        one:restart()
        print(one:add(5), two:add(1))
        one:stop()
        print(pcall(function() return one:add(5) end))
        print(two:add(1))
        one:restart()
        print(one:add(7))
        """
    )
    assert finished.status == 0, finished.err
    lines = finished.out.splitlines()
    assert lines[0:2] == ["5\t1", "5\t2"], "a restarted one is a new module"
    assert lines[2].startswith("false\t") and "stopped" in lines[2]
    assert lines[3:] == ["3", "7"]


def test_a_thread_stuck_in_c_code_does_not_keep_the_host(workspace: Workspace) -> None:
    in_process(workspace, "one", stop_timeout=0.5)
    workspace.configure()
    with workspace.serve() as host:
        call = host.start_call("one", "block", 600)
        time.sleep(0.5)
        assert host.stop(seconds=30) == 0
        assert "PYI-EXT-STUCK" in host.log()
        workspace.finish(call)

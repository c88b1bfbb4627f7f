"""Extensions that cannot start: said why, by name, while the others go on. And every Python of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness import CallFailed, Workspace
from pythons import Python, all_pythons


@pytest.mark.sanitizer
def test_a_failed_import_names_the_package_and_the_others_go_on(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("lacking", "import no_such_package_here\ndef f(): return 1\n", **mode)
    workspace.extension("sound", "def f(): return 2\n", **mode)
    workspace.configure()
    with workspace.serve() as host:
        assert host.call("sound", "f") == 2
        with pytest.raises(CallFailed) as failed:
            host.call("lacking", "f")
        assert "no_such_package_here" in str(failed.value)
        assert host.extension("lacking")["state"] == "failed"
        assert host.extension("sound")["state"] == "ready"
        assert "no_such_package_here" in host.log()


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("def f(:\n", "SyntaxError"),
        ("raise RuntimeError('at import')\n", "at import"),
        ("import os; os._exit(9)\n", "9"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n", "SIGKILL"),
        ("import sys; sys.exit(3)\n", "SystemExit"),
        ("import ctypes; ctypes.string_at(0)\n", "SIGSEGV"),
        ("x = 1\n", "no method 'f'"),
    ],
)
def test_whatever_happens_at_import_is_told(workspace: Workspace, source: str, word: str) -> None:
    workspace.extension("bad", source, restart="never")
    workspace.extension("sound", "def f(): return 2\n")
    workspace.configure()
    with workspace.serve() as host:
        with pytest.raises(CallFailed) as failed:
            host.call("bad", "f")
        assert word in str(failed.value) + host.log()
        assert host.call("sound", "f") == 2


def test_a_start_that_hangs_ends_at_its_timeout(workspace: Workspace) -> None:
    workspace.extension("slow", "import time; time.sleep(600)\ndef f(): return 1\n", start_timeout=1, restart="never")
    workspace.extension("sound", "def f(): return 2\n")
    workspace.configure()
    with workspace.serve() as host:
        assert host.call("sound", "f") == 2
        with pytest.raises(CallFailed):
            host.call("slow", "f")


FACTS = """
    import multiprocessing, os, subprocess, sys, sysconfig, threading, faulthandler, json

    def facts():
        import site
        return {
            "version": "%d.%d" % sys.version_info[:2],
            "prefix": sys.prefix, "base_prefix": sys.base_prefix, "executable": sys.executable,
            "purelib": sysconfig.get_paths()["purelib"], "site": site.getsitepackages(),
            "argv": sys.argv, "name": __name__,
        }

    def spawned():
        out = subprocess.run([sys.executable, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
        return out.stdout.strip()

    def pool():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.map(abs, [-1, -2])

    def forked():
        with multiprocessing.get_context("fork").Pool(1) as pool:
            return pool.map(abs, [-3])

    def threads():
        out = []
        worker = threading.Thread(target=out.append, args=(1,))
        worker.start(); worker.join()
        return out

    def imports():
        return sorted(name for name in ("asyncio", "numpy", "json", "logging") if name in sys.modules)
"""


@pytest.mark.parametrize("python", all_pythons(), ids=str)
def test_every_python_behaves_as_in_its_own_environment(
    workspace: Workspace, python: Python, mode: dict[str, Any]
) -> None:
    workspace.extension("facts", FACTS, python=python.path, **mode)
    workspace.configure()
    with workspace.serve() as host:
        facts = host.call("facts", "facts")
        prefix = Path(host.extension("facts")["env"])
        assert facts["version"] == python.version
        assert Path(facts["prefix"]) == prefix
        assert facts["executable"] == str(prefix / "bin" / "python")
        assert facts["base_prefix"] != facts["prefix"]
        assert facts["purelib"].startswith(str(prefix))
        assert facts["purelib"] in facts["site"]
        assert host.call("facts", "spawned") == str(prefix)
        assert host.call("facts", "threads") == [1]
        assert host.call("facts", "forked") == [3]
        assert host.call("facts", "pool") == [1, 2]


def test_two_pythons_side_by_side(workspace: Workspace) -> None:
    pythons = all_pythons()
    if len(pythons) < 2:
        pytest.skip("one python only")
    workspace.extension("old", FACTS, python=pythons[0].path)
    workspace.extension("new", FACTS, python=pythons[-1].path)
    finished = workspace.run_main("print(old:facts().version, new:facts().version)")
    assert finished.out == f"{pythons[0].version}\t{pythons[-1].version}\n", finished.err


def test_a_missing_python_names_what_there_is(workspace: Workspace) -> None:
    workspace.extension("one", "def f(): return 1\n", python="3.99")
    finished = workspace.run_main("one:f()")
    assert finished.status != 0
    assert "3.99" in finished.err


@pytest.mark.parametrize("keys", [{"python": "3.99"}, {"dependencies": ["./broken"]}])
def test_what_has_no_environment_raises_an_error_of_its_own(workspace: Workspace, keys: dict[str, Any]) -> None:
    (workspace.folder / "broken").mkdir()
    (workspace.folder / "broken" / "pyproject.toml").write_text("not a project\n")
    workspace.extension("one", "def f(): return 1\n", **keys)
    finished = workspace.run_main("local ok, e = pcall(one.f, one)\nprint(ok, e.type, e.code)")
    assert finished.out == "false\tEnvironmentError\tenvironment\n", finished.err
    workspace.configure()
    assert workspace.run("config.lua").status == 69


def test_check_looks_into_an_environment_that_is_used_as_it_is(workspace: Workspace) -> None:
    (workspace.folder / "empty").mkdir()
    workspace.extension("one", "def f(): return 1\n", environment="./empty")
    workspace.configure()
    finished = workspace.run("check")
    assert finished.status == 69
    assert "has no bin/python" in finished.err and "python3 -m venv" in finished.err
    assert "has no bin/python" in workspace.run("config.lua").err
    workspace.extensions[0]["environment"] = "/usr"
    workspace.configure()
    assert workspace.run("check").status == 0


def test_a_module_named_like_the_standard_library_works_or_is_refused_with_that_reason(
    workspace: Workspace,
) -> None:
    workspace.extension("queue", "import asyncio, concurrent.futures\ndef f(): return 'mine'\n")
    finished = workspace.run_main("print(queue:f())")
    if finished.status == 0:
        assert finished.out == "mine\n"
    else:
        assert "queue" in finished.err and "standard library" in finished.err

"""The program itself: help, version, exit statuses, what `check` finds, what it does with a wrong configuration."""

from __future__ import annotations

import re
import signal
import time

import pytest
from harness import RawLua, Workspace, lua

AVERAGES = """
    import asyncio

    def mean(numbers):
        if not isinstance(numbers, list):
            raise TypeError(f"a list is needed, not {type(numbers).__name__}")
        return sum(numbers) / len(numbers)

    async def slow_mean(numbers, delay):
        await asyncio.sleep(delay)
        return mean(numbers)
"""

pytestmark = pytest.mark.sanitizer


def test_help_shows_examples_before_options(workspace: Workspace) -> None:
    full = workspace.run("--help")
    assert full.status == 0
    assert full.out.lower().index("example") < full.out.index("--log-level")


def test_short_help_lists_every_command(workspace: Workspace) -> None:
    short = workspace.run("-h")
    assert short.status == 0
    for command in ("run", "check", "sync", "status", "call", "stop", "restart", "new", "doctor", "version"):
        assert re.search(rf"^\s+{command}\b", short.out, re.M), command


@pytest.mark.parametrize("words", [["-V"], ["--version"], ["version"], ["version", "-v"]])
def test_version_is_printed(workspace: Workspace, words: list[str]) -> None:
    finished = workspace.run(*words)
    assert finished.status == 0
    assert re.search(r"\d+\.\d+\.\d+", finished.out)


def test_a_typo_gets_a_suggestion_and_status_2(workspace: Workspace) -> None:
    finished = workspace.run("stauts")
    assert finished.status == 2
    assert "status" in finished.err


def test_an_unknown_option_is_a_usage_error(workspace: Workspace) -> None:
    finished = workspace.run("status", "--jsn")
    assert finished.status == 2
    assert "--json" in finished.err


def test_the_issue_s_example_runs(workspace: Workspace) -> None:
    workspace.extension("averages", AVERAGES)
    finished = workspace.run_main(
        """
        print("Mean:", averages:mean { 1, 2, 3, 4, 5 })
        local a, b = pyisolate.all(
            function() return averages:mean { 1, 2 } end,
            function() return averages:slow_mean({ 3, 4 }, pyisolate.kwargs { delay = 0.1 }) end)
        print(a, b)
        local ok, err = pcall(function() return averages:mean "not a list" end)
        print(ok, err.type, err.message)
        print(err.traceback)
        """
    )
    assert finished.status == 0, finished.err
    lines = finished.out.splitlines()
    assert lines[0] == "Mean:\t3.0"
    assert lines[1] == "1.5\t3.5"
    assert lines[2] == "false\tTypeError\ta list is needed, not str"
    assert "averages/__init__.py" in finished.out


def test_main_s_number_is_the_exit_status(workspace: Workspace) -> None:
    assert workspace.run_main("return 7").status == 7


def test_main_s_arguments_are_the_words_after_the_configuration(workspace: Workspace) -> None:
    finished = workspace.run_main("print(#args, args[1], args[2])", "one", "--two")
    assert finished.status == 0, finished.err
    assert finished.out == "2\tone\t--two\n"


def test_an_error_in_main_is_status_1_with_a_traceback(workspace: Workspace) -> None:
    finished = workspace.run_main("local function inner() error('it broke') end\ninner()")
    assert finished.status == 1
    assert "it broke" in finished.err
    assert "config.lua" in finished.err
    assert "traceback" in finished.err.lower()


def test_a_remote_error_that_main_does_not_catch_is_told_with_its_python_traceback(
    workspace: Workspace,
) -> None:
    workspace.extension("broken", "def run():\n    raise KeyError('gone')\n")
    finished = workspace.run_main("broken:run()")
    assert finished.status == 1
    assert "KeyError" in finished.err and "gone" in finished.err
    assert "broken/__init__.py" in finished.err


def test_a_missing_configuration_names_the_file(workspace: Workspace) -> None:
    finished = workspace.run("nothing.lua")
    assert finished.status != 0
    assert "nothing.lua" in finished.err


def test_a_syntax_error_is_status_78_with_file_and_line(workspace: Workspace) -> None:
    workspace.configure("local x = = 1\n")
    finished = workspace.run("check", "config.lua")
    assert finished.status == 78
    assert re.search(r"config\.lua:\d+", finished.err)


def test_unknown_keys_are_refused_with_the_nearest_name(workspace: Workspace) -> None:
    workspace.extension("one", "def f(): return 1\n", dependancies=[])
    workspace.configure()
    for words in (["check", "config.lua"], ["config.lua"]):
        finished = workspace.run(*words)
        assert finished.status == 78
        assert "dependancies" in finished.err and "'dependencies'" in finished.err.replace('"', "'")
        assert re.search(r"config\.lua:\d+", finished.err)


def test_all_problems_are_told_at_once(workspace: Workspace) -> None:
    workspace.extension("one", "", isolatd=True)
    workspace.extension("two", "", dependencies="numpy")
    workspace.extension("three", "", call_timeout="soon")
    workspace.configure()
    finished = workspace.run("check", "config.lua")
    assert finished.status == 78
    for word in ("isolatd", "dependencies", "call_timeout"):
        assert word in finished.err
    assert len(set(re.findall(r"config\.lua:(\d+)", finished.err))) == 3


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"dependencies": ["--index-url=http://evil"]}, "--index-url"),
        ({"dependencies": ["numpy; rm -rf /"]}, "numpy; rm"),
        ({"dependencies": ["$(id)"]}, "$(id)"),
        ({"name": "../escape"}, "../escape"),
        ({"name": ""}, "name"),
        ({"module_path": "./missing"}, "missing"),
        ({"module_path": RawLua("nil")}, "module_path"),
        ({"package_manager": "conda"}, "conda_channels"),
        ({"package_manager": "pip"}, "uv"),
        ({"share_cuda_ipc": True}, "share_torch"),
        ({"sealed_host_ro_paths": ["relative"], "execution_model": "sealed_worker"}, "absolute"),
        ({"sealed_host_ro_paths": ["/opt"]}, "sealed_worker"),
        ({"execution_model": "sealed_worker", "share_torch": True}, "share_torch"),
        ({"call_timeout": -1}, "call_timeout"),
        ({"threads": 1.5}, "threads"),
        ({"env": {"A": 1}}, "env"),
        ({"isolated": "yes"}, "isolated"),
    ],
)
def test_a_wrong_value_is_refused_by_name(workspace: Workspace, keys: dict[str, object], word: str) -> None:
    workspace.extension("one", "def f(): return 1\n")
    workspace.extensions[0].update(keys)
    text = 'local pyisolate = require "pyisolate"\npyisolate.manager { venv_root_path = "./fresh" }\n'
    workspace.config.write_text(text + f"pyisolate.extension {lua(workspace.extensions[0])}\n")
    finished = workspace.run("check", "config.lua")
    assert finished.status == 78, finished.err
    assert word in finished.err
    assert "config.lua:3" in finished.err
    assert not (workspace.folder / "fresh").exists(), "a refused configuration changed something"


def test_two_extensions_with_one_name_are_refused(workspace: Workspace) -> None:
    workspace.extension("one", "def f(): return 1\n")
    workspace.configure(f"pyisolate.extension {lua(workspace.extensions[0])}\n")
    finished = workspace.run("check", "config.lua")
    assert finished.status == 78
    assert "one" in finished.err


def test_check_accepts_a_sound_configuration_and_starts_nothing(workspace: Workspace) -> None:
    workspace.extension("one", "open('started', 'w').close()\ndef f(): return 1\n")
    workspace.configure(venv_root_path="./fresh")
    finished = workspace.run("check", "config.lua")
    assert finished.status == 0, finished.err
    assert not (workspace.folder / "fresh").exists()
    assert not (workspace.folder / "started").exists()


@pytest.mark.parametrize(
    "keys",
    [
        {"sandbox_mode": "required"},
        {"sandbox_mode": "preferred"},
        {"sandbox_mode": RawLua("nil"), "sandbox": {"network": True}},
        {"share_torch": True},
        {"package_manager": "conda", "conda_channels": ["conda-forge"], "sandbox_mode": "disabled"},
    ],
)
def test_what_is_not_built_yet_is_refused_at_start(workspace: Workspace, keys: dict[str, object]) -> None:
    workspace.extension("one", "def f(): return 1\n", **keys)
    finished = workspace.run_main("print(one:f())")
    assert finished.status != 0
    assert "not available yet" in finished.err


def test_an_absent_sandbox_mode_starts_with_one_loud_warning(workspace: Workspace) -> None:
    workspace.extension("one", "def f(): return 1\n", sandbox_mode=RawLua("nil"))
    workspace.extension("two", "def f(): return 2\n", sandbox_mode=RawLua("nil"))
    finished = workspace.run_main("print(one:f(), two:f())")
    assert finished.status == 0, finished.err
    assert finished.out == "1\t2\n"
    warnings = [line for line in finished.err.splitlines() if "sandbox" in line.lower()]
    assert len(warnings) == 1, warnings


def test_sync_prepares_environments_and_starts_nothing(workspace: Workspace) -> None:
    workspace.extension("one", "open('started', 'w').close()\ndef f(): return 1\n")
    workspace.configure(venv_root_path="./fresh")
    assert workspace.run("sync", "config.lua").status == 0
    assert (workspace.folder / "fresh" / "one" / "bin" / "python").exists()
    assert not (workspace.folder / "one" / "started").exists() and not (workspace.folder / "started").exists()


def test_a_second_sync_builds_nothing(workspace: Workspace) -> None:
    workspace.extension("one", "def f(): return 1\n")
    workspace.configure(venv_root_path="./fresh")
    assert workspace.run("sync", "config.lua").status == 0
    first = (workspace.folder / "fresh" / "one").resolve()
    marker = first.stat().st_ctime_ns
    assert workspace.run("sync", "config.lua").status == 0
    assert (workspace.folder / "fresh" / "one").resolve() == first
    assert first.stat().st_ctime_ns == marker


def test_a_failed_install_leaves_the_old_environment_and_prints_uv_s_words(workspace: Workspace) -> None:
    workspace.extension("one", "def f(): return 1\n")
    workspace.configure(venv_root_path="./fresh")
    assert workspace.run("sync", "config.lua").status == 0
    before = (workspace.folder / "fresh" / "one").resolve()
    workspace.extensions[0]["dependencies"] = ["./no-such-folder"]
    workspace.configure(venv_root_path="./fresh")
    finished = workspace.run("sync", "config.lua")
    assert finished.status != 0
    assert "no-such-folder" in finished.err
    assert (workspace.folder / "fresh" / "one").resolve() == before


def test_new_makes_an_extension_that_runs(workspace: Workspace) -> None:
    assert workspace.run("new", "greeter").status == 0
    made = [path for path in workspace.folder.rglob("config.lua") if "run" not in path.parts]
    assert len(made) == 1
    check = workspace.run("check", str(made[0]))
    assert check.status == 0, check.err
    finished = workspace.run(str(made[0]))
    assert finished.status == 0, finished.err


def test_new_overwrites_nothing(workspace: Workspace) -> None:
    assert workspace.run("new", "greeter").status == 0
    made = next(path for path in workspace.folder.rglob("__init__.py"))
    made.write_text("# mine\n")
    assert workspace.run("new", "greeter").status != 0
    assert made.read_text() == "# mine\n"


def test_doctor_reports_the_pythons(workspace: Workspace) -> None:
    finished = workspace.run("doctor")
    assert "python" in finished.out.lower() and "uv" in finished.out


def test_status_without_a_host_is_a_clear_error(workspace: Workspace) -> None:
    workspace.configure()
    finished = workspace.run("status")
    assert finished.status == 69
    assert "config.lua" in finished.err


def test_a_termination_signal_during_main_ends_it_promptly(workspace: Workspace) -> None:
    workspace.extension("sleeper", "import time\ndef sleep(s):\n    time.sleep(s)\n")
    workspace.configure("function pyisolate.main()\n  print('on')\n  sleeper:sleep(60)\nend\n")
    process = workspace.start("config.lua")
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    finished = workspace.finish(process, timeout=20)
    assert finished.status in (143, 1, -15), finished.err

"""The samples, and the example of the README, run as they are and print what their READMEs say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from harness import ROOT, Finished, Workspace

SAMPLES = ROOT / "samples"


def fenced(file: Path, language: str) -> list[str]:
    """The code blocks of a language in a Markdown file."""
    return re.findall(rf"^```{language}\n(.*?)^```$", file.read_text(encoding="utf-8"), re.M | re.S)


def comparable(text: str) -> str:
    """Without what differs from run to run: the folder, process ids, numpy's newest version."""
    text = re.sub(r'File "[^"]*/(\w+/__init__\.py)"', r'File "\1"', text)
    text = re.sub(r"process \d+", "process N", text)
    text = re.sub(r"numpy 2(\.\d+)+", "numpy 2", text)
    return text.strip()


def run_sample(workspace: Workspace, name: str) -> Finished:
    """Runs a copy, so that the environments that it builds are the test's; compares with its README."""
    folder = workspace.folder / name
    if not folder.exists():
        shutil.copytree(SAMPLES / name, folder, ignore=shutil.ignore_patterns("venvs", "__pycache__"))
    finished = workspace.run(f"{name}/config.lua", timeout=300)
    assert finished.status == 0, finished.err
    (expected,) = fenced(SAMPLES / name / "README.md", "text")
    assert comparable(finished.out) == comparable(expected), finished.err
    return finished


@pytest.mark.network
def test_quickstart_calls_side_by_side_and_gets_a_python_traceback(workspace: Workspace) -> None:
    finished = run_sample(workspace, "quickstart")
    assert finished.err.count("NO SANDBOX") == 1
    assert "averages: environment ready" in finished.err
    again = run_sample(workspace, "quickstart")
    assert "environment ready" not in again.err, "the second run built the environment anew"


@pytest.mark.network
def test_two_numpys_compute_side_by_side_in_one_application(workspace: Workspace) -> None:
    finished = run_sample(workspace, "two-numpys")
    processes = re.findall(r"numpy (1\.26|2)[.\d]* in process (\d+)", finished.out)
    assert [version for version, _ in processes] == ["1.26", "2"]
    assert processes[0][1] != processes[1][1]
    environments = workspace.folder / "two-numpys" / "venvs"
    for name, version in (("classic", "1.26."), ("current", "2.")):
        (metadata,) = (environments / name).glob("lib/python3*/site-packages/numpy-*.dist-info")
        assert metadata.name.startswith(f"numpy-{version}")


def test_a_crash_costs_one_call_and_the_next_finds_a_new_process(workspace: Workspace) -> None:
    finished = run_sample(workspace, "crash")
    assert re.search(r"PYI-CHILD-EXIT.*ext=fragile gen=1.*SIGSEGV", finished.err)
    assert re.search(r"PYI-EXT-READY.*ext=fragile gen=2", finished.err)
    assert "in segfault" in finished.err, "Python's traceback of the crash is not in the log"
    assert not re.search(r"ext=steady gen=2", finished.err)


def test_every_sample_is_run(workspace: Workspace) -> None:
    listed = re.findall(r"^\| \[([\w-]+)\]", (SAMPLES / "README.md").read_text(), re.M)
    assert sorted(listed) == sorted(path.parent.name for path in SAMPLES.glob("*/config.lua"))
    tests = Path(__file__).read_text()
    for name in listed:
        assert f'run_sample(workspace, "{name}")' in tests, f"no test runs samples/{name}"


def test_the_readme_s_example_runs_and_prints_what_it_says(workspace: Workspace) -> None:
    readme = ROOT / "README.md"
    (config,) = fenced(readme, "lua")
    (module,) = fenced(readme, "python")
    (expected,) = fenced(readme, "text")
    (workspace.folder / "words").mkdir()
    (workspace.folder / "words" / "__init__.py").write_text(module)
    workspace.config.write_text(config)
    finished = workspace.run("config.lua", timeout=120)
    assert finished.status == 0, finished.err
    assert finished.out.strip() == expected.strip()

"""`make setup` where packages are missing, and `make install`: the installation runs from wherever it was put."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import BUILD, ROOT, TIMEOUT_S, Workspace


def fake(folder: Path, name: str, body: str) -> None:
    script = folder / name
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)


def setup_without_packages(folder: Path, user: int, **fakes: str) -> subprocess.CompletedProcess[str]:
    """Runs .ci/setup with nothing on PATH but these commands, on a Debian that has none of the packages."""
    folder.mkdir()
    for name in ("dirname", "env"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    fake(folder, "dpkg-query", "exit 1")
    fake(folder, "id", f"echo {user}")
    for name, body in fakes.items():
        fake(folder, name.replace("_", "-"), body)
    return subprocess.run(
        [ROOT / ".ci/setup", "build"],
        env={"PATH": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def test_without_root_and_sudo_setup_says_what_to_run(workspace: Workspace) -> None:
    finished = setup_without_packages(workspace.folder / "path", 1000)
    assert finished.returncode == 69
    assert "missing: gcc " in finished.stderr
    assert "not root" in finished.stderr
    assert "run as root: apt-get install --no-install-recommends gcc " in finished.stderr


@pytest.mark.parametrize("user", [0, 1000])
def test_when_apt_get_fails_setup_repeats_its_words(workspace: Workspace, user: int) -> None:
    broken = 'echo "E: the network is away: $*" >&2; exit 100'
    finished = setup_without_packages(workspace.folder / "path", user, apt_get=broken, sudo='exec "$@"')
    assert finished.returncode == 69
    assert "E: the network is away: -o DPkg::Lock::Timeout=300 install" in finished.stderr
    assert "run as root: apt-get install" in finished.stderr


def test_a_refused_sudo_is_named(workspace: Workspace) -> None:
    finished = setup_without_packages(workspace.folder / "path", 1000, sudo="echo 'sudo: a password' >&2; exit 1")
    assert finished.returncode == 69
    assert "sudo: a password" in finished.stderr
    assert "run as root: apt-get install" in finished.stderr


def installed_under(root: Path) -> Path:
    """`make install` as a packager does it; returns the program."""
    words = ["make", "--no-print-directory", "-C", str(ROOT), "install"]
    words += [f"BUILD_DIR={BUILD}", "PREFIX=/usr", f"DESTDIR={root}"]
    subprocess.run(words, check=True, capture_output=True, timeout=TIMEOUT_S)
    return root / "usr/bin/pyisolate-host"


def test_an_installation_runs_from_where_it_was_moved_and_needs_nothing_of_the_build(workspace: Workspace) -> None:
    installed_under(workspace.folder / "made")
    moved = (workspace.folder / "made").rename(workspace.folder / "moved") / "usr"
    workspace.extension(
        "one",
        """
        import os, sys
        import pyisolate

        def places():
            return {"program": os.readlink("/proc/self/exe"), "package": pyisolate.__file__,
                    "maps": open("/proc/self/maps").read()}
        """,
    )
    workspace.configure(
        """
        function pyisolate.main()
          local places = one:places()
          print(places.program)
          print(places.package)
          print(places.maps)
        end
        """
    )
    environment = {key: value for key, value in workspace.full_environment().items() if key != "PYISOLATE_LIBDIR"}
    finished = subprocess.run(
        [moved / "bin/pyisolate-host", workspace.config],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    workspace.outputs.append(finished.stderr)
    assert finished.returncode == 0, finished.stderr
    program, package, maps = finished.stdout.split("\n", 2)
    assert program == str(moved / "lib/pyisolate/pyisolate-child")
    assert package.startswith(str(moved / "lib/pyisolate/python/pyisolate"))
    assert str(moved / "lib/pyisolate/libpyisolate-core.abi3.so") in maps
    assert str(BUILD) not in maps


def test_an_installation_has_what_a_package_has(workspace: Workspace) -> None:
    program = installed_under(workspace.folder / "made")
    assert os.access(program, os.X_OK)
    usr = program.parents[1]
    sources = {path.name for path in (ROOT / "api/python/pyisolate").glob("*.py")}
    assert {path.name for path in (usr / "lib/pyisolate/python/pyisolate").glob("*.py")} == sources
    for name in ("man/man1/pyisolate-host.1", "bash-completion/completions/pyisolate-host"):
        assert (usr / "share" / name).is_file(), name
    assert not list(usr.rglob("__pycache__"))

"""The check of what a Python has installed: versions, specifiers and markers as the standards compare them."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
from harness import ROOT


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_installed", ROOT / "api/python/pyisolate/_installed.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


installed = load()
# In order; each is older than the next.
ORDER = "1.dev0 1.0.dev1 1.0a0.dev3 1.0a1 1.0-alpha.2 1.0b1 1.0rc1 1.0 1.0+cpu 1.0+2 1.0.post1 1.0.1 1.1 1.10 2 1!0.1"


def test_versions_have_their_order() -> None:
    keys = [installed.Version(text).key() for text in ORDER.split()]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("specifiers", "met", "unmet"),
    [
        (">=2.0", "2 2.0.0 2.0.post1 3 1!0", "1.9 2.0rc1 2.0.dev1"),
        ("<2", "1.9 0.1", "2 2.0rc1 2.0.dev1 2.1"),
        (">2", "2.0.1 3", "2 2.0.post1 2.0+cpu"),
        ("==2.0", "2 2.0.0 2.0+cpu", "2.0.1 2.0rc1"),
        ("==2.0+cpu", "2.0+CPU", "2.0 2.0+cu1"),
        ("==2.*", "2 2.9.1 2.0rc1", "1.2 20"),
        ("!=2.1.*,>2", "2.0.1 2.2", "2.1 2.1.5"),
        ("~=2.2", "2.2 2.9", "2.1 3.0"),
        ("~=1.4.5", "1.4.5 1.4.9", "1.5 1.4.4"),
        ("===weird", "weird", "1.0"),
        ("", "0.0.1 99", ""),
    ],
)
def test_specifiers(specifiers: str, met: str, unmet: str) -> None:
    requirement = installed.Requirement(f"some-thing {specifiers}")
    assert [version for version in met.split() if not requirement.accepts(version)] == []
    assert [version for version in unmet.split() if requirement.accepts(version)] == []


@pytest.mark.parametrize(
    ("marker", "extra", "holds"),
    [
        ("python_version >= '3.9'", "", True),
        ("python_version < '3.9' or sys_platform == 'linux'", "", True),
        ("(os_name == 'nt' or sys_platform == 'linux') and extra == 'A_b'", "a-b", True),
        ("extra == 'x'", "", False),
        ("'linux' in sys_platform and platform_machine not in 'none'", "", True),
        ("python_full_version == '2.7.*'", "", False),
    ],
)
def test_markers(marker: str, extra: str, holds: bool) -> None:
    assert installed.Marker(marker, installed.marker_environment(), extra).holds() is holds


@pytest.mark.parametrize("text", ["==1", "a b", "a >=", "a >= x", "a ; python >= 3", "a ; (os_name == 'x'"])
def test_what_cannot_be_read_is_an_error(text: str) -> None:
    wanted = {"requirements": [text], "constraints": [], "overrides": [], "files": []}
    with pytest.raises(ValueError):
        run = installed.Check(wanted)
        run.installed["a"] = run.installed.setdefault("a", next(iter(run.installed.values())))
        run.line(text)


def test_this_python_has_what_it_imports() -> None:
    wanted = {"requirements": ["pytest>=1", "pyisolate"], "constraints": [], "overrides": [], "files": []}
    assert "pytest" in sys.modules
    assert installed.check(wanted) == []
    wanted["constraints"] = ["pytest<1"]
    assert [entry["requirement"] for entry in installed.check(wanted)] == ["pytest<1"]
    wanted["overrides"] = ["pytest>=0 ; python_version < '3'"]
    assert installed.check(wanted) == []

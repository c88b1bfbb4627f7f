"""Which requirements the Python that runs this does not meet: the check behind `isolated = false`.

Run by the host as a script, `python -I -s _installed.py FILE`, so it imports nothing of its package. FILE is JSON:
requirements, constraints and overrides (specifiers), files (requirement files). Prints a JSON list of what is
unmet. Installers are not asked: uv does not see what a distribution's packages (Debian's dist-packages) put on
sys.path, and a Python need not have pip.
"""

from __future__ import annotations

import importlib.metadata as metadata
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any, Optional
from urllib.parse import unquote, urlsplit

Key = tuple[Any, ...]

_VERSION = re.compile(
    r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[-_.]?(?P<pre>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<pre_n>\d*))?"
    r"(?P<post>-(?P<post_n1>\d+)|[-_.]?(?:post|rev|r)[-_.]?(?P<post_n2>\d*))?"
    r"(?P<dev>[-_.]?dev[-_.]?(?P<dev_n>\d*))?"
    r"(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?",
    re.IGNORECASE,
)
_PHASES = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "c": 2, "rc": 2, "pre": 2, "preview": 2}
_REQUIREMENT = re.compile(
    r"\s*(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[(?P<extras>[^\]]*)\])?"
    r"\s*(?:@\s*(?P<url>\S+)|\(?(?P<specs>[^;)@]*)\)?)\s*(?:;(?P<marker>.*))?$"
)
_SPECIFIER = re.compile(r"\s*(===|==|~=|!=|<=|>=|<|>)\s*([^\s,]+)\s*")
_TOKEN = re.compile(r"\s*(?:(\()|(\))|('[^']*'|\"[^\"]*\")|(===|==|~=|!=|<=|>=|<|>)|([A-Za-z_.]+))")
RUNTIME = "pyisolate"


# ---- versions, as PEP 440 compares them --------------------------------------------------------


class Version:
    """One version; `key` orders it among others."""

    def __init__(self, text: str) -> None:
        found = _VERSION.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text!r} is no version")
        numbers = [int(part) for part in found["release"].split(".")]
        self.epoch = int(found["epoch"] or 0)
        self.release = numbers
        self.pre = (_PHASES[found["pre"].lower()], int(found["pre_n"] or 0)) if found["pre"] else None
        self.post = int(found["post_n1"] or found["post_n2"] or 0) if found["post"] else None
        self.dev = int(found["dev_n"] or 0) if found["dev"] else None
        self.local = re.split(r"[-_.]", found["local"].lower()) if found["local"] else []

    def base(self) -> Key:
        release = list(self.release)
        while len(release) > 1 and release[-1] == 0:
            release.pop()
        return (self.epoch, tuple(release))

    def public(self) -> Key:
        """The order without the local part ("+cpu")."""
        pre: Key = (1,)
        if self.pre is not None:
            pre = (0, *self.pre)
        elif self.post is None and self.dev is not None:
            pre = (-1,)  # 1.0.dev1 comes before 1.0a1
        dev = (1,) if self.dev is None else (0, self.dev)
        return (*self.base(), pre, -1 if self.post is None else self.post, dev)

    def key(self) -> Key:
        local = tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in self.local)
        return (*self.public(), local)

    def starts_with(self, other: Version, parts: int) -> bool:
        padded = self.release + [0] * parts
        return self.epoch == other.epoch and padded[:parts] == other.release[:parts]


def _equal(version: Version, text: str) -> bool:
    if text.endswith(".*"):
        prefix = Version(text[:-2])
        return version.starts_with(prefix, len(prefix.release))
    other = Version(text)
    return version.key() == other.key() if other.local else version.public() == other.public()


def meets(installed: str, operator: str, text: str) -> bool:
    """Whether an installed version meets one specifier."""
    if operator == "===":
        return installed.strip().lower() == text.strip().lower()
    version = Version(installed)
    if operator in ("==", "!="):
        return _equal(version, text) == (operator == "==")
    other = Version(text)
    if operator == "~=":
        return version.public() >= other.public() and version.starts_with(other, len(other.release) - 1)
    if operator == "<=":
        return version.public() <= other.public()
    if operator == ">=":
        return version.public() >= other.public()
    same = version.base() == other.base()
    if operator == "<":  # 1.0rc1 is no "<1.0"
        early = version.pre is not None or version.dev is not None
        return version.key() < other.key() and not (same and early and other.pre is None and other.dev is None)
    late = version.post is not None and other.post is None  # 1.0.post1 is no ">1.0", nor is 1.0+cpu
    return version.public() > other.public() and not (same and late)


# ---- requirements, as PEP 508 writes them ------------------------------------------------------


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def marker_environment() -> dict[str, str]:
    """The variables of environment markers for this Python."""
    full = platform.python_version()
    return {
        "os_name": os.name,
        "sys_platform": sys.platform,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_version": ".".join(full.split(".")[:2]),
        "python_full_version": full,
        "implementation_name": sys.implementation.name,
        "implementation_version": full,
    }


class Marker:
    """Evaluates one marker; `extra` is one of those that were asked for."""

    def __init__(self, text: str, variables: dict[str, str], extra: str) -> None:
        self.variables = {**variables, "extra": extra}
        self.tokens: list[str] = []
        at, text = 0, text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError(f"{text!r} is no environment marker")
            self.tokens.append(found[0].strip())
            at = found.end()
        self.tokens.append("")

    def holds(self) -> bool:
        value = self._all()
        while self._take("or"):
            value = self._all() or value
        return value

    def _take(self, word: str) -> bool:
        if self.tokens[0] == word:
            self.tokens.pop(0)
            return True
        return False

    def _all(self) -> bool:
        value = self._one()
        while self._take("and"):
            value = self._one() and value
        return value

    def _value(self) -> tuple[str, bool]:
        token = self.tokens.pop(0)
        if token[:1] in ("'", '"'):
            return token[1:-1], False
        if token not in self.variables:
            raise ValueError(f"{token!r} is no variable of environment markers")
        return self.variables[token], token == "extra"

    def _one(self) -> bool:
        if self._take("("):
            value = self.holds()
            if not self._take(")"):
                raise ValueError("a ')' is missing in an environment marker")
            return value
        left, is_extra = self._value()
        operator = self.tokens.pop(0)
        if operator == "not" and self._take("in"):
            operator = "not in"
        right, also = self._value()
        if is_extra or also:
            left, right = canonical(left), canonical(right)
        return _compare(left, operator, right)


def _compare(left: str, operator: str, right: str) -> bool:
    if operator == "in":
        return left in right
    if operator == "not in":
        return left not in right
    try:
        return meets(left, operator, right)
    except ValueError:  # not versions: as texts
        pass
    results = {
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }
    if operator not in results:
        raise ValueError(f"{operator!r} cannot compare {left!r} and {right!r}")
    return results[operator]


class Requirement:
    """A parsed specifier."""

    def __init__(self, text: str) -> None:
        found = _REQUIREMENT.match(text)
        if found is None:
            raise ValueError(f"{text!r} is no requirement")
        self.text = text.strip()
        self.name = canonical(found["name"])
        self.extras = [canonical(extra) for extra in (found["extras"] or "").split(",") if extra.strip()]
        self.url: Optional[str] = found["url"]
        self.marker = (found["marker"] or "").strip()
        self.specifiers: list[tuple[str, str]] = []
        for part in (found["specs"] or "").split(","):
            specifier = _SPECIFIER.fullmatch(part)
            if specifier is not None:
                self.specifiers.append((specifier[1], specifier[2]))
            elif part.strip():
                raise ValueError(f"{text!r} is no requirement: {part.strip()!r} is no version specifier")

    def applies(self, variables: dict[str, str], extras: list[str]) -> bool:
        if not self.marker:
            return True
        return any(Marker(self.marker, variables, extra).holds() for extra in (extras or [""]))

    def accepts(self, version: str) -> bool:
        return all(meets(version, operator, text) for operator, text in self.specifiers)


# ---- what is installed -------------------------------------------------------------------------


def _origin(distribution: metadata.Distribution) -> Optional[str]:
    """The URL that a distribution was installed from, if from one."""
    try:
        url = json.loads(distribution.read_text("direct_url.json") or "{}").get("url")
    except ValueError:
        return None
    return url if isinstance(url, str) else None


def _local_path(url: str) -> Optional[str]:
    parts = urlsplit(url)
    return os.path.realpath(unquote(parts.path)) if parts.scheme == "file" else None


def _project_name(folder: Path) -> Optional[str]:
    """The name that a project gives itself, from its static metadata."""
    for file in ("pyproject.toml", "setup.cfg", "setup.py"):
        try:
            text = (folder / file).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found = re.search(r"^\s*name\s*=\s*[\"']?([A-Za-z0-9._-]+)", text, re.MULTILINE)
        if found is not None:
            return canonical(found[1])
    return None


def _is_path(target: str) -> bool:
    """A path, relative to the current folder as for installers; not a name, nor an URL elsewhere."""
    word = re.split(r"[\s;]", target, maxsplit=1)[0]
    return target.startswith(("/", ".", "file:")) or ("/" in word and "://" not in word and "@" not in word)


class Check:
    """One run: collects what is unmet."""

    def __init__(self, wanted: dict[str, list[str]]) -> None:
        self.installed: dict[str, metadata.Distribution] = {}
        for distribution in metadata.distributions():
            name = distribution.metadata["Name"]
            if name:
                self.installed.setdefault(canonical(name), distribution)  # the first on sys.path is what is imported
        self.variables = marker_environment()
        self.constraints = [Requirement(text) for text in wanted["constraints"]]
        self.overrides: dict[str, list[Requirement]] = {}
        for text in wanted["overrides"]:
            override = Requirement(text)
            self.overrides.setdefault(override.name, []).append(override)
        self.unmet: list[dict[str, Optional[str]]] = []
        self.seen: set[str] = set()

    def fail(self, requirement: str, found: Optional[str], by: Optional[str]) -> None:
        self.unmet.append({"requirement": requirement, "installed": found, "by": by})

    def line(self, text: str) -> None:
        """A requirement as a configuration or a requirement file writes it."""
        editable = re.match(r"\s*(?:-e|--editable)[\s=]+(.*)", text)
        target = (editable[1] if editable else text).strip()
        named = re.match(r"[A-Za-z0-9._-]+\s*(?:\[[^\]]*\])?\s*@\s*file:", target)
        if editable or _is_path(target) or named:
            self.local(target)
        else:
            self.named(Requirement(target), [], None)

    def local(self, target: str) -> None:
        """A folder or file: something was installed from there, or goes by its project's name."""
        place, _, marker = re.sub(r"^[^/:]*@\s*(?=file:)", "", target).partition(";")
        url = place.strip()
        if marker.strip() and not Marker(marker, self.variables, "").holds():
            return
        path = _local_path(url) if url.startswith("file:") else os.path.realpath(re.sub(r"\[[^\]/]*\]$", "", url))
        name = _project_name(Path(path)) if path else None
        if path is None or name == RUNTIME or (name is not None and name in self.installed):
            return
        for distribution in self.installed.values():
            origin = _origin(distribution)
            if origin is not None and _local_path(origin) == path:
                return
        self.fail(target, None, None)

    def named(self, wanted: Requirement, extras: list[str], by: Optional[str]) -> None:
        if wanted.name == RUNTIME or not wanted.applies(self.variables, extras):
            return
        for requirement in self.overrides.get(wanted.name, [wanted]):
            if requirement.applies(self.variables, extras):
                self.one(requirement, by)

    def one(self, wanted: Requirement, by: Optional[str]) -> None:
        if wanted.text in self.seen:
            return
        self.seen.add(wanted.text)
        distribution = self.installed.get(wanted.name)
        if distribution is None:
            self.fail(wanted.text, None, by)
            return
        version = distribution.version
        bounds = [wanted, *(c for c in self.constraints if c.name == wanted.name and c.applies(self.variables, []))]
        for bound in bounds:
            if not bound.accepts(version):
                self.fail(bound.text, f"{wanted.name} {version}", by if bound is wanted else None)
                return
        for text in distribution.requires or []:
            try:
                self.named(Requirement(text), wanted.extras, f"{wanted.name} {version}")
            except ValueError:
                continue  # a distribution's own malformed metadata: it was installed with it

    def file(self, path: str) -> None:
        """A requirement file, with those it includes. Options for installers say nothing about what is needed."""
        key = os.path.realpath(path)
        if f"file {key}" in self.seen:
            return
        self.seen.add(f"file {key}")
        text = re.sub(r"\\\n", "", Path(path).read_text(encoding="utf-8"))
        for raw in text.splitlines():
            line = re.sub(r"(^|\s)#.*$", "", raw).strip()
            line = re.sub(r"\s--(?:hash|config-settings?|global-option)[\s=].*$", "", line)
            included = re.match(r"(?:-r|--requirement)[\s=]*(.*)", line)
            editable = re.match(r"(-e|--editable)[\s=]+(.*)", line)
            if included:
                self.file(os.path.join(os.path.dirname(path), included[1]))
            elif editable:
                self.line(f"-e {editable[2]}")
            elif line and not line.startswith("-"):
                self.line(line)


def check(wanted: dict[str, list[str]]) -> list[dict[str, Optional[str]]]:
    """All that this Python lacks, in the order of the requirements."""
    run = Check(wanted)
    for text in wanted["requirements"]:
        run.line(text)
    for path in wanted["files"]:
        run.file(path)
    return run.unmet


if __name__ == "__main__":
    try:
        json.dump(check(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), sys.stdout)
    except (ValueError, OSError) as exc:
        sys.exit(f"{type(exc).__name__}: {exc}")

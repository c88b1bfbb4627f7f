"""Starts an extension: output streams, import hooks, the module, and the table of what is served.

Called by the core (child/py_server.c) and imported by every extension process, so it imports next to nothing:
only what the interpreter has in memory at start anyway. The order is that of a start: `prepare`, `Loader.load`.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib import module_from_spec
from _frozen_importlib_external import spec_from_file_location

import _pyisolate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import ModuleType
    from typing import Any, Union

    Spec = dict[str, Any]
    Table = dict[str, tuple[Callable[..., Any], bool]]

_CO_COROUTINE = 0x80
_PREFIX = "_pyisolate_ext_"
_spec: Spec = {}


# ---- after an import -------------------------------------------------------------------------


class _AfterImport:
    """A finder that finds nothing itself, but runs a function after given modules were executed."""

    def __init__(self) -> None:
        self.hooks: dict[str, Callable[[ModuleType], None]] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Ask the other finders for a watched module, and wrap its loader."""
        hook = self.hooks.pop(name, None)
        if hook is None:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    self._wrap(name, spec.loader, hook)
                return spec
        self.hooks[name] = hook
        return None

    def _wrap(self, name: str, loader: Any, hook: Callable[[ModuleType], None]) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            try:
                execute(module)
            except BaseException:
                self.hooks[name] = hook  # the next import is the first one then
                raise
            hook(module)

        loader.exec_module = exec_module


_after_import = _AfterImport()


def _watch(name: str, hook: Callable[[ModuleType], None]) -> None:
    module = sys.modules.get(name)
    if module is not None:
        hook(module)
    else:
        _after_import.hooks[name] = hook


def _on_asyncio(module: ModuleType) -> None:
    _pyisolate.asyncio_imported()


def _on_logging(module: ModuleType) -> None:
    from . import _logging

    _logging.install(module)


def _on_spawn(module: Any) -> None:
    """Let processes made by multiprocessing's "spawn" import the extension's module by its name."""
    original = module.get_preparation_data

    def get_preparation_data(name: str) -> Any:
        data = original(name)
        parent = _spec["module_path"].rstrip("/").rpartition("/")[0]
        if parent and isinstance(data.get("sys_path"), list):
            data["sys_path"] = [*data["sys_path"], parent]
        return data

    module.get_preparation_data = get_preparation_data


# ---- prepare ---------------------------------------------------------------------------------


def prepare(spec: Spec) -> None:
    """Set up the process (not the streams of the host's own): called once, before the handshake."""
    if not spec["in_process"]:
        _spec.update(spec)
        import faulthandler

        from . import _streams

        os.environ["PYISOLATE_CHILD"] = "1"
        faulthandler.enable(2, all_threads=True)
        _streams.install()
        sys.argv[:] = [spec["module"]]
        _watch("logging", _on_logging)
        _watch("multiprocessing.spawn", _on_spawn)
    if _after_import not in sys.meta_path:
        sys.meta_path.insert(0, _after_import)
        _watch("asyncio", _on_asyncio)


def flush_streams() -> None:
    """Write out what print has buffered."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


# ---- the module ------------------------------------------------------------------------------


def _is_taken(name: str) -> bool:
    """Whether `import name` would find something else: it must go on finding that."""
    if name in sys.modules or name in getattr(sys, "stdlib_module_names", ()):
        return True
    for finder in sys.meta_path:
        if finder is not _after_import and hasattr(finder, "find_spec"):
            spec = finder.find_spec(name, None)
            if spec is not None and spec.loader is not None:
                return True
    return False


def _import_name(name: str) -> str:
    if name.isidentifier() and not _is_taken(name):
        return name
    unique = base = _PREFIX + "".join(c if c.isalnum() else "_" for c in name)
    number = 2
    while unique in sys.modules:
        unique = f"{base}_{number}"
        number += 1
    return unique


def _location(path: str) -> tuple[str, Union[list[str], None]]:
    """File to execute, and where sub-modules are if it is a package."""
    if path.endswith(".py"):
        return path, None
    folder = path.rstrip("/")
    return folder + "/__init__.py", [folder]


def import_module(name: str, path: str) -> ModuleType:
    """Import the extension from a package folder or a .py file, under a name that hides nothing."""
    file, places = _location(path)
    spec = spec_from_file_location(_import_name(name), file, submodule_search_locations=places)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path!r} is no Python module: name a package folder or a .py file")
    module: ModuleType = module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(spec.name, None)
        raise
    return sys.modules.get(spec.name, module)


def _explain(exc: ImportError, module: str) -> None:
    """Name the missing package and the remedy in the exception's own text."""
    if not isinstance(exc, ModuleNotFoundError) or not exc.name:
        return
    package = exc.name.partition(".")[0]
    if package == module or package in sys.modules:
        return
    exc.msg = f"{exc.msg}: the package {package!r} is not in this extension's environment; add it to `dependencies`"


def resolve(text: str, key: str) -> Any:
    """The object that the host's spec names as "package.module:attribute"."""
    module_name, colon, attribute = text.partition(":")
    if not colon:
        raise ValueError(f'`{key}` must be "package.module:Name", not {text!r}')
    __import__(module_name)
    found: Any = sys.modules[module_name]
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


# ---- what is served --------------------------------------------------------------------------


def _base() -> Any:
    """`ExtensionBase`, or None if the extension never imported it."""
    module = sys.modules.get("pyisolate._base")
    return None if module is None else module.ExtensionBase


def _is_async(function: Any) -> bool:
    """Whether a call gives a coroutine, seen through decorators that keep `__wrapped__`."""
    while function is not None:
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if code is not None and code.co_flags & _CO_COROUTINE:
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def _class_names(cls: type) -> Iterable[str]:
    base = _base()
    reserved = set(dir(base)) if base is not None else set()
    for owner in cls.__mro__:
        if owner is object or owner is base:
            continue
        for name, value in vars(owner).items():
            if name.startswith("_") or name in reserved or isinstance(value, property):
                continue
            if isinstance(value, (staticmethod, classmethod)) or callable(value):
                yield name


def methods_of(instance: Any) -> Table:
    """Public methods of an object, by name: defined by its classes, never a property or plain data."""
    table: Table = {}
    for name in _class_names(type(instance)):
        if name not in table:
            bound = getattr(instance, name)
            if callable(bound):
                table[name] = (bound, _is_async(bound))
    return table


def functions_of(module: ModuleType) -> Table:
    """Public functions of a module: those in `__all__`, else those it defines without an underscore."""
    names = getattr(module, "__all__", None)
    if names is not None:
        found = {name: getattr(module, name) for name in names}
        return {n: (f, _is_async(f)) for n, f in found.items() if _is_callable(f)}
    return {
        name: (value, _is_async(value))
        for name, value in vars(module).items()
        if not name.startswith("_")
        and name != "extension_entrypoint"
        and _is_function(value)
        and getattr(value, "__module__", None) == module.__name__
    }


def _is_callable(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


def _is_function(value: Any) -> bool:
    return _is_callable(value) and hasattr(value, "__name__")


def _subclasses_in(module: ModuleType) -> list[type]:
    base = _base()
    if base is None:
        return []
    package = module.__name__.partition(".")[0]
    found: dict[int, type] = {}
    for value in vars(module).values():
        is_class = isinstance(value, type) and issubclass(value, base) and value is not base
        if is_class and value.__module__.partition(".")[0] == package:
            found[id(value)] = value
    classes = list(found.values())
    parents = {parent for cls in classes for parent in cls.__mro__[1:]}
    return [cls for cls in classes if cls not in parents]


class Loader:
    """Loads one extension; `stage` says how far it came, for the host's error message."""

    def __init__(self, server: object) -> None:
        self.server = server
        self.stage = "start"
        self.spec = _server_spec(server)
        self.table: Table = {}
        self.stop_hook: Union[Callable[[], Any], None] = None
        self.kind = "functions"
        self.type: Union[str, None] = None
        self.instance: Any = None

    def load(self) -> None:
        """Import the module, run the hooks, and find what is served."""
        typed = self._extension_type()
        if typed is not None:
            self._start_class(typed)
            self._import()
            self._loaded()
            self._serve_instance()
            return
        self._import()
        self._find_served()

    def _extension_type(self) -> Union[type, None]:
        name = self.spec["extension_type"]
        if not name:
            return None
        self.stage = "extension_type"
        found = resolve(name, "extension_type")
        base = _base()
        if not (isinstance(found, type) and base is not None and issubclass(found, base)):
            raise TypeError(f"`extension_type` {name!r} must be a subclass of ExtensionBase")
        return None if found is base else found

    def _import(self) -> None:
        self.stage = "import"
        try:
            self.module = import_module(self.spec["module"], self.spec["module_path"])
        except ImportError as exc:
            _explain(exc, self.spec["module"])
            raise

    def _find_served(self) -> None:
        self.stage = "entrypoint"
        target = self._target()
        if target is None:
            self._serve_functions()
            return
        if isinstance(target, type):
            self._start_class(target)
        else:
            self.instance = target
            if isinstance(target, _base() or ()):
                self._hook("before_module_loaded")
        if isinstance(self.instance, _base() or ()):
            self._loaded()
        self._serve_instance()

    def _target(self) -> Any:
        """A class or object to serve, or None for the module's functions."""
        entrypoint = self.spec["entrypoint"]
        if entrypoint:
            return self._entrypoint(entrypoint)
        factory = getattr(self.module, "extension_entrypoint", None)
        if factory is not None:
            return self._called(factory, "extension_entrypoint()")
        classes = _subclasses_in(self.module)
        if len(classes) > 1:
            names = ", ".join(sorted(cls.__name__ for cls in classes))
            raise TypeError(
                f"the module defines several subclasses of ExtensionBase ({names}): name the one to "
                f'serve, `entrypoint = "{self.spec["module"]}:{classes[0].__name__}"`'
            )
        return classes[0] if classes else None

    def _entrypoint(self, text: str) -> Any:
        """`entrypoint`: "Name", ":Name" or "module:Name" in the extension, or in an installed package."""
        module, colon, attribute = text.rpartition(":")
        own = (self.spec["module"], self.module.__name__, "")
        if not colon or module in own:
            found: Any = self.module
            for part in attribute.split("."):
                found = getattr(found, part)
        elif module.startswith((self.spec["module"] + ".", ".")):
            rest = module[module.index(".") :]
            found = resolve(f"{self.module.__name__}{rest}:{attribute}", "entrypoint")
        else:
            found = resolve(text, "entrypoint")
        if _is_function(found):
            return self._called(found, f"entrypoint {text!r}")
        return found

    def _called(self, factory: Any, what: str) -> Any:
        made = factory()
        if hasattr(type(made), "__await__"):
            made = _pyisolate.run(self.server, made)
        if made is None:
            raise TypeError(f"{what} returned None, expected the object or class to serve")
        return made

    def _start_class(self, cls: type) -> None:
        self.stage = "instance"
        self.instance = cls()
        self._hook("before_module_loaded")

    def _loaded(self) -> None:
        self._hook("on_module_loaded", self.module)

    def _hook(self, name: str, *args: Any) -> None:
        hook = self._overridden(name)
        if hook is None:
            return
        self.stage = name
        result = hook(*args)
        if hasattr(type(result), "__await__"):
            _pyisolate.run(self.server, result)

    def _overridden(self, name: str) -> Union[Callable[..., Any], None]:
        """A hook of the instance, or None where only ExtensionBase has it."""
        hook = getattr(self.instance, name, None)
        base = _base()
        if base is not None and getattr(type(self.instance), name, None) is getattr(base, name):
            return None
        return hook if callable(hook) else None

    def _serve_instance(self) -> None:
        self.stage = "methods"
        if type(self.instance).__name__ == "module":
            self.table = functions_of(self.instance)
        else:
            self.table = methods_of(self.instance)
            self.kind = "extension" if isinstance(self.instance, _base() or ()) else "object"
            self.type = type(self.instance).__name__
        self.stop_hook = self._overridden("stop")

    def _serve_functions(self) -> None:
        self.stage = "methods"
        self.table = functions_of(self.module)
        stop = self.table.pop("stop", None)
        self.stop_hook = stop[0] if stop is not None else None


def _server_spec(server: object) -> Spec:
    spec: Spec = _pyisolate.spec(server)
    return spec


# ---- for the core ----------------------------------------------------------------------------


async def await_any(awaitable: Awaitable[Any]) -> Any:
    """A coroutine around an awaitable that is none."""
    return await awaitable


def no_such_method(extension: str, method: object, table: Table) -> str:
    """Text of the error for a name that is not served, with the nearest one that is."""
    import difflib

    near = difflib.get_close_matches(str(method), list(table), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"extension {extension!r} has no method {method!r}{hint}"

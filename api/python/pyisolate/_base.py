"""`ExtensionBase`: what an extension may derive from, and `ProxiedSingleton`."""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar, NoReturn, TypeVar

T = TypeVar("T")


def _not_yet(what: str) -> NoReturn:
    raise RuntimeError(
        f"{what} is not available yet in this version of pyisolate-host: services, events and remote "
        "objects come with a later one. Methods, hooks, print and logging work."
    )


class ExtensionBase:
    """Base class of extensions: hooks around loading, and the public methods that are served.

    Every public method (no leading underscore) that a subclass defines can be called by the host. Hooks and
    methods may be plain or `async`.
    """

    async def before_module_loaded(self) -> None:
        """Called before the extension's module is imported."""

    async def on_module_loaded(self, module: ModuleType) -> None:
        """Called with the extension's module after it was imported."""

    async def stop(self) -> None:
        """Called once when the extension is stopped; release what is held."""

    def emit_event(self, name: str, payload: dict[str, Any]) -> None:
        """Emit a named event to the host (not available yet)."""
        _not_yet(f"emit_event({name!r})")

    def create_caller(self, object_type: type[T], object_id: str) -> T:
        """Make a proxy of a remote object (not available yet)."""
        _not_yet(f"create_caller({object_type.__name__}, {object_id!r})")

    def register_callee(self, object_instance: object, object_id: str) -> None:
        """Expose an object to the host under an id (not available yet)."""
        _not_yet(f"register_callee({type(object_instance).__name__}, {object_id!r})")

    def use_remote(self, proxied_singleton: type[ProxiedSingleton]) -> None:
        """Make a `ProxiedSingleton` class resolve to the host's instance (not available yet)."""
        _not_yet(f"use_remote({proxied_singleton.__name__})")


class ProxiedSingleton:
    """A class with one instance per process, which may later stand for an instance of the host's."""

    _instances: ClassVar[dict[type, Any]] = {}

    def __new__(cls, *args: Any, **kwargs: Any) -> ProxiedSingleton:
        """Return the instance of this class, making it the first time."""
        if cls not in ProxiedSingleton._instances:
            ProxiedSingleton._instances[cls] = super().__new__(cls)
        instance: ProxiedSingleton = ProxiedSingleton._instances[cls]
        return instance

    @classmethod
    def get_remote_id(cls) -> str:
        """Name under which the host knows the object; the class's name unless overridden."""
        return cls.__name__

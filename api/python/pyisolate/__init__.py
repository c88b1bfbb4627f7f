"""pyisolate: Python extensions that run in a process and an environment of their own.

Inside an extension: derive from `ExtensionBase`, or just write functions. Nothing is imported here until it is
asked for, because this package is loaded by every extension process.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._base import ExtensionBase as ExtensionBase
    from ._base import ProxiedSingleton as ProxiedSingleton
    from ._buffer import Buffer as Buffer
    from ._cancelled import CallCancelled as CallCancelled

__version__ = "0.1.0"
__all__ = ["Buffer", "CallCancelled", "ExtensionBase", "ProxiedSingleton", "__version__"]

_HOME = {
    "Buffer": "_buffer",
    "CallCancelled": "_cancelled",
    "ExtensionBase": "_base",
    "ProxiedSingleton": "_base",
}


def __getattr__(name: str) -> object:
    """Import what is asked for on first use, and keep it."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'pyisolate' has no attribute {name!r}")
    module = __import__(f"{__name__}.{home}", fromlist=[name])
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, imported or not."""
    return sorted(__all__)

"""A package that needs both its parts as its own names, as asyncio does: half an import of it cannot be repaired."""

from .first import *  # noqa: F403
from .second import *  # noqa: F403

__all__ = first.__all__ + second.__all__  # noqa: F405

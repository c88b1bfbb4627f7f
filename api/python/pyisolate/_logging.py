"""Python's logging in an extension: what would go to stderr by default goes to the host's log with its level.

Installed when the extension imports `logging`. Only the two defaults change: the handler of last resort, and
`basicConfig()` without a stream, file or handlers. What an extension configures itself works as always.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

import _pyisolate

_LEVELS = ((logging.ERROR, b"e"), (logging.WARNING, b"w"), (logging.INFO, b"i"))


class HostHandler(logging.Handler):
    """Sends records to the host's log: level, logger's name, text."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; an error in formatting is shown as logging shows it."""
        try:
            text = self.format(record).encode("utf-8", "backslashreplace")
            level = next((b for least, b in _LEVELS if record.levelno >= least), b"d")
            _pyisolate.log(level, b"l", record.name[:200], text or b" ")
        except Exception:
            self.handleError(record)


def install(module: ModuleType) -> None:
    """Change the two defaults."""
    logging.lastResort = HostHandler(logging.WARNING)
    original = logging.basicConfig

    def basicConfig(**kwargs: Any) -> None:
        if all(kwargs.get(key) is None for key in ("stream", "filename", "handlers")):
            handler = HostHandler()
            if "format" not in kwargs and "style" not in kwargs:
                handler.setFormatter(logging.Formatter("%(message)s"))
            kwargs = {k: v for k, v in kwargs.items() if k not in ("stream", "filename")}
            kwargs["handlers"] = [handler]
        original(**kwargs)

    basicConfig.__doc__ = original.__doc__
    logging.basicConfig = basicConfig

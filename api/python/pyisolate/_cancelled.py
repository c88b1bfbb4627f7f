"""`CallCancelled`: made in C inside an extension's process, here everywhere else."""

from __future__ import annotations

try:
    from _pyisolate import CallCancelled
except ImportError:

    class CallCancelled(BaseException):  # type: ignore[no-redef]
        """Raised in a call whose caller cancelled it or whose deadline passed."""

        __module__ = "pyisolate"


__all__ = ["CallCancelled"]

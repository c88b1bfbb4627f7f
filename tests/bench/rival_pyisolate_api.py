"""The extension type that pyisolate's host names and its child instantiates."""

from __future__ import annotations

import os
from typing import Any

from pyisolate import ExtensionBase


class Echo(ExtensionBase):  # type: ignore[misc, no-any-unimported, unused-ignore]
    async def before_module_loaded(self) -> None:
        return None

    async def on_module_loaded(self, module: Any) -> None:
        self.module = module

    async def echo(self, value: Any) -> Any:
        return value

    async def pid(self) -> int:
        return os.getpid()

"""Modules that take long to import and that few tests use: imported when the first of these runs, not to collect."""

from __future__ import annotations

import importlib
from typing import Any


class Lazily:
    """Stands for a module until a name is asked of it; type checkers are shown the real one."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pytest asks everything in a module whether it is a test
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)

"""Watching agents from outside: log lines for machines, OpenTelemetry traces and metrics.

Both are subscribers like any other, built on `flue.observe`. What users and models write is left out unless asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flue.observability.log_lines import log_events
    from flue.observability.otel import instrument

__all__ = ["instrument", "log_events"]
_MODULES = {"instrument": "otel", "log_events": "log_lines"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

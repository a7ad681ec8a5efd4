"""Flue on Cloudflare Workers: agents and workflows as Durable Objects.

Names are loaded when first used: a project that imports them can be looked at, and built, on any computer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flue.cloudflare.container.sandbox import ContainerSandbox, get_sandbox
    from flue.cloudflare.context import CloudflareContext, get_cloudflare_context
    from flue.cloudflare.platform.workers_ai import register_workers_ai

_EXPORTS = {
    "container.sandbox": ("ContainerSandbox", "get_sandbox"),
    "context": ("CloudflareContext", "get_cloudflare_context"),
    "platform.workers_ai": ("register_workers_ai",),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = ["CloudflareContext", "ContainerSandbox", "get_cloudflare_context", "get_sandbox", "register_workers_ai"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'flue.cloudflare' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"flue.cloudflare.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Models: the wire adapters, the catalogue, providers, and the offline demo model. Loads nothing until asked."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flue.models.http import Httpx2Transport
    from flue.models.providers import configure_provider, register_model, register_provider
    from flue.models.source import Models

__all__ = ["Httpx2Transport", "Models", "configure_provider", "register_model", "register_provider"]

_HOMES = {
    "Httpx2Transport": "flue.models.http",
    "Models": "flue.models.source",
    "configure_provider": "flue.models.providers",
    "register_model": "flue.models.providers",
    "register_provider": "flue.models.providers",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

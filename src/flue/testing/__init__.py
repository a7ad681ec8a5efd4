"""What tests of agents need: a scripted model, a fake provider, a clock that only moves when told to, contract suites.

Names are loaded when they are first used: pytest loads the plugin in every run of its users.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flue.stores.memory import MemoryStore
    from flue.testing.clock import VirtualClock
    from flue.testing.history_contract import HistoryContract
    from flue.testing.ids import SequentialIds
    from flue.testing.owner_contract import OwnerContract
    from flue.testing.provider.reply import call
    from flue.testing.provider_server import ProviderServer
    from flue.testing.sandbox_conformance import SandboxConformance
    from flue.testing.scripted import RecordedRequest, ScriptedModel, hang, thinking
    from flue.testing.store_contract import DurableStoreContract, StoreContract
    from flue.testing.work_contract import WorkContract

__all__ = [
    "DurableStoreContract",
    "HistoryContract",
    "MemoryStore",
    "OwnerContract",
    "ProviderServer",
    "RecordedRequest",
    "SandboxConformance",
    "ScriptedModel",
    "SequentialIds",
    "StoreContract",
    "VirtualClock",
    "WorkContract",
    "call",
    "hang",
    "thinking",
]

_EXPORTS = {
    "stores.memory": ("MemoryStore",),
    "testing.clock": ("VirtualClock",),
    "testing.history_contract": ("HistoryContract",),
    "testing.ids": ("SequentialIds",),
    "testing.owner_contract": ("OwnerContract",),
    "testing.provider.reply": ("call",),
    "testing.provider_server": ("ProviderServer",),
    "testing.sandbox_conformance": ("SandboxConformance",),
    "testing.scripted": ("RecordedRequest", "ScriptedModel", "hang", "thinking"),
    "testing.store_contract": ("DurableStoreContract", "StoreContract"),
    "testing.work_contract": ("WorkContract",),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"flue.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

"""The blocking face: the same objects for code without `await`, in scripts, notebooks and sync web handlers.

Nothing is implemented here. An event loop runs in a thread of its own, and each method hands the call of the same name
to it and waits for the result.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flue.sync.context import SyncContext, SyncLog, open_context_sync
    from flue.sync.files import SyncFs
    from flue.sync.harness import SyncHarness, SyncSessions
    from flue.sync.session import SyncApprovals, SyncSession

_MODULES = {
    "SyncApprovals": "session",
    "SyncContext": "context",
    "SyncFs": "files",
    "SyncHarness": "harness",
    "SyncLog": "context",
    "SyncSession": "session",
    "SyncSessions": "harness",
    "open_context_sync": "context",
}
__all__ = [
    "SyncApprovals",
    "SyncContext",
    "SyncFs",
    "SyncHarness",
    "SyncLog",
    "SyncSession",
    "SyncSessions",
    "open_context_sync",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

"""Where sessions and durable work live: a SQLite file, Postgres, memory; sessions also in a user's own object.

Names are loaded when they are first used: importing this package imports no database module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flue.stores.location import open_store, store_from_env
    from flue.stores.memory import MemoryStore
    from flue.stores.persist import PersistStore
    from flue.stores.postgres import PostgresStore
    from flue.stores.sqlite import SqliteStore

__all__ = ["MemoryStore", "PersistStore", "PostgresStore", "SqliteStore", "open_store", "store_from_env"]

_HOMES = {
    "MemoryStore": "memory",
    "PersistStore": "persist",
    "PostgresStore": "postgres",
    "SqliteStore": "sqlite",
    "open_store": "location",
    "store_from_env": "location",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

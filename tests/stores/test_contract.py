from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from flue.messages import Json
from flue.ports import Store
from flue.stores import MemoryStore, PersistStore, SqliteStore
from flue.testing.store_contract import DurableStoreContract, StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _stores(self) -> None:
        self._by_directory: dict[Path, MemoryStore] = {}

    def make_store(self, directory: Path) -> Store:
        return self._by_directory.setdefault(directory, MemoryStore())


class TestSqliteStore(DurableStoreContract):
    opener = "flue.stores:SqliteStore"

    def make_store(self, directory: Path) -> Store:
        return SqliteStore(self.location(directory))

    def location(self, directory: Path) -> str:
        return str(directory / "data" / "flue.db")


class Shelf:
    """A user's session store: JSON text in a dict, async as a remote one would be."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    async def save(self, id: str, data: Json) -> None:
        text = json.dumps(data)
        await asyncio.sleep(0)
        self._texts[id] = text

    async def load(self, id: str) -> Json | None:
        await asyncio.sleep(0)
        return json.loads(self._texts[id]) if id in self._texts else None

    async def delete(self, id: str) -> None:
        await asyncio.sleep(0)
        self._texts.pop(id, None)

    async def list(self, prefix: str) -> list[str]:
        await asyncio.sleep(0)
        return [key for key in self._texts if key.startswith(prefix)]


class TestPersistStore(StoreContract):
    keeps_start = False

    @pytest.fixture(autouse=True)
    def _shelves(self) -> None:
        self._by_directory: dict[Path, dict[str, str]] = {}

    def make_store(self, directory: Path) -> Store:
        return PersistStore(Shelf(self._by_directory.setdefault(directory, {})))

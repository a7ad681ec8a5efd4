from __future__ import annotations

from pathlib import Path

import pytest

from flue.durable.port import DurableStore
from flue.stores import MemoryStore, SqliteStore
from flue.testing.history_contract import HistoryContract
from flue.testing.owner_contract import OwnerContract
from flue.testing.work_contract import WorkContract


class InMemory:
    @pytest.fixture(autouse=True)
    def _stores(self) -> None:
        self._by_directory: dict[Path, MemoryStore] = {}

    def make_store(self, directory: Path) -> DurableStore:
        return self._by_directory.setdefault(directory, MemoryStore())


class TestMemoryWork(InMemory, WorkContract):
    pass


class TestMemoryOwners(InMemory, OwnerContract):
    pass


class TestMemoryHistory(InMemory, HistoryContract):
    pass


class InSqlite:
    def make_store(self, directory: Path) -> DurableStore:
        return SqliteStore(directory / "data" / "flue.db")


class TestSqliteWork(InSqlite, WorkContract):
    pass


class TestSqliteOwners(InSqlite, OwnerContract):
    pass


class TestSqliteHistory(InSqlite, HistoryContract):
    pass

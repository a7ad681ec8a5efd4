"""The contracts of every store, over a Durable Object's storage."""

from __future__ import annotations

from flue.testing.history_contract import HistoryContract
from flue.testing.owner_contract import OwnerContract
from flue.testing.store_contract import StoreContract
from flue.testing.work_contract import WorkContract
from tests.cloudflare.objects import InObjects


class TestObjectSessions(InObjects, StoreContract):
    pass


class TestObjectWork(InObjects, WorkContract):
    pass


class TestObjectOwners(InObjects, OwnerContract):
    pass


class TestObjectHistory(InObjects, HistoryContract):
    pass

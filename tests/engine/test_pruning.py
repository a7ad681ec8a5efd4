"""When what has ended is deleted, and how much at a time."""

from __future__ import annotations

import asyncio

import pytest

from flue.durable.records import Retention
from flue.engine.pruning import KeepFor, Pruning
from flue.errors import DurabilityError
from flue.stores import MemoryStore
from flue.testing import VirtualClock

KEEP = KeepFor(runs=4.0, prompts=3.0, deltas=2.0, keys=None)


class Shelf(MemoryStore):
    """A store that has so much to delete, or fails."""

    def __init__(self, *left: int) -> None:
        super().__init__()
        self.left = list(left)
        self.asked: list[Retention] = []

    async def prune(self, retention: Retention, *, limit: int = 500) -> int:
        self.asked.append(retention)
        if not self.left:
            raise DurabilityError("No.", code="store_io")
        return self.left.pop(0)


# DUR-17
async def test_all_that_is_too_old_is_deleted_each_by_its_own_time_with_pauses_in_between() -> None:
    store, clock = Shelf(500, 7, 0), VirtualClock()
    pruning = Pruning(store, clock, KEEP)
    now = clock.now_ms()
    running = asyncio.create_task(pruning.run())
    for tries in (1, 2, 3):
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(store.asked) == tries
        await clock.advance(0.05)
    await running
    expected = Retention(submissions=now - 3000, runs=now - 4000, deltas=now - 2000, receipts=None)
    assert set(store.asked) == {expected}


async def test_it_is_due_at_the_start_and_again_after_ten_minutes() -> None:
    clock = VirtualClock()
    pruning = Pruning(Shelf(0, 0), clock, KEEP)
    due = [pruning.due]
    await pruning.run()
    for seconds in (599, 1):
        await clock.advance(seconds)
        due.append(pruning.due)
    assert due == [True, False, True]


async def test_a_store_that_cannot_delete_is_no_concern_of_the_work(caplog: pytest.LogCaptureFixture) -> None:
    await Pruning(Shelf(), VirtualClock(), KEEP).run()
    assert "could not be deleted" in caplog.text


async def test_keys_are_kept_as_long_as_is_said() -> None:
    store, clock = Shelf(0), VirtualClock()
    await Pruning(store, clock, KeepFor(keys=9.0)).run()
    assert store.asked[0].receipts == clock.now_ms() - 9000

"""What a claim has to write is gathered, and goes with the next transition, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from flue.durable.outbox import Outbox
from flue.durable.records import EventRow, JournalRecord, Message, Outcome, StepResult, Wait
from flue.stores import MemoryStore
from flue.testing.work_contract import admission, claim_one
from tests.engine.log_scene import SlowStore

NOTE = JournalRecord("note", "n")


async def outbox_on(store: MemoryStore) -> Outbox:
    """Return the outbox of a claim."""
    await store.admit(admission("s1"), now=0)
    return Outbox(store, await claim_one(store, "a1"))


# DUR-07
async def test_what_was_added_is_written_with_the_next_transition_and_never_again() -> None:
    store = MemoryStore()
    outbox = await outbox_on(store)
    await store.deliver("s1", Message("m1", "paid"), now=0)
    outbox.add(journal=[NOTE], steps=[StepResult("a", "1")], consumed=["m1"])
    assert await store.load_journal("s1") == []
    await outbox.write()
    await outbox.write()
    await outbox.settle(Outcome("completed"), now=1)
    assert [record.kind for record in await store.load_journal("s1")] == ["note", "settled"]
    assert (await store.load_steps("s1"), await store.load_messages("s1")) == ([StepResult("a", "1")], [])


# DUR-07
async def test_what_was_added_goes_with_the_end_the_wait_and_the_release_too() -> None:
    store = MemoryStore()
    outbox = await outbox_on(store)
    outbox.add(journal=[NOTE])
    await outbox.park(Wait("sleep", 5), now=1)
    await store.wake_due(now=5)
    outbox = Outbox(store, await claim_one(store, "a2", now=5))
    outbox.add(journal=[NOTE])
    await outbox.release(now=6)
    outbox = Outbox(store, await claim_one(store, "a3", now=6))
    outbox.add(journal=[NOTE])
    await outbox.settle(Outcome("completed"), now=7)
    assert [record.kind for record in await store.load_journal("s1")] == ["note", "note", "note", "settled"]


# DUR-23
async def test_flushing_waits_until_everything_is_on_disk() -> None:
    store = SlowStore()
    outbox = await outbox_on(store)
    outbox.add(journal=[NOTE])
    flushing = asyncio.create_task(outbox.flush())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not flushing.done()
    store.commit()
    await flushing
    assert await store.load_journal("s1") == [NOTE]


class Rows:
    """A log that must wait for indices before it can hand over its last rows."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def take(self) -> tuple[EventRow, ...]:
        self.seen.append("take")
        return ()

    def sent(self, written: Awaitable[object]) -> None:
        pass

    async def ready(self) -> None:
        await asyncio.sleep(0)
        self.seen.append("ready")

    def close(self) -> None:
        pass


# DUR-34
@pytest.mark.parametrize("transition", ["settle", "park", "release", "restart"])
async def test_whatever_ends_a_claim_takes_the_rows_along_that_have_no_place_in_the_log_yet(transition: str) -> None:
    outbox = await outbox_on(MemoryStore())
    outbox.rows = rows = Rows()
    match transition:
        case "settle":
            await outbox.settle(Outcome("completed"), now=1)
        case "park":
            await outbox.park(Wait("sleep", 5), now=1)
        case "release":
            await outbox.release(now=1)
        case _:
            await outbox.restart(admission("s2"), error="{}", now=1)
    assert rows.seen == ["ready", "take"]

"""What a claim has to write is gathered, and goes with the next transition, once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from flue.durable.outbox import Outbox
from flue.durable.records import Admission, Admitted, Claim, EventRow, JournalRecord, Message, Outcome, StepResult, Wait
from flue.errors import DurabilityError
from flue.stores import MemoryStore
from flue.testing.work_contract import admission, claim_one
from tests.engine.log_scene import SlowStore, settled_tasks

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


@pytest.mark.parametrize(
    "added",
    [{"journal": [NOTE]}, {"steps": [StepResult("a", "1")]}, {"consumed": ["m1"]}],
    ids=["journal", "steps", "consumed"],
)
async def test_flushing_writes_whatever_was_added(added: dict[str, Any]) -> None:
    store = MemoryStore()
    outbox = await outbox_on(store)
    await store.deliver("s1", Message("m1", "paid"), now=0)
    outbox.add(**added)
    await outbox.flush()
    kept = await store.load_journal("s1"), await store.load_steps("s1"), not await store.load_messages("s1")
    assert kept == (added.get("journal", []), added.get("steps", []), "consumed" in added)


class Rows:
    """A log that must wait for indices before it can hand over its last rows."""

    def __init__(self, *rows: EventRow) -> None:
        self.seen: list[str] = []
        self.written: list[asyncio.Future[Any]] = []
        self._rows = rows

    def take(self) -> tuple[EventRow, ...]:
        self.seen.append("take")
        rows, self._rows = self._rows, ()
        return rows

    def sent(self, written: Awaitable[object]) -> None:
        self.written.append(asyncio.ensure_future(written))

    async def ready(self) -> None:
        await asyncio.sleep(0)
        self.seen.append("ready")

    def close(self) -> None:
        self.seen.append("close")


class SlowEnds(SlowStore):
    """A store of which every transition of a claim takes its time."""

    def park(self, claim: Claim, wait: Wait, **more: Any) -> Awaitable[bool]:
        return self.later(lambda: super(SlowEnds, self).park(claim, wait, **more))

    def release(self, claim: Claim, **more: Any) -> Awaitable[None]:
        return self.later(lambda: super(SlowEnds, self).release(claim, **more))

    def restart(self, claim: Claim, admission: Admission, **more: Any) -> Awaitable[Admitted]:
        return self.later(lambda: super(SlowEnds, self).restart(claim, admission, **more))


TRANSITIONS: dict[str, Callable[[Outbox], Awaitable[object]]] = {
    "settle": lambda outbox: outbox.settle(Outcome("completed"), now=1),
    "park": lambda outbox: outbox.park(Wait("sleep", 5), now=1),
    "release": lambda outbox: outbox.release(now=1),
    "restart": lambda outbox: outbox.restart(admission("s2", "s2"), error="{}", now=1),
}


# DUR-34
@pytest.mark.parametrize("transition", TRANSITIONS)
async def test_whatever_ends_a_claim_takes_the_rows_along_that_have_no_place_in_the_log_yet(transition: str) -> None:
    outbox = await outbox_on(MemoryStore())
    outbox.rows = rows = Rows()
    await TRANSITIONS[transition](outbox)
    assert rows.seen == ["ready", "take"]


@pytest.mark.parametrize("transition", [*TRANSITIONS, "write", "flush"])
async def test_whoever_is_cancelled_while_a_transition_is_written_leaves_it_as_it_is(transition: str) -> None:
    """The log hears how it went, and so does whoever else waits."""
    store = SlowEnds()
    await store.admit(admission("s1", reserve=1), now=0)
    outbox = Outbox(store, await claim_one(store, "a1"))
    outbox.rows = rows = Rows(EventRow("s1", 0, 0, "x"))
    outbox.add(journal=[NOTE])
    begin = {**TRANSITIONS, "write": Outbox.write, "flush": Outbox.flush}[transition]

    async def call() -> None:
        await begin(outbox)

    caller = asyncio.create_task(call())
    await settled_tasks()
    caller.cancel()
    await settled_tasks()
    assert caller.cancelled()
    waiting = asyncio.create_task(outbox.flush())
    await settled_tasks()
    store.commit()
    await waiting
    assert [written.cancelled() for written in rows.written] == [False]
    assert (await store.load_journal("s1"))[0] == NOTE


async def test_how_a_write_went_that_nobody_awaits_is_told_with_the_next_and_asyncio_does_not_complain() -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    store = SlowStore()
    outbox = await outbox_on(store)
    await store.retire("one", now=0)
    outbox.write()
    store.commit()
    await settled_tasks()
    gc.collect()
    assert complaints == []
    await claim_one(store, "a1")
    with pytest.raises(DurabilityError, match="s1"):
        await outbox.write()


async def test_what_was_cut_off_reaches_the_store_no_more() -> None:
    store = MemoryStore()
    outbox = await outbox_on(store)
    outbox.rows = rows = Rows(EventRow("s1", 0, 0, "x"))
    outbox.cut()
    assert rows.seen == ["close"]
    outbox.add(journal=[NOTE])
    for begin in (Outbox.write, *TRANSITIONS.values()):
        with pytest.raises(DurabilityError) as refused:
            await begin(outbox)
        assert refused.value.code == "attempt_lost"
    found = await store.get_submission("s1")
    assert found is not None
    assert (found.state, rows.seen, await store.load_journal("s1")) == ("running", ["close"], [])

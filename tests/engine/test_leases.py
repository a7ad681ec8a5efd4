"""While it works an engine renews its lease, which also tells what it has missed, and ends work at its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from flue.durable.records import Admission, Admitted, Claim, Claimant, Outcome, Renewal, Schedule, Wait
from flue.engine.attempt import Attempt, Ending, Parked, Settled
from flue.engine.engine import Engine, EngineSettings
from flue.errors import DurabilityError
from flue.stores import MemoryStore
from flue.stores.listeners import Listener
from flue.testing import SequentialIds, VirtualClock
from flue.testing.work_contract import admission
from tests.engine.log_scene import settled_tasks

LEASE = 30.0


class DeafStore(MemoryStore):
    """A store whose wake-ups are all lost, and whose first renewals fail as often as it is told to."""

    failures = 0

    def listen(self, listener: Listener, *, events: bool = True) -> Callable[[], None]:
        return lambda: None

    async def renew(self, owner: str, claims: Sequence[Claim], *, now: int, lease_until: int) -> Renewal:
        self.failures -= 1
        if self.failures >= 0:
            raise DurabilityError("No.", code="store_locked")
        return await super().renew(owner, claims, now=now, lease_until=lease_until)


class Scene:
    """An engine, its store and its clock; what it drives goes on until it is stopped, or until `ends` is set."""

    def __init__(self) -> None:
        self.store, self.clock = DeafStore(), VirtualClock()
        self.ends = asyncio.Event()
        self.stopped: list[str] = []
        self.looked: list[str] = []
        settings = EngineSettings(lease=LEASE)
        self.engine = Engine(self.store, self.clock, SequentialIds(), self.drive, owner="one", settings=settings)

    async def drive(self, attempt: Attempt) -> Ending:
        async def look() -> None:
            self.looked.append(attempt.claim.id)

        attempt.on_message, attempt.waits = look, lambda: attempt.claim.id == "waiting"
        try:
            await self.ends.wait()
        except asyncio.CancelledError:
            self.stopped.append(attempt.claim.id)
            raise
        return Settled(Outcome("completed"))

    async def free_for_others(self) -> int:
        """Return how much another owner could take over now."""
        return await self.store.take_over("two", now=self.clock.now_ms())


async def test_as_long_as_there_is_work_its_lease_is_renewed_also_after_a_failure() -> None:
    scene = Scene()
    scene.store.failures = 1
    await scene.engine.admit(admission("s1", "one"))
    for _ in range(5):
        await scene.clock.advance(LEASE - 1)
        assert await scene.free_for_others() == 0
    scene.ends.set()
    assert await scene.engine.outcome("s1") == Outcome("completed")
    await scene.clock.advance(5 * LEASE)
    scene.ends.clear()
    await scene.engine.admit(admission("s2", "two"))
    for _ in range(3):
        await scene.clock.advance(LEASE - 1)
        assert await scene.free_for_others() == 0
    await scene.engine.drain(0)


# DUR-05
async def test_work_that_another_has_taken_over_is_stopped_when_the_lease_is_renewed() -> None:
    scene = Scene()
    await scene.engine.admit(admission("s1"))
    await settled_tasks()
    later = scene.clock.now_ms() + round(LEASE * 1000)
    assert await scene.store.take_over("two", now=later) == 1
    assert len(await scene.store.claim([Claimant("two", "b1", 2 * later)], now=later)) == 1
    assert scene.stopped == []
    await scene.clock.advance(LEASE / 3)
    assert scene.stopped == ["s1"]
    assert scene.engine.running == 0
    await scene.engine.drain(0)


async def test_an_abort_or_a_message_whose_wake_up_was_lost_is_found_when_the_lease_is_renewed() -> None:
    scene = Scene()
    for id in ("waiting", "busy"):
        await scene.engine.admit(admission(id, id))
    await scene.store.cancel("busy", "enough", now=scene.clock.now_ms())
    await scene.clock.advance(LEASE / 3)
    assert scene.looked == ["waiting"]
    assert scene.stopped == ["busy"]
    await scene.engine.drain(0)


# DUR-36
async def test_an_abort_that_comes_in_the_moment_before_work_is_parked_is_heard_without_a_wake_up() -> None:
    store = DeafStore()

    async def drive(attempt: Attempt) -> Ending:
        if not attempt.fresh:
            await asyncio.Event().wait()
        await store.cancel("s1", "enough", now=0)
        return Parked(Wait("approval", names=("yes",)))

    engine = Engine(store, VirtualClock(), SequentialIds(), drive)
    await engine.admit(admission("s1"))
    assert await asyncio.wait_for(engine.outcome("s1"), 5) == Outcome.aborted("enough")
    await engine.drain(0)


# DUR-35
@pytest.mark.parametrize("seconds", [5, 15, 45])
async def test_work_ends_at_its_deadline_whether_that_is_near_or_far(seconds: int) -> None:
    scene = Scene()
    await scene.engine.admit(admission("s1", timeout_ms=seconds * 1000))
    await scene.clock.advance(seconds - 0.1)
    assert scene.stopped == []
    await scene.clock.advance(0.1)
    assert scene.stopped == ["s1"]
    await scene.engine.drain(0)


# DUR-38
async def test_more_work_than_is_claimed_at_once_begins_nevertheless() -> None:
    scene = Scene()
    for n in range(300):
        await scene.store.admit(admission(f"s{n}", f"lane{n}"), now=0)
    await scene.engine.start()
    await settled_tasks()
    assert scene.engine.running == 300
    scene.ends.set()
    await scene.engine.drain(1)


async def test_what_is_due_and_another_projects_keeps_nobody_busy() -> None:
    class Store(MemoryStore):
        asked = 0

        async def next_due(self, owner: str) -> int | None:
            self.asked += 1
            return await super().next_due(owner)

    async def done_at_once(attempt: Attempt) -> Ending:
        return Settled(Outcome("completed"))

    store, clock = Store(), VirtualClock()
    await store.put_schedule(Schedule("other/daily", "{}", 0))
    engine = Engine(store, clock, SequentialIds(), done_at_once)
    await engine.start()
    await settled_tasks()
    for seconds in range(1, 4):
        assert store.asked == seconds
        await clock.advance(1)
    await engine.drain(0)


# DUR-24
async def test_work_whose_caller_gives_up_while_it_is_being_accepted_is_done_all_the_same() -> None:
    """Claimed and begun by nobody it would wait until its owner is gone."""
    gate = asyncio.Event()

    class SlowStore(MemoryStore):
        async def admit(self, admission: Admission, **options: Any) -> Admitted:
            admitted = await super().admit(admission, **options)
            await gate.wait()
            return admitted

    async def done_at_once(attempt: Attempt) -> Ending:
        return Settled(Outcome("completed"))

    engine = Engine(SlowStore(), VirtualClock(), SequentialIds(), done_at_once)
    caller = asyncio.create_task(engine.admit(admission("s1")))
    await settled_tasks()
    caller.cancel()
    await settled_tasks()
    gate.set()
    assert await asyncio.wait_for(engine.outcome("s1"), 5) == Outcome("completed")
    await engine.drain(0)

"""The engine by itself: what is claimed, begun and ended in the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest

from flue.durable.records import Admission, Admitted, Claim, Claimant, Outcome, Wake
from flue.engine.attempt import Attempt, Ending, Settled
from flue.engine.engine import Engine, EngineSettings
from flue.errors import DurabilityError, UsageError
from flue.stores import MemoryStore
from flue.stores.listeners import Listener
from flue.testing import SequentialIds, VirtualClock
from flue.testing.work_contract import LEASE, admission
from tests.engine.log_scene import settled_tasks
from tests.engine.scenes import kill

TIMEOUT_MS = 60_000


async def test_what_is_claimed_while_the_engine_stops_is_given_back_untouched() -> None:
    """Begun, it would not know that it is to stop, and be interrupted: of a workflow, the run would end."""
    asked, answer = asyncio.Event(), asyncio.Event()

    class SlowStore(MemoryStore):
        async def claim(
            self, claimants: Sequence[Claimant], *, now: int, lanes: Collection[str] | None = None
        ) -> list[Claim]:
            claims = await super().claim(claimants, now=now, lanes=lanes)
            if claims:
                asked.set()
                await answer.wait()
            return claims

    driven: list[str] = []

    async def drive(attempt: Attempt) -> Ending:
        driven.append(attempt.claim.id)
        await asyncio.Event().wait()
        return Settled(Outcome("completed"))

    store, clock = SlowStore(), VirtualClock()
    engine = Engine(store, clock, SequentialIds(), drive)
    await engine.admit(admission("s1", "one"))
    await settled_tasks()
    await store.admit(admission("s2", "two"), now=0)
    await asked.wait()
    draining = asyncio.create_task(engine.drain(5))
    await settled_tasks()
    answer.set()
    await clock.advance(5)
    await draining
    assert driven == ["s1"]
    states = [await store.get_submission(id) for id in ("s1", "s2")]
    assert [(found.state, found.interruptions) for found in states if found] == [("queued", 1), ("queued", 0)]


async def test_the_lease_of_work_that_begins_as_the_last_one_ends_is_renewed_and_its_deadline_kept() -> None:
    """In a process that keeps no timer while nothing runs."""
    go_on = asyncio.Event()

    class Store(MemoryStore):
        async def admit(self, admission: Admission, **options: Any) -> Admitted:
            if admission.id == "s2":
                attempt = engine._workers.find("s1")
                assert attempt is not None
                await attempt.rest
            return await super().admit(admission, **options)

    async def drive(attempt: Attempt) -> Ending:
        await go_on.wait()
        if attempt.claim.id == "s2":
            await asyncio.Event().wait()
        return Settled(Outcome("completed"))

    store, clock = Store(), VirtualClock()
    settings = EngineSettings(hibernates=True)
    engine = Engine(store, clock, SequentialIds(), drive, settings=settings)
    await engine.admit(admission("s1", "one"))
    later = asyncio.create_task(engine.admit(admission("s2", "two", timeout_ms=TIMEOUT_MS)))
    await settled_tasks()
    go_on.set()
    await later
    await clock.advance(TIMEOUT_MS / 1000)
    found = await store.get_submission("s2")
    assert found is not None
    assert found.outcome == "failed"
    await engine.drain(0)


async def test_an_engine_that_is_stopped_while_it_starts_does_not_go_on() -> None:
    enlisted = asyncio.Event()

    class SlowStore(MemoryStore):
        async def enlist(self, owner: str, *, now: int, lease_until: int) -> None:
            await enlisted.wait()
            await super().enlist(owner, now=now, lease_until=lease_until)

    async def drive(attempt: Attempt) -> Ending:
        return Settled(Outcome("completed"))

    engine = Engine(SlowStore(), VirtualClock(), SequentialIds(), drive)
    starting = asyncio.create_task(engine.start())
    await settled_tasks()
    await engine.drain(0)
    enlisted.set()
    await starting
    await settled_tasks()
    assert asyncio.all_tasks() == {asyncio.current_task()}


class FlakyStore(MemoryStore):
    """A store whose `enlist` waits for a gate, and fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures
        self.gate = asyncio.Event()

    async def enlist(self, owner: str, *, now: int, lease_until: int) -> None:
        await self.gate.wait()
        self.failures -= 1
        if self.failures >= 0:
            raise DurabilityError("No.", code="store_unreachable")
        await super().enlist(owner, now=now, lease_until=lease_until)


async def done_at_once(attempt: Attempt) -> Ending:
    return Settled(Outcome("completed"))


async def test_a_caller_that_gives_up_while_the_engine_starts_takes_it_from_nobody() -> None:
    store = FlakyStore()
    engine = Engine(store, VirtualClock(), SequentialIds(), done_at_once)
    gone, staying = (asyncio.create_task(engine.admit(admission(id, id))) for id in ("s1", "s2"))
    await settled_tasks()
    gone.cancel()
    await settled_tasks()
    store.gate.set()
    assert (await staying).created
    await engine.drain(0)


async def test_an_engine_that_could_not_start_is_started_by_the_next_who_needs_it() -> None:
    store = FlakyStore(failures=1)
    store.gate.set()
    engine = Engine(store, VirtualClock(), SequentialIds(), done_at_once)
    with pytest.raises(DurabilityError):
        await engine.admit(admission("s1"))
    assert (await engine.admit(admission("s1"))).created
    await engine.drain(0)


# DUR-38
async def test_what_a_process_accepted_and_could_not_begin_is_taken_up_when_that_is_gone() -> None:
    """It has made no claim, and so no lease but the one that it enlisted with."""
    store, clock = MemoryStore(), VirtualClock()
    full = Engine(store, clock, SequentialIds(), done_at_once, owner="one", settings=EngineSettings(concurrency=0))
    before = asyncio.all_tasks()
    await full.admit(admission("s1", home="one"))
    await kill(before)
    engine = Engine(store, clock, SequentialIds(), done_at_once, owner="two")
    await engine.start()
    await clock.advance(EngineSettings().lease)
    assert await engine.outcome("s1") == Outcome("completed")
    await engine.drain(0)


async def test_an_engine_ends_although_its_store_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("flue.engine.workers._PATIENCE", 0.01)

    class Away(MemoryStore):
        async def release(self, claim: Claim, **options: Any) -> None:
            await asyncio.Event().wait()

        async def retire(self, owner: str, *, now: int) -> None:
            await asyncio.Event().wait()

    async def drive(attempt: Attempt) -> Ending:
        await asyncio.Event().wait()
        return Settled(Outcome("completed"))

    engine = Engine(Away(), VirtualClock(auto=True), SequentialIds(), drive)
    await engine.admit(admission("s1"))
    await engine.drain(0)
    assert [record.getMessage() for record in caplog.records] == [
        "Work could not be given back: the store does not answer.",
        "Work could not be retired: the store does not answer.",
    ]


# DUR-26
async def test_who_waits_for_work_when_its_process_ends_is_told_so() -> None:
    async def hang(attempt: Attempt) -> Ending:
        await asyncio.Event().wait()
        return Settled(Outcome("completed"))

    store = MemoryStore()
    engine = Engine(store, VirtualClock(), SequentialIds(), hang)
    await engine.admit(admission("here", "one"))
    await store.admit(admission("elsewhere", "two", home="two"), now=0)
    waiting = [asyncio.create_task(engine.outcome(id)) for id in ("here", "elsewhere")]
    await settled_tasks()
    await engine.drain(0)
    for each in waiting:
        with pytest.raises(UsageError) as stopped:
            await asyncio.wait_for(each, 5)
        assert stopped.value.code == "shutting_down"


async def test_an_engine_leaves_its_store_alone_before_it_began_and_after_it_has_ended() -> None:
    class Store(MemoryStore):
        retired = 0

        async def retire(self, owner: str, *, now: int) -> None:
            self.retired += 1
            await super().retire(owner, now=now)

        def listen(self, listener: Listener, *, events: bool = True) -> Callable[[], None]:
            stop = super().listen(listener, events=events)
            listening.append(stop)

            def stopping() -> None:
                listening.remove(stop)
                stop()

            return stopping

    listening: list[Callable[[], None]] = []
    store = Store()
    await Engine(store, VirtualClock(), SequentialIds(), done_at_once).drain(0)
    assert store.retired == 0
    engine = Engine(store, VirtualClock(), SequentialIds(), done_at_once)
    await engine.admit(admission("s1"))
    assert len(listening) == 1
    for _ in range(2):
        await engine.drain(0)
    assert (listening, store.retired) == ([], 1)


async def test_so_much_runs_at_once_as_may_and_the_rest_as_places_become_free() -> None:
    running: set[str] = set()
    most, ends = 0, asyncio.Semaphore(0)

    async def drive(attempt: Attempt) -> Ending:
        nonlocal most
        running.add(attempt.claim.id)
        most = max(most, len(running))
        await ends.acquire()
        running.discard(attempt.claim.id)
        return Settled(Outcome("completed"))

    store, clock = MemoryStore(), VirtualClock()
    engine = Engine(store, clock, SequentialIds(), drive, settings=EngineSettings(concurrency=2))
    for n in range(3):
        await store.admit(admission(f"left{n}", f"lane{n}"), now=0)
    await asyncio.gather(*(engine.admit(admission(f"new{n}", f"other{n}")) for n in range(3)))
    for _ in range(6):
        await settled_tasks()
        ends.release()
    for id in ("left0", "left1", "left2", "new0", "new1", "new2"):
        assert await asyncio.wait_for(engine.outcome(id), 5) == Outcome("completed")
    assert most == 2
    await engine.drain(0)


async def test_what_is_accepted_in_one_moment_has_no_more_places_than_there_are() -> None:
    """Three in one lane keep the places until the store has answered; two of them do not need theirs."""
    running, most, ends, answered = 0, 0, asyncio.Semaphore(0), asyncio.Event()

    class SlowStore(MemoryStore):
        async def admit(self, admission: Admission, **options: Any) -> Admitted:
            await asyncio.sleep(0)
            admitted = await super().admit(admission, **options)
            if admission.id in {"s1", "s2"}:
                await answered.wait()
            return admitted

    async def drive(attempt: Attempt) -> Ending:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await ends.acquire()
        running -= 1
        return Settled(Outcome("completed"))

    engine = Engine(SlowStore(), VirtualClock(), SequentialIds(), drive, settings=EngineSettings(concurrency=3))
    await engine.start()
    lanes = ["one", "one", "one", "two", "three", "four", "five"]
    admitting = [asyncio.create_task(engine.admit(admission(f"s{n}", lane))) for n, lane in enumerate(lanes)]
    await settled_tasks()
    assert running == 1
    answered.set()
    await asyncio.gather(*admitting)
    await settled_tasks()
    assert running == 3
    for _ in lanes:
        ends.release()
    for n, _ in enumerate(lanes):
        assert await asyncio.wait_for(engine.outcome(f"s{n}"), 5) == Outcome("completed")
    assert most == 3
    await engine.drain(0)


async def test_a_store_that_fails_is_tried_again_after_a_second() -> None:
    class Store(MemoryStore):
        tries = 0

        async def claim(self, claimants: Sequence[Claimant], **options: Any) -> list[Claim]:
            self.tries += 1
            if self.tries == 1:
                raise DurabilityError("No.", code="store_locked")
            return await super().claim(claimants, **options)

    store, clock = Store(), VirtualClock()
    await store.admit(admission("s1"), now=0)
    engine = Engine(store, clock, SequentialIds(), done_at_once)
    await engine.start()
    await settled_tasks()
    assert store.tries == 1
    await clock.advance(1)
    assert await asyncio.wait_for(engine.outcome("s1"), 5) == Outcome("completed")
    await engine.drain(0)


# DUR-36
async def test_an_abort_that_another_process_asked_for_is_heard_at_once() -> None:
    async def hang(attempt: Attempt) -> Ending:
        await asyncio.Event().wait()
        return Settled(Outcome("completed"))

    store = MemoryStore()
    engine = Engine(store, VirtualClock(), SequentialIds(), hang)
    await engine.admit(admission("s1"))
    await store.cancel("s1", "enough", now=0)
    assert await asyncio.wait_for(engine.outcome("s1"), 5) == Outcome.aborted("enough")
    await engine.drain(0)


# DUR-14
async def test_the_work_of_a_process_that_is_said_to_be_gone_is_taken_over_at_once() -> None:
    class Store(MemoryStore):
        gone = False

        def listen(self, listener: Listener, *, events: bool = True) -> Callable[[], None]:
            self.tell = listener
            return super().listen(listener, events=events)

        async def take_over(self, owner: str, *, now: int, limit: int = 1000) -> int:
            return await super().take_over(owner, now=now + self.gone * LEASE, limit=limit)

    store, clock = Store(), VirtualClock()
    now = clock.now_ms()
    await store.admit(admission("s1"), now=now, claimant=Claimant("other", "a1", now + LEASE))
    engine = Engine(store, clock, SequentialIds(), done_at_once)
    await engine.start()
    await settled_tasks()
    store.gone = True
    store.tell(Wake("gone"))
    assert await asyncio.wait_for(engine.outcome("s1"), 5) == Outcome("completed")
    await engine.drain(0)

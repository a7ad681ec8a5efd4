from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from flue.durable.records import Claim, Claimant, Outcome
from flue.engine.attempt import Attempt, Ending, Settled
from flue.engine.workers import Workers
from flue.errors import DurabilityError
from flue.stores import MemoryStore
from flue.testing import VirtualClock
from flue.testing.work_contract import admission


async def renew() -> None:
    pass


Drive = Callable[[Attempt], Awaitable[Ending]]


async def working_on(store: MemoryStore, drive: Drive, rested: list[Attempt] | None = None) -> Workers:
    """Return workers of an owner that is enlisted."""
    await store.enlist("one", now=0, lease_until=10**9)
    rest = [] if rested is None else rested
    return Workers(store, VirtualClock(), drive, grace=5.0, log_failures=True, rested=rest.append, renew=renew)


async def begun(store: MemoryStore, workers: Workers, id: str) -> Attempt:
    """Have the workers begin with a new submission, in a lane of its own."""
    admitted = await store.admit(admission(id, id), now=0, claimant=Claimant("one", f"attempt-{id}", 10**9))
    assert admitted.claim is not None
    return workers.begin(admitted.claim)


async def working(drive: Drive) -> tuple[Workers, Attempt, list[Attempt]]:
    """Return workers, an attempt that they have begun, and the list of those that have come to rest."""
    store, rested = MemoryStore(), list[Attempt]()
    workers = await working_on(store, drive, rested)
    return workers, await begun(store, workers, "s1"), rested


async def hang(attempt: Attempt) -> Ending:
    await asyncio.Event().wait()
    return Settled(Outcome("completed"))


async def test_an_attempt_stopped_before_its_first_step_ends_all_the_same() -> None:
    workers, attempt, rested = await working(hang)
    workers.stop(attempt, "abort", "enough")
    assert attempt.task is not None
    await asyncio.wait([attempt.task])
    assert rested == [attempt]
    assert (await attempt.rest) == Outcome.aborted("enough")
    await workers.tasks.cancel(1.0)


@pytest.mark.parametrize(("code", "logged"), [("attempt_lost", 0), ("store_io", 1)])
async def test_a_message_for_work_that_has_just_been_lost_is_no_news(
    code: str, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def take_in() -> None:
        raise DurabilityError("No.", code=code)

    workers, attempt, _ = await working(hang)
    attempt.on_message = take_in
    workers.poke(attempt)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(caplog.records) == logged
    await workers.tasks.cancel(1.0)


# DUR-26
async def test_what_is_given_back_is_cancelled_at_once_and_together() -> None:
    """Work that keeps the event loop busy would hold up the writes that give back itself, and all that comes after."""
    ended, released, go_on = [], [], asyncio.Event()

    class SlowStore(MemoryStore):
        async def release(self, claim: Claim, **options: Any) -> None:
            released.append(claim.id)
            await go_on.wait()
            await super().release(claim, **options)

    async def hold_on(attempt: Attempt) -> Ending:
        try:
            return await hang(attempt)
        finally:
            ended.append(attempt.claim.id)
            with pytest.raises(DurabilityError, match="no longer holds"):
                await attempt.outbox.write()

    store = SlowStore()
    workers = await working_on(store, hold_on)
    attempts = [await begun(store, workers, id) for id in ("s1", "s2")]
    giving_up = asyncio.create_task(workers.give_up(0))
    await asyncio.wait([attempt.task for attempt in attempts if attempt.task is not None])
    assert (ended, released) == (["s1", "s2"], ["s1", "s2"])
    go_on.set()
    await giving_up
    for id in ("s1", "s2"):
        found = await store.get_submission(id)
        assert found is not None
        assert (found.state, found.interruptions) == ("queued", 1)

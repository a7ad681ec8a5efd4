from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from flue.durable.records import Claimant, Outcome
from flue.engine.attempt import Attempt, Ending, Settled
from flue.engine.workers import Workers
from flue.errors import DurabilityError
from flue.stores import MemoryStore
from flue.testing import VirtualClock
from flue.testing.work_contract import admission


async def renew() -> None:
    pass


async def working(drive: Callable[[Attempt], Awaitable[Ending]]) -> tuple[Workers, Attempt, list[Attempt]]:
    """Return workers, an attempt that they have begun, and the list of those that have come to rest."""
    store = MemoryStore()
    await store.enlist("one", now=0, lease_until=10**9)
    rested: list[Attempt] = []
    workers = Workers(store, VirtualClock(), drive, grace=5.0, log_failures=True, rested=rested.append, renew=renew)
    admitted = await store.admit(admission("s1"), now=0, claimant=Claimant("one", "a1", 10**9))
    assert admitted.claim is not None
    return workers, workers.begin(admitted.claim), rested


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

from __future__ import annotations

import asyncio

from flue.durable.records import Claimant, Outcome
from flue.engine.attempt import Attempt, Ending, Settled
from flue.engine.workers import Workers
from flue.stores import MemoryStore
from flue.testing import VirtualClock
from flue.testing.work_contract import admission


async def test_an_attempt_stopped_before_its_first_step_ends_all_the_same() -> None:
    store = MemoryStore()
    await store.enlist("one", now=0, lease_until=10**9)
    rested: list[Attempt] = []

    async def drive(attempt: Attempt) -> Ending:
        await asyncio.Event().wait()
        return Settled(Outcome("completed"))

    async def renew() -> None:
        pass

    workers = Workers(store, VirtualClock(), drive, grace=5.0, log_failures=True, rested=rested.append, renew=renew)
    admitted = await store.admit(admission("s1"), now=0, claimant=Claimant("one", "a1", 10**9))
    assert admitted.claim is not None
    attempt = workers.begin(admitted.claim)
    workers.stop(attempt, "abort", "enough")
    assert attempt.task is not None
    await asyncio.wait([attempt.task])
    assert rested == [attempt]
    found = await store.get_submission("s1")
    assert found is not None
    assert found.outcome == "aborted"
    await workers.tasks.cancel(1.0)

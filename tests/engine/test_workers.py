from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from flue.durable.records import Claim, Claimant, Outcome, Wait
from flue.engine.attempt import Again, Attempt, Ending, Parked, Settled
from flue.engine.workers import Workers
from flue.errors import DurabilityError
from flue.stores import MemoryStore
from flue.testing import VirtualClock
from flue.testing.work_contract import admission
from tests.engine.log_scene import settled_tasks


async def renew() -> None:
    pass


Drive = Callable[[Attempt], Awaitable[Ending]]


async def working_on(
    store: MemoryStore, drive: Drive, rested: list[Attempt] | None = None, clock: VirtualClock | None = None
) -> Workers:
    """Return workers of an owner that is enlisted."""
    await store.enlist("one", now=0, lease_until=10**9)
    rest = [] if rested is None else rested
    return Workers(store, clock or VirtualClock(), drive, grace=5.0, log_failures=True, rested=rest.append, renew=renew)


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


def stubborn(free: asyncio.Event) -> Drive:
    """Return work that goes on until it is let go, whatever cancels it."""

    async def go_on(attempt: Attempt) -> Ending:
        while not free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await free.wait()
        return Settled(Outcome("completed"))

    return go_on


async def test_an_attempt_stopped_before_its_first_step_ends_all_the_same() -> None:
    workers, attempt, rested = await working(hang)
    workers.stop(attempt, "abort", "enough")
    assert attempt.task is not None
    await asyncio.wait([attempt.task])
    assert rested == [attempt]
    assert (await attempt.rest) == Outcome.aborted("enough")
    await workers.tasks.cancel(1.0)


# DUR-36
async def test_what_puts_itself_in_order_after_an_abort_is_left_to_that_when_its_time_is_up() -> None:
    """Cancelled once more it would leave the conversation with calls that have no result."""
    in_order, go_on = list[str](), asyncio.Event()

    async def tidy(attempt: Attempt) -> Ending:
        try:
            return await hang(attempt)
        finally:
            await go_on.wait()
            in_order.append(attempt.claim.id)

    workers, attempt, _ = await working(tidy)
    await asyncio.sleep(0)
    workers.stop(attempt, "abort", "enough")
    await asyncio.sleep(0)
    workers.stop(attempt, "deadline")
    await asyncio.sleep(0)
    go_on.set()
    assert (await attempt.rest) == Outcome.aborted("enough")
    assert in_order == ["s1"]
    await workers.tasks.cancel(1.0)


# DUR-36
async def test_an_abort_that_comes_while_the_end_is_being_written_is_too_late() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    class SlowStore(MemoryStore):
        async def settle(self, claim: Claim, outcome: Outcome, **options: Any) -> None:
            asked.set()
            await go_on.wait()
            await super().settle(claim, outcome, **options)

    async def answer(attempt: Attempt) -> Ending:
        return Settled(Outcome("completed"))

    store = SlowStore()
    workers = await working_on(store, answer)
    attempt = await begun(store, workers, "s1")
    await asked.wait()
    workers.stop(attempt, "abort", "enough")
    await asyncio.sleep(0)
    go_on.set()
    assert (await attempt.rest) == Outcome("completed")
    await workers.tasks.cancel(1.0)


# DUR-36
@pytest.mark.parametrize("ending", [Parked(Wait("sleep", 1)), Again()])
async def test_work_that_goes_on_instead_of_waiting_can_be_aborted(ending: Ending) -> None:
    class Store(MemoryStore):
        async def park(self, claim: Claim, wait: Wait, **options: Any) -> bool:
            return False

    async def drive(attempt: Attempt) -> Ending:
        return ending if attempt.fresh else await hang(attempt)

    store = Store()
    workers = await working_on(store, drive)
    attempt = await begun(store, workers, "s1")
    for _ in range(5):
        await asyncio.sleep(0)
    workers.stop(attempt, "abort", "enough")
    assert (await asyncio.wait_for(attempt.rest, 5)) == Outcome.aborted("enough")
    await workers.tasks.cancel(1.0)


async def test_work_that_the_store_failed_and_another_has_taken_over_is_let_go(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody tries for ever to give back what somebody else has."""

    async def fail(attempt: Attempt) -> Ending:
        await store.take_over("two", now=10**9)
        raise DurabilityError("No.", code="store_io")

    store = MemoryStore()
    attempt = await begun(store, await working_on(store, fail), "s1")
    assert await asyncio.wait_for(attempt.rest, 5) is None
    assert len(caplog.records) == 1


async def test_work_that_was_lost_is_no_failure_of_the_store(caplog: pytest.LogCaptureFixture) -> None:
    async def lose(attempt: Attempt) -> Ending:
        raise DurabilityError("No.", code="attempt_lost")

    _, attempt, rested = await working(lose)
    assert await attempt.rest is None
    assert (rested, caplog.records) == ([attempt], [])


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


class FailingOnce(MemoryStore):
    """A store whose first settlement fails."""

    def __init__(self) -> None:
        super().__init__()
        self.settlements = 0

    async def settle(self, claim: Claim, outcome: Outcome, **more: Any) -> None:
        self.settlements += 1
        if self.settlements == 1:
            raise DurabilityError("The disk is full.", code="store_full")
        await super().settle(claim, outcome, **more)


# DUR-23
async def test_an_end_by_force_that_cannot_be_written_is_told_to_nobody_and_the_work_given_back() -> None:
    free = asyncio.Event()
    store, rested = FailingOnce(), list[Attempt]()
    workers = await working_on(store, stubborn(free), rested, clock=VirtualClock(auto=True))
    attempt = await begun(store, workers, "s1")
    await asyncio.sleep(0)
    workers.stop(attempt, "abort", "enough")
    outcome = await attempt.rest
    found = await store.get_submission("s1")
    free.set()
    await workers.tasks.finish(1.0)
    assert outcome is None
    assert found is not None
    assert (found.state, found.park_reason, found.interruptions) == ("parked", "retry", 1)
    assert (rested, len(workers), store.settlements) == ([attempt], 0, 1)


async def test_work_that_was_lost_and_does_not_end_is_waited_for_no_longer_than_agreed() -> None:
    """Somebody else has it: whoever waits is to look there, and its place here is for others."""
    free = asyncio.Event()
    store, rested, clock = MemoryStore(), list[Attempt](), VirtualClock()
    workers = await working_on(store, stubborn(free), rested, clock=clock)
    attempt = await begun(store, workers, "s1")
    await asyncio.sleep(0)
    workers.stop(attempt, "lost")
    await settled_tasks()
    await clock.advance(5.0)
    await settled_tasks()
    waited_for = len(workers)
    free.set()
    await workers.tasks.finish(1.0)
    found = await store.get_submission("s1")
    assert (waited_for, attempt.rest.result(), rested) == (0, None, [attempt])
    assert found is not None
    assert found.state == "running"


class OddError(BaseException):
    """What is neither a mistake nor an end."""


# DUR-24
@pytest.mark.parametrize(
    ("raised", "error"), [(asyncio.CancelledError(), "cancelled by its own code"), (OddError("odd"), "odd")]
)
async def test_work_ends_also_with_what_is_no_exception(raised: BaseException, error: str) -> None:
    """Left as it is, it would be this process's for ever, and nobody's."""

    async def escape(attempt: Attempt) -> Ending:
        raise raised

    _, attempt, rested = await working(escape)
    outcome = await attempt.rest
    assert outcome is not None
    assert (outcome.kind, error in (outcome.error or "")) == ("failed", True)
    assert rested == [attempt]


# DUR-24
async def test_work_that_a_stranger_cancels_is_given_back() -> None:
    store = MemoryStore()
    workers = await working_on(store, hang)
    attempt = await begun(store, workers, "s1")
    await asyncio.sleep(0)
    assert attempt.task is not None
    attempt.task.cancel()
    assert await attempt.rest is None
    found = await store.get_submission("s1")
    assert found is not None
    assert (found.state, found.interruptions) == ("queued", 1)

"""Whoever waits for the end of work hears of it, however it comes, and costs nothing after that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flue.durable.records import Outcome, Submission
from flue.engine.watch import Watches
from flue.stores import MemoryStore
from flue.stores.listeners import Listener
from flue.testing import VirtualClock
from flue.testing.work_contract import admission, claim_one
from tests.engine.log_scene import settled_tasks

DONE = Outcome("completed")


class Store(MemoryStore):
    """A store that counts its listeners, may be deaf, and whose next look may take a while."""

    def __init__(self, *, deaf: bool = False) -> None:
        super().__init__()
        self.listeners = 0
        self.deaf = deaf
        self.look: asyncio.Event | None = None

    def listen(self, listener: Listener, *, events: bool = True) -> Callable[[], None]:
        stop = super().listen((lambda wake: None) if self.deaf else listener, events=events)
        self.listeners += 1

        def stopping() -> None:
            self.listeners -= 1
            stop()

        return stopping

    async def get_submission(self, submission_id: str) -> Submission | None:
        found = await super().get_submission(submission_id)
        if self.look is not None:
            await self.look.wait()
        return found


async def waiting_on(store: Store, clock: VirtualClock | None = None) -> asyncio.Task[Outcome | Submission]:
    """Have somebody wait for work that has just been accepted."""
    await store.admit(admission("s1"), now=0)
    waiting = asyncio.create_task(Watches(store, clock or VirtualClock()).outcome("s1"))
    await settled_tasks()
    return waiting


async def test_an_end_that_comes_while_somebody_looks_is_not_missed() -> None:
    store = Store()
    store.look = asyncio.Event()
    waiting = await waiting_on(store)
    await store.settle(await claim_one(store, "a1"), DONE, now=1)
    await settled_tasks()
    store.look.set()
    assert await asyncio.wait_for(waiting, 5) == DONE


async def test_an_end_whose_wake_up_was_lost_is_found_within_fifteen_seconds() -> None:
    store, clock = Store(deaf=True), VirtualClock()
    waiting = await waiting_on(store, clock)
    await store.settle(await claim_one(store, "a1"), DONE, now=1)
    await settled_tasks()
    assert not waiting.done()
    await clock.advance(15)
    assert await asyncio.wait_for(waiting, 5) == DONE


# DUR-40
async def test_where_nobody_waits_any_more_nothing_is_listened_to() -> None:
    store = Store()
    waiting = await waiting_on(store)
    assert store.listeners == 1
    waiting.cancel()
    await asyncio.wait([waiting])
    assert store.listeners == 0

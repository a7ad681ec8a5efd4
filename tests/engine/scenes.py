"""What the tests of the engine share: services on one store, and crashes at any moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flue.definitions.agent import Agent
from flue.durable.records import Outcome
from flue.engine.admissions import session_lane
from flue.engine.catalog import AgentEntry, Catalog, WorkflowEntry
from flue.engine.service import Service
from flue.errors import DurabilityError
from flue.harness.entries import StoredEntries
from flue.host import open_service
from flue.messages import Message, TextContent
from flue.testing import VirtualClock

CHANGES = frozenset(
    (
        *(
            "enlist",
            "renew",
            "retire",
            "take_over",
            "admit",
            "claim",
            "checkpoint",
            "park",
            "release",
            "settle",
            "restart",
        ),
        *("cancel", "deliver", "wake_due", "reserve_indices", "put_schedule", "delete_schedules", "fire"),
        *("append_entries", "delete_sessions"),
    )
)


MOMENTS = (pytest.param(False, id="before", marks=pytest.mark.faults), pytest.param(True, id="after"))
"""Whether a transition at which a process dies was done. With each that was, everything but the first is looked at."""


class Crash(DurabilityError):  # noqa: N818 - nothing that is wrong with the code under test
    """What everything of a dead process hears."""

    def __init__(self) -> None:
        super().__init__("The power is off.", code="store_error")


class CutStore:
    """A store that goes dead at its transition number `at`: before it is done, or after, but before anybody hears."""

    def __init__(self, store: Any, at: int | None = None, *, done: bool = False) -> None:
        self.store = store
        self.at = at
        self.done = done
        self.calls = 0
        self.names: list[str] = []
        self.dead = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)
        if not callable(method) or name == "listen":
            return method

        def call(*args: Any, **named: Any) -> Any:
            if self.dead.is_set():
                return _raise()
            if name not in CHANGES:
                return method(*args, **named)
            self.calls += 1
            self.names.append(name)
            if self.calls == self.at:
                if self.done:
                    asyncio.ensure_future(method(*args, **named)).add_done_callback(_heard)
                self.dead.set()
                return _raise()
            return method(*args, **named)

        return call


async def _raise() -> Any:
    raise Crash


def _heard(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


def catalog(agents: dict[str, Agent] | None = None, workflows: dict[str, Any] | None = None, **more: Any) -> Catalog:
    """Return a catalogue of agents and of workflow functions; `more` is for the workflows."""
    return Catalog.of(
        [AgentEntry(name, agent, durability=agent.durability) for name, agent in (agents or {}).items()],
        [WorkflowEntry(name, run, **more) for name, run in (workflows or {}).items()],
    )


@asynccontextmanager
async def serving(
    offers: Catalog, store: Any, clock: VirtualClock | None = None, **more: Any
) -> AsyncIterator[Service]:
    """Open a service with a clock that jumps from event to event."""
    async with open_service(offers, store=store, clock=clock or VirtualClock(auto=True), env={}, **more) as service:
        yield service


async def crash(
    offers: Catalog, store: Any, at: int, script: Callable[[Service], Awaitable[object]], *, done: bool = False
) -> CutStore:
    """Serve a script by a process that dies at its transition `at`, or when the script is through."""
    before = asyncio.all_tasks()
    cut = CutStore(store, at, done=done)
    async with serving(offers, cut) as service:
        played = asyncio.create_task(_tolerant(script(service)))
        died = asyncio.create_task(cut.dead.wait())
        await asyncio.wait([played, died], return_when=asyncio.FIRST_COMPLETED)
        through = not cut.dead.is_set()
        cut.dead.set()
        await kill(before)
    cut.at = None if through else at
    return cut


async def _tolerant(script: Awaitable[object]) -> None:
    with contextlib.suppress(Crash):
        await script


async def kill(before: set[asyncio.Task[Any]]) -> None:
    """End every task that was started since. What they clean up reaches nothing: their store is dead."""
    left = {task for task in asyncio.all_tasks() if task not in before and task is not asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def settled(service: Service, id: str) -> Outcome:
    """Wait until work has settled and return how."""
    await service.start()
    outcome = await service.engine.outcome(id)
    assert isinstance(outcome, Outcome)
    return outcome


async def conversation(store: Any, agent: str, instance: str, session: str = "default") -> list[Message]:
    """Return the messages of a session as they are stored."""
    stored = await store.load_session(session_lane(agent, instance, session))
    if stored is None:
        return []
    path = StoredEntries(stored.entries).visible_path(stored.head.leaf_id)
    assert path is not None
    return [entry.message for entry in path]


def texts(messages: Iterable[Message]) -> list[str]:
    """Return role and text of each message."""
    return [
        f"{message.role}: " + "".join(block.text for block in message.content if isinstance(block, TextContent))
        for message in messages
    ]

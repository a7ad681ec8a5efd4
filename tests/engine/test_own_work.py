"""An engine that takes nothing over does what was accepted here, what stands before that, and nothing else."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import flue
from flue.engine.catalog import AgentEntry, Catalog, WorkflowEntry
from flue.engine.engine import EngineSettings
from flue.engine.service import Service
from flue.errors import DurabilityError
from flue.host import open_service
from flue.registrations import Registrations, using_registrations
from flue.stores import MemoryStore
from flue.testing import ScriptedModel, VirtualClock, hang
from tests.engine.scenes import conversation, crash, serving, settled, texts

NEVER = 1_000_000
LEASE = 60


class Office:
    """A workflow and a function agent that count how often they run, and an agent for conversations."""

    def __init__(self, *steps: Any) -> None:
        self.ran: list[str] = []
        self.begun, self.gate = asyncio.Event(), asyncio.Event()
        self.agent = flue.create_agent(model=ScriptedModel([*steps]))

    def catalog(self) -> Catalog:
        return Catalog.of(
            [AgentEntry("clerk", run=self.run_agent), AgentEntry("chat", self.agent)],
            [WorkflowEntry("nightly", self.run)],
        )

    async def run(self, ctx: flue.FlueContext) -> str:
        self.ran.append(ctx.id)
        self.begun.set()
        await self.gate.wait()
        return "done"

    async def run_agent(self, ctx: flue.FlueContext) -> str:
        self.ran.append(str(ctx.payload))
        self.begun.set()
        await self.gate.wait()
        return "served"


@asynccontextmanager
async def working(office: Office, store: MemoryStore, clock: VirtualClock, **more: Any) -> AsyncIterator[Service]:
    """Open a service that takes nothing over."""
    settings = EngineSettings(take_over=False)
    async with open_service(office.catalog(), store=store, clock=clock, env={}, settings=settings, **more) as service:
        yield service


async def die_at_work(office: Office, store: MemoryStore, start: Callable[[Service], Awaitable[object]]) -> None:
    """Have a process start something and die while it runs."""

    async def script(service: Service) -> None:
        await start(service)
        await office.begun.wait()

    await crash(office.catalog(), store, NEVER, script)


async def test_a_run_of_a_dead_process_is_left_alone_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    office, store, clock = Office(), MemoryStore(), VirtualClock(auto=True)
    await die_at_work(office, store, lambda service: service.start_workflow("nightly"))
    [yesterday] = office.ran
    office.gate.set()
    await clock.sleep(LEASE)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "flue"):
        async with working(office, store, clock) as service:
            today = await service.start_workflow("nightly")
            assert (await today.outcome()).kind == "completed"
            assert service.engine.expected == ()
    assert office.ran == [yesterday, today.id]
    assert [record.message for record in caplog.records] == [
        "A process ended without a word; what it had accepted waits for a server, or for the next who asks there (1)."
    ]
    async with serving(office.catalog(), store, clock) as service:
        assert (await settled(service, yesterday)).kind == "failed"
        run = await service.get_run(yesterday)
        assert run is not None
        assert run.restarted_as is not None
        assert (await settled(service, run.restarted_as)).kind == "completed"


async def test_an_interrupted_run_before_ours_is_ended_and_its_replacement_left_to_a_server() -> None:
    office, store, clock = Office(), MemoryStore(), VirtualClock(auto=True)
    await die_at_work(office, store, lambda service: service.start_agent("clerk", "ada", "old"))
    office.gate.set()
    await clock.sleep(LEASE)
    async with working(office, store, clock) as service:
        ticket = await service.start_agent("clerk", "ada", "new")
        assert json.loads((await ticket.outcome()).result or "") == "served"
        for _ in range(50):
            await asyncio.sleep(0)
    assert office.ran == ["old", "new"]
    [left] = await store.list_lane("run:clerk/ada")
    async with serving(office.catalog(), store, clock) as service:
        await settled(service, left.id)
        assert await store.list_lane("run:clerk/ada") == []
    assert office.ran == ["old", "new", "old"]


async def test_an_interrupted_prompt_before_ours_is_gone_on_with() -> None:
    office, store, clock = Office(hang()), MemoryStore(), VirtualClock(auto=True)

    async def ask(service: Service) -> None:
        ticket = await service.prompt("chat", "ann", "First?")
        async for event in ticket.events():
            if event.type == "turn_request":
                return

    await crash(office.catalog(), store, NEVER, ask)
    office.agent = flue.create_agent(model=ScriptedModel(["One.", "Two."]))
    await clock.sleep(LEASE)
    async with working(office, store, clock) as service:
        await (await service.prompt("chat", "ann", "Second?")).outcome()
    assert texts(await conversation(store, "chat", "ann")) == [
        "user: First?",
        "assistant: One.",
        "user: Second?",
        "assistant: Two.",
    ]


async def test_what_is_adopted_is_done_with_all_that_takes_its_place() -> None:
    office, store, clock = Office(), MemoryStore(), VirtualClock(auto=True)
    await die_at_work(office, store, lambda service: service.start_workflow("nightly"))
    office.gate.set()
    await clock.sleep(LEASE)
    async with working(office, store, clock) as service:
        await service.start()
        found = await service.get_submission(office.ran[0])
        assert found is not None
        service.engine.adopt(found)
        assert (await settled(service, found.id)).kind == "failed"
        run = await service.get_run(found.id)
        assert run is not None
        assert run.restarted_as is not None
        assert (await settled(service, run.restarted_as)).kind == "completed"
        assert service.engine.expected == ()


async def test_without_taking_over_no_schedule_is_kept_or_fired() -> None:
    office, store, clock = Office("Good morning."), MemoryStore(), VirtualClock(auto=True)
    registrations = Registrations()
    with using_registrations(registrations):
        flue.schedule("chat", id="hourly", every="1h", input="Wake up.", instance="ann")
    async with working(office, store, clock, registrations=registrations) as service:
        await service.start()
        await clock.sleep(2 * 3600)
        office.gate.set()
        await (await service.start_workflow("nightly")).outcome()
        assert await store.list_schedules() == []
    assert await conversation(store, "chat", "ann") == []


async def test_what_was_not_accepted_or_was_known_is_not_expected() -> None:
    office, store, clock = Office("One."), MemoryStore(), VirtualClock(auto=True)
    async with working(office, store, clock) as service:
        ticket = await service.prompt("chat", "ann", "First?", key="k")
        await ticket.outcome()
        assert (await service.prompt("chat", "ann", "First?", key="k")).id == ticket.id
        with pytest.raises(DurabilityError, match="used before"):
            await service.prompt("chat", "ann", "Second?", key="k")
        assert service.engine.expected == ()

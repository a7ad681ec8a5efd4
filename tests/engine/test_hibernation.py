"""An engine in a process that its host puts to sleep: it keeps no timer while nothing runs, and an alarm wakes it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import flue
from flue.definitions.agent import Agent
from flue.definitions.durability import Durability
from flue.durable.records import Submission
from flue.engine.catalog import Catalog
from flue.engine.engine import EngineSettings
from flue.engine.pruning import KeepFor
from flue.engine.service import Service
from flue.host import open_service
from flue.registrations import Registrations, using_registrations
from flue.stores import MemoryStore
from flue.testing import ScriptedModel, VirtualClock, call
from tests.engine.scenes import catalog, settled

HIBERNATES = EngineSettings(hibernates=True)


@asynccontextmanager
async def serving(offers: Catalog, clock: VirtualClock, store: MemoryStore, **more: Any) -> AsyncIterator[Service]:
    async with open_service(offers, store=store, clock=clock, env={}, settings=HIBERNATES, drain=0, **more) as service:
        yield service


def agent(**config: Any) -> Agent:
    return flue.create_agent(model=ScriptedModel(itertools.repeat("Hello.")), **config)


async def naps(ctx: flue.FlueContext) -> str:
    await ctx.sleep(timedelta(days=3))
    return "rested"


async def turns() -> None:
    """Let the tasks of the engine have their turns."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_after_a_prompt_no_timer_is_left() -> None:
    clock, store = VirtualClock(), MemoryStore()
    # A deadline so near has a timer of its own while the prompt runs.
    offers = catalog({"chat": agent(durability=Durability(timeout=5))})
    async with serving(offers, clock, store) as service:
        ticket = await service.prompt("chat", "ann", "Hello?")
        assert "Hello." in ((await ticket.outcome()).result or "")
        await turns()
        assert clock.sleeping == 0
        await (await service.prompt("chat", "ann", "Again?")).outcome()
        await turns()
        assert clock.sleeping == 0


async def test_what_is_due_in_three_days_needs_no_timer_and_goes_on_when_the_alarm_says_so() -> None:
    clock, store = VirtualClock(), MemoryStore()
    async with serving(catalog(workflows={"nap": naps}), clock, store) as service:
        began = clock.now_ms()
        ticket = await service.start_workflow("nap", None)
        await clock.advance(1)  # so long it waits before it parks
        assert (service.engine.running, clock.sleeping) == (0, 0)
        assert await store.next_due(service.engine.owner) == began + 3 * 86_400_000
        await clock.advance(3 * 86_400)
        assert service.engine.running == 0, "nobody has looked yet"
        service.engine.look()
        assert (await ticket.outcome()).result == '"rested"'
        await turns()
        assert clock.sleeping == 0


async def test_the_alarm_fires_a_schedule() -> None:
    clock, store = VirtualClock(), MemoryStore()
    with using_registrations(Registrations()) as registrations:
        flue.schedule("chat", every="1h", input="Report.", id="hourly")
    async with serving(catalog({"chat": agent()}), clock, store, registrations=registrations) as service:
        await service.start()
        await turns()
        assert clock.sleeping == 0
        await clock.advance(3600)
        service.engine.look()
        await turns()
        (schedule,) = await store.list_schedules()
        assert schedule.next_at is not None
        assert schedule.next_at > clock.now_ms()
        assert clock.sleeping == 0


async def test_those_who_wait_for_a_person_keep_no_timer_either() -> None:
    @flue.tool(approval=True)
    async def deploy() -> str:
        """Deploy."""
        return "Deployed."

    model = ScriptedModel([call("deploy", {}, id="d1"), "Done."])
    clock, store = VirtualClock(), MemoryStore()
    offers = catalog({"chat": flue.create_agent(model=model, tools=[deploy])})
    async with serving(offers, clock, store) as service:
        ticket = await service.prompt("chat", "ann", "Ship it.")
        assert isinstance(await ticket.rest(), Submission)
        outcome = asyncio.create_task(ticket.outcome())
        events = asyncio.create_task(_count(ticket.events()))
        await turns()
        assert clock.sleeping == 0
        await service.decide("chat", "ann", "d1", approved=True)
        assert "Done." in ((await outcome).result or "")
        assert await events > 0


async def _count(events: Any) -> int:
    return len([event async for event in events])


# DUR-17
async def test_the_alarm_has_what_is_too_old_to_keep_deleted() -> None:
    clock, store = VirtualClock(), MemoryStore()
    settings = EngineSettings(hibernates=True, keep=KeepFor(prompts=3600))
    offers = catalog({"chat": agent()})
    async with open_service(offers, store=store, clock=clock, env={}, settings=settings, drain=0) as service:
        ticket = await service.prompt("chat", "ann", "Hello?")
        await ticket.outcome()
        await turns()
        await clock.advance(3601)
        assert await store.get_submission(ticket.id) is not None
        service.engine.look()
        await turns()
        assert await store.get_submission(ticket.id) is None


async def test_elsewhere_the_engine_sleeps_until_what_is_due() -> None:
    clock, store = VirtualClock(), MemoryStore()
    async with open_service(catalog(workflows={"nap": naps}), store=store, clock=clock, env={}) as service:
        ticket = await service.start_workflow("nap", None)
        await turns()
        assert clock.sleeping > 0
        await clock.advance(3 * 86_400 + 30)
        assert (await settled(service, ticket.id)).result == '"rested"'

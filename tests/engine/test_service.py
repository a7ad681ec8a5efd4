from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from typing import Any

import flue
from flue.durable.records import RunQuery
from flue.engine.catalog import Catalog, Deployment
from flue.engine.engine import EngineSettings
from flue.engine.pruning import KeepFor
from flue.host import open_service
from flue.registrations import Registrations, using_registrations
from flue.stores import MemoryStore
from flue.testing import RecordedRequest, ScriptedModel, VirtualClock
from tests.engine.scenes import CutStore, catalog, conversation, kill, serving, settled, texts

DAY = 86_400


# DUR-37
async def test_a_schedule_starts_its_work_when_it_is_time_also_after_a_restart() -> None:
    agent = flue.create_agent(model=ScriptedModel(itertools.repeat("Noted.")))
    registrations = Registrations(root="project")
    with using_registrations(registrations):
        flue.schedule("mail", id="hourly", every="1h", input={"task": "tidy"}, instance="ann")
    store, clock = MemoryStore(), VirtualClock()
    for _ in range(2):
        async with open_service(
            catalog({"mail": agent}), store=store, clock=clock, env={}, registrations=registrations
        ) as service:
            await service.start()
            await clock.advance(3600)
    asked = [text for text in texts(await conversation(store, "mail", "ann")) if text.startswith("user")]
    assert len(asked) == 2
    assert '"task": "tidy"' in asked[0]


# DUR-38
async def test_a_node_that_sleeps_takes_over_from_one_that_came_and_died_meanwhile() -> None:
    asked = asyncio.Event()

    async def answer(request: RecordedRequest) -> str:
        if not asked.is_set():
            asked.set()
            await asyncio.Event().wait()
        return "Hello."

    offers = catalog({"chat": flue.create_agent(model=ScriptedModel(itertools.repeat(answer)))})
    store, clock = MemoryStore(), VirtualClock(auto=True)
    async with serving(offers, store, clock) as node:
        await node.start()
        await clock.advance(3600)
        before, cut = asyncio.all_tasks(), CutStore(store)
        async with serving(offers, cut, clock) as other:
            ticket = await other.prompt("chat", "ann", "Hi.")
            await asked.wait()
            cut.dead.set()
            await kill(before)
        async with asyncio.timeout(5):
            assert (await settled(node, ticket.id)).kind == "completed"


async def test_what_has_ended_is_deleted_after_its_time_and_conversations_stay() -> None:
    agent = flue.create_agent(model=ScriptedModel(itertools.repeat("Hello.")))

    async def run(ctx: flue.FlueContext) -> None:
        return None

    store, clock = MemoryStore(), VirtualClock()
    settings = EngineSettings(keep=KeepFor(runs=2 * DAY, prompts=DAY, deltas=DAY, keys=DAY))
    offers = catalog({"chat": agent}, {"noop": run})
    async with open_service(offers, store=store, clock=clock, env={}, settings=settings) as service:
        prompt = await service.prompt("chat", "ann", "Hi.", key="k")
        first = await service.start_workflow("noop")
        await asyncio.gather(prompt.outcome(), first.outcome())
        await clock.advance(1.5 * DAY)
        await (await service.start_workflow("noop")).outcome()
        await clock.advance(1)
        assert await service.get_submission(prompt.id) is None
        assert await service.get_run(first.id) is not None
        await clock.advance(DAY)
        await (await service.start_workflow("noop")).outcome()
        await clock.advance(1)
        assert await service.get_run(first.id) is None
        assert len(await service.list_runs(RunQuery())) == 2
    assert texts(await conversation(store, "chat", "ann")) == ["user: Hi.", "assistant: Hello."]


async def test_work_under_way_stays_with_the_version_it_began_with() -> None:
    gate = asyncio.Event()

    async def old(ctx: flue.FlueContext) -> Any:
        await gate.wait()
        return "old"

    async def new(ctx: flue.FlueContext) -> Any:
        return "new"

    async with serving(catalog(workflows={"which": old}), MemoryStore()) as service:
        before = await service.start_workflow("which")
        given = service.deployment
        fresh: Catalog = catalog(workflows={"which": new})
        await service.deploy(Deployment(fresh, given.runtime, given.env, given.persist))
        after = await service.start_workflow("which")
        assert (await after.outcome()).result == '"new"'
        gate.set()
        assert (await before.outcome()).result == '"old"'


# DUR-40
async def test_an_idle_engine_sleeps() -> None:
    clock = VirtualClock()
    async with serving(catalog(workflows={"noop": lambda ctx: None}), MemoryStore(), clock) as service:
        await (await service.start_workflow("noop")).outcome()
        await clock.advance(60)
        assert clock.sleeping == 0


# DUR-40
async def test_idle_nodes_leave_each_other_asleep() -> None:
    """Each is told when the other comes; that must not bring it back as an owner, of which the other is told."""
    clock, store, stores = VirtualClock(), MemoryStore(), []
    async with AsyncExitStack() as stack:
        for _ in range(2):
            stores.append(CutStore(store))
            offers = catalog(workflows={"noop": lambda ctx: None})
            service = await stack.enter_async_context(serving(offers, stores[-1], clock))
            await (await service.start_workflow("noop")).outcome()
        await clock.advance(3600)
        before = [cut.calls for cut in stores]
        await clock.advance(36_000)
        assert [cut.calls for cut in stores] == before
        assert clock.sleeping == 0

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from typing import Any

import flue
from flue.durable.records import Claimant, RunQuery
from flue.engine.catalog import AgentEntry, Catalog, Deployment, WorkflowEntry
from flue.engine.engine import EngineSettings
from flue.engine.pruning import KeepFor
from flue.host import open_service
from flue.registrations import Registrations, using_registrations
from flue.stores import MemoryStore
from flue.testing import RecordedRequest, ScriptedModel, VirtualClock
from tests.engine.log_scene import settled_tasks
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


# DUR-02
async def test_a_key_counts_for_one_agent_instance_or_workflow_alone() -> None:
    async def run(ctx: flue.FlueContext) -> None:
        return None

    chat = flue.create_agent(model=ScriptedModel(itertools.repeat("Hello.")))
    agents = [*(AgentEntry(name, chat) for name in ("chat", "desk")), AgentEntry("clerk", run=run)]
    offers = Catalog.of(agents, [WorkflowEntry(name, run) for name in ("daily", "weekly")])
    async with serving(offers, MemoryStore()) as service:
        tickets = [await service.prompt(agent, id, "Hi.", key="k") for agent in ("chat", "desk") for id in ("a", "b")]
        tickets += [await service.start_agent("clerk", id, key="k") for id in ("a", "b")]
        tickets += [await service.start_workflow(name, key="k") for name in ("daily", "weekly")]
        assert all(ticket.created for ticket in tickets)
        for id in ("a", "b"):
            assert (await service.dispatch("chat", id, 1, dispatch_id="k")).dispatch_id == "k"
        assert (await service.prompt("chat", "a", "Hi.", key="k")).id == tickets[0].id
        for ticket in tickets:
            assert (await ticket.outcome()).kind == "completed"


async def test_what_a_process_accepts_is_its_own_as_long_as_it_lives() -> None:
    offers = catalog({"chat": flue.create_agent(model=ScriptedModel(["Hello."]))})
    store, settings = MemoryStore(), EngineSettings(concurrency=0)
    async with open_service(offers, store=store, clock=VirtualClock(), env={}, settings=settings) as service:
        ticket = await service.prompt("chat", "ann", "Hi.")
        other = Claimant("other", "a1", 10**15)
        assert await store.claim([other], now=0) == []
    [claim] = await store.claim([other], now=0)
    assert claim.id == ticket.id


async def test_a_caller_that_gives_up_while_a_service_starts_takes_it_from_nobody() -> None:
    class SlowStore(MemoryStore):
        gate = asyncio.Event()

        async def enlist(self, owner: str, *, now: int, lease_until: int) -> None:
            await self.gate.wait()
            await super().enlist(owner, now=now, lease_until=lease_until)

    store = SlowStore()
    async with serving(catalog({}), store) as service:
        gone, staying = asyncio.create_task(service.start()), asyncio.create_task(service.start())
        await settled_tasks()
        gone.cancel()
        await settled_tasks()
        store.gate.set()
        await asyncio.wait_for(staying, 5)

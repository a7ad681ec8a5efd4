from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import flue
from flue.engine.catalog import Catalog
from flue.engine.service import Service
from flue.stores import MemoryStore
from flue.testing import ScriptedModel, call
from tests.engine.scenes import catalog, serving


async def deploy(service: Service, fresh: Catalog) -> None:
    await service.deploy(replace(service.deployment, catalog=fresh))


async def test_a_version_is_at_rest_when_the_last_of_its_work_has_ended() -> None:
    gate, begun = asyncio.Event(), asyncio.Event()

    async def old(ctx: flue.FlueContext) -> Any:
        begun.set()
        await gate.wait()

    async with serving(catalog(workflows={"which": old}), MemoryStore()) as service:
        ticket, first = await service.start_workflow("which"), service.deployment
        await begun.wait()
        await deploy(service, catalog(workflows={"which": lambda ctx: None}))
        resting = asyncio.create_task(service.at_rest(first))
        await (await service.start_workflow("which")).outcome()
        assert not resting.done()
        gate.set()
        await ticket.outcome()
        await resting


# DUR-26
async def test_what_waits_for_a_person_goes_on_with_the_newest_version() -> None:
    ran: list[str] = []

    def version(name: str) -> Catalog:
        @flue.tool(approval=True)
        def ship() -> str:
            """Ship it."""
            ran.append(name)
            return "Shipped."

        steps: list[Any] = [call("ship", {}, id="c1"), "Done."] if name == "old" else ["Done."]
        return catalog({"clerk": flue.create_agent(model=ScriptedModel(steps), tools=[ship])})

    async with serving(version("old"), MemoryStore()) as service:
        ticket = await service.prompt("clerk", "ann", "Ship it.")
        await ticket.rest()
        await deploy(service, version("new"))
        await service.decide("clerk", "ann", "c1", approved=True)
        assert (await ticket.outcome()).kind == "completed"
    assert ran == ["new"]


async def test_what_begins_to_wait_after_a_new_version_came_goes_on_with_that_one() -> None:
    ran: list[str] = []
    gate, begun = asyncio.Event(), asyncio.Event()

    @flue.tool
    async def look() -> str:
        """Look."""
        begun.set()
        await gate.wait()
        return "Seen."

    def version(name: str, steps: list[Any]) -> Catalog:
        @flue.tool(approval=True)
        def ship() -> str:
            """Ship it."""
            ran.append(name)
            return "Shipped."

        return catalog({"clerk": flue.create_agent(model=ScriptedModel(steps), tools=[look, ship])})

    old = version("old", [call("look", {}, id="c0"), call("ship", {}, id="c1"), "Done."])
    async with serving(old, MemoryStore()) as service:
        ticket = await service.prompt("clerk", "ann", "Ship it.")
        await begun.wait()
        await deploy(service, version("new", ["Done."]))
        gate.set()
        await ticket.rest()
        await service.decide("clerk", "ann", "c1", approved=True)
        assert (await ticket.outcome()).kind == "completed"
    assert ran == ["new"]

"""What work leaves in its log, and what it leaves behind in memory: nothing."""

from __future__ import annotations

import json

import flue
from flue.durable.records import Submission
from flue.engine.catalog import AgentEntry, Catalog
from flue.stores import MemoryStore
from flue.testing import ScriptedModel, call
from tests.engine.scenes import catalog, serving


@flue.tool(approval=True)
def refund() -> str:
    """Give money back."""
    return "Done."


async def test_the_messages_of_a_request_can_be_read_from_the_log() -> None:
    agent = flue.create_agent(model=ScriptedModel(["Hello."]))
    async with serving(catalog({"chat": agent}), MemoryStore()) as service:
        ticket = await service.prompt("chat", "ann", "Good morning.")
        await ticket.outcome()
        (request,) = await service.log.read(ticket.id, types={"turn_request"})
    assert "Good morning." in json.dumps(json.loads(request.data)["input"]["messages"])


async def test_what_has_ended_or_waits_for_a_person_is_followed_by_nothing() -> None:
    agent = flue.create_agent(model=ScriptedModel(["Hello.", call("refund"), "Done."]), tools=[refund])

    async def run(ctx: flue.FlueContext) -> None:
        ctx.log.info("Here.")

    offers = Catalog.of([*catalog({"chat": agent}).agents.values(), AgentEntry("report", run=run)])
    async with serving(offers, MemoryStore()) as service:
        await (await service.prompt("chat", "ann", "Good morning.")).outcome()
        await (await service.start_agent("report", "ann")).outcome()
        assert not service.log._feed.followed
        ticket = await service.prompt("chat", "ann", "I want my money back.")
        waiting = await ticket.rest()
        assert isinstance(waiting, Submission)
        assert not service.log._feed.followed
        (name,) = waiting.waiting_for
        await service.decide("chat", "ann", name.removeprefix("approve:"), approved=True)
        await ticket.outcome()
        types = [event.type async for event in ticket.events()]
        assert types.count("approval_request") == 1
        assert not service.log._feed.followed

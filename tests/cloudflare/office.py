"""Projects whose tools and steps leave a trace outside, and what tests wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from flue.durable.records import Submission
from tests.cloudflare.site import Site
from tests.cloudflare.standin.world import Place

happened: list[str] = []
"""What tools and steps did, in order; a test begins with an empty one."""

CLERK = """
    import asyncio

    import flue
    from tests.cloudflare.office import happened
    from tests.cloudflare.site import model

    route = websocket = True


    @flue.tool
    async def work(token: str) -> str:
        "Do a piece of work."
        happened.append(token)
        return f"done {token}"


    @flue.tool
    async def stall(token: str) -> str:
        "Do something, and never come back."
        happened.append(token)
        await asyncio.Event().wait()
        return "never"


    @flue.tool(approval=True)
    async def refund(token: str) -> str:
        "Give money back."
        happened.append(token)
        return f"done {token}"


    @flue.tool
    async def pass_on(token: str, to: str) -> str:
        "Give a colleague something to do."
        happened.append(token)
        receipt = await flue.dispatch("clerk", id=to, input={"order": token}, dispatch_id=token)
        return receipt.dispatch_id


    agent = flue.create_agent(model=model(), tools=[work, stall, refund, pass_on])
"""
STEPS = """
    import flue
    from tests.cloudflare.office import happened
    from tests.cloudflare.site import model

    route = websocket = True
    agent = flue.create_agent(model=model())


    async def run(ctx):
        done = [await ctx.step(f"s{number}", happened.append, f"s{number}") for number in range(2)]
        harness = await ctx.init(agent)
        session = await harness.session()
        reply = await session.prompt("How is it going?")
        await ctx.step("last", happened.append, "last")
        return {"lineage": ctx.lineage_id, "said": reply.text, "payload": ctx.payload}
"""
SSE = {"accept": "text/event-stream"}


async def until(condition: Callable[[], Awaitable[Any] | Any]) -> Any:
    """Wait until something is the case, and return it; the world's time passes when nothing else happens."""
    for _ in range(20_000):
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        await asyncio.sleep(0)
    raise AssertionError("it does not happen")


async def at_rest(place: Place) -> None:
    """Wait until an object has nothing more to do."""
    await until(lambda: place.disk.alarm is None)


async def submissions(cloud: Site, place: Place) -> list[Submission]:
    """Return all that an object has accepted, in order."""
    # Looked for without a store, which would make the tables.
    if not place.disk.inner.execute("SELECT 1 FROM sqlite_master WHERE name = 'flue_submissions'").fetchone():
        return []
    rows = place.disk.inner.execute("SELECT id FROM flue_submissions ORDER BY sequence").fetchall()
    found = [await cloud.store(place).get_submission(id) for (id,) in rows]
    return [submission for submission in found if submission is not None]


async def the_submission(cloud: Site, instance: str) -> Submission:
    """Return the first thing that was accepted by an instance of the clerk."""
    found: Submission = await until(lambda: _first(cloud, instance))
    return found


async def _first(cloud: Site, instance: str) -> Submission | None:
    if instance not in cloud.names("Clerk"):
        return None
    found = await submissions(cloud, cloud.agent("clerk", instance))
    return found[0] if found else None

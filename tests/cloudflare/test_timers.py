"""An object that waits for nothing has no timeout pending: it could not hibernate, and its time would be billed."""

from __future__ import annotations

from tests.cloudflare.site import Site
from tests.cloudflare.standin.timers import pending

WAITING = """
    import asyncio
    from tests.cloudflare.standin.timers import pending

    route = True


    async def run(ctx):
        loop, came = asyncio.get_running_loop(), []
        while not pending:  # the request that waits for this run has a timeout of its own
            await asyncio.sleep(0)
        before = len(pending)
        async with asyncio.timeout(600):
            timers = [loop.call_later(600, came.append, "late"), loop.call_at(loop.time() + 600, came.append, "late")]
            sleeper = asyncio.create_task(asyncio.sleep(600))
            await asyncio.sleep(0)
            waited = len(pending) - before
        for timer in (*timers, sleeper):
            timer.cancel()
        await asyncio.wait_for(asyncio.sleep(0.001), 600)
        loop.call_later(0.001, came.append, "in time")
        loop.call_at(loop.time() - 1, came.append, "at once")
        loop.call_soon(came.append, "soon")
        past = loop.call_later(0.001, came.append, "before it was cancelled")
        await asyncio.sleep(0.05)
        past.cancel()
        return {"waited": waited, "came": sorted(came), "left": len(pending) - before}
"""


async def test_timers_of_a_worker_that_are_cancelled_leave_no_timeout_and_others_come(cloud: Site) -> None:
    await cloud.deploy_project({"workflows/waiting.py": WAITING})
    answer = await cloud.call("POST", "/workflows/waiting?wait=result", json={})
    came = ["at once", "before it was cancelled", "in time", "soon"]
    assert answer.json["result"] == {"waited": 4, "came": came, "left": 0}
    assert pending == {}

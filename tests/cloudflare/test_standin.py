"""The stand-in of the platform notices what the platform would not allow."""

from __future__ import annotations

import asyncio

import pytest

from tests.cloudflare.site import Site

LOCKING = """
    import asyncio

    route = True
    lock = asyncio.Lock()
    here = []

    async def run(ctx):
        here.append(ctx.id)
        async with lock:
            while len(here) < 2:
                await asyncio.sleep(0)
"""


async def test_a_lock_that_objects_share_fails_the_test_that_uses_it(cloud: Site) -> None:
    """Who waited for it goes on as a part of who gave it back, and tries for ever to write for the wrong object."""
    await cloud.deploy_project({"workflows/locking.py": LOCKING})
    with pytest.raises(AssertionError, match="Cannot perform I/O on behalf of a different request: State of"):
        await asyncio.gather(*(cloud.call("POST", "/workflows/locking?wait=result", json={}) for _ in range(2)))

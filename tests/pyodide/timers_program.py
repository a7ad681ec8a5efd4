"""Runs inside Pyodide: timers that are cancelled, and those that are not. `main()` returns a JSON report."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from pyodide.code import run_js

from flue.cloudflare.platform.js_timers import clear_cancelled_timers

timeouts = run_js("() => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length")


async def use() -> list[str]:
    """Use timers in every way that asyncio has; return those that came."""
    loop, came = asyncio.get_running_loop(), list[str]()
    async with asyncio.timeout(600):
        sleeper = asyncio.create_task(asyncio.sleep(600))
        await asyncio.sleep(0.001)
    sleeper.cancel()
    loop.call_later(600, came.append, "late").cancel()
    loop.call_later(0.001, came.append, "in time")
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.05)
    return sorted(came)


async def main() -> str:
    """Return which timers came, and how many timeouts are left of them, with Pyodide's own timers and with ours."""
    report: dict[str, object] = {}
    for name in ("own", "cleared"):
        if name == "cleared":
            clear_cancelled_timers()
        before = timeouts()
        report[name] = [await use(), timeouts() - before]
    return json.dumps(report)

"""How long it takes from the restart of a killed server until each of 1,000 open sessions goes on.

That is until its prompt is under way again and its model has been asked; answers come when all have been.
`FLUE_SESSIONS` is how many. What was measured is printed, with the syncs a second of the disk; it depends on the
machine, so that nothing is asserted of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path

import httpx2
import pytest

from benchmarks.__main__ import fsyncs_per_second
from flue.engine.feed import Feed
from flue.engine.log_reader import LogReader
from flue.host import SystemClock
from flue.stores import SqliteStore
from flue.testing import ProviderServer
from flue.testing.provider.http import ProviderRequest
from flue.testing.provider.reply import Reply, reply
from tests.faults.clients import BEARER
from tests.faults.fleet import Fleet, fleet
from tests.faults.office import Setting

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

AT_ONCE = 50


class Answers:
    """A model that says nothing until it may, and notes when it was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.may = asyncio.Event()

    async def __call__(self, request: ProviderRequest) -> Reply:
        """Answer, once it may."""
        self.asked.append(time.time())
        await self.may.wait()
        return reply("Here I am.")

    async def requests(self, count: int) -> None:
        """Wait until it was asked so often."""
        while len(self.asked) < count:  # noqa: ASYNC110 - what is waited for is another process's
            await asyncio.sleep(0.01)


@asynccontextmanager
async def office(folder: Path, answers: Answers, sessions: int) -> AsyncIterator[tuple[Fleet, SqliteStore]]:
    """Open a fleet whose servers work on so many sessions at once."""
    async with aclosing(SqliteStore(folder / "flue.db")) as store, ProviderServer(answers, record=False) as provider:
        setting = Setting(
            str(store.path), provider.base_url("anthropic-messages"), str(folder / "outside"), concurrency=sessions
        )
        async with fleet(setting, folder / "errors.log") as servers:
            yield servers, store


# DUR-38
async def test_every_open_session_goes_on_after_a_restart(tmp_path: Path) -> None:
    sessions, answers = int(os.environ.get("FLUE_SESSIONS") or 1000), Answers()
    async with office(tmp_path, answers, sessions) as (servers, store):
        server = await servers.start()
        await server.answers()
        await fill(servers, sessions)
        await answers.requests(sessions)
        server.kill()
        await server.ended
        answers.asked.clear()
        restarted = time.time()
        await servers.start()
        await answers.requests(sessions)
        asked = [moment - restarted for moment in answers.asked]
        answers.may.set()
        while await unsettled(store):  # noqa: ASYNC110 - what is waited for is another process's
            await asyncio.sleep(0.05)
        went_on = [moment - restarted for moment in await beginnings(store)]
    assert len(asked) == len(went_on) == sessions
    disk = fsyncs_per_second(tmp_path)
    print(  # noqa: T201 - what this is for
        f"\n{sessions} open sessions after a restart, at {disk:.0f} fsyncs/s: each went on after {shown(went_on)}"
        f" and its model was asked after {shown(asked)}"
    )


async def fill(servers: Fleet, sessions: int) -> None:
    """Open so many sessions."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx2.AsyncClient(base_url=f"http://{servers.address}", timeout=60) as http:

        async def open_session(number: int) -> None:
            async with gate:
                path = f"/agents/clerk/i{number}/dispatch"
                answer = await http.post(path, json={"input": "Are you there?"}, headers=BEARER)
            assert answer.status_code == 202

        await asyncio.gather(*(open_session(number) for number in range(sessions)))


async def unsettled(store: SqliteStore) -> bool:
    return bool(await store._read(lambda tx: tx.row("SELECT 1 FROM submissions WHERE state <> 'settled' LIMIT 1")))


async def beginnings(store: SqliteStore) -> list[float]:
    """Return when the last attempt at each submission told its first event, in seconds since the epoch."""
    reader = LogReader(store, Feed(), SystemClock())
    found = []
    for (log,) in await store._read(lambda tx: tx.rows("SELECT id FROM submissions")):
        begun = await reader.read(log, types={"operation_start"})
        # What the first attempt told may not have been on disk when it was killed.
        found.append(datetime.fromisoformat(json.loads(begun[-1].data)["timestamp"]).timestamp())
    return found


def shown(times: list[float]) -> str:
    """Return percentiles in words."""
    ordered = sorted(times)
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99)]
    return f"{at[0]:.2f} s (median), {at[1]:.2f} s (p99)"

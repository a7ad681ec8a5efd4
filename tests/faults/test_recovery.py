"""How long it takes after a kill until each of 1,000 open sessions goes on: after a restart, and at another node.

That is until its prompt is under way again and its model has been asked; answers come when all have been. After a
restart the time counts from the start of the process, a `flue start` as anybody starts it, with the sandbox that agents
have by default. `FLUE_SESSIONS` is how many. What was measured is printed, with the syncs a second of the disk; it
depends on the machine, so that nothing is asserted of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import cast

import httpx2
import pytest

from benchmarks.__main__ import fsyncs_per_second
from flue.durable.port import DurableStore
from flue.engine.feed import Feed
from flue.engine.log_reader import LogReader
from flue.host import SystemClock
from flue.project.data import DATA_FILE
from flue.stores import SqliteStore
from flue.stores.sql.store import SqlStore
from flue.testing import ProviderServer
from flue.testing.provider.http import ProviderRequest
from flue.testing.provider.reply import Reply, reply
from tests.faults.clients import BEARER
from tests.faults.fleet import Fleet, Server, fleet
from tests.faults.office import TOKEN, Setting
from tests.serve.server_process import CODE, READY
from tests.stores.postgres_server import INSTALL, PostgresServer, find_binaries

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

SESSIONS = int(os.environ.get("FLUE_SESSIONS") or 1000)
AT_ONCE = 50
LEASE = 5.0
BINARIES = find_binaries()


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
async def office(folder: Path, answers: Answers, address: str, lease: float = 30.0) -> AsyncIterator[Fleet]:
    """Open a fleet whose servers work on all the sessions at once."""
    async with ProviderServer(answers, record=False) as provider:
        model = provider.base_url("anthropic-messages")
        setting = Setting(address, model, str(folder / "outside"), lease, concurrency=SESSIONS)
        async with fleet(setting, folder / "errors.log") as servers:
            yield servers


PROJECT = """
import os
from flue import create_agent
from flue.models import register_provider

register_provider("fake", api="anthropic-messages", base_url=os.environ["PROVIDER"], api_key="key")
route = True
agent = create_agent(model="fake/model", durability={"max_attempts": 1_000_000, "timeout": None})
"""


# DUR-38
async def test_every_open_session_goes_on_after_a_restart(tmp_path: Path) -> None:
    answers, agent = Answers(), tmp_path / "src/agents/clerk.py"
    agent.parent.mkdir(parents=True)
    agent.write_text(PROJECT, "utf-8")
    async with ProviderServer(answers, record=False) as provider:
        model = provider.base_url("anthropic-messages")
        async with flue_start(tmp_path, model) as address:
            await fill(address, SESSIONS)
            await answers.requests(SESSIONS)
        answers.asked.clear()
        what = f"the start of their process, at {fsyncs_per_second(tmp_path):.0f} fsyncs/s"
        restarted = time.time()
        async with flue_start(tmp_path, model), aclosing(SqliteStore(tmp_path / DATA_FILE)) as store:
            print(f"\nThe server listened after {time.time() - restarted:.2f} s.")  # noqa: T201 - what this is for
            await tell(store, answers, restarted, what)


@asynccontextmanager
async def flue_start(root: Path, model: str) -> AsyncIterator[str]:
    """Run `flue start`; yields the address at which it listens. At the end it is killed."""
    environment = {**os.environ, "PROVIDER": model, "FLUE_DISPATCH_TOKEN": TOKEN}
    # What is installed has bytecode; where none may be written, each start would compile all modules anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(root / "bytecode")
    arguments = (sys.executable, "-c", CODE, "start", "--port", "0", "--host", "127.0.0.1")
    process = await asyncio.create_subprocess_exec(*arguments, cwd=root, env=environment, stdout=DEVNULL, stderr=PIPE)
    try:
        assert process.stderr is not None
        line = b""
        while READY["start"].encode() not in line:
            line = await process.stderr.readline()
            assert line, "it ended"
        yield line.decode().strip().rpartition("//")[2]
    finally:
        process.kill()
        await process.wait()


# DUR-38
@pytest.mark.skipif(BINARIES is None, reason=f"needs Postgres 15 or newer: {INSTALL}")
async def test_every_open_session_goes_on_at_another_node_once_the_lease_is_over(tmp_path: Path) -> None:
    postgres = pytest.importorskip("flue.stores.postgres")
    assert BINARIES is not None
    answers, database = Answers(), PostgresServer(BINARIES)
    await asyncio.to_thread(database.start)
    try:
        async with (
            aclosing(postgres.PostgresStore(database.url)) as store,
            office(tmp_path, answers, database.url, LEASE) as servers,
        ):
            server = await filled(servers, answers)
            other = await servers.start()
            await other.answers()
            server.kill()
            await server.ended
            answers.asked.clear()
            lapsed = await store._read(
                lambda tx: tx.row(
                    "SELECT lease_until FROM owners WHERE owner = (SELECT owner FROM submissions LIMIT 1)"
                )
            )
            await tell(store, answers, lapsed[0] / 1000, "the end of their node's lease")
    finally:
        await asyncio.to_thread(database.stop)


async def filled(servers: Fleet, answers: Answers) -> Server:
    """Start a server and have it open the sessions."""
    server = await servers.start()
    await server.answers()
    await fill(servers.address, SESSIONS)
    await answers.requests(SESSIONS)
    return server


async def tell(store: SqlStore, answers: Answers, since: float, what: str) -> None:
    """Wait until all sessions have gone on, and print when they did."""
    await answers.requests(SESSIONS)
    asked = [moment - since for moment in answers.asked]
    answers.may.set()
    while await unsettled(store):  # noqa: ASYNC110 - what is waited for is another process's
        await asyncio.sleep(0.05)
    went_on = [moment - since for moment in await beginnings(store)]
    assert len(asked) == len(went_on) == SESSIONS
    print(  # noqa: T201 - what this is for
        f"\n{SESSIONS} open sessions after {what}: each went on after {shown(went_on)}"
        f" and its model was asked after {shown(asked)}"
    )


async def fill(address: str, sessions: int) -> None:
    """Open so many sessions."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx2.AsyncClient(base_url=f"http://{address}", timeout=60) as http:

        async def open_session(number: int) -> None:
            async with gate:
                path = f"/agents/clerk/i{number}/dispatch"
                answer = await http.post(path, json={"input": "Are you there?"}, headers=BEARER)
            assert answer.status_code == 202

        await asyncio.gather(*(open_session(number) for number in range(sessions)))


async def unsettled(store: SqlStore) -> bool:
    return bool(await store._read(lambda tx: tx.row("SELECT 1 FROM submissions WHERE state <> 'settled' LIMIT 1")))


async def beginnings(store: SqlStore) -> list[float]:
    """Return when the last attempt at each submission told its first event, in seconds since the epoch."""
    reader = LogReader(cast("DurableStore", store), Feed(), SystemClock())
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

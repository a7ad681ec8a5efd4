"""Three server processes on one Postgres: one is killed every few seconds, and the database restarts in the middle.

`FLUE_SECONDS` is for how many seconds (30), `FLUE_SEED` repeats the chances of a failure.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import aclosing
from pathlib import Path
from secrets import token_hex

import pytest

from tests.faults.scene import Scene, scene
from tests.stores.postgres_server import INSTALL, PostgresServer, find_binaries

pytest.importorskip("psycopg", reason="needs the extra: pip install 'flue-agents[postgres]'")
from flue.stores.postgres import PostgresStore

BINARIES = find_binaries()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(0),
    pytest.mark.skipif(BINARIES is None, reason=f"needs Postgres 15 or newer: {INSTALL}"),
]

NODES = 3
# So long does the work of a killed node wait for the others.
LEASE = 2.0
BETWEEN_KILLS = 2.5
BETWEEN_RESTARTS = 60.0


# DUR-25
async def test_three_nodes_on_one_database_keep_every_promise(tmp_path: Path) -> None:
    assert BINARIES is not None
    seconds = float(os.environ.get("FLUE_SECONDS") or 30)
    seed = os.environ.get("FLUE_SEED") or token_hex(4)
    database = PostgresServer(BINARIES)
    await asyncio.to_thread(database.start)
    try:
        store = PostgresStore(database.url)
        async with aclosing(store), scene(tmp_path, seed, database.url, store, each=3, lease=LEASE) as on:
            await work_through(on, database, seconds)
    finally:
        await asyncio.to_thread(database.stop)


async def work_through(on: Scene, database: PostgresServer, seconds: float) -> None:
    """Kill nodes and restart the database for so long; then look."""
    living = [await on.servers.start() for _ in range(NODES)]
    end, kills, restarts = time.monotonic() + seconds, 0, 0
    next_restart = time.monotonic() + min(seconds / 2, BETWEEN_RESTARTS)
    while time.monotonic() < end:
        await asyncio.sleep(on.chances.uniform(0.5, 1.5) * BETWEEN_KILLS)
        on.clients.check()
        victim = living.pop(on.chances.randrange(NODES))
        victim.kill()
        living.append(await on.servers.start())
        kills += 1
        if time.monotonic() >= next_restart:
            await asyncio.to_thread(database.restart)
            next_restart += BETWEEN_RESTARTS
            restarts += 1
    assert restarts
    await on.reckon(living, f"{kills} kills of {NODES} nodes and {restarts} restarts of the database")

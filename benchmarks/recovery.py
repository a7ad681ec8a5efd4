"""1,000 sessions whose process is killed while each waits for its model, and whoever takes them up again.

There is no network between, and no HTTP: `benchmarks.restart` measures a real server. `python -m benchmarks.recovery
PLACE SESSIONS LEASE` is the process that is killed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, repeat
from pathlib import Path
from typing import Any

from benchmarks.pace import Pace, watched
from benchmarks.restart import OPEN_SESSIONS
from benchmarks.rows import share
from benchmarks.scenarios import Samples

LEASE = 30.0
SHORT_LEASE = 3.0
"""Seconds until another node takes over: the time counts from there."""


async def recovery(folder: Path) -> Samples:
    """Measure how soon the next process on a SQLite file asks each model again.

    The time counts from the start of the engine, with what it imports; that of the process is measured by itself.
    """
    from flue.serve.process import collecting_rarely

    place = str(folder / "flue.db")
    with _open_sessions(place, LEASE):
        pass
    models = _Models()
    with watched() as pace, collecting_rarely():  # as servers do
        began, spent = time.perf_counter(), time.process_time()
        async with _sessions(place, models.answer, LEASE) as service:
            await service.start()
            await models.everybody.wait()
            spent = time.process_time() - spent
    return _samples(pace, began, models, spent)


async def takeover(folder: Path) -> Samples:
    """Measure how soon another node on the same Postgres asks each model again, from the end of the dead one's lease.

    The database is a fresh one on this machine, and has to share its cores.
    """
    from tests.stores.postgres_server import INSTALL, PostgresServer, find_binaries

    binaries = find_binaries()
    if binaries is None:
        return {"missing": f"needs Postgres 15 or newer: {INSTALL}"}  # type: ignore[dict-item]
    server = PostgresServer(binaries)
    server.start()
    try:
        return await _taken_over(server.url)
    finally:
        server.stop()


async def _taken_over(url: str) -> Samples:
    from flue.serve.process import collecting_rarely

    models = _Models()
    with watched() as pace, collecting_rarely(), _open_sessions(url, SHORT_LEASE) as other:
        async with _sessions(url, models.answer, SHORT_LEASE) as service:
            await service.start()
            other.kill()
            began, spent = _end_of_lease(url), time.process_time()
            await models.everybody.wait()
            spent = time.process_time() - spent
    return _samples(pace, began, models, spent)


def _end_of_lease(url: str) -> float:
    """Return when the lease of who has the sessions ends, by `time.perf_counter`."""
    import psycopg

    with psycopg.connect(url, options="-c search_path=flue") as connection:
        ((until,),) = connection.execute(
            "SELECT DISTINCT lease_until FROM owners JOIN submissions USING (owner) WHERE state = 'running'"
        )
    return float(until) / 1000 - time.time() + time.perf_counter()


class _Models:
    """They answer when all have been asked: `asked` is when."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.everybody = asyncio.Event()

    async def answer(self, request: Any) -> str:
        """Answer one request."""
        self.asked.append(time.perf_counter())
        if len(self.asked) == OPEN_SESSIONS:
            self.everybody.set()
        await self.everybody.wait()
        return "Here I am."


def _samples(pace: Pace, began: float, models: _Models, spent: float) -> Samples:
    in_ms = [(asked - began) * 1000 for asked in models.asked]
    return {
        "went_on_ms_p50": [share(in_ms, 0.5)],
        "went_on_ms_p99": [share(in_ms, 0.99)],
        "went_on_even_ms_p99": [share([pace.ms(began, asked) for asked in models.asked], 0.99)],
        "lost": [pace.lost],
        "cpu_ms": [spent / OPEN_SESSIONS * 1000],
    }


@contextmanager
def _open_sessions(place: str, lease: float) -> Iterator[subprocess.Popen[str]]:
    """Run the process that opens the sessions until the end of the block, and kill it."""
    command = [sys.executable, "-m", "benchmarks.recovery", place, str(OPEN_SESSIONS), str(lease)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


async def _open(place: str, sessions: int, lease: float) -> None:
    """Open so many sessions, say so, and wait for the end."""
    from flue.testing import hang

    asked, everybody = count(1), asyncio.Event()

    def answer(request: Any) -> Any:
        if next(asked) == sessions:
            everybody.set()
        return hang()

    async with _sessions(place, answer, lease) as service:
        await asyncio.gather(
            *(service.dispatch("clerk", f"customer-{number}", "Are you there?") for number in range(sessions))
        )
        await everybody.wait()
        print("open", flush=True)
        await asyncio.Event().wait()


def _sessions(place: str, answer: Callable[[Any], Any], lease: float) -> Any:
    from flue import create_agent
    from flue.engine.catalog import AgentEntry, Catalog
    from flue.engine.engine import EngineSettings
    from flue.host import open_service
    from flue.stores import PostgresStore, SqliteStore
    from flue.testing import ScriptedModel

    offers = Catalog.of([AgentEntry("clerk", create_agent(model=ScriptedModel(repeat(answer))))], [])
    settings = EngineSettings(concurrency=OPEN_SESSIONS, lease=lease)
    store = PostgresStore(place) if place.startswith("postgresql:") else SqliteStore(place)
    return open_service(offers, store=store, env={}, settings=settings)


if __name__ == "__main__":
    asyncio.run(_open(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))

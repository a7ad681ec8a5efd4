"""Durable work in a SQLite file: how much shares an fsync, how soon work is claimed, how soon it is taken up again.

`python -m benchmarks.work VARIANT FOLDER` prints samples as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from itertools import count, repeat
from pathlib import Path
from typing import Any

from benchmarks import counted
from benchmarks.pace import Pace, watched
from benchmarks.restart import OPEN_SESSIONS
from benchmarks.rows import share
from benchmarks.scenarios import Samples

SESSIONS = 64
PACE = 1000
"""Admissions a second."""
SECONDS = 3.0
WARM_UP_SECONDS = 0.5


async def keep_busy(
    lanes: int, step: Callable[[int], Awaitable[None]], seconds: float, *, a_second: float | None = None
) -> None:
    """Run a step again and again in so many lanes at once: without a pause, or so often a second, at random times."""
    end, chances = time.perf_counter() + seconds, random.Random(0)  # noqa: S311 - the same times in each run

    async def lane(number: int) -> None:
        while time.perf_counter() < end:
            if a_second is not None:
                await asyncio.sleep(chances.expovariate(a_second / lanes))
            await step(number)

    await asyncio.gather(*(lane(number) for number in range(lanes)))


async def admissions(folder: Path, *, a_second: float | None = None) -> Samples:
    """64 sessions, each with one message at a time: accepted, claimed at once, settled. No engine, no model."""
    from flue.durable.records import Admission, Claimant, Outcome
    from flue.serve.process import collecting_rarely
    from flue.stores import SqliteStore

    numbers, far = count(), 2**50
    waited: list[tuple[float, float]] = []
    fsyncs: list[float] = []
    store = SqliteStore(folder / "flue.db", connect=_connect)
    with watched() as pace, collecting_rarely():  # as servers do
        async with aclosing(store):
            await store.enlist("bench", now=0, lease_until=far)

            async def step(session: int) -> None:
                id, began, before = f"sub_{next(numbers)}", time.perf_counter(), counted.COMMITS
                work = Admission(
                    id=id, lane=f"session-{session}", kind="prompt", target="a", payload="{}", reserve=1024
                )
                admitted = await store.admit(work, now=0, claimant=Claimant("bench", f"attempt-{id}", far))
                waited.append((began, time.perf_counter()))
                fsyncs.append(counted.COMMITS - before)
                assert admitted.claim is not None
                await store.settle(admitted.claim, Outcome("completed", result="1"), now=0)

            await keep_busy(SESSIONS, step, WARM_UP_SECONDS)
            waited.clear()
            fsyncs.clear()
            began, spent, before = time.perf_counter(), time.process_time(), counted.COMMITS
            await keep_busy(SESSIONS, step, SECONDS, a_second=a_second)
            took, spent, made = time.perf_counter() - began, time.process_time() - spent, counted.COMMITS - before
    in_ms, even_ms = _both(pace, waited)
    return {
        "per_fsync": [len(waited) / made],
        "per_second": [len(waited) / took],
        "cpu_us": [spent / len(waited) * 1e6],
        "claim_fsyncs_p50": [share(fsyncs, 0.5)],
        "claim_fsyncs_p99": [share(fsyncs, 0.99)],
        "claim_ms_p50": [share(in_ms, 0.5)],
        "claim_ms_p99": [share(in_ms, 0.99)],
        "claim_even_ms_p99": [share(even_ms, 0.99)],
        "lost": [pace.lost],
    }


def _both(pace: Pace, spans: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Return how many ms each took, and how many it would have taken on an evenly running machine."""
    return [(ended - began) * 1000 for began, ended in spans], [pace.ms(*span) for span in spans]


async def paced(folder: Path) -> Samples:
    """Measure the same sessions when all of them together ask a thousand times a second."""
    return await admissions(folder, a_second=PACE)


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=counted.Counting)


async def recovery(folder: Path) -> Samples:
    """1,000 sessions whose process was killed while each waited for its model: how soon the next process asks for it.

    The time counts from the start of the engine, with what it imports; that of the process is measured by itself.
    """
    from flue.serve.process import collecting_rarely

    _killed_with_open_sessions(folder)
    asked: list[tuple[float, float]] = []
    everybody = asyncio.Event()

    async def answer(request: Any) -> str:
        asked.append((began, time.perf_counter()))
        if len(asked) == OPEN_SESSIONS:
            everybody.set()
        await everybody.wait()
        return "Here I am."

    with watched() as pace, collecting_rarely():  # as servers do
        began, spent = time.perf_counter(), time.process_time()
        async with _sessions(folder, answer) as service:
            await service.start()
            await everybody.wait()
            spent = time.process_time() - spent
    in_ms, even_ms = _both(pace, asked)
    return {
        "went_on_ms_p50": [share(in_ms, 0.5)],
        "went_on_ms_p99": [share(in_ms, 0.99)],
        "went_on_even_ms_p99": [share(even_ms, 0.99)],
        "lost": [pace.lost],
        "cpu_ms": [spent / OPEN_SESSIONS * 1000],
    }


def _killed_with_open_sessions(folder: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.work", "open_sessions", str(folder), str(OPEN_SESSIONS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        process.kill()


async def open_sessions(folder: Path, sessions: int) -> None:
    """Open so many sessions, say so, and wait for the end."""
    from flue.testing import hang

    asked, everybody = count(1), asyncio.Event()

    def answer(request: Any) -> Any:
        if next(asked) == sessions:
            everybody.set()
        return hang()

    async with _sessions(folder, answer) as service:
        for number in range(sessions):
            await service.dispatch("clerk", f"customer-{number}", "Are you there?")
        await everybody.wait()
        print("open", flush=True)
        await asyncio.Event().wait()


def _sessions(folder: Path, answer: Callable[[Any], Any]) -> Any:
    from flue import create_agent
    from flue.engine.catalog import AgentEntry, Catalog
    from flue.engine.engine import EngineSettings
    from flue.host import open_service
    from flue.stores import SqliteStore
    from flue.testing import ScriptedModel

    offers = Catalog.of([AgentEntry("clerk", create_agent(model=ScriptedModel(repeat(answer))))], [])
    settings = EngineSettings(concurrency=OPEN_SESSIONS)
    return open_service(offers, store=SqliteStore(folder / "flue.db"), env={}, settings=settings)


VARIANTS: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
    function.__name__: function for function in (admissions, paced, recovery, open_sessions)
}


if __name__ == "__main__":
    variant, folder, *options = sys.argv[1:]
    print(json.dumps(asyncio.run(VARIANTS[variant](Path(folder), *map(int, options)))))

"""Durable work: how much shares an fsync of a SQLite file, how soon work is claimed, how soon it is taken up again.

`python -m benchmarks.work VARIANT FOLDER` prints samples as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks import counted
from benchmarks.pace import Pace, watched
from benchmarks.recovery import recovery, takeover
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


VARIANTS: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
    function.__name__: function for function in (admissions, paced, recovery, takeover)
}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(VARIANTS[sys.argv[1]](Path(sys.argv[2])))))

"""The server dies without a word, again and again, while clients use it: everything it promised is kept.

Some are told to end, as by a new release, and some of those are killed before they have.

`FLUE_KILLS` is how often (100), in rounds of 50, each with a new file; in every second round two processes share it.
`FLUE_WORKERS` is how many workers each has (1): with more, every other victim is one of them, and its supervisor stays.
`FLUE_SEED` gives the first round the chances of a failure, which says where a kill was aimed, not where it hit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from contextlib import aclosing
from pathlib import Path
from secrets import token_hex

import pytest

from flue.stores import SqliteStore
from tests.faults.fleet import Server
from tests.faults.scene import Figures, Scene, scene

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]

KILLS = 100
ROUND = 50
LONGEST_LIFE = 400
"""In moments, see `Ledger`."""
PATIENCE = 2.0
KILLED, CUT_SHORT = 0.6, 0.8
"""Shares of the ends: those that are kills, and with them those that begin in good order."""
DRAIN = 0.1
LONGEST_END = 8.0
"""Five seconds are promised; the machine may be busy."""


# DUR-24
async def test_a_server_killed_at_any_time_keeps_every_promise(tmp_path: Path) -> None:
    kills = int(os.environ.get("FLUE_KILLS") or KILLS)
    workers = int(os.environ.get("FLUE_WORKERS") or 1)
    seed = os.environ.get("FLUE_SEED") or token_hex(4)
    figures, rounds = Figures(), range(0, kills, ROUND)
    for number, begin in enumerate(rounds):
        name = f"{seed}-{number}" if number else seed
        folder = tmp_path / name
        folder.mkdir()
        async with (
            aclosing(SqliteStore(folder / "flue.db")) as store,
            scene(folder, name, str(store.path), store, workers=workers) as on,
        ):
            story = f"round {number + 1} of {len(rounds)}"
            figures += await kill(on, min(ROUND, kills - begin), 1 + number % 2, story)
        shutil.rmtree(folder)
    print(f"\n{kills} kills, nothing lost, doubled, reordered or stuck: {figures}")  # noqa: T201 - for the long run


async def kill(on: Scene, kills: int, processes: int, story: str) -> Figures:
    """End servers after random lives, each replaced at once; then look."""
    chances = on.chances
    living = [await on.servers.start() for _ in range(processes)]
    for _ in range(kills):
        if chances.random() < 0.8:
            await living[0].answers()
        await pass_by(on, round(chances.random() ** 3 * LONGEST_LIFE))
        await asyncio.sleep(chances.random() * 0.01)  # not only right after something came
        if on.servers.workers > 1 and living[0].ready.is_set() and chances.random() < 0.5:
            kill_worker(on, living[0])
            continue
        victim = living.pop(0)
        ending = asyncio.create_task(end(on, victim))
        if chances.random() < 0.5:
            await ending
        living.append(await on.servers.start())
        await ending
        on.clients.check()
    return await on.reckon(living, f"{story}, {kills} kills of {processes} processes")


def kill_worker(on: Scene, server: Server) -> None:
    """Kill one of a server's workers, which is to be replaced."""
    with contextlib.suppress(ProcessLookupError, IndexError):  # one has just ended, none has come yet
        os.kill(on.chances.choice(server.workers()), signal.SIGKILL)
    on.clients.check()


async def end(on: Scene, victim: Server) -> None:
    """Kill a server; or end it in good order; or begin with that, and kill it while it stops."""
    chance = on.chances.random()
    if chance < KILLED or not victim.ready.is_set():
        victim.kill()
    elif chance < CUT_SHORT:
        stopping = asyncio.create_task(victim.stop())
        await asyncio.sleep((chance - KILLED) / (CUT_SHORT - KILLED) * DRAIN)
        with contextlib.suppress(ProcessLookupError):  # it was faster
            victim.kill()
        await stopping
    else:
        async with asyncio.timeout(LONGEST_END):
            assert await victim.stop() == 128 + signal.SIGTERM


async def pass_by(on: Scene, moments: int) -> None:
    """Let so much happen, or as much as there is."""
    end = on.ledger.moments + moments
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while on.ledger.moments < end:  # noqa: ASYNC110 - it grows at many places
                await asyncio.sleep(0.002)

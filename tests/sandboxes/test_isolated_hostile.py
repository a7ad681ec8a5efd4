"""A corpus of hostile scripts against isolated sandboxes: each ends with a result that says what happened, in time.

This process must not notice: its event loop goes on, its memory stays, other sandboxes work.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flue.ports import ExecResult
from flue.sandboxes import Limits, WorkerPool, virtual
from tests.sandboxes.hostile.corpus import Hostile, corpus
from tests.sandboxes.processes import fork_servers

pytestmark = pytest.mark.faults

SECONDS = 0.5
GRACE = 5.0  # nominally 2; the machine may be busy
SLOWEST_TICK = 0.25
MEMORY_MB = 80.0
BIGGEST_OUTPUT = 11 * 1024 * 1024
AT_A_TIME = 3
SCRIPTS = corpus()


def ending(result: ExecResult) -> str:
    """Say how a command ended, as scripts.toml calls it."""
    if result.exit_code == 124:
        return "timeout"
    if "[flue] The command was ended: " in result.stderr:
        return "crash"
    if "[flue] The command was stopped: " in result.stderr:
        return "limit"
    return "error" if result.exit_code else "ok"


@asynccontextmanager
async def watched_loop() -> AsyncIterator[list[tuple[float, str]]]:
    """Give a list of how late the event loop was, and with which scripts at work."""
    late: list[tuple[float, str]] = []

    async def tick() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            late.append((time.perf_counter() - began - 0.01, ", ".join(at_work)))

    ticking = asyncio.create_task(tick())
    try:
        yield late
    finally:
        ticking.cancel()


at_work: set[str] = set()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def complaints(hostile: Hostile, pool: WorkerPool) -> list[str]:
    """Run a script and return what is wrong with what happened."""
    limits = Limits(commands=hostile.commands, seconds=SECONDS)
    env = await virtual({"given": "x"}, isolated=pool, limits=limits).create_session_env(id=hostile.name)
    at_work.add(hostile.name)
    began = time.perf_counter()
    result = await env.exec(hostile.script)
    took = time.perf_counter() - began
    at_work.discard(hostile.name)
    wrong = []
    if took > SECONDS + GRACE:
        wrong.append(f"took {took:.1f} s")
    if hostile.ends and ending(result) not in hostile.ends.split(" or "):
        wrong.append(f"ended with {ending(result)}: {result.stderr[-300:]}")
    if ending(result) == "crash" and not (result.exit_code > 128 and "The sandbox was started again" in result.stderr):
        wrong.append(f"does not say what became of the sandbox: {result}")
    if hostile.stdout not in result.stdout:
        wrong.append(f"printed {result.stdout[:300]!r}")
    if hostile.never and hostile.never in result.stdout + result.stderr:
        wrong.append(f"shows {hostile.never}")
    if len(result.stdout) > BIGGEST_OUTPUT:
        wrong.append(f"printed {len(result.stdout)} characters")
    again = await env.exec("echo alive > again; cat again")
    if again.stdout != "alive\n" and "No space left" not in again.stderr and "filesystem full" not in again.stderr:
        wrong.append(f"the sandbox does not work any more: {again}")
    fresh = await virtual({"given": "x"}, isolated=pool).create_session_env(id="next")
    if (await fresh.exec("cat given; ls")).stdout != "xgiven\n":
        wrong.append("a new sandbox does not work")
    return [f"{hostile.name}: {what}" for what in wrong]


# SBX-01, SBX-02, SBX-10
@pytest.mark.timeout(120)
async def test_hostile_scripts_end_with_results_and_leave_the_server_untouched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(SCRIPTS) >= 100
    monkeypatch.setenv("FLUE_CANARY", "secret-canary")
    turns = asyncio.Semaphore(AT_A_TIME)
    before = resident_mb()

    async with WorkerPool() as pool, watched_loop() as late:
        [server] = fork_servers()

        async def one(hostile: Hostile) -> list[str]:
            async with turns:
                return await complaints(hostile, pool)

        wrong = [what for found in await asyncio.gather(*map(one, SCRIPTS)) for what in found]
        assert fork_servers() == [server]
    assert not wrong, "\n".join(wrong)
    slowest, during = max(late)
    assert slowest < SLOWEST_TICK, f"the event loop stood still for {slowest:.3f} s, during {during}"
    assert resident_mb() - before < MEMORY_MB

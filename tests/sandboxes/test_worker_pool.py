"""The pool of workers when several things happen at once: who waits, who is cancelled, what is closed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from flue.errors import SandboxError
from flue.harness.env import SessionEnv
from flue.sandboxes import WorkerPool, virtual
from flue.sandboxes.virtual_sandbox import VirtualSandbox
from flue.sandboxes.worker_process import Worker


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    async with WorkerPool(spare=0, most=1) as pool:
        yield pool


async def open_env(pool: WorkerPool) -> SessionEnv:
    return await virtual(isolated=pool).create_session_env(id="test")


class Tenant:
    """A sandbox whose worker is given back when the test says so."""

    def __init__(self, pool: WorkerPool, worker: Worker) -> None:
        self.parking, self.go_on = asyncio.Event(), asyncio.Event()
        self._pool = pool
        self._worker = worker

    async def park(self) -> None:
        self.parking.set()
        await self.go_on.wait()
        self._pool.give_back(self._worker)


async def test_who_no_longer_waits_for_a_worker_leaves_no_sandbox_with_one_that_nobody_can_get(
    pool: WorkerPool,
) -> None:
    tenant = Tenant(pool, await pool.take())
    pool.rest(tenant)
    taking = asyncio.ensure_future(pool.take())
    await tenant.parking.wait()
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    tenant.go_on.set()
    pool.give_back(await asyncio.wait_for(pool.take(), 5))


async def test_a_sandbox_that_is_closed_while_it_waits_for_its_worker_gets_none(pool: WorkerPool) -> None:
    worker = await pool.take()
    env = await open_env(pool)
    running = asyncio.ensure_future(env.exec("echo"))
    await asyncio.sleep(0)
    assert isinstance(env.sandbox, VirtualSandbox)
    await env.sandbox.close()
    pool.give_back(worker)
    with pytest.raises(SandboxError, match="sandbox is closed"):
        await running
    pool.give_back(await asyncio.wait_for(pool.take(), 5))


async def test_a_process_that_may_open_no_more_files_gets_no_worker_and_keeps_those_it_has(pool: WorkerPool) -> None:
    resource = pytest.importorskip("resource")
    worker = await pool.take()
    pool._most = 2
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(SandboxError, match="No process could be started"):
            await pool.take()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    _, answer = worker.call(b"exists", b"/workspace")
    assert await asyncio.wait_for(answer, 5) == [b"y"]

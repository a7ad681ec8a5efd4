"""The worker processes of isolated sandboxes: a few wait ready, and no more than agreed are at work."""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import OrderedDict
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Protocol, Self

from flue.errors import DefinitionError, SandboxError, UsageError
from flue.sandboxes.engine import Limits
from flue.sandboxes.fork_server import ForkServer, no_process
from flue.sandboxes.isolation import default_pool, set_default_pool, unset_default_pool
from flue.sandboxes.places import WORKSPACE
from flue.sandboxes.worker.frames import number
from flue.sandboxes.worker_process import Worker

_REFILL = 0.02  # seconds
_FIRST_FILL = 0.1  # seconds
MEMORY = 512 * 1024 * 1024
"""Bytes that one worker may take, its sandbox's files included."""


class Tenant(Protocol):
    """A sandbox that has a worker, as the pool sees it."""

    async def park(self) -> None:
        """Give the worker back, unless it is in use; what the sandbox holds is kept elsewhere."""
        ...


class WorkerPool:
    """Worker processes for `virtual(isolated=pool)`. It belongs to the event loop that first uses it.

    `spare` workers wait ready, so that a sandbox opens in about a millisecond; at most `most` have a sandbox at a time.
    A worker has one sandbox in its life, and ends with it. A sandbox that nobody has used for `idle` seconds, or whose
    worker another one needs, gives its worker back and keeps its files; the next use brings both together again. When
    all are busy, the next waits.

    `memory` is how many bytes a worker may take (Linux). A worker takes 2 MB and up, files included.

    No worker outlives the process, however that ends. Raises `DefinitionError` for values that are not positive.
    """

    def __init__(self, *, spare: int = 2, most: int = 64, idle: float = 60.0, memory: int = MEMORY) -> None:
        counts: tuple[tuple[str, object, int], ...] = (
            ("spare", spare, 0),
            ("most", most, 1),
            ("memory", memory, 64 << 20),
        )
        for name, value, least in counts:
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise DefinitionError(f"WorkerPool: {name} must be a whole number from {least}, got {value!r}.")
        seconds: object = idle
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0.0 < seconds < math.inf:
            raise DefinitionError(f"WorkerPool: idle must be a positive number of seconds, got {idle!r}.")
        self.memory = memory
        limits = Limits()
        self.usual = limits, limits.seconds
        """The limits of the last command, and how long it might take: spare workers get ready for such a one."""
        self._spare_wanted = spare
        self._most = most
        self._idle = idle
        self._server: ForkServer | None = None
        self._spare: list[Worker] = []
        self._taken: set[Worker] = set()
        self._resting: OrderedDict[int, tuple[weakref.ref[Tenant], float]] = OrderedDict()
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._parking: set[asyncio.Task[None]] = set()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Start the processes now, not with the first sandbox. Raises `SandboxError` (code `sandbox_unavailable`)."""
        self._check_usable()
        worker = self._fork_spare()
        await worker.started()
        self._spare.append(worker)
        self._refill()

    def make_default(self) -> None:
        """Isolate every virtual sandbox opened on this event loop that does not say `isolated=False`."""
        self._check_usable()
        set_default_pool(self)

    def prepare(self) -> None:
        """Start the process that workers are forked from, if it is not there, and soon the spare ones.

        Raises `SandboxError` where that cannot be, and `UsageError` on another event loop.
        """
        self._check_usable()
        begins = self._server is None
        self._fork_server()
        if begins:
            # A sandbox was opened. Its first command may come at once, and then does not wait for these.
            asyncio.get_running_loop().call_later(_FIRST_FILL, self._refill)

    async def take(self) -> Worker:
        """Return a worker that never had a sandbox (SBX-08); it comes back by `give_back`. Raises `SandboxError`.

        It may still be starting: what it is sent waits for it.
        """
        self._check_usable()
        while len(self._taken) >= self._most:
            await self._make_room()
            self._check_usable()
        worker = self._spare_worker() or self._fork()
        self._taken.add(worker)
        if len(self._spare) < self._spare_wanted:
            # After whoever waits for this worker has got on with it: starting the next takes a core for milliseconds.
            loop = asyncio.get_running_loop()
            worker.when_started(lambda: loop.call_later(_REFILL, self._refill))
        return worker

    def give_back(self, worker: Worker, why: str = "its sandbox was closed") -> None:
        """End a worker that was taken."""
        worker.end(why)
        self._taken.discard(worker)
        self._changed.set()

    def rest(self, tenant: Tenant) -> None:
        """Note that a sandbox does not use its worker just now."""
        now = asyncio.get_running_loop().time()
        self._resting[id(tenant)] = (weakref.ref(tenant), now)
        self._changed.set()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._idle, self._park_idle)

    def wake(self, tenant: Tenant) -> None:
        """Note that a sandbox uses its worker again, or has none any more."""
        self._resting.pop(id(tenant), None)

    async def close(self) -> None:
        """End all processes. Sandboxes that are still in use fail from now on. Closing twice is fine."""
        self._closed = True
        self._changed.set()
        if self._timer is not None:
            self._timer.cancel()
        unset_default_pool(self)
        for worker in self._spare:
            worker.end()
        self._spare.clear()
        for task in tuple(self._parking):
            task.cancel()
        for worker in tuple(self._taken):
            worker.end("its pool was closed")
        if self._server is not None:
            await self._server.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _check_usable(self) -> None:
        if self._closed:
            raise SandboxError("The worker pool is closed.", code="sandbox_unavailable", hint="Open another one.")
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise UsageError(
                "A worker pool belongs to the event loop that used it first.", hint="Open one on each event loop."
            )

    def _fork(self) -> Worker:
        for _ in range(2):
            server = self._fork_server()
            try:
                return Worker(server)
            except ConnectionError:
                # It has just ended.
                server.abandon()
            except OSError as error:
                # It has not, and others have workers of it.
                raise no_process(error) from error
        raise SandboxError("No process could be started for a sandbox.")

    def _fork_spare(self) -> Worker:
        """Start a worker that is to wait, and meanwhile gets ready for what commands wanted lately."""
        worker = self._fork()
        limits, seconds = self.usual
        wanted = number(limits.commands), number(limits.loop_iterations), WORKSPACE.encode(), number(seconds)
        worker.send(b"prepare", *wanted)
        return worker

    def _fork_server(self) -> ForkServer:
        if self._server is None or not self._server.alive:
            self._server = ForkServer()
        return self._server

    def _spare_worker(self) -> Worker | None:
        while self._spare:
            worker = self._spare.pop(0)
            if worker.alive:
                return worker
        return None

    def _refill(self) -> None:
        try:
            while not self._closed and len(self._spare) < self._spare_wanted:
                self._spare.append(self._fork_spare())
        except SandboxError:
            # Whoever needs the next worker is told.
            return

    async def _make_room(self) -> None:
        """Park the sandbox that has rested longest, or wait until something changes."""
        while self._resting:
            _, (tenant, _) = self._resting.popitem(last=False)
            alive = tenant()
            if alive is not None:
                # Not with the task that asks: cancelled, it would leave a worker that nobody uses and nobody gets.
                await asyncio.wait({self._park(alive)})
                return
        self._changed.clear()
        await self._changed.wait()

    def _park_idle(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._resting:
            name, (tenant, since) = next(iter(self._resting.items()))
            left = since + self._idle - loop.time()
            if left > 0:
                self._timer = loop.call_later(left, self._park_idle)
                return
            del self._resting[name]
            alive = tenant()
            if alive is not None:
                self._park(alive)

    def _park(self, tenant: Tenant) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(tenant.park())
        self._parking.add(task)
        task.add_done_callback(self._parking.discard)
        return task


_own: dict[asyncio.AbstractEventLoop, tuple[WorkerPool, AsyncGenerator[None]]] = {}


async def pool_of_this_loop() -> WorkerPool:
    """Return the running loop's default pool, or a small one that ends with the loop."""
    chosen = default_pool()
    if chosen is not None:
        return chosen
    loop = asyncio.get_running_loop()
    for closed in [loop for loop in _own if loop.is_closed()]:
        # It was closed without a shutdown; the processes end with their objects.
        del _own[closed]
    if loop not in _own:
        pool = WorkerPool(spare=1)
        until_shutdown = _close_at_shutdown(pool, loop)
        _own[loop] = pool, until_shutdown
        # An asynchronous generator that has begun is closed by the loop's shutdown, as asyncio.run makes it happen.
        await anext(until_shutdown)
    return _own[loop][0]


async def _close_at_shutdown(pool: WorkerPool, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        _own.pop(loop, None)
        await pool.close()

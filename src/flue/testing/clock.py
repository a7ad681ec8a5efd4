"""Time that moves only when a test says so."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from flue.threads import THREADS

# How often the event loop goes round before time moves, so that tasks that are ready get to their next sleep first.
# asyncio cannot say whether it is idle; a chain of tasks waking each other that is longer than this is cut in two.
_ROUNDS = 32
_POLL = 0.001  # seconds between looks at threads

NEW_YEAR_2026_MS = 1_767_225_600_000


class VirtualClock:
    """A `Clock` for tests.

    Time stands still until `await clock.advance(seconds)`. With `auto=True` it jumps by itself to the end of the
    earliest sleep once other tasks have had their turn: nothing waits, and sleeps end in the right order. It
    waits for tools that run in a thread, as those do that are not async. Time may overtake what else is done outside
    the event loop; use `advance` where a timeout watches over such work.
    """

    def __init__(self, *, auto: bool = False, start_ms: int = NEW_YEAR_2026_MS) -> None:
        self._auto = auto
        self._start_ms = start_ms
        self._now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()
        self._jumper: asyncio.Task[None] | None = None

    def now_ms(self) -> int:
        """Return milliseconds since the epoch; the clock starts at 2026-01-01T00:00:00Z."""
        return self._start_ms + round(self._now * 1000)

    def monotonic(self) -> float:
        """Return the seconds that have passed since the clock was made."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been moved by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        if self._auto and (self._jumper is None or self._jumper.done()):
            self._jumper = asyncio.create_task(self._jump())
        await woken

    async def advance(self, seconds: float) -> None:
        """Move the time forward, waking sleepers in order and letting tasks run after each. Seconds must not be < 0."""
        if seconds < 0:
            raise ValueError(f"time does not go back: advance({seconds:g})")
        target = self._now + seconds
        await _let_tasks_run()
        while (end := self._next_end()) is not None and end <= target:
            self._wake(end)
            await _let_tasks_run()
        self._now = target

    @property
    def sleeping(self) -> int:
        """Return how many tasks sleep."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    async def _jump(self) -> None:
        await _let_all_run()
        while (end := self._next_end()) is not None:
            self._wake(end)
            await _let_all_run()

    def _next_end(self) -> float | None:
        # Sleepers that were cancelled do not hold the time.
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _wake(self, end: float) -> None:
        self._now = end
        while self._sleepers and self._sleepers[0][0] <= end:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)


async def _let_all_run() -> None:
    await _let_tasks_run()
    while THREADS.awaited:
        await asyncio.sleep(_POLL)
        await _let_tasks_run()


async def _let_tasks_run() -> None:
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)

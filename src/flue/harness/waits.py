"""The waits of one run, gathered: a run is given up when nothing goes on in it but waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flue.harness.call import CallHandle
from flue.harness.step_log import StepLog
from flue.ports import Clock

# To give a run up and begin it again costs several writes and repeats its body: not worth it for less than this.
HOLD_MS = 5_000
# Code between two calls awaits things that nobody here knows of. Only a run that was still for so long only waits.
STILL_SECONDS = 0.5


class Waits:
    """Counts what a run does, and suspends it when all that is left waits. `calls` gives the run's calls under way."""

    def __init__(self, log: StepLog, clock: Clock, calls: Callable[[], Sequence[CallHandle[Any]]]) -> None:
        self._log = log
        self._clock = clock
        self._calls = calls
        self._busy = 0
        self._resting: dict[asyncio.Future[None], tuple[int | None, tuple[str, ...]]] = {}
        self._suspender: asyncio.Task[None] | None = None
        self.told = 0
        """How often somebody said that a message may have come."""
        log.listen(self._came, lambda: any(names for _, names in self._resting.values()))

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep the run from being given up inside the block, except in a `rest`."""
        self._busy += 1
        self._look()
        try:
            yield
        finally:
            self._busy -= 1
            self._look()

    async def rest(self, wake_at: int | None, names: tuple[str, ...] = (), *, told: int = 0) -> None:
        """Return when the time has come or a message may be there: perhaps early, perhaps never. Inside `busy` only.

        `told` is what that was before the caller looked for a message: one may have come since.
        """
        if names and told != self.told:
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = None if wake_at is None else asyncio.create_task(self._ring(woken, wake_at))
        self._resting[woken] = (wake_at, names)
        self._busy -= 1
        self._look()
        try:
            await woken
        finally:
            if timer is not None:
                timer.cancel()
            del self._resting[woken]
            self._busy += 1
            self._look()

    def _came(self) -> None:
        self.told += 1
        self._wake_waiting()

    def _wake_waiting(self, failure: Exception | None = None) -> None:
        for woken, (_, names) in self._resting.items():
            if woken.done():
                continue
            if failure is not None:
                woken.set_exception(failure)
            elif names:
                woken.set_result(None)

    async def _ring(self, woken: asyncio.Future[None], wake_at: int) -> None:
        await self._clock.sleep((wake_at - self._clock.now_ms()) / 1000)
        if not woken.done():
            woken.set_result(None)

    def _look(self) -> None:
        if self._suspender is not None:
            self._suspender.cancel()
            self._suspender = None
        if self._busy or not self._resting:
            return
        wake_at = min((time for time, _ in self._resting.values() if time is not None), default=None)
        names = sorted({name for _, names in self._resting.values() for name in names})
        if names or wake_at is None or wake_at - self._clock.now_ms() > HOLD_MS:
            self._suspender = asyncio.create_task(self._suspend(wake_at, names))

    async def _suspend(self, wake_at: int | None, names: list[str]) -> None:
        failure: Exception | None = None
        try:
            await self._stillness()
            await self._log.suspend(wake_at, names)
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait
            failure = error
        self._wake_waiting(failure)

    async def _stillness(self) -> None:
        while True:
            for call in self._calls():
                await call.settle()
            await self._clock.sleep(STILL_SECONDS)
            if not self._calls():
                return

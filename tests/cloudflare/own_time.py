"""An event loop whose time stands still until it is moved, and which knows its timers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TypeVarTuple

_Ts = TypeVarTuple("_Ts")


class OwnTime(asyncio.SelectorEventLoop):
    """`timers` are all that were ever set; `pending` those that would still go off."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[asyncio.TimerHandle] = []
        super().__init__()

    def time(self) -> float:
        return self.now

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        self.timers.append(timer)
        return timer

    @property
    def pending(self) -> list[asyncio.TimerHandle]:
        return [timer for timer in self.timers if not timer.cancelled() and timer.when() > self.now]

    async def pass_time(self, seconds: float) -> None:
        """Let everything come to rest, move on, and let run what that sets off."""
        await self._settle()
        self.now += seconds
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


def in_own_time(test: Callable[[OwnTime], Awaitable[None]]) -> None:
    """Run a test in a loop of its own."""
    loop = OwnTime()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:

        async def whole() -> None:
            await test(loop)

        runner.run(whole())

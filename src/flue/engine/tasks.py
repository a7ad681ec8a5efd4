"""Tasks that belong to somebody: held, as the event loop holds them only weakly, and ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks:
    """A set of running tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Start a task."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def finish(self, timeout: float) -> None:
        """Wait until all have ended, `timeout` seconds at most; then cancel them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        await self.cancel(timeout)

    async def cancel(self, timeout: float) -> None:
        """Cancel all and wait until they have ended, `timeout` seconds at most."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

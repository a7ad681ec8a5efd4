"""Call handles: what `session.prompt(...)` and its siblings return."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from flue.errors import AbortError, OperationTimeoutError, UsageError
from flue.ports import Clock

T = TypeVar("T")
logger = logging.getLogger("flue")


def on_loop() -> bool:
    """Say whether the code that asks runs on an event loop, and not in a thread beside it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def cancellations() -> int:
    """Return how often the current task was cancelled: it is to end when that is more than it was before.

    And not when it is any: up to Python 3.12 a TaskGroup that failed leaves its count behind (gh-116720).
    """
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


class CallHandle(Generic[T]):
    """A call that is already running. Await it for its value, or `abort()` it.

    Cancelling the awaiter aborts the call, waits until it has put its conversation in order, and re-raises. A call
    that fails and is never awaited is logged, never fatal.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, T],
        *,
        label: str,
        clock: Clock,
        running: set[CallHandle[Any]],
        timeout: float | None = None,
    ) -> None:
        self.label = label
        self._abort_error: AbortError | None = None
        self._failure: BaseException | None = None
        self._awaited = False
        if not on_loop():
            work.close()
            raise UsageError(
                f"{label} was called outside of its event loop.",
                code="outside_loop",
                hint="Tools that are not async run in a thread: write `async def` for one that calls this.",
            )
        self._task = asyncio.create_task(work, name=label)
        self._running = running
        # The loop holds its tasks only weakly; this set is what keeps an un-awaited call alive.
        running.add(self)
        self._timer = asyncio.create_task(self._expire(clock, timeout)) if timeout is not None else None
        self._task.add_done_callback(self._finish)

    @property
    def done(self) -> bool:
        """Say whether the call has ended, in whatever way."""
        return self._task.done()

    def is_current(self) -> bool:
        """Say whether the code that asks runs inside this call."""
        return asyncio.current_task() is self._task

    if not TYPE_CHECKING:  # which would take any name from then on

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}. It is a call under way: await it first.",
                name=name,
                obj=self,
            )

    def abort(self, reason: object = None) -> None:
        """End the call: awaiting it raises `AbortError` with `reason`. Does nothing once the call has ended.

        It may be called from any thread.
        """
        if on_loop():
            self._end(AbortError(reason))
        else:
            self._task.get_loop().call_soon_threadsafe(self._end, AbortError(reason))

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait().__await__()

    async def settle(self) -> None:
        """Wait until the call has ended; its failure is not raised here."""
        await asyncio.wait([self._task])

    async def _wait(self) -> T:
        self._awaited = True
        before = cancellations()
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if not self._task.done() or cancellations() > before:
                self._end(AbortError("The awaiting task was cancelled."))
                await self.settle()
                raise
            raise self._aborted() from None
        except Exception as error:
            if self._abort_error is None or isinstance(error, AbortError):
                raise
            raise self._aborted() from error

    def _aborted(self) -> AbortError:
        return self._abort_error or AbortError()

    def _end(self, error: AbortError) -> None:
        if not self._task.done() and self._abort_error is None:
            self._abort_error = error
            self._task.cancel()

    async def _expire(self, clock: Clock, timeout: float) -> None:
        await clock.sleep(timeout)
        self._end(OperationTimeoutError(f"{self.label} did not finish within {timeout:g} s."))

    def _finish(self, task: asyncio.Task[T]) -> None:
        self._running.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if not task.cancelled():
            self._failure = task.exception()

    def __del__(self) -> None:
        if self._failure is not None and not self._awaited:
            logger.error("%s failed and nobody awaited it: %s", self.label, self._failure, exc_info=self._failure)

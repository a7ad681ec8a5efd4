"""An event loop in a thread of its own, and the way in for code that blocks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar
from weakref import finalize

from flue.errors import AbortError, UsageError
from flue.harness.call import CallHandle

T = TypeVar("T")
V = TypeVar("V")
CLOSED = "The context was closed."


class Running:
    """The calls under way through one object, for its `abort`. Used on the loop's thread only."""

    def __init__(self) -> None:
        self._calls: set[CallHandle[Any]] = set()

    def add(self, call: CallHandle[Any]) -> None:
        """Take a call in."""
        self._calls.add(call)

    def remove(self, call: CallHandle[Any]) -> None:
        """Take a call out."""
        self._calls.discard(call)

    def abort(self, reason: object) -> None:
        """Abort all of them."""
        for call in tuple(self._calls):
            call.abort(reason)


class Portal(Generic[V]):
    """Holds an async context manager open in a background event loop. `value` is what it gave.

    It is left by `close`, else when the portal is forgotten. `what` and `again` tell whoever calls after that what was
    closed, and how to get another one. Raises what the context manager raises when it is entered.
    """

    def __init__(
        self, manager: AbstractAsyncContextManager[V], *, what: str = "context", again: str = "open_context_sync()"
    ) -> None:
        closed = UsageError(f"The {what} was closed.", code="context_closed", hint=f"Open another one with {again}.")
        self._loop_thread = loop_thread = _LoopThread(manager, closed)
        self.value: V = loop_thread.opened.result()
        self._finalizer = finalize(self, loop_thread.close)
        # When the process ends it is too late: executors take no work any more. What settled calls wrote is on disk.
        self._finalizer.atexit = False

    def call(self, start: Callable[[], Awaitable[T]], running: Running | None = None) -> T:
        """Call `start` on the loop and wait for what it returns; from any thread but the loop's own.

        The caller's context variables go along. Whatever interrupts the wait, Ctrl-C above all, aborts the call, waits
        until it is in order, and goes on its way; a second one does not wait. Raises what the call raises, and
        `UsageError` when the context is closed (`context_closed`) or the caller runs inside it (`sync_in_loop`).
        """
        work = _Work(start, running)
        try:
            self._loop_thread.hand_over(work)
            return work.outcome.result()
        except BaseException:
            if not work.outcome.done():
                self._loop_thread.loop.call_soon_threadsafe(work.cancel)
                wait([work.outcome])
            raise

    def close(self) -> None:
        """Leave the context manager and end the thread. Does nothing the second time; raises what leaving raises."""
        self._finalizer.detach()
        self._loop_thread.close()


class _LoopThread(Generic[V]):
    """The thread. It must not know its portal, which is closed when nobody knows it any more."""

    def __init__(self, manager: AbstractAsyncContextManager[V], closed: UsageError) -> None:
        self.opened: Future[V] = Future()
        self._closed = closed
        self.loop: asyncio.AbstractEventLoop
        self._ended: Future[None] = Future()
        self._closing = False
        # Between looking at `_closing` and handing work over, nobody may close: the work would never run. In between
        # Python may look for garbage, and what it finds make a call of its own.
        self._gate = threading.RLock()
        # A daemon, so that a context that nobody closes cannot keep the process alive.
        self._thread = threading.Thread(target=self._run, args=(manager,), name="flue-sync", daemon=True)
        self._thread.start()

    def hand_over(self, work: _Work[Any]) -> None:
        """Begin `work` on the loop, with this thread's context variables. Raises what `Portal.call` says."""
        if threading.current_thread() is self._thread:
            work.outcome.cancel()
            raise UsageError(
                "A blocking call was made inside the event loop that it would wait for.",
                code="sync_in_loop",
                hint="Tools and event subscribers run there: use flue.open_context and await, or another thread.",
            )
        with self._gate:
            if self._closing:
                work.outcome.cancel()
                raise self._closed
            # The loop runs callbacks in a copy of the context variables of the thread that hands them over.
            self.loop.call_soon_threadsafe(work.begin)

    def close(self) -> None:
        """End the thread, and wait for that."""
        with self._gate:
            first, self._closing = not self._closing, True
        if first:
            self.loop.call_soon_threadsafe(self._stop.set)
        # The garbage collector may run this on the loop's own thread, which cannot wait for itself.
        if threading.current_thread() is not self._thread:
            self._thread.join()
            if first:
                self._ended.result()

    def _run(self, manager: AbstractAsyncContextManager[V]) -> None:
        try:
            asyncio.run(self._serve(manager))
        except BaseException as error:  # noqa: BLE001 - it belongs to the thread that waits
            if self.opened.done():
                self._ended.set_exception(error)
            else:
                self.opened.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _serve(self, manager: AbstractAsyncContextManager[V]) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with manager as value:
            self.opened.set_result(value)
            await self._stop.wait()


class _Work(Generic[T]):
    """One call on its way through. All but `outcome` is for the loop's thread."""

    def __init__(self, start: Callable[[], Awaitable[T]], running: Running | None) -> None:
        self.outcome: Future[T] = Future()
        self._start = start
        self._running = running
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        """Start the call."""
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._task.add_done_callback(self._settle)

    def cancel(self) -> None:
        """End the call; who cancels the task that awaits a call aborts the call."""
        if self._task is not None:
            self._task.cancel()
        else:
            # Interrupted before it was handed over.
            self.outcome.set_exception(AbortError())

    async def _work(self) -> T:
        call = self._start()
        if self._running is None or not isinstance(call, CallHandle):
            return await call
        self._running.add(call)
        try:
            value: T = await call
            return value
        finally:
            self._running.remove(call)

    def _settle(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.outcome.set_exception(AbortError(CLOSED))
        elif (error := task.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())

"""Threads for the application's tools that are not async: they may block, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
MOST = 64
logger = logging.getLogger("flue")


class Threads:
    """At most so many threads, started as they are needed and kept.

    They do not keep the process alive: a function that never returns must not do so either.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self.renew()

    def renew(self) -> None:
        """Begin anew, as the child of a fork must, which has none of them."""
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = self._unfinished = self._awaited = 0
        self._said = False

    @property
    def awaited(self) -> int:
        """Return how many calls somebody waits for."""
        return self._awaited

    async def run(self, function: Callable[[], T]) -> T:
        """Call a function in a thread, in the caller's context, and return what it returns or raise what it raises.

        To be cancelled does not end it, but what it gives is dropped then; one that had not begun never begins. When
        all threads are taken it waits for one. Where there are no threads (WebAssembly) it is called here.
        """
        if not self._take():
            return function()
        call = _Call(function, copy_context(), asyncio.get_running_loop())
        self._calls.put(call)
        try:
            return await call.future  # type: ignore[no-any-return]
        finally:
            with self._lock:
                self._awaited -= 1

    def _take(self) -> bool:
        with self._lock:
            if self._unfinished >= self._started and not self._start():
                return False
            self._unfinished += 1
            self._awaited += 1
            return True

    def _start(self) -> bool:
        """Start one more thread if that may be; say whether there is any."""
        if self._started < self._most:
            try:
                threading.Thread(target=self._work, name="flue tool", daemon=True).start()
            except RuntimeError:  # a process may have all the threads that it may
                return self._started > 0
            self._started += 1
        elif not self._said:
            self._said = True
            logger.warning(
                "All %d threads for tools that are not async are taken; further calls wait. Let what blocks end by "
                "itself (a timeout), or make the tools async.",
                self._most,
            )
        return True

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            call.make()
            with self._lock:
                self._unfinished -= 1
            call.deliver()
            del call  # until the next one comes it would hold what was returned


class _Call:
    def __init__(self, function: Callable[[], Any], context: Context, loop: asyncio.AbstractEventLoop) -> None:
        self._function = function
        self._context = context
        self._loop = loop
        self._result: Any = None
        self._error: BaseException | None = None
        self.future: asyncio.Future[Any] = loop.create_future()

    def make(self) -> None:
        if self.future.cancelled():
            return
        try:
            self._result = self._context.run(self._function)
        except StopIteration as error:  # no future takes it
            self._error = RuntimeError("StopIteration was raised.")
            self._error.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - it is the awaiter's
            self._error = error

    def deliver(self) -> None:
        with suppress(RuntimeError):  # a loop that has been closed has nobody waiting
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if self.future.cancelled():
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result)


THREADS = Threads()
"""Those of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=THREADS.renew)

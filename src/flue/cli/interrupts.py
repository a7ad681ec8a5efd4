"""Runs a command's coroutine so that Ctrl-C and SIGTERM end it in good order.

The first signal cancels the command's task, which puts conversations in order and closes what is open; the next one
ends the process at once. Handlers are set with `signal.signal`, not on the loop: they must work while a workflow's
synchronous code keeps the loop busy.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """What the signals do. `received` is the one that ends the command, None while there was none."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[int] | None = None
        self._abort: Callable[[], None] | None = None
        self._aborting = False
        self._previous: dict[signal.Signals, Any] = {}

    @contextmanager
    def aborting(self, abort: Callable[[], None]) -> Iterator[None]:
        """Inside the block the first Ctrl-C calls `abort`; a second one ends the command at once."""
        self._abort = abort
        try:
            yield
        finally:
            self._abort = None
            self._aborting = False

    def run(self, command: Coroutine[Any, Any, int]) -> int:
        """Run `command` and return its exit code, or 128 plus the signal that ended it (130 SIGINT, 143 SIGTERM)."""
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._task = self._loop.create_task(command)
                self._listen()
                code = self._loop.run_until_complete(self._task)
        except (Exception, asyncio.CancelledError, KeyboardInterrupt):
            if self.received is None:
                raise
            return 128 + self.received
        finally:
            self._stop_listening()
        return code if self.received is None else 128 + self.received

    def _listen(self) -> None:
        assert self._loop is not None
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.getsignal(number)
                # The interpreter then also writes to the loop's own pipe. A signal that comes in the moment before the
                # loop waits would else be heard only when something else wakes it.
                self._loop.add_signal_handler(number, lambda: None)
                signal.signal(number, self._handle)

    def _stop_listening(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        assert self._loop is not None
        assert self._task is not None
        if number == signal.SIGINT and self._abort is not None:
            abort, self._abort, self._aborting = self._abort, None, True
            self._loop.call_soon_threadsafe(abort)
        elif self.received is None and not self._aborting:
            self.received = number
            # To the descriptor itself: the handler may have interrupted a write to sys.stderr.
            os.write(2, b"\n[flue] Interrupted, stopping. Once more to end at once.\n")
            # From here the task is cancelled when the loop next runs; the call wakes a loop that waits.
            self._loop.call_soon_threadsafe(self._task.cancel)
        else:
            self.received = number
            self._stop_listening()
            raise KeyboardInterrupt

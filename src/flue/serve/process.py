"""A server's process: what the signals do, and that it ends within five seconds whatever runs in it.

The first SIGTERM or SIGINT asks for an end in good order; a thread of its own ends the process when that takes too
long, and at once after the second signal. Ending it at once loses nothing that was accepted: that is on disk.

A worker (`flue.serve.worker`) is told by its supervisor, and often by somebody else as well: a terminal and systemd
send their signal to all processes. It ends in good order at the first, says nothing, and takes no other for the second.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

from flue.serve.logs import say_received

EXIT_SECONDS = 4.5
"""From the first signal to the end at the latest. Where processes are supervised, the custom is to kill after 10 s."""

NEW_OBJECTS = 10_000
"""After so many Python looks for unreachable cycles; by itself it does after 700, or 2,000."""

THREADS = 64
"""For `asyncio.to_thread` and for asking for addresses. By itself asyncio has four more than there are cores, and a
server that takes up a thousand prompts asks for a thousand addresses."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FROM_PYTHON = 0x80


class Stop:
    """Whether the process is to end. `received` is the signal that said so.

    `supervisor` is the descriptor of a worker's channel: its end is that of the supervisor, and then of the worker.
    """

    def __init__(self, supervisor: int | None = None) -> None:
        self._supervisor = supervisor
        self.received: int | None = None
        self._at = 0.0
        self._asked = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[None] | None = None
        self._pipe = (-1, -1)

    async def wait(self) -> None:
        """Wait until the process is to end."""
        self.started()
        await self._asked.wait()

    def started(self) -> None:
        """Say that a signal is heard by `wait`. Before this, it cancels the task that `run` was given."""
        self._starting = None

    def left(self, seconds: float) -> float:
        """Return how many of the first `seconds` after the signal are left, at least a tenth of one."""
        return max(0.1, self._at + seconds - time.monotonic())

    def run(self, serve: Callable[[Stop], Awaitable[None]]) -> int:
        """Run `serve` and return the exit code: 0, or 128 plus the signal (130 SIGINT, 143 SIGTERM)."""
        with collecting_rarely(), asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="flue"))
            self._starting = task = self._loop.create_task(self._call(serve))
            with self._listening():
                try:
                    self._loop.run_until_complete(task)
                except asyncio.CancelledError:
                    if self.received is None:
                        raise
                runner.close()  # while the watch is on: what still runs may not want to end
        return 0 if self.received is None else 128 + self.received

    async def _call(self, serve: Callable[[Stop], Awaitable[None]]) -> None:
        await serve(self)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        self._pipe = reading, writing = os.pipe()
        os.set_blocking(writing, False)
        previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        # The interpreter itself also tells of signals: the handler waits while the main thread is busy in a library.
        woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        watching = (reading, self._supervisor, self._end_alone)
        threading.Thread(target=_watch, args=watching, name="flue exit", daemon=True).start()
        if self._supervisor is not None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # held back since its supervisor started it
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in previous.items():
                signal.signal(number, handler)
            os.close(writing)  # which ends the thread

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        assert self._loop is not None
        os.write(self._pipe[1], bytes([_FROM_PYTHON | number]))
        if self.received is not None:
            return
        self.received, self._at = number, time.monotonic()
        if self._supervisor is None:
            say_received(number)
        self._loop.call_soon_threadsafe(self._ask)

    def _end_alone(self) -> None:
        """End as at SIGTERM, from another thread."""
        assert self._loop is not None
        if self.received is None:
            self.received, self._at = signal.SIGTERM, time.monotonic()
            with contextlib.suppress(RuntimeError):  # the loop has come to its end by itself
                self._loop.call_soon_threadsafe(self._ask)

    def _ask(self) -> None:
        self._asked.set()
        if self._starting is not None:
            self._starting.cancel()


@contextlib.contextmanager
def collecting_rarely() -> Iterator[None]:
    """Look for unreachable cycles less often than Python does by itself.

    A server that takes up or accepts a thousand prompts makes some 200 objects for each, all of which stay. Looking
    through them again and again took a third of the time for that, and 150 ms in one piece. Cycles of a server that
    only goes on stay small: little is held that would have been freed earlier.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(NEW_OBJECTS, before[0]), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _watch(reading: int, supervisor: int | None, gone: Callable[[], None]) -> None:
    """End the process some time after the first signal, and with the second. Call `gone` when the supervisor has."""
    told = {_FROM_PYTHON: 0, 0: 0}
    last = None
    end: float | None = None
    watched = [reading] if supervisor is None else [reading, supervisor]
    while True:
        ready, _, _ = select.select(watched, [], [], None if end is None else max(0.0, end - time.monotonic()))
        if not ready:
            with contextlib.suppress(OSError):  # nobody reads it any more
                os.write(2, b"[flue] Not all ended in time; what was accepted goes on after the next start.\n")
            _exit(last)
        data = os.read(reading, 64) if reading in ready else None
        if data == b"":
            os.close(reading)
            return
        if supervisor in ready:
            watched.remove(supervisor)
            end = end or time.monotonic() + EXIT_SECONDS
            gone()
        for byte in data or b"":
            number = byte & ~_FROM_PYTHON
            if number not in _SIGNALS:
                continue
            last = number
            told[byte & _FROM_PYTHON] += 1
            end = end or time.monotonic() + EXIT_SECONDS
        if max(told.values()) > 1 and supervisor is None:
            _exit(last)


def _exit(number: int | None) -> None:
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(128 + (number or signal.SIGTERM))

"""Lines of standard input as they arrive, without blocking the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from typing import Self

_CHUNK = 65536


class Lines:
    """The lines of a terminal, pipe or file until its end; bytes that are not UTF-8 are replaced.

    Whoever waits for the next line may be cancelled: the line is there for who asks next.

    A thread reads the descriptor itself: the event loop cannot wait for a regular file, and a thread that waits inside
    `sys.stdin` would hold a lock that the interpreter needs when it ends.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._arrived: asyncio.Queue[bytes] | None = None
        self._complete: deque[bytes] = deque()
        self._pending = b""
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while not self._complete and not self._ended:
            self._take(await self._reading().get())
        if not self._complete:
            raise StopAsyncIteration
        return self._complete.popleft().decode(errors="replace")

    async def next(self) -> str | None:
        """Return the next line, None at the end."""
        return await anext(self, None)

    def _take(self, chunk: bytes) -> None:
        *complete, self._pending = (self._pending + chunk).split(b"\n")
        self._complete.extend(complete)
        if not chunk:
            self._ended = True
            if self._pending:
                self._complete.append(self._pending)

    def _reading(self) -> asyncio.Queue[bytes]:
        if self._arrived is not None:
            return self._arrived
        loop = asyncio.get_running_loop()
        arrived = self._arrived = asyncio.Queue()

        def read() -> None:
            chunk = b"-"
            while chunk:
                try:
                    chunk = os.read(self._descriptor, _CHUNK)
                except OSError:
                    chunk = b""
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(arrived.put_nowait, chunk)

        threading.Thread(target=read, name="flue-stdin", daemon=True).start()
        return arrived

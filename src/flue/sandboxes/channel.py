"""A socket pair's end as an event loop sees it: bytes go out when there is room, and come in as they arrive."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from itertools import islice

_PIECE = 1 << 18
_BUFFERS = 64  # handed to the system at once


class Channel:
    """One end of a socket pair, read and written by the event loop it was opened on, and closed with its owner."""

    def __init__(self, end: socket.socket, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        end.setblocking(False)
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._on_data = on_data
        self._on_end = on_end
        self._queue: deque[memoryview] = deque()
        self._drained: asyncio.Future[None] | None = None
        self._held = 0  # bytes that wait for what comes next
        self._waiting = False  # for room
        self.closed = False
        self._loop.add_reader(end.fileno(), self._readable)

    def send(self, data: bytes, *, more: bool = False) -> None:
        """Send bytes, now or when there is room; with `more`, as a rule together with the next."""
        if self.closed:
            return
        self._queue.append(memoryview(data))
        self._held += len(data)
        if not self._waiting and not (more and self._held < _PIECE):
            self._writable()
            if self._queue and not self.closed:
                self._waiting = True
                self._loop.add_writer(self._end.fileno(), self._writable)

    def send_with(self, data: bytes, descriptor: int) -> None:
        """Send a few bytes and a descriptor. Raises `OSError` when that does not work at once."""
        socket.send_fds(self._end, [data], [descriptor])

    async def drained(self) -> None:
        """Return once the system has room for more."""
        while self._waiting and not self.closed:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def close(self) -> None:
        """Close this end; the other side sees it."""
        if self.closed:
            return
        self.closed = True
        if not self._loop.is_closed():
            self._loop.remove_reader(self._end.fileno())
            self._loop.remove_writer(self._end.fileno())
        self._end.close()
        self._queue.clear()
        self._wake()

    def _readable(self) -> None:
        try:
            data = self._end.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._on_data(data)
        else:
            self.close()
            self._on_end()

    def _writable(self) -> None:
        self._held = 0
        try:
            while self._queue:
                sent = self._end.sendmsg(list(islice(self._queue, _BUFFERS)))
                while self._queue and sent >= len(self._queue[0]):
                    sent -= len(self._queue.popleft())
                if sent:
                    self._queue[0] = self._queue[0][sent:]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            # The reader sees the end, too, and tells everybody.
            self._queue.clear()
        if self._waiting:
            self._waiting = False
            self._loop.remove_writer(self._end.fileno())
        self._wake()

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

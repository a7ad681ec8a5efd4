"""Lines of standard input as they arrive, without blocking the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator

_CHUNK = 65536


async def lines(descriptor: int) -> AsyncIterator[str]:
    """Yield the lines of a terminal, pipe or file until its end; bytes that are not UTF-8 are replaced.

    A thread reads the descriptor itself: the event loop cannot wait for a regular file, and a thread that waits inside
    `sys.stdin` would hold a lock that the interpreter needs when it ends.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        chunk = b"-"
        while chunk:
            try:
                chunk = os.read(descriptor, _CHUNK)
            except OSError:
                chunk = b""
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(arrived.put_nowait, chunk)

    threading.Thread(target=read, name="flue-stdin", daemon=True).start()
    pending = b""
    while chunk := await arrived.get():
        *complete, pending = (pending + chunk).split(b"\n")
        for line in complete:
            yield line.decode(errors="replace")
    if pending:
        yield pending.decode(errors="replace")

"""Ends connections whose clients take nothing of what is written to them; a closed one would wait for them, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

LOOKS = 3
LOOK_SECONDS = 10.0


async def end_stalled(connections: Callable[[], Collection[Any]]) -> None:
    """Look every 10 s, and abort a connection that held the same bytes for its client at three looks in a row.

    Runs until it is cancelled. A client that reads, however slowly, is left alone.
    """
    seen: dict[Any, tuple[int, int]] = {}
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now: dict[Any, tuple[int, int]] = {}
        for connection in tuple(connections()):
            held = connection.transport.get_write_buffer_size()
            if not held:
                continue
            before, looks = seen.get(connection, (held, 0))
            now[connection] = held, looks + 1 if before == held else 1
            if now[connection][1] >= LOOKS:
                connection.transport.abort()
        seen = now

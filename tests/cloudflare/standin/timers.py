"""`setTimeout` and `clearTimeout`, in real time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

from tests.cloudflare.standin.owners import kept

pending: dict[int, asyncio.TimerHandle] = {}
"""The timeouts that keep an isolate awake."""
_ids = count(1)


def set_timeout(callback: Callable[[], Any], milliseconds: float) -> int:
    loop, id = asyncio.get_running_loop(), next(_ids)
    call = kept(callback)

    def passed() -> None:
        del pending[id]
        call()

    assert isinstance(loop, asyncio.BaseEventLoop)
    # Not by the loop's attribute: a Worker replaces that.
    pending[id] = asyncio.BaseEventLoop.call_at(loop, loop.time() + milliseconds / 1000, passed)
    return id


def clear_timeout(id: int) -> None:
    timer = pending.pop(id, None)
    if timer is not None:
        timer.cancel()

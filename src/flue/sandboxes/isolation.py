"""Which worker pool the virtual sandboxes of an event loop use when they do not say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flue.sandboxes.worker_pool import WorkerPool

_defaults: dict[asyncio.AbstractEventLoop, WorkerPool] = {}


def default_pool() -> WorkerPool | None:
    """Return the pool that is the default of the running event loop, if there is one."""
    return _defaults.get(asyncio.get_running_loop())


def set_default_pool(pool: WorkerPool) -> None:
    """Make a pool the default of the running event loop."""
    for loop in [loop for loop in _defaults if loop.is_closed()]:
        del _defaults[loop]
    _defaults[asyncio.get_running_loop()] = pool


def unset_default_pool(pool: WorkerPool) -> None:
    """Let a pool be nobody's default."""
    for loop in [loop for loop, chosen in _defaults.items() if chosen is pool]:
        del _defaults[loop]

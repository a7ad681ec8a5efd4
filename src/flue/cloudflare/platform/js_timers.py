"""Timers that end with their cancellation.

Pyodide's event loop lets the timeout of a cancelled timer pass all the same (seen in 314.0.6, `webloop.py`), and every
`asyncio.timeout()` that was not needed is such a timer. A timeout that is pending keeps a Durable Object from
hibernating, and its time is billed (developers.cloudflare.com/durable-objects/concepts/durable-object-lifecycle).
"""

from __future__ import annotations

import math
from asyncio import AbstractEventLoop, Handle, TimerHandle, get_running_loop
from collections.abc import Callable
from contextvars import Context
from typing import Any
from weakref import WeakSet

import js
from pyodide.ffi import create_once_callable

# The longest timeout of JavaScript, in milliseconds: with a longer one it would fire at once.
_LONGEST = 2**31 - 1

_taught: WeakSet[AbstractEventLoop] = WeakSet()


def clear_cancelled_timers() -> None:
    """Have the running event loop clear the timeout of a timer that is cancelled; done once for each loop."""
    loop = get_running_loop()
    if loop in _taught:
        return
    _taught.add(loop)
    call_later = loop.call_later

    def later(delay: float, callback: Callable[..., Any], *arguments: Any, context: Context | None = None) -> Handle:
        # Pyodide's `call_soon` is a timer without a delay, which no timeout is made for.
        if not 0 < delay < math.inf:
            return call_later(delay, callback, *arguments, context=context)
        return _Timer(delay, callback, arguments, loop, context)

    def at(when: float, callback: Callable[..., Any], *arguments: Any, context: Context | None = None) -> Handle:
        return _Timer(max(when - loop.time(), 0), callback, arguments, loop, context)

    loop.call_later, loop.call_at = later, at  # type: ignore[method-assign,assignment]


class _Timer(TimerHandle):
    """A call that is due when a timeout of its own has passed."""

    def __init__(
        self,
        delay: float,
        callback: Callable[..., Any],
        arguments: tuple[Any, ...],
        loop: AbstractEventLoop,
        context: Context | None,
    ) -> None:
        super().__init__(loop.time() + delay, callback, arguments, loop, context)
        self._soon = loop.call_soon
        self._passed = create_once_callable(self._pass)
        self._timeout = js.setTimeout(self._passed, min(delay * 1000, _LONGEST))
        self._waits = True

    def cancel(self) -> None:
        """Do not call, and leave no timeout behind."""
        if self._waits:
            self._waits = False
            js.clearTimeout(self._timeout)
            self._passed.destroy()
        super().cancel()

    def _pass(self) -> None:
        self._waits = False
        # By way of the loop, which prepares for what it calls.
        self._soon(self._call)

    def _call(self) -> None:
        if not self.cancelled():
            self._run()

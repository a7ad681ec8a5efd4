"""Who wants to know of changes, each in its own event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from flue.durable.records import Wake

Listener = Callable[[Wake], None]


class Listeners:
    """Listeners of one store. `tell` may be called from any thread."""

    def __init__(self) -> None:
        self._all: list[tuple[asyncio.AbstractEventLoop, Listener, bool]] = []

    def add(self, listener: Listener, *, events: bool) -> Callable[[], None]:
        """Call `listener` in the running event loop from now on, of `events` if so; return what ends that."""
        entry = (asyncio.get_running_loop(), listener, events)
        self._all.append(entry)

        def remove() -> None:
            with contextlib.suppress(ValueError):
                self._all.remove(entry)

        return remove

    def tell(self, wakes: Iterable[Wake]) -> None:
        """Pass on each different wake-up once."""
        for wake in dict.fromkeys(wakes):
            for loop, listener, events in tuple(self._all):
                # A loop that has been closed has nobody listening.
                with contextlib.suppress(RuntimeError):
                    if events or wake.kind != "events":
                        loop.call_soon_threadsafe(listener, wake)

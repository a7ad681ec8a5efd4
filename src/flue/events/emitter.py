"""The way of events from where they happen to whoever listens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from flue.events.event import Event, Scope
from flue.ports import Clock

logger = logging.getLogger("flue")

Sink = Callable[[Event], None]


class Emitter:
    """Numbers the events of one context and hands them to its sinks, in order."""

    def __init__(self, clock: Clock, sinks: Sequence[Sink] = ()) -> None:
        self.clock = clock
        self.sinks: list[Sink] = list(sinks)
        self.next_index = 0
        self.last = ""
        """The type of the newest event."""

    @property
    def active(self) -> bool:
        """Say whether anybody listens; hot paths skip building events otherwise."""
        return bool(self.sinks)

    def emit(self, scope: Scope, kind: Callable[..., Event], *values: Any, **named: Any) -> None:
        """Build an event and hand it on. What a sink raises is logged and goes no further."""
        if not self.sinks:
            return
        event = kind(scope, self.next_index, self.clock.now_ms(), *values, **named)
        self.next_index += 1
        self.last = event.type
        for sink in tuple(self.sinks):
            try:
                sink(event)
            except Exception:
                logger.exception("An event subscriber failed on %s.", event.type)

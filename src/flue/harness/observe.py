"""`observe(fn)`: every event of a project's contexts, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flue.events import Event
from flue.registrations import current_registrations


def observe(subscriber: Callable[[Event, Any], Any]) -> Callable[[], None]:
    """Call `subscriber(event, context)` for every event of the project being loaded, or of the process.

    Called in the order of the events, on the event loop, so it must not block; what it raises is logged. Returns a
    function that ends the subscription for contexts opened later.
    """
    observers = current_registrations().observers
    observers.append(subscriber)

    def unsubscribe() -> None:
        if subscriber in observers:
            observers.remove(subscriber)

    return unsubscribe

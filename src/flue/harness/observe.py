"""`observe(fn)`: every event of a project's contexts, in order, to any number of subscribers that cannot disturb."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any
from weakref import WeakKeyDictionary

from flue.events import Event, Log
from flue.harness.own_copy import own_copy
from flue.registrations import Registrations, current_registrations

_LONGEST = 10_000
"""How many events may wait for a subscriber; a thousand sessions at once have several each in a moment."""

Subscriber = Callable[[Event, Any], Any]
logger = logging.getLogger("flue")


def observe(subscriber: Subscriber) -> Callable[[], None]:
    """Call `subscriber(event, context)` for every event of the project being loaded, or of the process.

    It is called on the event loop, in the order of the events, so it must not block. It may be a coroutine function:
    what it returns runs in the background, one event after the other, and `open_context` waits for it at its end, 5 s
    at most. It holds nothing up: once 10,000 events wait for it, those that come are left out until it has caught up;
    it then gets a `Log` of level "warn" with their number as the attribute `leftOut`.

    What a subscriber raises is logged and reaches nobody else; what it changes in an event it changes in a copy of its
    own.

    Contexts opened from now on are observed. Returns a function that ends the subscription, at once and everywhere.
    """
    return subscribe(subscriber)


def subscribe(subscriber: Subscriber, *, reads_only: bool = False) -> Callable[[], None]:
    """Do what `observe` does; one that only reads is spared the copies."""
    observers = current_registrations().observers
    subscription = Subscription(subscriber, reads_only=reads_only)
    observers.append(subscription)

    def unsubscribe() -> None:
        subscription.ended = True
        if subscription in observers:
            observers.remove(subscription)

    return unsubscribe


async def settle_subscribers(registrations: Registrations) -> None:
    """Wait until the subscribers' background work of this event loop is done."""
    for level in registrations.chain():
        for observer in tuple(level.observers):
            if isinstance(observer, Subscription):
                await observer.settle()


class Subscription:
    """A subscriber as the registrations hold it: called like it, and a mistake in it stays with it."""

    def __init__(self, subscriber: Subscriber, *, reads_only: bool = False) -> None:
        self.ended = False
        self._subscriber = subscriber
        self._reads_only = reads_only
        # Background work belongs to the code that subscribed, not to the call whose event happened to be the first.
        self._context = copy_context()
        self._backlogs: WeakKeyDictionary[asyncio.AbstractEventLoop, _Backlog] = WeakKeyDictionary()

    def __call__(self, event: Event, context: Any) -> None:
        """Hand an event on."""
        returned = self.call(event, context)
        if inspect.isawaitable(returned):
            self._run(returned, event, context)

    def call(self, event: Event, context: Any) -> Any:
        """Call the subscriber, unless it has left, and return what it returns."""
        if self.ended:
            return None
        return self._subscriber(event if self._reads_only else own_copy(event), context)

    async def settle(self) -> None:
        """Wait for the background work of the running loop; does nothing when called from that work."""
        backlog = self._backlogs.get(asyncio.get_running_loop())
        if backlog is not None:
            await backlog.settle()

    def _run(self, work: Awaitable[Any], event: Event, context: Any) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            _discard(work)
            raise
        backlog = self._backlogs.get(loop)
        if backlog is None:
            name = getattr(self._subscriber, "__qualname__", type(self._subscriber).__name__)
            backlog = self._backlogs[loop] = _Backlog(name, self.call)
        backlog.add(work, event, context)
        if not backlog.is_running:
            backlog.task = loop.create_task(
                backlog.work(), name=f"observe({backlog.name})", context=self._context.copy()
            )
            backlog.task.add_done_callback(backlog.drop)


class _Backlog:
    """What one subscriber still has to do on one event loop.

    Once it is full nothing is added until all of it is done: a note in every other place would be no help to anybody.
    """

    def __init__(self, name: str, subscriber: Subscriber) -> None:
        self.name = name
        self.task: asyncio.Task[None] | None = None
        self._subscriber = subscriber
        self._waiting: deque[Awaitable[Any]] = deque()
        self._left_out = 0
        self._last: tuple[Event, Any] | None = None
        """The last event that was left out, and its context."""

    @property
    def is_running(self) -> bool:
        return self.task is not None and not self.task.done()

    def add(self, work: Awaitable[Any], event: Event, context: Any) -> None:
        """Add what the subscriber has to do with an event; let go of it when there is no room."""
        if len(self._waiting) < _LONGEST and not self._left_out:
            self._waiting.append(work)
            return
        if not self._left_out:
            logger.warning(
                "The event subscriber %s is too slow: events are left out until it has caught up.", self.name
            )
        self._left_out += 1
        self._last = event, context
        _discard(work)

    async def work(self) -> None:
        """Do all of it, in order."""
        while self._waiting or self._left_out:
            try:
                await (self._waiting.popleft() if self._waiting else self._tell())
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                logger.warning("The event subscriber %s was cancelled.", self.name)
            except Exception:
                logger.exception("The event subscriber %s failed.", self.name)

    async def _tell(self) -> None:
        """Tell the subscriber how many events were left out, in their place."""
        assert self._last is not None
        event, context = self._last
        message = f"{self._left_out} events were left out here: they came faster than they were observed."
        logger.warning("The event subscriber %s has caught up: %s", self.name, message)
        left_out, self._left_out, self._last = self._left_out, 0, None
        note = Log(event.scope, event.index, event.at_ms, "warn", message, {"leftOut": left_out})
        returned = self._subscriber(note, context)
        if inspect.isawaitable(returned):
            await returned

    async def settle(self) -> None:
        while self.is_running and self.task is not None and self.task is not asyncio.current_task():
            await asyncio.wait([self.task])

    def drop(self, task: asyncio.Task[None]) -> None:
        """Let go of what is left when the loop ended first."""
        if not task.cancelled():
            return
        for work in self._waiting:
            _discard(work)
        self._waiting.clear()


def _discard(work: Awaitable[Any]) -> None:
    if inspect.iscoroutine(work):
        work.close()

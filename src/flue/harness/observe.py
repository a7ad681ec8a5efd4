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

from flue.events import Event
from flue.harness.own_copy import own_copy
from flue.registrations import Registrations, current_registrations

Subscriber = Callable[[Event, Any], Any]
logger = logging.getLogger("flue")


def observe(subscriber: Subscriber) -> Callable[[], None]:
    """Call `subscriber(event, context)` for every event of the project being loaded, or of the process.

    It is called on the event loop, in the order of the events, so it must not block. It may be a coroutine function:
    what it returns runs in the background, one event after the other, and `open_context` waits for it at its end, 5 s
    at most. What a subscriber raises is logged and reaches nobody else; what it changes in an event it changes in a
    copy of its own.

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
        if self.ended:
            return
        returned = self._subscriber(event if self._reads_only else own_copy(event), context)
        if returned is not None and inspect.isawaitable(returned):
            self._run(returned)

    async def settle(self) -> None:
        """Wait for the background work of the running loop; does nothing when called from that work."""
        backlog = self._backlogs.get(asyncio.get_running_loop())
        if backlog is not None:
            await backlog.settle()

    def _run(self, work: Awaitable[Any]) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            _discard(work)
            raise
        backlog = self._backlogs.get(loop)
        if backlog is None:
            name = getattr(self._subscriber, "__qualname__", type(self._subscriber).__name__)
            backlog = self._backlogs[loop] = _Backlog(name)
        backlog.add(work)
        if not backlog.is_running:
            backlog.task = loop.create_task(
                backlog.work(), name=f"observe({backlog.name})", context=self._context.copy()
            )
            backlog.task.add_done_callback(backlog.drop)


class _Backlog:
    """What one subscriber still has to do on one event loop."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.task: asyncio.Task[None] | None = None
        self._waiting: deque[Awaitable[Any]] = deque()

    @property
    def is_running(self) -> bool:
        return self.task is not None and not self.task.done()

    def add(self, work: Awaitable[Any]) -> None:
        self._waiting.append(work)

    async def work(self) -> None:
        """Do all of it, in order."""
        while self._waiting:
            try:
                await self._waiting.popleft()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                logger.warning("The event subscriber %s was cancelled.", self.name)
            except Exception:
                logger.exception("The event subscriber %s failed.", self.name)

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

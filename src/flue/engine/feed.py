"""Who follows which log in this process, and what they have not taken yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from flue.engine.logged import LoggedEvent

BUFFERED_EVENTS = 1000
BUFFERED_CHARACTERS = 256 * 1024


class Subscription:
    """One follower's buffer. When it is full it is emptied: the follower finds the gap, and reads it from the store."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.stale = False
        """Whether the store may hold something new that nobody will put here."""
        self._buffer: deque[LoggedEvent] = deque()
        self._characters = 0
        self._changed = asyncio.Event()

    def put(self, event: LoggedEvent) -> None:
        """Add an event."""
        if len(self._buffer) >= BUFFERED_EVENTS or self._characters >= BUFFERED_CHARACTERS:
            self._buffer.clear()
            self._characters = 0
        self._buffer.append(event)
        self._characters += len(event.data)
        self._changed.set()

    def first(self, after: int) -> LoggedEvent | None:
        """Return the first event after an index, and forget those before it."""
        while self._buffer and self._buffer[0].index <= after:
            self._characters -= len(self._buffer.popleft().data)
        return self._buffer[0] if self._buffer else None

    def look(self, *, at_store: bool = False) -> None:
        """Have the follower look what has changed."""
        self.stale = self.stale or at_store
        self._changed.set()

    async def changed(self) -> None:
        """Wait until something has changed since the last time."""
        await self._changed.wait()
        self._changed.clear()


class Channel:
    """A log that is written or followed in this process."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.subscribers: list[Subscription] = []
        self.writers = 0
        self.stored = -1
        """The last index of which its writer here knows that everything up to it is on disk."""

    def publish(self, event: LoggedEvent) -> None:
        """Hand an event to all followers."""
        for subscriber in self.subscribers:
            subscriber.put(event)

    def written(self, index: int) -> None:
        """Say that everything up to an index is on disk."""
        self.stored = max(self.stored, index)
        self.look()

    def look(self, *, at_store: bool = False) -> None:
        """Have all followers look what has changed."""
        for subscriber in self.subscribers:
            subscriber.look(at_store=at_store)


class Feed:
    """The logs that are written or followed in this process."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}

    def open(self, log: str, stored: int) -> Channel:
        """Begin to write a log of which everything up to `stored` is on disk."""
        channel = self._channels.setdefault(log, Channel(log))
        channel.writers += 1
        channel.written(stored)
        return channel

    def close(self, channel: Channel) -> None:
        """End writing; followers look into the store for what comes next."""
        channel.writers -= 1
        channel.look(at_store=True)
        self._drop(channel)

    @contextmanager
    def subscribe(self, log: str) -> Iterator[Subscription]:
        """Follow a log for the length of the block."""
        channel = self._channels.setdefault(log, Channel(log))
        subscription = Subscription(channel)
        channel.subscribers.append(subscription)
        try:
            yield subscription
        finally:
            channel.subscribers.remove(subscription)
            self._drop(channel)

    @property
    def followed(self) -> bool:
        """Say whether there is anything that is written or followed."""
        return bool(self._channels)

    def changed(self, log: str) -> None:
        """Have followers of a log that is written elsewhere look into the store; an empty name means all logs."""
        if not log:
            self.look()
        elif (channel := self._channels.get(log)) is not None and not channel.writers:
            channel.look(at_store=True)

    def look(self) -> None:
        """Have all followers look into the store."""
        for channel in tuple(self._channels.values()):
            channel.look(at_store=True)

    def _drop(self, channel: Channel) -> None:
        if not channel.writers and not channel.subscribers:
            self._channels.pop(channel.log, None)

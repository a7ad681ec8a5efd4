"""Wake-ups from other nodes: a thread that waits for notifications, without polling."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from flue.durable.records import Wake
from flue.errors import DurabilityError
from flue.stores.postgres_channel import EVERYTHING, Channel
from flue.stores.postgres_connection import close_quietly
from flue.stores.postgres_driver import psycopg

_LINGER = 3.0
"""Seconds for which a node goes on to be told of events after its last follower: the next one comes soon, as a rule."""
_PAUSE = 1.0
"""Seconds before a server is tried again that lets nobody in, or nobody listen, as a standby."""


class Notifications:
    """Passes on what other nodes notify on a channel, until `stop()`; of events only while somebody follows any.

    Listeners are told of everything when notifications may have been missed: after the connection was lost, and found
    again, and when the first begins to follow.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        channel: Channel,
        tell: Callable[[Sequence[Wake]], None],
    ) -> None:
        self._connect = connect
        self._channel = channel
        self._tell = tell
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._followers = 0
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._run, name="flue-store-listen", daemon=True)

    def start(self) -> None:
        """Begin; does nothing the second time."""
        if self._thread.ident is None:
            self._thread.start()

    def follow(self) -> Callable[[], None]:
        """Have events told, too, until what this returns is called."""
        self._count(1)
        return lambda: self._count(-1)

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._interrupt()
        self._thread.join()
        with self._lock:
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _count(self, change: int) -> None:
        with self._lock:
            self._followers += change
            if not self._stopping.is_set():
                self._interrupt()

    def _interrupt(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full of reasons to look
            os.write(self._wake_write, b"x")

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                connection = self._connect()
            except (psycopg.Error, DurabilityError):
                self._stopping.wait(_PAUSE)
                continue
            try:
                self._channel.listen(connection)
            except psycopg.Error:
                self._stopping.wait(_PAUSE)
            else:
                with contextlib.suppress(psycopg.Error):
                    self._pass_on(connection)
            close_quietly(connection)

    def _pass_on(self, connection: psycopg.Connection[Any]) -> None:
        following: bool | None = None
        used = -_LINGER
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while not self._stopping.is_set():
                now = time.monotonic()
                used = now if self._followers else used
                wanted = now < used + _LINGER
                if wanted is not following:
                    if wanted:
                        self._channel.follow(connection)
                    elif following:
                        self._channel.unfollow(connection)
                    following = wanted
                    self._tell(EVERYTHING)  # what was notified before, or meanwhile, has not arrived
                ready = selector.select(used + _LINGER - now if wanted and not self._followers else None)
                if any(key.fd == self._wake_read for key, _ in ready):
                    os.read(self._wake_read, 4096)
                connection.pgconn.consume_input()
                wakes = []
                while (notification := connection.pgconn.notifies()) is not None:
                    wakes += self._channel.read(notification.extra.decode())
                self._tell(wakes)

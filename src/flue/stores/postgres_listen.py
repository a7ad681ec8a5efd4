"""Wake-ups from other nodes: a thread that waits for notifications, without polling."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
from collections.abc import Callable
from typing import Any

from flue.durable.records import Wake
from flue.errors import DurabilityError
from flue.stores.postgres_connection import close_quietly
from flue.stores.postgres_driver import psycopg, sql

_KINDS = ("work", "cancel", "events")


class Notifications:
    """Passes on what other nodes notify on a channel, until `stop()`.

    After the connection was lost, and found again, listeners are told of everything, because notifications of the time
    between are gone.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        channel: str,
        sender: str,
        tell: Callable[[list[Wake]], None],
    ) -> None:
        self._connect = connect
        self._channel = channel
        self._sender = sender
        self._tell = tell
        self._stopping = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="flue-store-listen", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        os.write(self._wake_write, b"x")
        self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                connection = self._connect()
            except (psycopg.Error, DurabilityError):
                self._stopping.wait(1.0)
                continue
            with contextlib.suppress(psycopg.Error):
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
                self._tell([Wake("work"), Wake("cancel"), Wake("events")])
                self._pass_on(connection)
            close_quietly(connection)

    def _pass_on(self, connection: psycopg.Connection[Any]) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while not self._stopping.is_set():
                selector.select()
                connection.pgconn.consume_input()
                wakes = []
                while (notification := connection.pgconn.notifies()) is not None:
                    wakes += self._read(notification.extra.decode())
                self._tell(wakes)

    def _read(self, text: str) -> list[Wake]:
        sender, kind, name = text.split(" ", 2)
        if sender == self._sender:
            return []
        return [Wake(known, key=name) if known == "events" else Wake(known, name) for known in _KINDS if known == kind]  # type: ignore[arg-type]

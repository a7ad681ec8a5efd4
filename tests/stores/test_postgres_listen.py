"""The thread that waits for notifications, without a database: what keeps it from its work."""

from __future__ import annotations

import threading
from typing import Any

import pytest

psycopg = pytest.importorskip("psycopg", reason="needs the extra: pip install 'flue-agents[postgres]'")
from flue.stores.postgres_channel import Channel  # noqa: E402  (after the check above)
from flue.stores.postgres_listen import Notifications  # noqa: E402


class Server:
    """Lets connect, and refuses to listen, as a standby does."""

    def __init__(self) -> None:
        self.connections = 0

    def connect(self) -> Any:
        self.connections += 1
        return self

    def execute(self, *_: object) -> Any:
        raise psycopg.errors.ReadOnlySqlTransaction("cannot execute LISTEN during recovery")

    def close(self) -> None:
        pass


class Stopping(threading.Event):
    """Set when it was waited for twice, or a server was connected to a hundred times; notes for how long."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self._server = server

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return self.is_set()

    def is_set(self) -> bool:
        return len(self.waits) >= 2 or self._server.connections >= 100


def test_a_server_that_lets_nobody_listen_is_not_asked_again_at_once() -> None:
    server = Server()
    notifications = Notifications(server.connect, Channel("flue", "0"), lambda _: None)
    stopping = notifications._stopping = Stopping(server)
    notifications.start()
    notifications.stop()
    assert (server.connections, stopping.waits) == (2, [1.0, 1.0])


def test_what_others_say_on_the_channel_is_not_listened_to() -> None:
    """Anybody who may connect to the database may say anything there."""
    channel = Channel("flue", "1")
    for text in ("", "hello", "hello world", "0 lunch everybody"):
        assert channel.read(text) == []

"""Sessions and durable work in Postgres, shared by several nodes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from secrets import token_hex
from typing import Any, TypeVar

from flue.durable.records import Wake
from flue.stores import postgres_connection
from flue.stores.connection import Connection
from flue.stores.failures import store_closed
from flue.stores.group_commit import GroupCommit
from flue.stores.listeners import Listener
from flue.stores.postgres_channel import Channel
from flue.stores.postgres_connection import PostgresConnection, close_quietly
from flue.stores.postgres_driver import psycopg
from flue.stores.postgres_listen import Notifications
from flue.stores.readers import Readers
from flue.stores.sql.store import SqlStore
from flue.stores.sql.transaction import POSTGRES, Query, Transaction, Transition

T = TypeVar("T")
K = TypeVar("K")


class PostgresStore(SqlStore):
    """A `DurableStore` in a Postgres database (15 or newer), which many nodes share. Needs the extra `postgres`.

    An awaited write is durable as the server means it (`synchronous_commit` is on). Transitions of one lane run in
    order on one of `writers` connections; those that wait are committed together. What is of no lane, as leases and
    claims are, has a connection of its own and waits for no lane's work. Reads use up to `readers` connections,
    wake-ups one more. `schema` holds the tables; it is made when missing.

    Several nodes keep the promises of one (DUR-25). After a lost connection everything is tried again for `retry_for`
    seconds, or until the store is closed. A transaction is repeated only when the database says that it was not
    committed, so nothing is ever done twice.

    Raises `UsageError` (code `invalid_store`) for a URL that cannot work, without repeating it; no error shows the
    password.
    """

    def __init__(
        self, url: str, *, schema: str = "flue", writers: int = 4, readers: int = 4, retry_for: float = 30.0
    ) -> None:
        postgres_connection.check_url(url)
        super().__init__()
        self._schema = schema
        self._channel = Channel(schema, token_hex(8))
        self._closing = threading.Event()
        self._connect: Callable[[], psycopg.Connection[Any]] = partial(
            postgres_connection.connect, url, schema, retry_for, closing=self._closing
        )
        self._migration = threading.Lock()
        self._migrated = False
        self._readers = Readers(
            self._open,
            self._reading,
            threads=readers,
            explain=postgres_connection.explain,
            is_lost=postgres_connection.is_lost,
        )
        self._notifications: Notifications | None = None
        self._writers = [
            GroupCommit(
                partial(PostgresConnection, self._open, self._channel, number),
                judge=postgres_connection.judge,
                explain=postgres_connection.explain,
                closed=lambda: store_closed("The Postgres store"),
                name=f"flue-store-write-{number}",
                in_order=True,
            )
            for number in range(1 + writers)
        ]

    def listen(self, listener: Listener, *, events: bool = True) -> Callable[[], None]:
        """See `flue.durable.port.DurableStore`."""
        remove = super().listen(listener, events=events)
        if self._notifications is None and not self._closing.is_set():
            self._notifications = Notifications(self._open, self._channel, self._listeners.tell)
        unfollow = None
        if self._notifications is not None:
            unfollow = self._notifications.follow() if events else None
            self._notifications.start()

        def stop() -> None:
            remove()
            if unfollow is not None:
                unfollow()

        return stop

    async def retire(self, owner: str, *, now: int) -> None:
        """See `flue.durable.port.DurableStore`. What was accepted for it just now is given back, too."""
        # Another writer may still be about to commit it, and would enlist the owner again.
        await self._settled(writer for writer in self._writers if writer.pending())
        await super().retire(owner, now=now)

    async def aclose(self) -> None:
        """Write what is queued, wait for running reads, and close all connections.

        A database that is away is not waited for: what is queued fails (`store_unreachable`), nobody was told of it.
        """
        self._closing.set()
        if self._notifications is not None:
            notifications, self._notifications = self._notifications, None
            await asyncio.to_thread(notifications.stop)
        await self._readers.aclose()
        await asyncio.gather(*(writer.aclose() for writer in self._writers))

    # -------------------------------------------------------------------------------------------- transitions

    def _submit(self, transition: Transition[T], *, lane: str = "", touches: Collection[str] = ()) -> asyncio.Future[T]:
        wakes: list[Wake] = []

        def work(connection: Connection) -> T:
            assert isinstance(connection, PostgresConnection)
            tx = Transaction(connection, POSTGRES)
            result = transition(tx)
            wakes[:] = tx.wakes
            connection.notify(wakes)
            return result

        return self._writer(lane).submit(work, touches=touches, after=lambda: self._listeners.tell(wakes), order=lane)

    def _writer(self, lane: str) -> GroupCommit:
        first, *of_lanes = self._writers
        if not lane:
            return first
        return of_lanes[hashlib.blake2b(lane.encode("utf-8", "replace"), digest_size=1).digest()[0] % len(of_lanes)]

    async def _read_each(self, query: Query[K, T], item: K, key: str | None = None) -> T:
        if not self._closing.is_set():
            await self._settled(writer for writer in self._writers if writer.pending(key))
        if self._closing.is_set():
            raise store_closed("The Postgres store")
        return await self._readers.read(query, item)

    async def _settled(self, writers: Iterable[GroupCommit]) -> None:
        """Wait until all that these were given has been committed or has failed."""
        await asyncio.gather(*[writer.settled() for writer in writers])

    # -------------------------------------------------------------------------------------------- connections

    @contextlib.contextmanager
    def _reading(self, connection: psycopg.Connection[Any]) -> Iterator[Transaction]:
        # One snapshot, so that all its queries see the same commits.
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield Transaction(PostgresConnection(lambda: connection, self._channel), POSTGRES)
        connection.execute("COMMIT")

    def _open(self) -> psycopg.Connection[Any]:
        """Open a connection to a database with our tables."""
        connection = self._connect()
        try:
            with self._migration:
                if not self._migrated:
                    postgres_connection.migrate(connection, self._schema)
                    self._migrated = True
        except BaseException:
            close_quietly(connection)
            raise
        return connection

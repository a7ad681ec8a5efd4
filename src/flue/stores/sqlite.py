"""Sessions and durable work in a SQLite file: durable when a write has been awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeVar

from flue.durable.records import Wake
from flue.errors import UsageError
from flue.stores import sqlite_backup, sqlite_file
from flue.stores.connection import Connection
from flue.stores.failures import store_closed
from flue.stores.group_commit import GroupCommit
from flue.stores.listeners import Listener
from flue.stores.presence import Presence
from flue.stores.readers import Readers
from flue.stores.sql import claims
from flue.stores.sql.rows import lease
from flue.stores.sql.store import SqlStore
from flue.stores.sql.transaction import SQLITE, Query, Transaction, Transition
from flue.stores.sqlite_file import Connect

T = TypeVar("T")
K = TypeVar("K")

# Readers do not wait for the writer, nor much for each other: SQLite releases the GIL while it reads.
_READERS = 4


class SqliteStore(SqlStore):
    """A `DurableStore` in one SQLite file, which several processes may share.

    An awaited write survives `kill -9` and a power cut: the file is in WAL mode with `synchronous=FULL`. Writes
    that arrive while a commit runs are committed together by the next one. The file and its directory are made
    when first needed, for their owner alone.

    `busy_timeout` is how long, in seconds, to wait for another process that writes; `connect` opens a connection in
    autocommit mode, usable by any one thread at a time. What goes wrong raises `DurabilityError` naming the file;
    the write that failed is not there, and later ones are tried afresh.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        busy_timeout: float = 10.0,
        connect: Connect = sqlite_file.connect,
    ) -> None:
        if str(path) in ("", ":memory:"):
            raise UsageError(
                f"SqliteStore needs the path of a file, got {str(path)!r}.",
                hint="For sessions that are not kept use flue.stores.MemoryStore.",
            )
        super().__init__()
        self.path = Path(path).absolute()
        self._busy_timeout = busy_timeout
        self._connect = connect
        self._opened = False
        self._closed = False
        self._presence = Presence(self.path.with_name(f"{self.path.name}-owners"), self._listeners.tell)
        self._readers = Readers(
            lambda: sqlite_file.open_reader(self.path, self._connect, self._busy_timeout),
            _reading,
            threads=_READERS,
            explain=partial(sqlite_file.explain, what=f"the database {self.path}"),
        )
        self._backup_thread = ThreadPoolExecutor(1, "flue-store-backup")
        self._writer = GroupCommit(
            lambda: sqlite_file.open_writer(self.path, self._connect, self._busy_timeout),
            judge=sqlite_file.judge,
            explain=partial(sqlite_file.explain, what=f"the database {self.path}"),
            closed=lambda: store_closed(f"The store {self.path}"),
            name="flue-store-write",
        )

    def _submit(
        self,
        transition: Transition[T],
        *,
        lane: str = "",
        touches: Collection[str] = (),
        then: Callable[[], None] | None = None,
    ) -> asyncio.Future[T]:
        wakes: list[Wake] = []

        def work(connection: Connection) -> T:
            tx = Transaction(connection, SQLITE)
            result = transition(tx)
            wakes[:] = tx.wakes
            return result

        def after() -> None:
            self._listeners.tell(wakes)
            self._presence.ring(wakes)
            if then is not None:
                then()

        return self._writer.submit(work, touches=touches, after=after)

    def _gone(self, tx: Transaction, owner: str) -> Collection[str]:
        return self._presence.gone(claims.list_owners(tx))

    def enlist(self, owner: str, *, now: int, lease_until: int) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`. Other processes that use the file know at once when this one ends."""

        def enlisting(tx: Transaction) -> None:
            # A file system without named pipes leaves the leases to tell.
            with contextlib.suppress(OSError):
                self._presence.register(owner)
            lease(tx, owner, lease_until)

        return self._submit(enlisting)

    def retire(self, owner: str, *, now: int) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`."""
        return self._submit(lambda tx: claims.retire(tx, owner, now), then=lambda: self._presence.unregister(owner))

    def listen(self, listener: Listener, *, events: bool = True) -> Callable[[], None]:
        """See `flue.durable.port.DurableStore`."""
        remove = super().listen(listener, events=events)
        unfollow = self._presence.follow() if events else None

        def stop() -> None:
            remove()
            if unfollow is not None:
                unfollow()

        return stop

    async def backup(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Copy the database, while it is in use, to a file that a `SqliteStore` opens.

        The copy is consistent: one state between two commits, with every write awaited before the call. It appears
        under its name when it is complete and on disk, or not at all; `overwrite` lets it replace a file. Readers and
        the writer go on meanwhile, and the write-ahead log grows by what they write. A cancelled await does not stop
        it. Raises `DurabilityError`: `backup_exists`, `store_full`, `store_cannot_open` and others.
        """
        await self._ready()
        await asyncio.get_running_loop().run_in_executor(self._backup_thread, self._back_up, Path(path), overwrite)

    async def aclose(self) -> None:
        """Write what is queued, wait for running reads and a backup, and release the file."""
        self._closed = True
        await self._readers.aclose()
        await asyncio.to_thread(self._backup_thread.shutdown)
        # Last, because the connection that is closed last moves the write-ahead log into the database.
        await self._writer.aclose()
        await asyncio.to_thread(self._presence.close)

    async def _read_each(self, query: Query[K, T], item: K, key: str | None = None) -> T:
        await self._ready(key)
        return await self._readers.read(query, item)

    async def _ready(self, key: str | None = None) -> None:
        """Wait until the file is there, with everything queued that touches `key` (None: anything)."""
        if not self._closed and (not self._opened or self._writer.pending(key)):
            await self._writer.settled()
            self._opened = True
        if self._closed:
            raise store_closed(f"The store {self.path}")

    def _back_up(self, path: Path, overwrite: bool) -> None:
        target = path.absolute()
        try:
            sqlite_backup.check_target(target, overwrite=overwrite)
            with contextlib.closing(sqlite_file.open_reader(self.path, self._connect, self._busy_timeout)) as source:
                sqlite_backup.back_up(source, target, overwrite=overwrite)
        except Exception as error:  # noqa: BLE001  (it is raised again, explained)
            explained = sqlite_file.explain(error, f"the backup {target} of {self.path}")
            raise explained from explained.__cause__


@contextlib.contextmanager
def _reading(connection: Connection) -> Iterator[Transaction]:
    # One transaction, so that all its queries see the same commit.
    connection.execute("BEGIN")
    yield Transaction(connection, SQLITE)
    connection.execute("COMMIT")

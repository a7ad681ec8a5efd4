"""Sessions in a SQLite file: one row an entry, durable when an append has been awaited."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeVar

from flue.errors import UsageError
from flue.ports import EntryRow, SessionHead, StoredSession
from flue.stores import sqlite_file
from flue.stores.failures import session_conflict, store_closed
from flue.stores.group_commit import Connection, GroupCommit, Work
from flue.stores.sqlite_file import Connect

T = TypeVar("T")

# Readers do not wait for the writer, nor much for each other: SQLite releases the GIL while it reads.
_READERS = 4


class SqliteStore:
    """A `Store` in one SQLite file, which several processes may share.

    An awaited append survives `kill -9` and a power cut: the file is in WAL mode with `synchronous=FULL`. Appends
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
        self.path = Path(path).absolute()
        self._busy_timeout = busy_timeout
        self._connect = connect
        self._opened = False
        self._closed = False
        self._idle_readers: list[Connection] = []
        self._reader_threads = ThreadPoolExecutor(_READERS, "flue-store-read")
        self._writer = GroupCommit(
            lambda: sqlite_file.open_writer(self.path, self._connect, self._busy_timeout),
            judge=sqlite_file.judge,
            explain=partial(sqlite_file.explain, path=self.path),
            closed=lambda: store_closed(f"The store {self.path}"),
            name="flue-store-write",
        )

    async def load_session(self, key: str) -> StoredSession | None:
        """Return the session with everything that was queued for it in this process, or None."""
        return await self._read(partial(_load, key=key), key)

    def append_entries(
        self, key: str, head: SessionHead, entries: Sequence[EntryRow], *, expected: int, after: str | None = None
    ) -> Awaitable[None]:
        """Queue entries and the new head; awaiting waits until they are durable. See `flue.ports.Store`.

        Must be called with an event loop running. A cancelled await does not take the write back.
        """
        # Encoded now, so that a later change of the caller's dict or list does not reach the stored session.
        metadata = json.dumps(head.metadata, separators=(",", ":"))
        rows = [(entry.id, entry.body) for entry in entries]
        work = partial(_append, _Append(key, head, metadata, rows, expected, after))
        return self._writer.submit(work, touches=(key,))

    async def delete_sessions(self, keys: Sequence[str]) -> None:
        """Delete sessions and their entries, durably; missing ones are fine."""
        names = tuple(keys)
        await self._writer.submit(partial(_delete, keys=names), touches=names)

    async def list_sessions(self, prefix: str = "") -> list[str]:
        """Return the keys that start with `prefix`, sorted by code point."""
        return await self._read(partial(_list, prefix=prefix), None)

    async def aclose(self) -> None:
        """Write what is queued, wait for running reads, and release the file."""
        self._closed = True
        await asyncio.to_thread(self._reader_threads.shutdown)
        while self._idle_readers:
            self._idle_readers.pop().close()
        # Last, because the connection that is closed last moves the write-ahead log into the database.
        await self._writer.aclose()

    async def _read(self, work: Work[T], key: str | None) -> T:
        if not self._closed and (not self._opened or self._writer.pending(key)):
            await self._writer.settled()
            self._opened = True
        if self._closed:
            raise store_closed(f"The store {self.path}")
        return await asyncio.get_running_loop().run_in_executor(self._reader_threads, self._read_in_thread, work)

    def _read_in_thread(self, work: Work[T]) -> T:
        connection: Connection | None = None
        try:
            connection = self._take_reader()
            # One transaction, so that all its queries see the same commit.
            connection.execute("BEGIN")
            result = work(connection)
            connection.execute("COMMIT")
        except Exception as error:
            if connection is not None:
                with contextlib.suppress(Exception):
                    connection.close()
            raise sqlite_file.explain(error, self.path) from error
        self._idle_readers.append(connection)
        return result

    def _take_reader(self) -> Connection:
        try:
            return self._idle_readers.pop()
        except IndexError:
            return sqlite_file.open_reader(self.path, self._connect, self._busy_timeout)


def _find(connection: Connection, key: str) -> tuple[int, int] | None:
    row: tuple[int, int] | None = connection.execute(
        "SELECT number, entries FROM sessions WHERE key = ?", (key,)
    ).fetchone()
    return row


@dataclass(frozen=True, slots=True)
class _Append:
    key: str
    head: SessionHead
    metadata: str
    rows: Sequence[tuple[str, str]]
    expected: int
    after: str | None


def _append(append: _Append, connection: Connection) -> None:
    session = _find(connection, append.key)
    found = session[1] if session is not None else 0
    if found != append.expected or not _ends_with(connection, session, append.after):
        raise session_conflict(append.key, append.expected, found)
    if session is None:
        connection.execute(
            "INSERT INTO sessions (key, version, entries, metadata, created_at, updated_at)"
            " VALUES (?, 0, 0, '', '', '')",
            (append.key,),
        )
        session = _find(connection, append.key)
        assert session is not None
    number = session[0]
    connection.executemany(
        "INSERT INTO entries (session, position, id, body) VALUES (?, ?, ?, ?)",
        [(number, found + offset, id, body) for offset, (id, body) in enumerate(append.rows)],
    )
    head, count = append.head, found + len(append.rows)
    connection.execute(
        "UPDATE sessions SET version = ?, entries = ?, leaf_id = ?, metadata = ?, created_at = ?, updated_at = ?"
        " WHERE number = ?",
        (head.version, count, head.leaf_id, append.metadata, head.created_at, head.updated_at, number),
    )


def _ends_with(connection: Connection, session: tuple[int, int] | None, id: str | None) -> bool:
    if session is None or id is None:
        return id is None
    last = (session[0], session[1] - 1)
    row = connection.execute("SELECT id FROM entries WHERE session = ? AND position = ?", last).fetchone()
    return row is not None and row[0] == id


def _delete(connection: Connection, keys: Collection[str]) -> None:
    for key in keys:
        session = _find(connection, key)
        if session is not None:
            connection.execute("DELETE FROM entries WHERE session = ?", (session[0],))
            connection.execute("DELETE FROM sessions WHERE number = ?", (session[0],))


def _load(connection: Connection, key: str) -> StoredSession | None:
    row = connection.execute(
        "SELECT number, leaf_id, metadata, created_at, updated_at, version FROM sessions WHERE key = ?", (key,)
    ).fetchone()
    if row is None:
        return None
    number, leaf_id, metadata, created_at, updated_at, version = row
    entries = connection.execute("SELECT id, body FROM entries WHERE session = ? ORDER BY position", (number,))
    head = SessionHead(leaf_id, json.loads(metadata), created_at, updated_at, version)
    return StoredSession(head, tuple(EntryRow(id, body) for id, body in entries.fetchall()))


def _list(connection: Connection, prefix: str) -> list[str]:
    # From the index, in order, up to the first key that no longer matches: LIKE would treat % and _ as patterns
    # and ignore case.
    keys = []
    rows = connection.execute("SELECT key FROM sessions WHERE key >= ? ORDER BY key", (prefix,))
    while (row := rows.fetchone()) is not None and row[0].startswith(prefix):
        keys.append(row[0])
    return keys

"""A session's history: the path the model sees, and the way of its entries into the store.

Stores keep one row an entry; each entry is encoded once. In memory is only what the model still sees, and only that is
read when a session is loaded: what came before it costs nothing more.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flue.errors import DurabilityError
from flue.events import iso_time
from flue.harness.entries import (
    CompactionEntry,
    Entry,
    MessageEntry,
    Source,
    StoredEntries,
    encode_entry,
)
from flue.messages import AssistantMessage, Json, Message, Transcript, Usage
from flue.ports import SESSION_FORMAT, Clock, EntryRow, Ids, SessionHead, Store, StoredSession

logger = logging.getLogger("flue")


class Tally:
    """Adds up the usage of a stretch of a history."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = Usage()


class History:
    """One session's entries. Appending is immediate; `write()` queues what is new, `durable()` waits for the disk.

    `path` is what the model sees, entry by entry; `transcript` has the same as messages.
    """

    def __init__(self, key: str, store: Store, clock: Clock, ids: Ids) -> None:
        self.key = key
        self.metadata: Json = {}
        self.path: list[Entry] = []
        self.transcript = Transcript()
        self.usage = Usage()
        self.stale = False
        """Whether somebody else has changed the stored session: nothing more of this one can be written."""
        self._store = store
        self._clock = clock
        self._ids = ids
        self._leaf_id: str | None = None
        self._created_at = iso_time(clock.now_ms())
        self._confirmed = 0
        self._last_confirmed: str | None = None
        self._unconfirmed: list[Entry] = []
        self._queued = 0  # of the unconfirmed entries
        self._writes: list[Awaitable[None]] = []
        self._waiting = asyncio.Lock()
        self._head_changed = True
        self._failed = False
        self._tallies: list[Tally] = []
        self._start = 0
        self._positions: dict[str, int] = {}  # of the entries in `path`

    @classmethod
    async def load(cls, key: str, store: Store, clock: Clock, ids: Ids) -> History | None:
        """Return the stored history, or None. Raises `DurabilityError` when it cannot be read."""
        for start in (None, 0):
            stored = await store.load_session(key, start=start)
            if stored is None:
                return None
            _check_format(key, stored)
            history = cls(key, store, clock, ids)
            if history._restore(stored):
                return history
            # The head was wrong about where to start. The entries themselves say what is true.
        raise DurabilityError(f"Session {key} lacks entries that its newest one leads to.", code="store_corrupt")

    @property
    def leaf_id(self) -> str | None:
        """Return the id of the entry that what is appended next follows."""
        return self._leaf_id

    # -------------------------------------------------------------------------------------------- changing

    def append(self, message: Message, source: Source | None = None) -> MessageEntry:
        """Add a message after the newest one."""
        entry = MessageEntry(self._entry_id(), self._leaf_id, iso_time(self._clock.now_ms()), message, source)
        self._add(entry)
        self.path.append(entry)
        self.transcript.append(message)
        if isinstance(message, AssistantMessage):
            self._count(message.usage)
        return entry

    def drop_last(self) -> None:
        """Leave the newest entry: what is appended next follows the one before it."""
        dropped = self.path.pop()
        del self._positions[dropped.id]
        self._leaf_id = dropped.parent_id
        self.transcript = Transcript(self.transcript.messages[:-1])
        self._head_changed = True

    def compact(self, kept: int, *, summary: str, tokens_before: int, details: Json, usage: Usage) -> CompactionEntry:
        """Put a summary in the place of everything before `path[kept]`."""
        entry = CompactionEntry(
            self._entry_id(),
            self._leaf_id,
            iso_time(self._clock.now_ms()),
            summary,
            self.path[kept].id,
            tokens_before,
            details,
            usage,
        )
        self._add(entry)
        self.path = [entry, *self.path[kept:]]
        self._positions = {item.id: self._positions[item.id] for item in self.path}
        self._start = min(self._positions.values())
        self.transcript = Transcript([item.message for item in self.path])
        self._count(usage)
        return entry

    def set_metadata(self, **values: Any) -> None:
        """Change metadata; it is written with the next `write()`."""
        self.metadata = {**self.metadata, **values}
        self._head_changed = True

    @contextmanager
    def tally(self) -> Iterator[Tally]:
        """Add up the usage of all answers and summaries that are added inside the block."""
        tally = Tally()
        self._tallies.append(tally)
        try:
            yield tally
        finally:
            self._tallies.remove(tally)

    # --------------------------------------------------------------------------------------------- storing

    def write(self) -> None:
        """Queue what is new for the store, in order."""
        fresh = self._unconfirmed[self._queued :]
        if self._failed or (not fresh and not self._head_changed):
            return
        rows = [EntryRow(entry.id, encode_entry(entry)) for entry in fresh]
        expected = self._confirmed + self._queued
        after = self._unconfirmed[self._queued - 1].id if self._queued else self._last_confirmed
        self._writes.append(self._store.append_entries(self.key, self._head(), rows, expected=expected, after=after))
        self._queued += len(rows)
        self._head_changed = False

    async def durable(self) -> None:
        """Queue what is new and wait until all of it is on disk. Raises `DurabilityError`; nothing is lost in memory.

        After a failure the next call finds out what the store holds and writes the rest. When somebody else has
        changed the session, nothing more is written: the error has the code `session_conflict`, now and later.
        """
        self.write()  # at once, whoever is waiting already
        async with self._waiting:
            if self.stale:
                raise self._conflict()
            if self._failed:
                await self._reconcile()
            self.write()
            writes, self._writes, queued = self._writes, [], self._queued
            try:
                outcomes = await asyncio.gather(*writes, return_exceptions=True)
            except asyncio.CancelledError:
                self._failed = True
                raise
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    self._failed = True
                    self.stale = isinstance(outcome, DurabilityError) and outcome.code == "session_conflict"
                    raise outcome
            self._confirm(queued)

    async def settle(self) -> None:
        """Like `durable`, where nobody waits for the outcome: a failure is logged, and the next write repeats it."""
        if self.stale:
            return  # somebody was told
        try:
            await self.durable()
        except DurabilityError as error:
            if error.code != "attempt_lost":  # else somebody has the work, and writes it
                logger.warning("Session %s could not be written: %s", self.key, error)

    async def export(self) -> Json:
        """Return the whole session in exchange format version 3."""
        await self.durable()
        stored = await self._store.load_session(self.key, start=0)
        head = self._head()
        return {
            "version": head.version,
            "entries": [json.loads(row.body) for row in stored.entries] if stored else [],
            "leafId": head.leaf_id,
            "metadata": head.metadata,
            "createdAt": head.created_at,
            "updatedAt": head.updated_at,
        }

    def _add(self, entry: Entry) -> None:
        self._positions[entry.id] = self._next_position
        self._unconfirmed.append(entry)
        self._leaf_id = entry.id

    def _count(self, usage: Usage) -> None:
        self.usage += usage
        for tally in self._tallies:
            tally.total += usage

    def _confirm(self, count: int) -> None:
        if count:
            self._last_confirmed = self._unconfirmed[count - 1].id
        del self._unconfirmed[:count]
        self._confirmed += count
        self._queued -= count

    def _head(self) -> SessionHead:
        now = iso_time(self._clock.now_ms())
        return SessionHead(self._leaf_id, self.metadata, self._created_at, now, start=self._start, usage=self.usage)

    @property
    def _next_position(self) -> int:
        return self._confirmed + len(self._unconfirmed)

    def _entry_id(self) -> str:
        # The position makes it unique in the session; the rest tells it from what another process puts there.
        return f"{self._next_position:x}-{self._ids.entry()}"

    def _restore(self, stored: StoredSession) -> bool:
        """Take over what is visible of a stored session; return False when that is not all there."""
        head, rows = stored.head, stored.entries
        entries = StoredEntries(rows)
        path = entries.visible_path(head.leaf_id)
        if path is None:
            return False
        self.path = path
        self.transcript = Transcript([entry.message for entry in path])
        self.usage = _usage_of(entries[row.id] for row in rows) if head.usage is None else head.usage
        self.metadata = head.metadata
        self._leaf_id = head.leaf_id
        self._created_at = head.created_at
        self._confirmed = stored.count
        self._last_confirmed = rows[-1].id if rows else None
        self._head_changed = False
        positions = {row.id: position for position, row in enumerate(rows, stored.first)}
        self._positions = {entry.id: positions[entry.id] for entry in path}
        self._start = min(self._positions.values(), default=stored.first)
        return True

    async def _reconcile(self) -> None:
        """Find out what of the unconfirmed entries reached the store."""
        await asyncio.gather(*self._writes, return_exceptions=True)
        self._writes = []
        # Whether what was confirmed is still there is found out by the next append, which names the last of it.
        stored = await self._store.load_session(self.key, start=self._confirmed)
        arrived = [row.id for row in stored.entries] if stored else []
        if arrived != [entry.id for entry in self._unconfirmed[: len(arrived)]]:
            self.stale = True
            raise self._conflict()
        self._queued = len(arrived)
        self._confirm(len(arrived))
        self._head_changed = True
        self._failed = False

    def _conflict(self) -> DurabilityError:
        return DurabilityError(
            f"Session {self.key} was changed by someone else.",
            code="session_conflict",
            hint="Nothing was written. Get the session from its harness again, and repeat the call.",
        )


def _check_format(key: str, stored: StoredSession) -> None:
    if stored.head.version > SESSION_FORMAT:
        raise DurabilityError(
            f"Session {key} has format {stored.head.version}; this version reads up to {SESSION_FORMAT}.",
            code="store_newer_format",
            hint="Upgrade flue-agents.",
        )


def _usage_of(entries: Iterable[Entry]) -> Usage:
    total = Usage()
    for entry in entries:
        if isinstance(entry, CompactionEntry):
            total += entry.usage
        elif isinstance(entry.message, AssistantMessage):
            total += entry.message.usage
    return total

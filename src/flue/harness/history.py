"""A session's history: a tree of entries, the path through it that the model sees, and its way into the store.

Exchange format version 3 (`SessionData`): `{version, entries, leafId, metadata, createdAt, updatedAt}`. Stores keep
one row an entry; each entry is encoded once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flue.errors import DurabilityError
from flue.events import iso_time
from flue.messages import AssistantMessage, Json, Message, Transcript, Usage, message_from_json
from flue.ports import SESSION_FORMAT, Clock, EntryRow, Ids, SessionHead, Store, StoredSession

Source = Literal["prompt", "skill", "shell", "task", "retry", "dispatch"]


@dataclass(frozen=True, slots=True)
class MessageEntry:
    """A message in the tree. `source` says which call put it there; answers and tool results have none."""

    id: str
    parent_id: str | None
    timestamp: str
    message: Message
    source: Source | None = None

    def to_json(self) -> Json:
        """Return the exchange form."""
        data: Json = {
            "type": "message",
            "id": self.id,
            "parentId": self.parent_id,
            "timestamp": self.timestamp,
            "message": self.message.to_json(),
        }
        if self.source is not None:
            data["source"] = self.source
        return data


def entry_from_json(data: Json) -> MessageEntry:
    """Read an entry. Raises `DurabilityError` for a type this version does not know."""
    if data.get("type") != "message":
        raise DurabilityError(f"Unknown entry type {data.get('type')!r} in a session.", code="store_corrupt")
    message = message_from_json(data["message"])
    return MessageEntry(data["id"], data["parentId"], data["timestamp"], message, data.get("source"))


class History:
    """One session's entries. Appending is immediate; `write()` queues what is new, `durable()` waits for the disk."""

    def __init__(self, key: str, store: Store, clock: Clock, ids: Ids) -> None:
        self.key = key
        self.metadata: Json = {}
        self.leaf_id: str | None = None
        self.entries: list[MessageEntry] = []
        self.transcript = Transcript()
        self._store = store
        self._clock = clock
        self._ids = ids
        self._ids_taken: set[str] = set()
        self._created_at = iso_time(clock.now_ms())
        self._queued = 0
        self._writes: list[Awaitable[None]] = []
        self._head_changed = True
        self._failed = False

    @classmethod
    async def load(cls, key: str, store: Store, clock: Clock, ids: Ids) -> History | None:
        """Return the stored history, or None. Raises `DurabilityError` when it cannot be read."""
        stored = await store.load_session(key)
        if stored is None:
            return None
        history = cls(key, store, clock, ids)
        history._restore(stored)
        return history

    @property
    def new(self) -> bool:
        """Say whether nothing of this history was ever written."""
        return self._queued == 0 and not self._writes and self._head_changed

    def append(self, message: Message, source: Source | None = None) -> MessageEntry:
        """Add a message after the newest one of the active path."""
        entry = MessageEntry(self._entry_id(), self.leaf_id, iso_time(self._clock.now_ms()), message, source)
        self.entries.append(entry)
        self.leaf_id = entry.id
        self.transcript.append(message)
        return entry

    def set_metadata(self, **values: Any) -> None:
        """Change metadata; it is written with the next `write()`."""
        self.metadata = {**self.metadata, **values}
        self._head_changed = True

    def usage_since(self, mark: int) -> Usage:
        """Return the usage of all answers after the first `mark` entries."""
        total = Usage()
        for entry in self.entries[mark:]:
            if isinstance(entry.message, AssistantMessage):
                total += entry.message.usage
        return total

    def write(self) -> None:
        """Queue what is new for the store, in order."""
        fresh = self.entries[self._queued :]
        if not fresh and not self._head_changed:
            return
        rows = [EntryRow(entry.id, _encode(entry.to_json())) for entry in fresh]
        self._writes.append(self._store.append_entries(self.key, self._head(), rows, expected=self._queued))
        self._queued += len(rows)
        self._head_changed = False

    async def durable(self) -> None:
        """Queue what is new and wait until all of it is on disk. Raises `DurabilityError`; nothing is lost in memory.

        After a failure the next call finds out what the store holds and writes the rest.
        """
        if self._failed:
            await self._reconcile()
        self.write()
        writes, self._writes = self._writes, []
        try:
            for write in writes:
                await write
        except asyncio.CancelledError:
            self._failed = True
            raise
        except DurabilityError:
            self._failed = True
            raise

    def to_session_data(self) -> Json:
        """Return the whole session in exchange format version 3."""
        head = self._head()
        return {
            "version": head.version,
            "entries": [entry.to_json() for entry in self.entries],
            "leafId": head.leaf_id,
            "metadata": head.metadata,
            "createdAt": head.created_at,
            "updatedAt": head.updated_at,
        }

    def _head(self) -> SessionHead:
        return SessionHead(self.leaf_id, self.metadata, self._created_at, iso_time(self._clock.now_ms()))

    def _entry_id(self) -> str:
        while (fresh := self._ids.entry()) in self._ids_taken:
            pass
        self._ids_taken.add(fresh)
        return fresh

    def _restore(self, stored: StoredSession) -> None:
        if stored.head.version > SESSION_FORMAT:
            raise DurabilityError(
                f"Session {self.key} has format {stored.head.version}; this version reads up to {SESSION_FORMAT}.",
                code="store_newer_format",
                hint="Upgrade flue-agents.",
            )
        self.entries = [entry_from_json(json.loads(row.body)) for row in stored.entries]
        self._ids_taken = {entry.id for entry in self.entries}
        self.leaf_id = stored.head.leaf_id
        self.metadata = stored.head.metadata
        self._created_at = stored.head.created_at
        self._queued = len(self.entries)
        self._head_changed = False
        self.transcript = Transcript([entry.message for entry in active_path(self.entries, self.leaf_id)])

    async def _reconcile(self) -> None:
        for write in self._writes:
            try:
                await write
            except DurabilityError:
                continue
        self._writes = []
        stored = await self._store.load_session(self.key)
        rows = stored.entries if stored else ()
        if len(rows) > len(self.entries) or any(
            row.id != entry.id for row, entry in zip(rows, self.entries, strict=False)
        ):
            raise DurabilityError(
                f"Session {self.key} was changed by another process.",
                code="session_conflict",
                hint="Open the session again and repeat the call.",
            )
        self._queued = len(rows)
        self._head_changed = True
        self._failed = False


def active_path(entries: Sequence[MessageEntry], leaf_id: str | None) -> list[MessageEntry]:
    """Return the entries from the root to `leaf_id`."""
    by_id = {entry.id: entry for entry in entries}
    path: list[MessageEntry] = []
    while leaf_id is not None:
        entry = by_id[leaf_id]
        path.append(entry)
        leaf_id = entry.parent_id
    path.reverse()
    return path


def _encode(data: Json) -> str:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair: legal in a model's JSON, not in UTF-8. Escaped, it survives the round trip.
        return json.dumps(data, separators=(",", ":"))
    return text

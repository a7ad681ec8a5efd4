"""Sessions and durable work in memory, for tests and throw-away work."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from dataclasses import replace

from flue.durable.records import SessionAppend
from flue.ports import EntryRow, SessionHead, StoredSession
from flue.stores.memory_sessions import MemorySessions, done
from flue.stores.memory_work import MemoryWork


class MemoryStore(MemoryWork):
    """A `DurableStore` that forgets everything when the process ends.

    Transitions take effect at the call. `aclose()` keeps everything, so that a test can close whatever used the store
    and look, or go on, with the same object.
    """

    can_list = True

    def __init__(self) -> None:
        self._sessions = MemorySessions()
        super().__init__(self._sessions)

    async def load_session(self, key: str, *, start: int | None = None) -> StoredSession | None:
        """Return the session, or None; see `flue.ports.Store`."""
        session = self._sessions.by_key.get(key)
        if session is None:
            return None
        head = replace(session.head, metadata=json.loads(session.metadata))
        first = min(head.start if start is None else start, len(session.entries))
        return StoredSession(head, tuple(session.entries[first:]), first)

    def append_entries(
        self, key: str, head: SessionHead, entries: Sequence[EntryRow], *, expected: int, after: str | None = None
    ) -> Awaitable[None]:
        """Append at once; the awaitable is already done. See `flue.ports.Store`."""
        append = SessionAppend(key, head, tuple(entries), expected, after)

        def work() -> None:
            self._sessions.check([append])
            self._sessions.append(append)

        return done(work)

    async def delete_sessions(self, keys: Sequence[str]) -> None:
        """Delete sessions; missing ones are fine."""
        for key in keys:
            self._sessions.by_key.pop(key, None)

    async def list_sessions(self, prefix: str = "") -> list[str]:
        """Return the keys that start with `prefix`, sorted."""
        return sorted(key for key in self._sessions.by_key if key.startswith(prefix))

    async def aclose(self) -> None:
        """Do nothing: there is nothing to write."""

"""Sessions in memory, for tests and throw-away work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace

from flue.ports import EntryRow, SessionHead, StoredSession
from flue.stores.failures import session_conflict


@dataclass(slots=True)
class _Session:
    head: SessionHead
    metadata: str
    entries: list[EntryRow] = field(default_factory=list)


class MemoryStore:
    """A `Store` that forgets everything when the process ends.

    Writes take effect at the call. `aclose()` keeps the sessions, so that a test can close whatever used the store
    and look, or go on, with the same object.
    """

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}

    async def load_session(self, key: str) -> StoredSession | None:
        """Return the session, or None."""
        session = self._sessions.get(key)
        if session is None:
            return None
        return StoredSession(replace(session.head, metadata=json.loads(session.metadata)), tuple(session.entries))

    def append_entries(
        self, key: str, head: SessionHead, entries: Sequence[EntryRow], *, expected: int, after: str | None = None
    ) -> Awaitable[None]:
        """Append at once; the awaitable is already done. See `flue.ports.Store`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        session = self._sessions.get(key)
        found = len(session.entries) if session is not None else 0
        last = session.entries[-1].id if session is not None and session.entries else None
        if found != expected or after not in (None, last):
            done.set_exception(session_conflict(key, expected, found))
            return done
        # As JSON text, so that a later change of the caller's dict does not reach the stored session.
        metadata = json.dumps(head.metadata)
        if session is None:
            session = self._sessions[key] = _Session(head, metadata)
        session.head, session.metadata = head, metadata
        session.entries.extend(entries)
        done.set_result(None)
        return done

    async def delete_sessions(self, keys: Sequence[str]) -> None:
        """Delete sessions; missing ones are fine."""
        for key in keys:
            self._sessions.pop(key, None)

    async def list_sessions(self, prefix: str = "") -> list[str]:
        """Return the keys that start with `prefix`, sorted."""
        return sorted(key for key in self._sessions if key.startswith(prefix))

    async def aclose(self) -> None:
        """Do nothing: there is nothing to write."""

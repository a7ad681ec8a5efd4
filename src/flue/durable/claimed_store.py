"""A store as the holder of a claim sees it: what it appends to sessions is fenced."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from flue.durable.outbox import Outbox
from flue.durable.port import DurableStore
from flue.durable.records import SessionAppend
from flue.ports import EntryRow, SessionHead, StoredSession


class ClaimedStore:
    """A `Store` for the harness that works on a claim: once the claim is lost, nothing it writes arrives.

    What it writes goes through the claim's outbox, together with what was added there. `append_entries` raises
    `DurabilityError` with the code `attempt_lost` once the claim is lost. Closing it leaves the store open. `outbox`
    may be replaced when the same work goes on under another claim.
    """

    def __init__(self, store: DurableStore, outbox: Outbox) -> None:
        self.outbox = outbox
        self._store = store

    @property
    def can_list(self) -> bool:
        """Say whether the store can list."""
        return self._store.can_list

    async def load_session(self, key: str, *, start: int | None = None) -> StoredSession | None:
        """Return the session, or None; see `flue.ports.Store`."""
        return await self._store.load_session(key, start=start)

    def append_entries(
        self, key: str, head: SessionHead, entries: Sequence[EntryRow], *, expected: int, after: str | None = None
    ) -> Awaitable[None]:
        """Queue entries and the new head as a checkpoint of the claim; see `flue.ports.Store`."""
        return self.outbox.write(SessionAppend(key, head, tuple(entries), expected, after))

    async def delete_sessions(self, keys: Sequence[str]) -> None:
        """Delete sessions and their entries. Raises `DurabilityError` (code `attempt_lost`) without the claim."""
        await self.outbox.write()
        await self._store.delete_sessions(keys)

    async def list_sessions(self, prefix: str = "") -> list[str]:
        """Return the keys that start with `prefix`, sorted."""
        return await self._store.list_sessions(prefix)

    async def aclose(self) -> None:
        """Do nothing: the store is the engine's."""

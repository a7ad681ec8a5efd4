"""One agent's part of a store.

A session's key names the instance, not the agent: two agents of one project may well have an instance called
`customer-1` each, and their conversations must not meet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from flue.ports import EntryRow, SessionHead, Store, StoredSession


class AgentStore:
    """A view of `store` in which only the conversations of the agent called `agent` exist."""

    def __init__(self, store: Store, agent: str) -> None:
        self._store = store
        self._prefix = f"{agent}/"

    @property
    def can_list(self) -> bool:
        """Say whether the store can list."""
        return self._store.can_list

    async def load_session(self, key: str, *, start: int | None = None) -> StoredSession | None:
        """Return the session, or None; see `flue.ports.Store`."""
        return await self._store.load_session(self._prefix + key, start=start)

    def append_entries(
        self, key: str, head: SessionHead, entries: Sequence[EntryRow], *, expected: int, after: str | None = None
    ) -> Awaitable[None]:
        """Queue entries and the new head; see `flue.ports.Store`."""
        return self._store.append_entries(self._prefix + key, head, entries, expected=expected, after=after)

    async def delete_sessions(self, keys: Sequence[str]) -> None:
        """Delete sessions and their entries; missing ones are fine."""
        await self._store.delete_sessions([self._prefix + key for key in keys])

    async def list_sessions(self, prefix: str = "") -> list[str]:
        """Return the agent's keys that start with `prefix`, sorted."""
        keys = await self._store.list_sessions(self._prefix + prefix)
        return [key.removeprefix(self._prefix) for key in keys]

    async def aclose(self) -> None:
        """Close the store, for all agents."""
        await self._store.aclose()

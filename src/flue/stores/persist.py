"""Sessions in a user's own object with `save`, `load` and `delete`."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flue.errors import DurabilityError
from flue.messages import Json
from flue.ports import SESSION_FORMAT, EntryRow, SessionHead, SessionStore, StoredSession
from flue.stores.failures import newer_format, session_conflict, store_closed


@dataclass(slots=True, eq=False)
class _Append:
    head: Json
    entries: list[Json]
    expected: int
    after: str | None
    done: asyncio.Future[None]


class PersistStore:
    """A `Store` over a user's object that keeps whole sessions, as JSON data in exchange format version 3.

    That format has no place for a head's `start` and `usage`: a session is always read to its beginning.
    The object's methods may be async or plain. An append loads the session, adds to it and saves it whole, so its
    cost grows with the session; appends to one session that arrive during a save are saved together by the next
    one. An append is as durable as the object's `save` makes it. Changes by others are noticed when the session is
    loaded; the object offers no way to notice one between that and the save.

    `list_sessions` needs a method `list(prefix)` of the object. Without one, a session's metadata names the sessions of
    its tasks, and grows with them.
    """

    def __init__(self, session_store: SessionStore) -> None:
        self._object = session_store
        self._label = f"The session store {type(session_store).__name__}"
        self._queues: dict[str, list[_Append]] = {}
        self._savers: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    @property
    def can_list(self) -> bool:
        """Say whether the object has a method `list`."""
        return hasattr(self._object, "list")

    async def load_session(self, key: str, *, start: int | None = None) -> StoredSession | None:
        """Return the session with everything that was queued for it here, or None; see `flue.ports.Store`."""
        self._check_open()
        await self._flush(key)
        data = await self._load(key)
        return None if data is None else _to_stored(data, start or 0)

    def append_entries(
        self, key: str, head: SessionHead, entries: Sequence[EntryRow], *, expected: int, after: str | None = None
    ) -> Awaitable[None]:
        """Queue entries and the new head; awaiting waits for the `save`. See `flue.ports.Store`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed:
            done.set_exception(store_closed(self._label))
            return done
        bodies = [json.loads(entry.body) for entry in entries]
        self._queues.setdefault(key, []).append(_Append(_head_json(head), bodies, expected, after, done))
        if key not in self._savers:
            self._savers[key] = asyncio.create_task(self._save_queued(key))
        return done

    async def delete_sessions(self, keys: Sequence[str]) -> None:
        """Delete sessions; missing ones are fine."""
        self._check_open()
        for key in keys:
            await self._flush(key)
            await self._call("delete", key)

    async def list_sessions(self, prefix: str = "") -> list[str]:
        """Return the keys that start with `prefix`, sorted.

        Raises `DurabilityError` (code `store_cannot_list`) when the object has no method `list`.
        """
        self._check_open()
        if not self.can_list:
            raise DurabilityError(
                f"{self._label} cannot list sessions.",
                code="store_cannot_list",
                hint="Give it a method list(prefix) that returns the ids that start with prefix.",
            )
        for key in tuple(self._savers):
            await self._flush(key)
        return sorted(key for key in await self._call("list", prefix) if key.startswith(prefix))

    async def aclose(self) -> None:
        """Save what is queued. The object is the user's and stays open."""
        self._closed = True
        for key in tuple(self._savers):
            await self._flush(key)

    def _check_open(self) -> None:
        if self._closed:
            raise store_closed(self._label)

    async def _flush(self, key: str) -> None:
        saver = self._savers.get(key)
        if saver is not None:
            await asyncio.shield(saver)

    async def _save_queued(self, key: str) -> None:
        try:
            while batch := self._queues.pop(key, None):
                try:
                    accepted = await self._save(key, batch)
                except DurabilityError as error:
                    _settle(batch, error)
                else:
                    _settle(accepted, None)
        finally:
            del self._savers[key]

    async def _save(self, key: str, batch: Sequence[_Append]) -> Sequence[_Append]:
        data = await self._load(key) or {"entries": []}
        entries = list(data["entries"])
        accepted = []
        for append in batch:
            last = entries[-1]["id"] if entries else None
            if len(entries) != append.expected or append.after not in (None, last):
                _settle([append], session_conflict(key, append.expected, len(entries)))
                continue
            entries.extend(append.entries)
            data = {**append.head, "entries": entries}
            accepted.append(append)
        if accepted:
            await self._call("save", key, data)
        return accepted

    async def _load(self, key: str) -> Json | None:
        data = await self._call("load", key)
        if data is None:
            return None
        version = data.get("version") if isinstance(data, Mapping) else None
        if isinstance(version, int) and version > SESSION_FORMAT:
            raise newer_format(f"Session {key}", version, SESSION_FORMAT)
        if version != SESSION_FORMAT or not _are_entries(data.get("entries")):
            raise DurabilityError(
                f"{self._label} returned no session in format {SESSION_FORMAT} for {key}.",
                code="store_invalid_session",
                hint="load() must return what save() was given, or None.",
            )
        return dict(data)

    async def _call(self, method: str, *arguments: Any) -> Any:
        try:
            value = getattr(self._object, method)(*arguments)
            return await value if inspect.isawaitable(value) else value
        except Exception as error:
            raise DurabilityError(
                f"{self._label} failed to {method} session {arguments[0]}: {type(error).__name__}: {error}",
                hint=f"Its own method {method} raised this.",
            ) from error


def _are_entries(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, Mapping) and isinstance(entry.get("id"), str) for entry in value
    )


def _settle(appends: Sequence[_Append], error: DurabilityError | None) -> None:
    for append in appends:
        if append.done.done():  # its awaiter was cancelled, or it conflicted before the save failed
            continue
        if error is not None:
            append.done.set_exception(error)
        else:
            append.done.set_result(None)


def _head_json(head: SessionHead) -> Json:
    return {
        "version": head.version,
        "leafId": head.leaf_id,
        # A copy, so that a later change of the caller's dict does not reach the saved session.
        "metadata": json.loads(json.dumps(head.metadata)),
        "createdAt": head.created_at,
        "updatedAt": head.updated_at,
    }


def _to_stored(data: Json, start: int) -> StoredSession:
    head = SessionHead(data["leafId"], data["metadata"], data["createdAt"], data["updatedAt"], data["version"])
    first = min(start, len(data["entries"]))
    entries = (EntryRow(entry["id"], json.dumps(entry, separators=(",", ":"))) for entry in data["entries"][first:])
    return StoredSession(head, tuple(entries), first)

"""Sessions in memory, and futures that are done at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from flue.durable.records import SessionAppend
from flue.ports import EntryRow, SessionHead
from flue.stores.failures import session_conflict

T = TypeVar("T")


@dataclass(slots=True)
class _Session:
    head: SessionHead
    metadata: str
    entries: list[EntryRow] = field(default_factory=list)


class MemorySessions:
    """Sessions by key."""

    def __init__(self) -> None:
        self.by_key: dict[str, _Session] = {}

    def check(self, appends: Sequence[SessionAppend]) -> None:
        """Raise `DurabilityError` unless all can be appended, one after the other."""
        ends: dict[str, tuple[int, str | None]] = {}
        for append in appends:
            session = self.by_key.get(append.key)
            rows = session.entries if session else []
            found, last = ends.get(append.key, (len(rows), rows[-1].id if rows else None))
            if found != append.expected or append.after not in (None, last):
                raise session_conflict(append.key, append.expected, found)
            ends[append.key] = (found + len(append.entries), append.entries[-1].id if append.entries else last)

    def append(self, append: SessionAppend) -> None:
        """Append what was checked."""
        # As JSON text, so that a later change of the caller's dict does not reach the stored session.
        metadata = json.dumps(append.head.metadata)
        session = self.by_key.setdefault(append.key, _Session(append.head, metadata))
        session.head, session.metadata = append.head, metadata
        session.entries.extend(append.entries)


def done(work: Callable[[], T]) -> Awaitable[T]:
    """Return a future with what `work` gave."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    try:
        future.set_result(work())
    except Exception as error:  # noqa: BLE001  (its awaiter gets it)
        future.set_exception(error)
    return future

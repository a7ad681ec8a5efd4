"""Sessions as SQL: one row an entry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flue.durable.records import SessionAppend
from flue.messages import Usage
from flue.ports import EntryRow, SessionHead, StoredSession
from flue.stores.failures import session_conflict
from flue.stores.sql.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Append:
    """Entries and a head, encoded: a later change of the caller's dict or list does not reach the stored session."""

    key: str
    head: SessionHead
    metadata: str
    usage: str | None
    rows: Sequence[tuple[str, str]]
    expected: int
    after: str | None

    @classmethod
    def of(cls, append: SessionAppend) -> Append:
        """Encode what `Store.append_entries` is given."""
        head = append.head
        metadata = json.dumps(head.metadata, separators=(",", ":"))
        usage = None if head.usage is None else json.dumps(head.usage.to_json(), separators=(",", ":"))
        rows = [(entry.id, entry.body) for entry in append.entries]
        return cls(append.key, head, metadata, usage, rows, append.expected, append.after)


def append(tx: Transaction, append: Append) -> None:
    """Append entries to a session that has the expected number of them."""
    session = _find(tx, append.key)
    found = session[1] if session is not None else 0
    if found != append.expected or not _ends_with(tx, session, append.after):
        raise session_conflict(append.key, append.expected, found)
    if session is None:
        created = tx.execute(
            "INSERT INTO sessions (key, version, entries, metadata, created_at, updated_at)"
            " VALUES (?, 0, 0, '', '', '') ON CONFLICT (key) DO NOTHING",
            append.key,
        )
        session = _find(tx, append.key)
        assert session is not None
        if not created.rowcount:
            raise session_conflict(append.key, append.expected, session[1])
    number = session[0]
    tx.insert(
        "INSERT INTO entries (session, position, id, body) VALUES (?, ?, ?, ?)",
        [(number, found + offset, id, body) for offset, (id, body) in enumerate(append.rows)],
    )
    head, count = append.head, found + len(append.rows)
    tx.execute(
        "UPDATE sessions SET version = ?, entries = ?, leaf_id = ?, metadata = ?, created_at = ?, updated_at = ?,"
        " start = ?, usage = ? WHERE number = ?",
        head.version,
        count,
        head.leaf_id,
        append.metadata,
        head.created_at,
        head.updated_at,
        head.start,
        append.usage,
        number,
    )


def _ends_with(tx: Transaction, session: tuple[int, int] | None, id: str | None) -> bool:
    if session is None or id is None:
        return id is None
    number, count = session
    row = tx.row("SELECT id FROM entries WHERE session = ? AND position = ?", number, count - 1)
    return row is not None and bool(row[0] == id)


def delete(tx: Transaction, key: str) -> None:
    """Delete a session and its entries; a missing one is fine."""
    session = _find(tx, key)
    if session is not None:
        tx.execute("DELETE FROM entries WHERE session = ?", session[0])
        tx.execute("DELETE FROM sessions WHERE number = ?", session[0])


def load(tx: Transaction, wanted: Sequence[tuple[str, int | None]]) -> list[StoredSession | None]:
    """Return sessions by key, or None, with their entries from a position on (None: a session's own `start`)."""
    found = tx.rows_each(
        "SELECT number, entries, leaf_id, metadata, created_at, updated_at, version, start, usage"
        " FROM sessions WHERE key = ?",
        [(key,) for key, _ in wanted],
    )
    heads: list[tuple[int, SessionHead, int] | None] = []
    for rows, (_, start) in zip(found, wanted, strict=True):
        heads.append(None if not rows else _head(rows[0], start))
    entries = iter(
        tx.rows_each(
            "SELECT position, id, body FROM entries WHERE session = ? AND position >= ?",
            [(number, first) for number, _, first in filter(None, heads)],
        )
    )
    return [None if head is None else _stored(head, next(entries)) for head in heads]


def _head(row: Any, start: int | None) -> tuple[int, SessionHead, int]:
    number, count, leaf_id, metadata, created_at, updated_at, version, own_start, usage = row
    used = None if usage is None else Usage.from_json(json.loads(usage))
    head = SessionHead(leaf_id, json.loads(metadata), created_at, updated_at, version, own_start, used)
    return number, head, min(own_start if start is None else start, count)


def _stored(head: tuple[int, SessionHead, int], entries: list[Any]) -> StoredSession:
    return StoredSession(head[1], tuple(EntryRow(id, body) for _, id, body in sorted(entries)), head[2])


def list_keys(tx: Transaction, prefix: str) -> list[str]:
    """Return the keys with a prefix, sorted by code point."""
    # A range of the index: LIKE would treat % and _ as patterns and ignore case.
    end = _after(prefix)
    if end is None:
        rows = tx.rows("SELECT key FROM sessions WHERE key >= ? ORDER BY key", prefix)
    else:
        rows = tx.rows("SELECT key FROM sessions WHERE key >= ? AND key < ? ORDER BY key", prefix, end)
    return [row[0] for row in rows]


def _find(tx: Transaction, key: str) -> tuple[int, int] | None:
    row: tuple[int, int] | None = tx.row("SELECT number, entries FROM sessions WHERE key = ?" + tx.lock_row, key)
    return row


def _after(prefix: str) -> str | None:
    """Return the first text, by code point, after all that start with `prefix`; None when there is no such text."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    # Surrogates are no characters.
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)

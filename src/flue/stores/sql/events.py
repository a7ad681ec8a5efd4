"""The event log: rows by log and index, and by stream and offset."""

from __future__ import annotations

from collections.abc import Sequence

from flue.durable.failures import event_gap
from flue.durable.records import EventRow, StoredEvents
from flue.stores.sql.transaction import Transaction


def reserve(tx: Transaction, log: str, count: int) -> int:
    """Return the first of `count` fresh indices."""
    tx.execute(
        "INSERT INTO logs (log, reserved) VALUES (?, ?)"
        " ON CONFLICT (log) DO UPDATE SET reserved = logs.reserved + excluded.reserved",
        log,
        count,
    )
    return int(tx.row("SELECT reserved FROM logs WHERE log = ?", log)[0]) - count


def append(tx: Transaction, rows: Sequence[EventRow]) -> None:
    """Add rows at the end of their logs and streams.

    Raises `DurabilityError` for an index that was used or not reserved (DUR-13).
    """
    free: dict[str, tuple[int, int]] = {}
    places: dict[str, int] = {}
    values = []
    for row in rows:
        start, reserved = free.get(row.log) or _bounds(tx, row.log)
        if not start <= row.first <= row.last < reserved:
            raise event_gap(row.log, row.first, row.last, free=start, reserved=reserved)
        free[row.log] = row.last + 1, reserved
        if row.stream:
            places[row.stream] = places.get(row.stream, 0) + 1
    ends = {stream: _extend(tx, stream, count) for stream, count in sorted(places.items())}
    for row in rows:
        place = 0
        if row.stream:
            place = ends[row.stream] - places[row.stream] + 1
            places[row.stream] -= 1
        values.append((row.log, row.first, row.last, row.body, row.stream, place, int(row.deltas)))
    tx.insert(
        "INSERT INTO events (log, first, last, body, stream, position, deltas) VALUES (?, ?, ?, ?, ?, ?, ?)", values
    )
    for log in free:
        tx.wake("events", key=log)


def read(tx: Transaction, log: str, start: int, limit: int) -> list[StoredEvents]:
    """Return rows from the one that holds `start` on."""
    rows = tx.rows(_SELECT + "WHERE log = ? AND last >= ? ORDER BY last LIMIT ?", log, start, limit)
    return [_stored(row) for row in rows]


def read_stream(tx: Transaction, stream: str, after: int, limit: int) -> list[StoredEvents]:
    """Return rows of a stream with higher offsets."""
    rows = tx.rows(
        _SELECT + "WHERE stream = ? AND stream <> '' AND position > ? ORDER BY position LIMIT ?", stream, after, limit
    )
    return [_stored(row) for row in rows]


_SELECT = "SELECT log, first, last, body, stream, deltas, position FROM events "


def _stored(row: tuple[str, int, int, str, str, int, int]) -> StoredEvents:
    log, first, last, body, stream, deltas, position = row
    return StoredEvents(EventRow(log, first, last, body, stream, bool(deltas)), position)


def _bounds(tx: Transaction, log: str) -> tuple[int, int]:
    reserved, last = tx.row(
        "SELECT (SELECT reserved FROM logs WHERE log = ?), (SELECT MAX(last) FROM events WHERE log = ?)", log, log
    )
    return (0 if last is None else last + 1), (0 if reserved is None else reserved)


def _extend(tx: Transaction, stream: str, count: int) -> int:
    """Take `count` offsets; the lock on the row makes their order that of the commits."""
    tx.execute(
        "INSERT INTO streams (stream, position) VALUES (?, ?)"
        " ON CONFLICT (stream) DO UPDATE SET position = streams.position + excluded.position",
        stream,
        count,
    )
    return int(tx.row("SELECT position FROM streams WHERE stream = ?", stream)[0])

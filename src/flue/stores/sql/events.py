"""The event log: rows by log and index, and by stream and offset."""

from __future__ import annotations

from collections.abc import Sequence

from flue.durable.failures import event_gap
from flue.durable.records import EventRow, StoredEvents
from flue.stores.sql.transaction import Transaction


def reserve(tx: Transaction, wanted: Sequence[tuple[str, int]]) -> None:
    """Reserve so many fresh indices for each of these logs."""
    tx.insert(
        "INSERT INTO logs (log, reserved) VALUES (?, ?)"
        " ON CONFLICT (log) DO UPDATE SET reserved = logs.reserved + excluded.reserved",
        wanted,
    )


def reserved(tx: Transaction, logs: Sequence[str]) -> list[int]:
    """Return the index after those that are reserved, for each of these logs, which have some."""
    found = tx.rows_each("SELECT reserved FROM logs WHERE log = ?", [(log,) for log in logs])
    return [int(row[0]) for (row,) in found]


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


def read(tx: Transaction, wanted: Sequence[tuple[str, int, int]]) -> list[list[StoredEvents]]:
    """Return rows of logs, each from the one that holds an index on, up to a number of them."""
    found = tx.rows_each(_SELECT + "WHERE log = ? AND last >= ? ORDER BY last LIMIT ?", wanted)
    return [sorted(map(_stored, rows), key=lambda stored: stored.row.last) for rows in found]


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

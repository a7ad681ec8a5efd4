"""The event log, runs' order and schedules in memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

from flue.durable.failures import event_gap
from flue.durable.records import EventRow, Schedule, StoredEvents
from flue.stores.memory_sessions import done


@dataclass(slots=True)
class _Log:
    reserved: int = 0
    rows: list[StoredEvents] = field(default_factory=list)

    @property
    def free(self) -> int:
        return self.rows[-1].row.last + 1 if self.rows else 0


class MemoryLog:
    """Events by log and by stream, and schedules."""

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self._streams: dict[str, list[StoredEvents]] = {}
        self._offsets: dict[str, int] = {}
        self._schedules: dict[str, Schedule] = {}

    def check_events(self, rows: Sequence[EventRow]) -> None:
        """Raise `DurabilityError` for an index that was used before or not reserved."""
        free: dict[str, int] = {}
        for row in rows:
            log = self._logs.get(row.log, _Log())
            start = free.get(row.log, log.free)
            if not start <= row.first <= row.last < log.reserved:
                raise event_gap(row.log, row.first, row.last, free=start, reserved=log.reserved)
            free[row.log] = row.last + 1

    def add_events(self, rows: Sequence[EventRow]) -> None:
        """Add what was checked."""
        for row in rows:
            offset = 0
            if row.stream:
                offset = self._offsets[row.stream] = self._offsets.get(row.stream, 0) + 1
            stored = StoredEvents(row, offset)
            self._logs[row.log].rows.append(stored)
            if row.stream:
                self._streams.setdefault(row.stream, []).append(stored)

    def reserve(self, log: str, count: int) -> int:
        """Return the first of `count` fresh indices."""
        found = self._logs.setdefault(log, _Log())
        found.reserved += count
        return found.reserved - count

    def drop_events(self, log: str, *, deltas: bool) -> int:
        """Delete a log, or its delta rows alone; return how many rows went."""
        found = self._logs.get(log)
        if found is None:
            return 0
        gone = [stored for stored in found.rows if stored.row.deltas or not deltas]
        for stored in gone:
            found.rows.remove(stored)
            if stored.row.stream:
                self._streams[stored.row.stream].remove(stored)
        if not deltas:
            del self._logs[log]
        return len(gone)

    def reserve_indices(self, log: str, count: int) -> Awaitable[int]:
        """See `flue.durable.port.DurableStore`."""
        return done(lambda: self.reserve(log, count))

    async def read_events(self, log: str, *, start: int = 0, limit: int = 1000) -> list[StoredEvents]:
        """See `flue.durable.port.DurableStore`."""
        rows = self._logs[log].rows if log in self._logs else []
        at = bisect_left(rows, start, key=lambda stored: stored.row.last)
        return rows[at : at + limit]

    async def read_stream(self, stream: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvents]:
        """See `flue.durable.port.DurableStore`."""
        rows = self._streams.get(stream, [])
        at = bisect_left(rows, after + 1, key=lambda stored: stored.offset)
        return rows[at : at + limit]

    def put_schedule(self, schedule: Schedule) -> Awaitable[Schedule]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> Schedule:
            known = self._schedules.get(schedule.id)
            if known is None or known.spec != schedule.spec:
                self._schedules[schedule.id] = schedule
            return self._schedules[schedule.id]

        return done(work)

    def delete_schedules(self, schedule_ids: Sequence[str]) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> None:
            for id in schedule_ids:
                self._schedules.pop(id, None)

        return done(work)

    async def list_schedules(self, *, due: int | None = None) -> list[Schedule]:
        """See `flue.durable.port.DurableStore`."""
        if due is None:
            return [self._schedules[id] for id in sorted(self._schedules)]
        found = [(s.next_at, s.id, s) for s in self._schedules.values() if s.next_at is not None and s.next_at <= due]
        return [schedule for _, _, schedule in sorted(found, key=lambda item: item[:2])]

    def move_schedule(self, schedule: Schedule, next_at: int | None) -> None:
        """Set the next time of a schedule that is as given."""
        if self._schedules.get(schedule.id) == schedule:
            self._schedules[schedule.id] = Schedule(schedule.id, schedule.spec, next_at)

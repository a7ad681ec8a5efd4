"""The alarm of a Durable Object: set in the transaction that makes something due, so that no crash comes in between.

While work is queued, ready to go on or running, the alarm is set at most `keep_alive` from now; and never later than
what is due by itself: parked work that wakes up, a schedule. Work that waits for somebody sets none (DUR-44). What the
registry is still to be told counts as work. When all of what has ended may be deleted it rings once more (DUR-17). An
object whose alarm is not set has nothing to do until somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from flue.cloudflare.storage import untold
from flue.cloudflare.storage.database import ObjectConnection, ObjectStorage
from flue.engine.pruning import KeepFor
from flue.ports import Clock
from flue.stores.sql.transaction import Transaction

WATCHED = frozenset({"submissions", "schedules", "receipts", untold.TABLE})
"""The tables that decide about the alarm."""

# The binding takes no times of 1970's first moment and none after 2189; what is due later is looked at then.
_EARLIEST, _LATEST = 1, 6_900_000_000_000
# What is to be deleted ended before a time, not at it; and when it is still there then, somebody looks again later.
_MOMENT, _HOUR = 1000, 3_600_000

# Each part is the first or the last row of an index.
DUE = (
    "SELECT EXISTS (SELECT 1 FROM submissions WHERE state = 'running')"
    " OR EXISTS (SELECT 1 FROM submissions WHERE state = 'ready')"
    f" OR EXISTS (SELECT 1 FROM {untold.TABLE}),"
    " (SELECT MIN(wake_at) FROM submissions WHERE state = 'parked' AND wake_at IS NOT NULL),"
    " (SELECT MIN(next_at) FROM schedules WHERE next_at IS NOT NULL),"
    " (SELECT MAX(settled_at) FROM submissions WHERE state = 'settled' AND recorded = ''),"
    " (SELECT MAX(settled_at) FROM submissions WHERE state = 'settled' AND recorded <> ''),"
    " (SELECT MAX(settled_at) FROM submissions WHERE state = 'settled' AND compacted = 0),"
    " (SELECT MAX(settled_at) FROM receipts WHERE settled_at IS NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class Due:
    """What there is to do.

    `active`: work is under way or could be. `at` is when next something is due by itself, `tidy` when everything that
    has ended by now may be deleted.
    """

    active: bool
    at: int | None
    tidy: int | None

    @classmethod
    def read(cls, tx: Transaction, keep: KeepFor) -> Due:
        """Look into the tables."""
        active, wake_at, fire_at, *ended = tx.row(DUE)
        kept = zip(ended, (keep.prompts, keep.runs, keep.deltas, keep.keys), strict=True)
        tidy = [at + round(seconds * 1000) + _MOMENT for at, seconds in kept if at is not None and seconds is not None]
        return cls(bool(active), _first((wake_at, fire_at)), max(tidy, default=None))


class ObjectAlarm:
    """Keeps the alarm where it must be. Times are milliseconds since the epoch, `keep_alive` is milliseconds."""

    def __init__(
        self,
        storage: ObjectStorage,
        connection: ObjectConnection,
        clock: Clock,
        *,
        keep_alive: int,
        keep: KeepFor,
    ) -> None:
        self._storage = storage
        self._connection = connection
        self._clock = clock
        self._keep_alive = keep_alive
        self._keep = keep
        # What an isolate finds is not known: asking takes an await.
        self._armed: int | Literal["unknown"] | None = "unknown"

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Be around a transaction: one that is rolled back takes the alarm with it."""
        before = self._armed
        try:
            yield
        except BaseException:
            self._armed = before
            raise

    def keep(self, tx: Transaction) -> None:
        """Set the alarm for what the transaction leaves, if it has changed anything that matters."""
        if self._connection.changed & WATCHED:
            self._arm(Due.read(tx, self._keep), self._clock.now_ms())

    def rearm(self, tx: Transaction) -> int | None:
        """Set the alarm anew, as its handler has begun and looks at what is overdue; return its time."""
        due, now = Due.read(tx, self._keep), self._clock.now_ms()
        if due.at is not None and due.at <= now:
            due = Due(active=True, at=None, tidy=due.tidy)
        self._armed = "unknown"
        return self._arm(due, now)

    def ring_at(self, time: int) -> None:
        """Set the alarm to a time, whatever is due."""
        self._storage.setAlarm(min(max(time, _EARLIEST), _LATEST))
        self._armed = "unknown"

    def _arm(self, due: Due, now: int) -> int | None:
        latest = now + self._keep_alive if due.active else None
        tidy = now + _HOUR if due.tidy is not None and due.tidy <= now else due.tidy
        wanted = _first((latest, due.at, tidy))
        if wanted is None:
            if self._armed is not None:
                self._storage.deleteAlarm()
            self._armed = None
        elif not self._serves(wanted, due, now):
            self._storage.setAlarm(min(max(wanted, _EARLIEST), _LATEST))
            self._armed = wanted
        return wanted

    def _serves(self, wanted: int, due: Due, now: int) -> bool:
        """Say whether the alarm may stay: one that is earlier than needed saves a write while work goes on.

        One whose time has passed rings now, or did and was given up after its handler had failed several times.
        """
        if not isinstance(self._armed, int) or self._armed <= now:
            return False
        return self._armed <= wanted if due.active else self._armed == wanted


def _first(times: Iterable[int | None]) -> int | None:
    return min((time for time in times if time is not None), default=None)

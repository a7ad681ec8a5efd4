"""The alarm of a Durable Object: set in the transaction that makes something due, so that no crash comes in between.

While work is queued, ready to go on or running, the alarm is set at most `keep_alive` from now; and never later than
what is due by itself: parked work that wakes up, a schedule. Work that waits for somebody sets none (DUR-44). An object
whose alarm is not set has nothing to do until somebody asks. What the registry is still to be told counts as work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from flue.cloudflare import untold
from flue.cloudflare.storage import ObjectConnection, ObjectStorage
from flue.ports import Clock
from flue.stores.sql.transaction import Transaction

WATCHED = frozenset({"submissions", "schedules", untold.TABLE})
"""The tables that decide about the alarm."""

# The binding takes no times of 1970's first moment and none after 2189; what is due later is looked at then.
_EARLIEST, _LATEST = 1, 6_900_000_000_000

# Each part is the first row of an index.
DUE = (
    "SELECT EXISTS (SELECT 1 FROM submissions WHERE state = 'running')"
    " OR EXISTS (SELECT 1 FROM submissions WHERE state = 'ready')"
    f" OR EXISTS (SELECT 1 FROM {untold.TABLE}),"
    " (SELECT MIN(wake_at) FROM submissions WHERE state = 'parked' AND wake_at IS NOT NULL),"
    " (SELECT MIN(next_at) FROM schedules WHERE next_at IS NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class Due:
    """What there is to do: whether work is under way or could be, and when next something is due by itself."""

    active: bool
    at: int | None

    @classmethod
    def read(cls, tx: Transaction) -> Due:
        """Look into the tables."""
        active, *times = tx.row(DUE)
        return cls(bool(active), min((time for time in times if time is not None), default=None))


class ObjectAlarm:
    """Keeps the alarm where it must be. Times are milliseconds since the epoch, `keep_alive` is milliseconds."""

    def __init__(self, storage: ObjectStorage, connection: ObjectConnection, clock: Clock, keep_alive: int) -> None:
        self._storage = storage
        self._connection = connection
        self._clock = clock
        self._keep_alive = keep_alive
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
            self._arm(Due.read(tx), self._clock.now_ms())

    def rearm(self, tx: Transaction) -> int | None:
        """Set the alarm anew, as its handler has begun and looks at what is overdue; return its time."""
        due, now = Due.read(tx), self._clock.now_ms()
        if due.at is not None and due.at <= now:
            due = Due(active=True, at=None)
        self._armed = "unknown"
        return self._arm(due, now)

    def _arm(self, due: Due, now: int) -> int | None:
        latest = now + self._keep_alive if due.active else None
        wanted = min((time for time in (latest, due.at) if time is not None), default=None)
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

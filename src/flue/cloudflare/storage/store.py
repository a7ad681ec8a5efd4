"""Sessions and durable work in a Durable Object's own SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import TypeVar

from flue.cloudflare.storage import long_texts, untold
from flue.cloudflare.storage.alarm import ObjectAlarm
from flue.cloudflare.storage.database import ObjectConnection, ObjectStorage, explain
from flue.cloudflare.storage.statements import PREFIX, parse
from flue.durable.records import Claim, Renewal, Run
from flue.engine.pruning import KeepFor
from flue.ports import Clock
from flue.stores.failures import newer_format, store_closed
from flue.stores.sql import claims
from flue.stores.sql.schema import SQLITE_MIGRATIONS, Migration
from flue.stores.sql.store import SqlStore
from flue.stores.sql.transaction import Dialect, Query, Transaction, Transition

T = TypeVar("T")
K = TypeVar("K")

# One engine at a time: nothing to lock, and no other process whose work is to be left alone.
OBJECT = Dialect(row_locks=False, homes=False, unites=1)

MIGRATIONS: tuple[Migration, ...] = (
    (*(parse(sql).sql for sql in chain(*SQLITE_MIGRATIONS[:3])), *long_texts.TABLES, *untold.TABLES),
    untold.KEEPS_DELETED,
)
"""What turns format n into format n+1; a new object starts at format 0. Only ever add to the end."""

_FORMAT = f"CREATE TABLE IF NOT EXISTS {PREFIX}format (version INTEGER NOT NULL); SELECT version FROM {PREFIX}format"


class DurableObjectStore(SqlStore):
    """A `DurableStore` in the database of one Durable Object: `storage` is its `ctx.storage`.

    A transition is one `transactionSync`, done when the method returns: awaiting it does not wait. It is durable before
    anybody can learn of it: the runtime holds back every response, message and request until what was written is safe
    (https://developers.cloudflare.com/durable-objects/reference/in-memory-state/ and "output gates"), and starts the
    object anew when it cannot be.

    The runtime runs one isolate of an object at a time. So owners that this store did not enlist are gone (DUR-45).

    The object's alarm belongs to the store. While work is queued or runs it is set at most `keep_alive` seconds from
    now; it is never later than the next wake-up of parked work or schedule; when nothing is due it is set to when all
    that has ended may be deleted (`keep`, which must be the engine's), and deleted when there is nothing to delete. It
    changes in the transaction that is the reason for it (DUR-43). The handler of the alarm begins with `rearm()`.
    """

    def __init__(
        self, storage: ObjectStorage, clock: Clock, *, keep_alive: float = 20.0, keep: KeepFor | None = None
    ) -> None:
        super().__init__()
        self._connection = ObjectConnection(storage)
        self._alarm = ObjectAlarm(
            storage, self._connection, clock, keep_alive=round(keep_alive * 1000), keep=keep or KeepFor()
        )
        self._enlisted: set[str] = set()
        self._opened = False
        self._closed = False

    def rearm(self) -> Awaitable[int | None]:
        """Set the alarm for what there is to do; return its time in milliseconds since the epoch, None for none.

        For the beginning of the alarm's handler: when that ends, the alarm that called it is gone. What is overdue is
        taken to be looked at now, and gets an alarm after `keep_alive`.
        """
        return self._submit(self._alarm.rearm)

    def ring_at(self, time_ms: int) -> None:
        """Set the alarm to a time, whatever is due: for a handler that has failed, also at using this store."""
        self._alarm.ring_at(time_ms)

    async def untold(self) -> dict[str, Run | None]:
        """Return some of the runs that have changed without the registry's knowing, as they stand; None: deleted."""
        return await self._read(untold.untold)

    def told(self, runs: Mapping[str, Run | None]) -> Awaitable[None]:
        """Take note that the registry knows how these runs stand."""
        return self._submit(lambda tx: untold.told(tx, runs))

    def enlist(self, owner: str, *, now: int, lease_until: int) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`."""
        self._enlisted.add(owner)
        return super().enlist(owner, now=now, lease_until=lease_until)

    def renew(self, owner: str, claims: Sequence[Claim], *, now: int, lease_until: int) -> Awaitable[Renewal]:
        """See `flue.durable.port.DurableStore`."""
        self._enlisted.add(owner)
        return super().renew(owner, claims, now=now, lease_until=lease_until)

    async def aclose(self) -> None:
        """Refuse everything from now on; what was called before is written."""
        self._closed = True

    def _gone(self, tx: Transaction, owner: str) -> Collection[str]:
        return set(claims.list_owners(tx)) - self._enlisted

    def _submit(self, transition: Transition[T], *, lane: str = "", touches: Collection[str] = ()) -> asyncio.Future[T]:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        tx = Transaction(self._connection, OBJECT)

        def work() -> T:
            result = transition(tx)
            self._alarm.keep(tx)
            return result

        try:
            with self._alarm.transaction():
                done.set_result(self._run(lambda: self._connection.transact(work)))
        except Exception as error:  # noqa: BLE001  (the awaiter gets it, explained)
            done.set_exception(error)
        else:
            self._listeners.tell(tx.wakes)
        return done

    async def _read_each(self, query: Query[K, T], item: K, key: str | None = None) -> T:
        return self._run(lambda: query(Transaction(self._connection, OBJECT), [item])[0])

    def _run(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise store_closed("The object's store")
        try:
            if not self._opened:
                self._connection.transact(self._open)
                self._opened = True
            return work()
        except Exception as error:  # noqa: BLE001  (it is raised again, explained)
            explained = explain(error)
            raise explained from explained.__cause__

    def _open(self) -> None:
        """Make the tables, or bring them to this version's format."""
        rows = self._connection.fetch(_FORMAT)
        found = rows[0][0] if rows else 0
        if found > len(MIGRATIONS):
            raise newer_format("The object's database", found, len(MIGRATIONS))
        if found < len(MIGRATIONS):
            self._connection.fetch(";\n".join(chain(*MIGRATIONS[found:])))
            self._connection.fetch(f"DELETE FROM {PREFIX}format")
            self._connection.fetch(f"INSERT INTO {PREFIX}format VALUES (?)", (len(MIGRATIONS),))

"""A `DurableStore` over any database that runs the transitions of this package."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

from flue.durable.records import (
    NOTHING,
    Admission,
    Admitted,
    Claim,
    Claimant,
    EventRow,
    JournalRecord,
    Message,
    Outcome,
    Receipt,
    Renewal,
    Retention,
    Run,
    RunQuery,
    Schedule,
    SessionAppend,
    StepResult,
    StoredEvents,
    Submission,
    Wait,
    Writes,
)
from flue.ports import EntryRow, SessionHead, StoredSession
from flue.stores.listeners import Listener, Listeners
from flue.stores.sql import claims as claiming
from flue.stores.sql import events, history, progress, rows, sessions
from flue.stores.sql.admission import admit
from flue.stores.sql.progress import Encoded
from flue.stores.sql.sessions import Append
from flue.stores.sql.transaction import Query, Transaction, Transition

T = TypeVar("T")
K = TypeVar("K")

# For reads that need not wait for what is queued: no work touches this.
_NOTHING_QUEUED = "\x00"


class SqlStore(ABC):
    """The methods of the port; a subclass says how a transition is run. What they do: `flue.durable.port`."""

    can_list = True

    def __init__(self) -> None:
        self._listeners = Listeners()

    @abstractmethod
    def _submit(self, transition: Transition[T], *, lane: str = "", touches: Collection[str] = ()) -> asyncio.Future[T]:
        """Queue a transition; the future is done when it is durable. Those of one `lane` run in the order given."""

    @abstractmethod
    async def _read_each(self, query: Query[K, T], item: K, key: str | None = None) -> T:
        """Ask for one item, after everything queued that touches `key` (None: anything) is durable.

        Who else asks the same at the same time may be answered with it.
        """

    async def _read(self, query: Transition[T], key: str | None = None) -> T:
        """Run queries after everything queued that touches `key` (None: anything) is durable."""
        return await self._read_each(lambda tx, _: [query(tx)], None, key)

    # ---------------------------------------------------------------------------------------------- sessions

    async def load_session(self, key: str, *, start: int | None = None) -> StoredSession | None:
        """Return the session with what was queued for it in this process, or None; see `flue.ports.Store`."""
        return await self._read_each(sessions.load, (key, start), key)

    def append_entries(
        self, key: str, head: SessionHead, entries: Sequence[EntryRow], *, expected: int, after: str | None = None
    ) -> Awaitable[None]:
        """Queue entries and the new head; awaiting waits until they are durable. See `flue.ports.Store`.

        Must be called with an event loop running. A cancelled await does not take the write back.
        """
        append = Append.of(SessionAppend(key, head, tuple(entries), expected, after))
        return self._submit(lambda tx: sessions.append(tx, append), lane=key, touches=(key,))

    async def delete_sessions(self, keys: Sequence[str]) -> None:
        """Delete sessions and their entries, durably; missing ones are fine."""
        deletions = [self._submit(partial(sessions.delete, key=key), lane=key, touches=(key,)) for key in keys]
        await asyncio.gather(*deletions)

    async def list_sessions(self, prefix: str = "") -> list[str]:
        """Return the keys that start with `prefix`, sorted by code point."""
        return await self._read(lambda tx: sessions.list_keys(tx, prefix))

    # ------------------------------------------------------------------------------------------------ owners

    def enlist(self, owner: str, *, now: int, lease_until: int) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`."""
        return self._submit(lambda tx: rows.lease(tx, owner, lease_until))

    def renew(self, owner: str, claims: Sequence[Claim], *, now: int, lease_until: int) -> Awaitable[Renewal]:
        """See `flue.durable.port.DurableStore`."""
        pairs = [(claim.id, claim.attempt_id) for claim in claims]
        return self._submit(lambda tx: claiming.renew(tx, owner, pairs, lease_until))

    def retire(self, owner: str, *, now: int) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`."""
        return self._submit(lambda tx: claiming.retire(tx, owner, now))

    def take_over(self, owner: str, *, now: int, limit: int = 1000) -> Awaitable[int]:
        """See `flue.durable.port.DurableStore`."""
        return self._submit(lambda tx: claiming.take_over(tx, owner, self._gone(tx, owner), now, limit))

    def listen(self, listener: Listener, *, events: bool = True) -> Callable[[], None]:
        """See `flue.durable.port.DurableStore`."""
        return self._listeners.add(listener, events=events)

    def _gone(self, tx: Transaction, owner: str) -> Collection[str]:
        """Return owners whose process is known to be gone, whatever their lease."""
        return ()

    # --------------------------------------------------------------------------------------------- lifecycle

    def admit(self, admission: Admission, *, now: int, claimant: Claimant | None = None) -> Awaitable[Admitted]:
        """See `flue.durable.port.DurableStore`."""
        return self._submit(
            lambda tx: admit(tx, admission, now, claimant=claimant), lane=admission.lane, touches=(admission.id,)
        )

    def claim(
        self, claimants: Sequence[Claimant], *, now: int, lanes: Collection[str] | None = None
    ) -> Awaitable[list[Claim]]:
        """See `flue.durable.port.DurableStore`."""
        wanted = None if lanes is None else frozenset(lanes)
        if not claimants:
            return asyncio.sleep(0, [])
        return self._submit(lambda tx: claiming.claim(tx, claimants, now, wanted))

    def checkpoint(self, claim: Claim, writes: Writes) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`."""
        encoded = Encoded.of(writes)
        return self._progress(claim, encoded, lambda tx: progress.checkpoint(tx, claim, encoded))

    def park(self, claim: Claim, wait: Wait, *, now: int, writes: Writes = NOTHING) -> Awaitable[bool]:
        """See `flue.durable.port.DurableStore`."""
        encoded = Encoded.of(writes)
        return self._progress(claim, encoded, lambda tx: progress.park(tx, claim, wait, now, encoded))

    def release(
        self,
        claim: Claim,
        *,
        now: int,
        not_before: int | None = None,
        interrupted: bool = False,
        writes: Writes = NOTHING,
    ) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`."""
        encoded = Encoded.of(writes)
        return self._progress(
            claim,
            encoded,
            lambda tx: progress.release(tx, claim, encoded, now=now, not_before=not_before, interrupted=interrupted),
        )

    def settle(self, claim: Claim, outcome: Outcome, *, now: int, writes: Writes = NOTHING) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`."""
        encoded = Encoded.of(writes)
        return self._progress(claim, encoded, lambda tx: progress.settle(tx, claim, outcome, now, encoded))

    def restart(
        self, claim: Claim, admission: Admission, *, error: str, now: int, writes: Writes = NOTHING
    ) -> Awaitable[Admitted]:
        """See `flue.durable.port.DurableStore`."""
        encoded = Encoded.of(writes)
        return self._progress(
            claim, encoded, lambda tx: progress.restart(tx, claim, admission, encoded, error=error, now=now)
        )

    def cancel(
        self, submission_id: str, reason: str, *, now: int, events: Sequence[EventRow] = ()
    ) -> Awaitable[Submission | None]:
        """See `flue.durable.port.DurableStore`."""
        return self._submit(
            lambda tx: progress.cancel(tx, submission_id, reason, now, events), touches=(submission_id,)
        )

    def deliver(self, address: str, message: Message, *, now: int) -> Awaitable[bool]:
        """See `flue.durable.port.DurableStore`."""
        return self._submit(lambda tx: progress.deliver(tx, address, message), touches=(address,))

    def wake_due(self, *, now: int, limit: int = 1000) -> Awaitable[int]:
        """See `flue.durable.port.DurableStore`."""
        return self._submit(lambda tx: claiming.wake_due(tx, now, limit))

    async def next_due(self, owner: str) -> int | None:
        """See `flue.durable.port.DurableStore`."""
        return await self._read(lambda tx: claiming.next_due(tx, owner))

    def _progress(self, claim: Claim, encoded: Encoded, transition: Transition[T]) -> asyncio.Future[T]:
        touches = (claim.id, claim.submission.address, *encoded.keys)
        return self._submit(transition, lane=claim.submission.lane, touches=touches)

    # ------------------------------------------------------------------------------------------------- reads

    async def get_submission(self, submission_id: str) -> Submission | None:
        """See `flue.durable.port.DurableStore`."""
        return await self._read(lambda tx: rows.find(tx, submission_id))

    async def get_receipt(self, key: str) -> Receipt | None:
        """See `flue.durable.port.DurableStore`."""
        return await self._read(lambda tx: history.get_receipt(tx, key))

    async def list_lane(self, lane: str) -> list[Submission]:
        """See `flue.durable.port.DurableStore`."""
        return await self._read(lambda tx: history.list_lane(tx, lane))

    async def load_journal(self, submission_id: str) -> list[JournalRecord]:
        """See `flue.durable.port.DurableStore`."""
        return await self._read_each(history.load_journals, submission_id, submission_id)

    async def load_steps(self, address: str) -> list[StepResult]:
        """See `flue.durable.port.DurableStore`."""
        return await self._read(lambda tx: history.load_steps(tx, address), address)

    async def load_messages(self, address: str) -> list[Message]:
        """See `flue.durable.port.DurableStore`."""
        return await self._read_each(history.load_messages, address, address)

    # ------------------------------------------------------------------------------------------------ events

    def reserve_indices(self, log: str, count: int) -> Awaitable[int]:
        """See `flue.durable.port.DurableStore`."""

        def reserve(tx: Transaction) -> int:
            events.reserve(tx, [(log, count)])
            return events.reserved(tx, [log])[0] - count

        return self._submit(reserve)

    async def read_events(self, log: str, *, start: int = 0, limit: int = 1000) -> list[StoredEvents]:
        """See `flue.durable.port.DurableStore`."""
        return await self._read_each(events.read, (log, start, limit), _NOTHING_QUEUED)

    async def read_stream(self, stream: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvents]:
        """See `flue.durable.port.DurableStore`."""
        return await self._read(lambda tx: events.read_stream(tx, stream, after, limit), _NOTHING_QUEUED)

    # --------------------------------------------------------------------------------------- runs, schedules

    async def get_run(self, run_id: str) -> Run | None:
        """See `flue.durable.port.DurableStore`."""
        return await self._read(lambda tx: history.get_run(tx, run_id))

    async def list_runs(self, query: RunQuery) -> list[Run]:
        """See `flue.durable.port.DurableStore`."""
        return await self._read(lambda tx: history.list_runs(tx, query))

    def put_schedule(self, schedule: Schedule) -> Awaitable[Schedule]:
        """See `flue.durable.port.DurableStore`."""
        return self._submit(lambda tx: history.put_schedule(tx, schedule))

    def delete_schedules(self, schedule_ids: Sequence[str]) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`."""
        ids = [(id,) for id in schedule_ids]
        return self._submit(lambda tx: tx.insert("DELETE FROM schedules WHERE id = ?", ids))

    async def list_schedules(self, *, due: int | None = None) -> list[Schedule]:
        """See `flue.durable.port.DurableStore`."""
        return await self._read(lambda tx: history.list_schedules(tx, due))

    def fire(
        self, schedule: Schedule, next_at: int | None, admission: Admission | None, *, now: int
    ) -> Awaitable[Admitted | None]:
        """See `flue.durable.port.DurableStore`."""
        lane = "" if admission is None else admission.lane
        return self._submit(lambda tx: history.fire(tx, schedule, next_at, admission, now), lane=lane)

    # --------------------------------------------------------------------------------------------- retention

    def prune(self, retention: Retention, *, limit: int = 500) -> Awaitable[int]:
        """See `flue.durable.port.DurableStore`."""
        return self._submit(lambda tx: history.prune(tx, retention, limit))

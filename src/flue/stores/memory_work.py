"""The transitions of durable work in memory: each is checked as a whole, then made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

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
    StepResult,
    Submission,
    Wait,
    Wake,
    Writes,
)
from flue.stores.listeners import Listener
from flue.stores.memory_rows import MemoryRows
from flue.stores.memory_sessions import done


class MemoryWork(MemoryRows):
    """The transitions of `flue.durable.port.DurableStore`; sessions are the subclass's."""

    # ------------------------------------------------------------------------------------------------ owners

    def enlist(self, owner: str, *, now: int, lease_until: int) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`."""
        return done(lambda: self._lease(owner, lease_until))

    def renew(self, owner: str, claims: Sequence[Claim], *, now: int, lease_until: int) -> Awaitable[Renewal]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> Renewal:
            self._lease(owner, lease_until)
            held = [(claim, self._holds(claim)) for claim in claims]
            asked = [(claim.id, row.cancel_reason) for claim, row in held if row and row.cancel_reason is not None]
            return Renewal(tuple(claim.id for claim, row in held if row is None), tuple(asked))

        return done(work)

    def retire(self, owner: str, *, now: int) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> None:
            self._owners.pop(owner, None)
            self._free(owner, now, interrupted=False, limit=len(self._all))

        return done(work)

    def take_over(self, owner: str, *, now: int, limit: int = 1000) -> Awaitable[int]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> int:
            freed = 0
            for other, lease_until in list(self._owners.items()):
                if other != owner and lease_until <= now:
                    taken = self._free(other, lease_until, interrupted=True, limit=limit - freed)
                    freed += taken
                    if freed < limit:
                        del self._owners[other]
            return freed

        return done(work)

    def listen(self, listener: Listener, *, events: bool = True) -> Callable[[], None]:
        """See `flue.durable.port.DurableStore`."""
        return self._listeners.add(listener, events=events)

    # --------------------------------------------------------------------------------------------- lifecycle

    def admit(self, admission: Admission, *, now: int, claimant: Claimant | None = None) -> Awaitable[Admitted]:
        """See `flue.durable.port.DurableStore`."""
        return done(lambda: self._admit(admission, now, claimant, None))

    def claim(
        self, claimants: Sequence[Claimant], *, now: int, lanes: Collection[str] | None = None
    ) -> Awaitable[list[Claim]]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> list[Claim]:
            if not claimants:
                return []
            owner = claimants[0].owner
            ready = sorted(
                (row.sequence, row.id)
                for row in map(self._first, self._lanes if lanes is None else self._lanes.keys() & set(lanes))
                if row.state == "queued" and self._homes.get(row.id, owner) == owner
            )
            if ready:
                self._keep_lease(claimants[0], now)
            return [self._take(id, claimant, now) for (_, id), claimant in zip(ready, claimants, strict=False)]

        return done(work)

    def checkpoint(self, claim: Claim, writes: Writes) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> None:
            self._held(claim)
            self._write(claim, writes)

        return done(work)

    def park(self, claim: Claim, wait: Wait, *, now: int, writes: Writes = NOTHING) -> Awaitable[bool]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> bool:
            row = self._held(claim)
            self._write(claim, writes)
            arrived = {message.name for message in self._unconsumed(row.address)}
            if row.cancel_reason is not None or arrived & set(wait.names):
                return False
            self._give_up(
                row, now, state="parked", park_reason=wait.reason, wake_at=wait.wake_at, waiting_for=wait.names
            )
            self._listeners.tell([Wake("events", key=row.id)])
            return True

        return done(work)

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

        def work() -> None:
            row = self._held(claim)
            self._write(claim, writes)
            row = replace(row, interruptions=row.interruptions + interrupted)
            if not_before is None or row.cancel_reason is not None:
                self._give_up(row, now, state="queued")
                self._tell_work(row.id)
            else:
                self._give_up(row, now, state="parked", park_reason="retry", wake_at=not_before)

        return done(work)

    def settle(self, claim: Claim, outcome: Outcome, *, now: int, writes: Writes = NOTHING) -> Awaitable[None]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> None:
            row = self._held(claim)
            self._write(claim, writes)
            self._end(row, outcome, now)

        return done(work)

    def restart(
        self, claim: Claim, admission: Admission, *, error: str, now: int, writes: Writes = NOTHING
    ) -> Awaitable[Admitted]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> Admitted:
            row = self._held(claim)
            self._check_writes(claim, writes)
            admitted = self._admit(replace(admission, address=row.address), now, None, row.id)
            self._write(claim, writes)
            self._end(row, Outcome("failed", error=error), now)
            return admitted

        return done(work)

    def cancel(
        self, submission_id: str, reason: str, *, now: int, events: Sequence[EventRow] = ()
    ) -> Awaitable[Submission | None]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> Submission | None:
            row = self._all.get(submission_id)
            if row is None or row.state == "settled" or row.cancel_reason is not None:
                return row
            if row.started_at is None:
                self.check_events(events)
            row = self._all[row.id] = replace(row, cancel_reason=reason)
            if row.state == "running":
                self._listeners.tell([Wake("cancel", row.owner or "")])
            elif row.started_at is None:
                self.add_events(events)
                self._end(row, Outcome.aborted(reason), now)
            elif row.state == "parked":
                self._wake(row)
            return self._all[row.id]

        return done(work)

    def deliver(self, address: str, message: Message, *, now: int) -> Awaitable[bool]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> bool:
            rows = [row for id in self._addresses.get(address, ()) if (row := self._all[id]).state != "settled"]
            if not rows:
                return False
            self._messages.setdefault(address, {}).setdefault(message.id, message)
            if (address, message.id) not in self._consumed:
                for row in rows:
                    if message.name in row.waiting_for:
                        self._wake(row)
            return True

        return done(work)

    def wake_due(self, *, now: int, limit: int = 1000) -> Awaitable[int]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> int:
            parked = (row for row in map(self._first, self._lanes) if row.state == "parked")
            due = sorted((row.wake_at, row.sequence, row) for row in parked if row.wake_at is not None)
            woken = [row for wake_at, _, row in due if wake_at <= now][:limit]
            for row in woken:
                self._wake(row)
            return len(woken)

        return done(work)

    async def next_due(self, owner: str) -> int | None:
        """See `flue.durable.port.DurableStore`."""
        times = [lease_until for other, lease_until in self._owners.items() if other != owner]
        times += [s.next_at for s in self._schedules.values() if s.next_at is not None]
        firsts = map(self._first, self._lanes)
        times += [row.wake_at for row in firsts if row.state == "parked" and row.wake_at is not None]
        return min(times, default=None)

    # ------------------------------------------------------------------------------------------------- reads

    async def get_submission(self, submission_id: str) -> Submission | None:
        """See `flue.durable.port.DurableStore`."""
        return self._all.get(submission_id)

    async def get_receipt(self, key: str) -> Receipt | None:
        """See `flue.durable.port.DurableStore`."""
        return self._receipts.get(key)

    async def list_lane(self, lane: str) -> list[Submission]:
        """See `flue.durable.port.DurableStore`."""
        return [self._all[id] for id in self._lanes.get(lane, [])]

    async def load_journal(self, submission_id: str) -> list[JournalRecord]:
        """See `flue.durable.port.DurableStore`."""
        return list(self._journals.get(submission_id, []))

    async def load_steps(self, address: str) -> list[StepResult]:
        """See `flue.durable.port.DurableStore`."""
        return list(self._steps.get(address, {}).values())

    async def load_messages(self, address: str) -> list[Message]:
        """See `flue.durable.port.DurableStore`."""
        return self._unconsumed(address)

    # --------------------------------------------------------------------------------------- runs, schedules

    async def get_run(self, run_id: str) -> Run | None:
        """See `flue.durable.port.DurableStore`."""
        if run_id not in self._links:
            return None
        row = self._all[run_id]
        return replace(self._run(run_id), payload=row.payload, result=row.result, error=row.error)

    async def list_runs(self, query: RunQuery) -> list[Run]:
        """See `flue.durable.port.DurableStore`."""
        found: list[Run] = []
        for place in reversed(self._run_order):
            if len(found) == query.limit:
                break
            run = self._run(place[1])
            if (
                (query.before is None or place < query.before)
                and query.status in (None, run.status)
                and query.target in (None, run.target)
            ):
                found.append(run)
        return found

    def fire(
        self, schedule: Schedule, next_at: int | None, admission: Admission | None, *, now: int
    ) -> Awaitable[Admitted | None]:
        """See `flue.durable.port.DurableStore`."""

        def work() -> Admitted | None:
            if admission is None or self._schedules.get(schedule.id) != schedule:
                self.move_schedule(schedule, next_at)
                return None
            admitted = self._admit(admission, now, None, None)
            self.move_schedule(schedule, next_at)
            return admitted

        return done(work)

    def prune(self, retention: Retention, *, limit: int = 500) -> Awaitable[int]:
        """See `flue.durable.port.DurableStore`."""
        return done(lambda: self._prune(retention, limit))

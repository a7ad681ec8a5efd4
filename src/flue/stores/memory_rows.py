"""Durable work in memory: what is kept, and the changes that transitions are made of."""

from __future__ import annotations

from bisect import insort
from dataclasses import replace

from flue.durable.failures import attempt_lost, idempotency_conflict, session_busy
from flue.durable.records import (
    Admission,
    Admitted,
    Claim,
    Claimant,
    JournalRecord,
    Message,
    Outcome,
    Receipt,
    Retention,
    Run,
    RunStatus,
    StepResult,
    Submission,
    Wake,
    Writes,
    lease_is_short,
)
from flue.stores.listeners import Listeners
from flue.stores.memory_log import MemoryLog
from flue.stores.memory_sessions import MemorySessions


class MemoryRows(MemoryLog):
    """What a durable store keeps, by id, and the changes that transitions are made of."""

    def __init__(self, sessions: MemorySessions) -> None:
        super().__init__()
        self._kept = sessions
        self._listeners = Listeners()
        self._sequence = 0
        self._owners: dict[str, int] = {}
        self._all: dict[str, Submission] = {}
        self._admissions: dict[str, Admission] = {}
        self._lanes: dict[str, list[str]] = {}
        self._homes: dict[str, str] = {}
        self._receipts: dict[str, Receipt] = {}
        self._journals: dict[str, list[JournalRecord]] = {}
        self._steps: dict[str, dict[str, StepResult]] = {}
        self._messages: dict[str, dict[str, Message]] = {}
        self._consumed: set[tuple[str, str]] = set()
        self._addresses: dict[str, set[str]] = {}
        self._run_order: list[tuple[int, str]] = []
        self._links: dict[str, Run] = {}

    def _first(self, lane: str) -> Submission:
        return self._all[self._lanes[lane][0]]

    def _lease(self, owner: str, lease_until: int) -> None:
        new = owner not in self._owners
        self._owners[owner] = lease_until
        if new:
            self._listeners.tell([Wake("work")])  # others look when its lease is over

    def _keep_lease(self, claimant: Claimant, now: int) -> None:
        held = self._owners.get(claimant.owner)
        if held is None or lease_is_short(held, claimant, now):
            self._lease(claimant.owner, claimant.lease_until)

    def _holds(self, claim: Claim) -> Submission | None:
        row = self._all.get(claim.id)
        return row if row and row.state == "running" and row.attempt_id == claim.attempt_id else None

    def _held(self, claim: Claim) -> Submission:
        row = self._holds(claim)
        if row is None:
            raise attempt_lost(claim.id, claim.attempt_id)
        return row

    def _unconsumed(self, address: str) -> list[Message]:
        kept = self._messages.get(address, {})
        return [message for id, message in kept.items() if (address, id) not in self._consumed]

    def _tell_work(self, id: str) -> None:
        self._listeners.tell([Wake("work", self._homes.get(id, ""))])

    def _admit(self, admission: Admission, now: int, claimant: Claimant | None, restarted_from: str | None) -> Admitted:
        known = self._known(admission)
        if known is not None:
            return known
        if admission.alone and self._lanes.get(admission.lane):
            raise session_busy()
        self._sequence += 1
        row = Submission(
            sequence=self._sequence,
            id=admission.id,
            lane=admission.lane,
            kind=admission.kind,
            target=admission.target,
            instance=admission.instance,
            address=admission.mailbox,
            state="queued",
            payload=admission.payload,
            accepted_at=now,
            max_attempts=admission.max_attempts,
            time_left_ms=admission.timeout_ms,
            key=admission.key,
        )
        lane = self._lanes.setdefault(row.lane, [])
        lane.append(row.id)
        self._all[row.id] = row
        self._admissions[row.id] = admission
        self._addresses.setdefault(row.address, set()).add(row.id)
        if admission.home is not None:
            self._homes[row.id] = admission.home
        if admission.key is not None:
            self._receipts[admission.key] = Receipt(admission.key, row.id, admission.digest, now)
        self._record_run(admission, row, restarted_from)
        if admission.events or admission.reserve:
            self.reserve(row.id, max((event.last + 1 for event in admission.events), default=0) + admission.reserve)
            self.add_events(admission.events)
        claim = None
        if claimant is not None:
            self._keep_lease(claimant, now)
        if len(lane) == 1 and claimant is not None:
            claim = self._take(row.id, claimant, now)
        elif len(lane) == 1:
            self._tell_work(row.id)
        return Admitted(row.id, now, created=True, ahead=len(lane) - 1, claim=claim)

    def _known(self, admission: Admission) -> Admitted | None:
        receipt = self._receipts.get(admission.key) if admission.key is not None else None
        if receipt is not None:
            if receipt.digest != admission.digest:
                raise idempotency_conflict(f"Idempotency key {admission.key}")
            return Admitted(receipt.submission_id, receipt.accepted_at, created=False)
        row = self._all.get(admission.id)
        if row is None:
            return None
        if self._admissions[row.id].digest != admission.digest or row.key != admission.key:
            raise idempotency_conflict(f"Submission id {admission.id}")
        return Admitted(row.id, row.accepted_at, created=False)

    def _record_run(self, admission: Admission, row: Submission, restarted_from: str | None) -> None:
        if admission.recorded is None:
            return
        generation = 0
        old = self._links.get(restarted_from or "")
        if old is not None and restarted_from is not None:
            self._links[restarted_from] = replace(old, restarted_as=row.id)
            generation = old.generation + 1
        self._links[row.id] = Run(
            row.id,
            admission.recorded,
            row.target,
            row.instance,
            "active",
            row.accepted_at,
            row.address,
            generation,
            restarted_from=restarted_from,
        )
        insort(self._run_order, (row.accepted_at, row.id))

    def _run(self, run_id: str) -> Run:
        row = self._all[run_id]
        status: RunStatus = "active"
        if row.outcome is not None:
            status = "completed" if row.outcome == "completed" else "errored"
        return replace(self._links[run_id], status=status, ended_at=row.settled_at)

    def _take(self, id: str, claimant: Claimant, now: int) -> Claim:
        before = self._all[id]
        row = self._all[id] = before.claimed(claimant, now)
        first = before.started_at is None
        index = 0 if first else self.reserve(id, claimant.reserve)
        return Claim(row, claimant.attempt_id, claimant.owner, first, index)

    def _give_up(self, row: Submission, now: int, **changes: object) -> None:
        assert row.deadline_at is not None
        left = max(0, row.deadline_at - now)
        fresh = replace(row, owner=None, attempt_id=None, deadline_at=None, time_left_ms=left)
        self._all[row.id] = replace(fresh, **changes)  # type: ignore[arg-type]

    def _wake(self, row: Submission) -> None:
        self._all[row.id] = replace(row, state="queued", park_reason=None, wake_at=None, waiting_for=())
        self._tell_work(row.id)

    def _free(self, owner: str, until: int, *, interrupted: bool, limit: int) -> int:
        running = [row for row in map(self._first, self._lanes) if row.state == "running" and row.owner == owner]
        for row in running[:limit]:
            self._give_up(row, until, state="queued", interruptions=row.interruptions + interrupted)
            self._homes.pop(row.id, None)
        waiting = [id for id, home in self._homes.items() if home == owner and self._all[id].state != "settled"]
        left = limit - min(limit, len(running))
        for id in waiting[:left]:
            del self._homes[id]
        freed_count = min(limit, len(running)) + min(left, len(waiting))
        if freed_count:
            self._listeners.tell([Wake("work")])
        return freed_count

    def _end(self, row: Submission, outcome: Outcome, now: int) -> None:
        self._all[row.id] = replace(
            row,
            state="settled",
            settled_at=now,
            outcome=outcome.kind,
            result=outcome.result,
            error=outcome.error,
            owner=None,
        )
        self._journals.setdefault(row.id, []).append(outcome.record)
        self._listeners.tell([Wake("events", key=row.id)])  # also where its log has nothing new
        if row.key is not None and row.key in self._receipts:
            self._receipts[row.key] = replace(self._receipts[row.key], settled_at=now)
        lane = self._lanes[row.lane]
        was_first = lane[0] == row.id
        lane.remove(row.id)
        if not lane:
            del self._lanes[row.lane]
        elif was_first:
            self._tell_work(lane[0])

    def _check_writes(self, claim: Claim, writes: Writes) -> None:
        self._kept.check(writes.sessions)
        self.check_events(writes.events)

    def _write(self, claim: Claim, writes: Writes) -> None:
        self._check_writes(claim, writes)
        address = claim.submission.address
        for append in writes.sessions:
            self._kept.append(append)
        self._journals.setdefault(claim.id, []).extend(writes.journal)
        for step in writes.steps:
            self._steps.setdefault(address, {}).setdefault(step.name, step)
        self._consumed.update((address, id) for id in writes.consumed)
        self.add_events(writes.events)
        self._listeners.tell(Wake("events", key=event.log) for event in writes.events)

    def _prune(self, retention: Retention, limit: int) -> int:
        gone = 0
        for row in list(self._all.values()):
            if gone >= limit or row.settled_at is None:
                continue
            before = retention.runs if row.id in self._links else retention.submissions
            if before is not None and row.settled_at < before:
                self._forget(row)
                gone += 1
            elif retention.deltas is not None and row.settled_at < retention.deltas:
                gone += bool(self.drop_events(row.id, deltas=True))
        if retention.receipts is not None:
            old = [
                r.key for r in self._receipts.values() if r.settled_at is not None and r.settled_at < retention.receipts
            ]
            for key in old[: limit - gone]:
                del self._receipts[key]
            gone += min(len(old), limit - gone)
        return gone

    def _forget(self, row: Submission) -> None:
        del self._all[row.id], self._admissions[row.id]
        self._journals.pop(row.id, None)
        self._homes.pop(row.id, None)
        self.drop_events(row.id, deltas=False)
        if self._links.pop(row.id, None) is not None:
            self._run_order.remove((row.accepted_at, row.id))
        others = self._addresses[row.address]
        others.discard(row.id)
        if not others:
            del self._addresses[row.address]
            self._steps.pop(row.address, None)
            for id in self._messages.pop(row.address, {}):
                self._consumed.discard((row.address, id))

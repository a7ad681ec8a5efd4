"""A Hypothesis state machine that drives any `DurableStore` beside a model in a few dicts.

    class Machine(WorkMachine):
        def make_store(self, directory: Path) -> DurableStore:
            return MyStore(directory / "work.db")

    TestMachine = Machine.TestCase

Several owners on two open stores admit, claim, checkpoint, park, release, settle, abort, restart, crash and take over
at random. After every step the store must agree with the model: nothing is lost or settled twice, lanes are first in
first out, a lost claim writes nothing, and the journal holds every checkpoint that was awaited. Needs hypothesis.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flue.durable.port import DurableStore
from flue.durable.records import (
    Claim,
    Claimant,
    JournalRecord,
    Message,
    Outcome,
    OutcomeKind,
    SessionAppend,
    Wait,
    Writes,
)
from flue.errors import DurabilityError
from flue.testing.store_contract import entry, head, ids
from flue.testing.work_contract import admission

T = TypeVar("T")

LEASE = 100
TIMEOUT = 250
LANES = ("red", "green", "blue")
OWNERS = ("one", "two", "three")
NAMES = ("paid", "approved")

lanes, owners, names = st.sampled_from(LANES), st.sampled_from(OWNERS), st.sampled_from(NAMES)


@dataclass(slots=True)
class Known:
    """A submission as the model has it."""

    id: str
    lane: str
    address: str
    state: str = "queued"
    holder: str | None = None
    started: bool = False
    deadline: int = 0
    left: int = TIMEOUT
    interruptions: int = 0
    cancelled: bool = False
    wake_at: int | None = None
    names: tuple[str, ...] = ()
    journal: list[JournalRecord] = field(default_factory=list)


# DUR-18
class WorkMachine(RuleBasedStateMachine):
    """The machine; a subclass says how a store is made."""

    def make_store(self, directory: Path) -> DurableStore:
        """Return a store whose data lies in `directory`; two made for one directory share their data."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(prefix="flue-machine-"))
        self.stores = [self.make_store(self.directory) for _ in range(2)]
        self.turn = count()
        self.numbers = count()
        self.now = 0
        self.leases: dict[str, int] = {}
        self.known: dict[str, Known] = {}
        self.queues: dict[str, list[str]] = {lane: [] for lane in LANES}
        self.sessions: dict[str, list[str]] = {lane: [] for lane in LANES}
        self.keys: dict[str, str] = {}
        self.messages: dict[str, dict[str, str]] = {}
        self.live: list[Claim] = []
        self.lost: list[Claim] = []

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            for store in self.stores:
                self.run(store.aclose())
            self.runner.close()
            shutil.rmtree(self.directory)

    # ------------------------------------------------------------------------------------------------- tools

    @property
    def store(self) -> DurableStore:
        """Return the open stores in turn."""
        return self.stores[next(self.turn) % 2]

    def run(self, work: Awaitable[T] | Coroutine[Any, Any, T]) -> T:
        async def awaiting() -> T:
            return await work

        return self.runner.run(awaiting())

    def do(self, transition: str, *arguments: Any, **options: Any) -> Any:
        """Run a transition on one of the stores and return what it gives."""

        async def doing() -> Any:
            return await getattr(self.store, transition)(*arguments, **options)

        return self.runner.run(doing())

    def fails(self, transition: str, *arguments: Any, **options: Any) -> str:
        """Run a transition that must fail and return the code of its error."""
        try:
            self.do(transition, *arguments, **options)
        except DurabilityError as error:
            return error.code
        raise AssertionError(f"{transition} was accepted")

    def claimant(self, owner: str) -> Claimant:
        return Claimant(owner, f"attempt-{next(self.numbers)}", self.now + LEASE)

    def keep_lease(self, owner: str) -> None:
        if 2 * (self.leases.get(owner, 0) - self.now) < LEASE:
            self.leases[owner] = self.now + LEASE

    def lapsed(self) -> set[str]:
        """Return the owners whose work is free to be taken over."""
        return {owner for owner, until in self.leases.items() if until <= self.now}

    def took_all(self, claims: list[Claim]) -> None:
        for claim in claims:
            self.keep_lease(claim.owner)  # who finds nothing is no owner for that
            self.took(claim)

    def took(self, claim: Claim) -> None:
        known = self.known[claim.id]
        assert known.state == "queued", f"{known.id} was claimed while {known.state}"
        assert self.queues[known.lane][0] == known.id, f"{known.id} was claimed before its turn"
        assert claim.submission.interruptions == known.interruptions
        known.state, known.holder, known.started = "running", claim.attempt_id, True
        known.deadline = self.now + known.left
        assert claim.submission.deadline_at == known.deadline
        self.live.append(claim)

    def give_up(
        self,
        claim: Claim,
        state: str,
        wake_at: int | None = None,
        waiting: tuple[str, ...] = (),
        until: int | None = None,
    ) -> None:
        known = self.known[claim.id]
        known.left = max(known.deadline - (self.now if until is None else until), 0)
        known.state, known.holder, known.wake_at, known.names = state, None, wake_at, waiting
        self.lose(claim)

    def lose(self, claim: Claim) -> None:
        self.live.remove(claim)
        self.lost.append(claim)

    def end(self, known: Known, kind: str) -> None:
        known.state, known.holder = "settled", None
        known.journal.append(JournalRecord("settled", kind))
        self.queues[known.lane].remove(known.id)

    def writes(self, claim: Claim) -> tuple[Writes, tuple[JournalRecord, str]]:
        number = next(self.numbers)
        record, session = JournalRecord("note", f"n{number}"), self.sessions[claim.submission.lane]
        added = SessionAppend(claim.submission.lane, head(), (entry(f"e{number}"),), len(session))
        return Writes(journal=(record,), sessions=(added,)), (record, f"e{number}")

    def wrote(self, claim: Claim, written: tuple[JournalRecord, str]) -> None:
        record, entry_id = written
        self.known[claim.id].journal.append(record)
        self.sessions[claim.submission.lane].append(entry_id)

    # ------------------------------------------------------------------------------------------------- rules

    @rule(lane=lanes, owner=owners, at_once=st.booleans())
    def admit(self, lane: str, owner: str, at_once: bool) -> None:
        id = f"s{next(self.numbers)}"
        claimant = self.claimant(owner) if at_once else None
        given = admission(id, lane, key=f"key-{id}", timeout_ms=TIMEOUT)
        free = not self.queues[lane]
        admitted = self.do("admit", given, now=self.now, claimant=claimant)
        assert (admitted.created, admitted.ahead) == (True, len(self.queues[lane]))
        assert (admitted.claim is not None) == (free and at_once)
        self.known[id] = Known(id, lane, id)
        self.queues[lane].append(id)
        self.keys[f"key-{id}"] = id
        if claimant is not None:
            self.keep_lease(owner)
        if admitted.claim is not None:
            self.took(admitted.claim)

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), same=st.booleans())
    def admit_again(self, data: st.DataObject, same: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.keys)))
        first = self.known[self.keys[key]]
        again = admission("another", first.lane, key=key, payload=f'{{"text":"{first.id}"}}' if same else '"other"')
        if same:
            admitted = self.do("admit", again, now=self.now)
            assert (admitted.id, admitted.created) == (first.id, False)
        else:
            assert self.fails("admit", again, now=self.now) == "idempotency_conflict"

    @rule(owner=owners, number=st.integers(1, 3))
    def claim(self, owner: str, number: int) -> None:
        ready = [queue[0] for queue in self.queues.values() if queue and self.known[queue[0]].state == "queued"]
        claims = self.do("claim", [self.claimant(owner) for _ in range(number)], now=self.now)
        assert len(claims) == min(number, len(ready)), "work was ready and not claimed"
        self.took_all(claims)

    @rule(owner=owners, data=st.data())
    def claim_in_lanes(self, owner: str, data: st.DataObject) -> None:
        lanes = data.draw(st.sets(st.sampled_from([*sorted(self.queues), "empty"])))
        ready = [queue[0] for lane, queue in self.queues.items() if lane in lanes and queue]
        ready = [id for id in ready if self.known[id].state == "queued"]
        claims = self.do("claim", [self.claimant(owner) for _ in range(2)], now=self.now, lanes=lanes)
        assert len(claims) == min(2, len(ready)), "work was ready and not claimed"
        assert {claim.submission.lane for claim in claims} <= lanes
        self.took_all(claims)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def checkpoint(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.live))
        writes, written = self.writes(claim)
        self.do("checkpoint", claim, writes)
        self.wrote(claim, written)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), kind=st.sampled_from(("completed", "failed", "aborted")))
    def settle(self, data: st.DataObject, kind: OutcomeKind) -> None:
        claim = data.draw(st.sampled_from(self.live))
        writes, written = self.writes(claim)
        self.do("settle", claim, Outcome(kind), now=self.now, writes=writes)
        self.wrote(claim, written)
        self.end(self.known[claim.id], kind)
        self.lose(claim)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), delay=st.none() | st.integers(1, 50), waiting=st.sets(names))
    def park(self, data: st.DataObject, delay: int | None, waiting: set[str]) -> None:
        claim = data.draw(st.sampled_from(self.live))
        known, wanted = self.known[claim.id], tuple(sorted(waiting))
        wake_at = None if delay is None else self.now + delay
        writes, written = self.writes(claim)
        parked = self.do("park", claim, Wait("event", wake_at, wanted), now=self.now, writes=writes)
        self.wrote(claim, written)
        arrived = waiting & set(self.messages.get(known.address, {}).values())
        assert parked == (not arrived and not known.cancelled)
        if parked:
            self.give_up(claim, "parked", wake_at, wanted)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), delay=st.none() | st.integers(1, 50), interrupted=st.booleans())
    def release(self, data: st.DataObject, delay: int | None, interrupted: bool) -> None:
        claim = data.draw(st.sampled_from(self.live))
        known = self.known[claim.id]
        not_before = None if delay is None else self.now + delay
        self.do("release", claim, now=self.now, not_before=not_before, interrupted=interrupted)
        known.interruptions += interrupted
        waits = not_before is not None and not known.cancelled
        self.give_up(claim, "parked" if waits else "queued", not_before if waits else None)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.live))
        old = self.known[claim.id]
        id = f"r{next(self.numbers)}"
        self.do("restart", claim, admission(id, old.lane, timeout_ms=TIMEOUT), error="{}", now=self.now)
        self.end(old, "failed")
        self.lose(claim)
        self.known[id] = Known(id, old.lane, old.address)
        self.queues[old.lane].append(id)

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def write_late(self, data: st.DataObject) -> None:
        self.refuse(data.draw(st.sampled_from(self.lost)))

    def refuse(self, claim: Claim) -> None:
        writes, _ = self.writes(claim)
        for transition in (
            ("checkpoint", claim, writes),
            ("settle", claim, Outcome("completed")),
            ("park", claim, Wait("sleep", self.now)),
            ("release", claim),
        ):
            options: dict[str, Any] = {} if transition[0] == "checkpoint" else {"now": self.now, "writes": writes}
            assert self.fails(*transition, **options) == "attempt_lost"

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def pause_for_too_long(self, data: st.DataObject) -> None:
        """Let an owner sleep through its lease and others go on; what it writes when it wakes up is refused."""
        claim = data.draw(st.sampled_from(self.live))
        other = data.draw(st.sampled_from([owner for owner in OWNERS if owner != claim.owner]))
        self.now += LEASE
        self.take_over(other)
        self.claim(other, 3)
        self.refuse(claim)

    @precondition(lambda self: any(not self.known[claim.id].cancelled for claim in self.live))
    @rule(data=st.data(), name=names)
    def park_for_what_is_there(self, data: st.DataObject, name: str) -> None:
        claim = data.draw(st.sampled_from([claim for claim in self.live if not self.known[claim.id].cancelled]))
        message = Message(f"m{next(self.numbers)}", name)
        assert self.do("deliver", claim.submission.address, message, now=self.now)
        self.messages.setdefault(claim.submission.address, {})[message.id] = name
        assert not self.do("park", claim, Wait("event", names=(name,)), now=self.now)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        known = self.known[data.draw(st.sampled_from(sorted(self.known)))]
        found = self.do("cancel", known.id, "enough", now=self.now)
        if known.state != "settled" and not known.cancelled:
            known.cancelled = True
            if not known.started:
                self.end(known, "aborted")
            elif known.state == "parked":
                known.state = "queued"
        assert found.state == known.state

    @precondition(lambda self: self.known)
    @rule(data=st.data(), name=names)
    def deliver(self, data: st.DataObject, name: str) -> None:
        address = self.known[data.draw(st.sampled_from(sorted(self.known)))].address
        open_ = [known for known in self.known.values() if known.address == address and known.state != "settled"]
        message = Message(f"m{next(self.numbers)}", name)
        assert self.do("deliver", address, message, now=self.now) == bool(open_)
        if open_:
            self.messages.setdefault(address, {})[message.id] = name
        for known in open_:
            if known.state == "parked" and name in known.names:
                known.state = "queued"

    @precondition(lambda self: any(self.messages.get(claim.submission.address) for claim in self.live))
    @rule(data=st.data())
    def consume(self, data: st.DataObject) -> None:
        ready = [claim for claim in self.live if self.messages.get(claim.submission.address)]
        claim = data.draw(st.sampled_from(ready))
        kept = self.messages[claim.submission.address]
        found = self.do("load_messages", claim.submission.address)
        assert {message.id: message.name for message in found} == kept
        self.do("checkpoint", claim, Writes(consumed=(found[0].id,)))
        del kept[found[0].id]

    @rule(by=st.integers(1, 60))
    def time_passes(self, by: int) -> None:
        self.now += by
        due = [known for known in self.known.values() if known.state == "parked" and (known.wake_at or 1e9) <= self.now]
        assert self.do("wake_due", now=self.now) == len(due)
        for known in due:
            known.state = "queued"

    @rule(owner=owners)
    def renew(self, owner: str) -> None:
        mine = [claim for claim in (*self.live, *self.lost[-3:]) if claim.owner == owner]
        renewal = self.do("renew", owner, mine, now=self.now, lease_until=self.now + LEASE)
        self.leases[owner] = self.now + LEASE
        assert set(renewal.lost) >= {claim.id for claim in mine if claim in self.lost}
        asked = {claim.id for claim in mine if claim in self.live and self.known[claim.id].cancelled}
        assert {id for id, _ in renewal.cancelled} == asked

    @rule(owner=owners)
    def take_over(self, owner: str) -> None:
        lapsed = self.lapsed() - {owner}
        gone = [claim for claim in self.live if claim.owner in lapsed]
        assert self.do("take_over", owner, now=self.now) == len(gone)
        for claim in gone:
            self.known[claim.id].interruptions += 1
            self.give_up(claim, "queued", until=min(self.leases[claim.owner], self.now))
        for other in lapsed:
            del self.leases[other]

    @rule(owner=owners)
    def retire(self, owner: str) -> None:
        self.do("retire", owner, now=self.now)
        self.leases.pop(owner, None)
        for claim in [claim for claim in self.live if claim.owner == owner]:
            self.give_up(claim, "queued")

    @rule(number=st.integers(0, 1))
    def reopen(self, number: int) -> None:
        self.run(self.stores[number].aclose())
        self.stores[number] = self.make_store(self.directory)

    # -------------------------------------------------------------------------------------------- agreement

    @invariant()
    def lanes_agree(self) -> None:
        for lane, queue in self.queues.items():
            found = self.do("list_lane", lane)
            assert [(row.id, row.state, row.attempt_id) for row in found] == [
                (id, self.known[id].state, self.known[id].holder) for id in queue
            ]
            waiting = [row for row in found if row.state != "running"]
            assert [row.time_left_ms for row in waiting] == [self.known[row.id].left for row in waiting]

    def finish(self) -> None:
        """Let everything run to its end, and compare all that is kept."""
        self.now += 10 * LEASE
        self.take_over("last")
        self.time_passes(60)
        while any(self.queues.values()):
            for queue in [queue for queue in self.queues.values() if queue]:
                self.do("cancel", queue[0], "the end", now=self.now)
                known = self.known[queue[0]]
                if known.started:
                    known.state = "queued" if known.state == "parked" else known.state
                    known.cancelled = True
                elif not known.cancelled:
                    self.end(known, "aborted")
            self.claim("last", 3)
            for claim in list(self.live):
                self.do("settle", claim, Outcome("completed"), now=self.now)
                self.end(self.known[claim.id], "completed")
                self.lose(claim)
        for known in self.known.values():
            assert self.do("load_journal", known.id) == known.journal
            assert sum(record.kind == "settled" for record in known.journal) == 1
        for lane, expected in self.sessions.items():
            session = self.do("load_session", lane)
            assert (ids(session) if session else []) == expected

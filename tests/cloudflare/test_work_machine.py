"""The state machine of every store over a Durable Object that is evicted at random, with its alarm beside a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from flue.cloudflare.storage.store import DurableObjectStore
from flue.durable.port import DurableStore
from flue.durable.records import Claimant, Schedule
from flue.testing import VirtualClock
from tests.cloudflare.objects import FOREVER
from tests.cloudflare.standin.storage import Disk, Storage
from tests.stores.test_work_machine import QUICK
from tests.stores.work_machine import LEASE, WorkMachine, owners

KEEP = 30

schedules = st.sampled_from(("daily", "hourly"))


class MachineClock(VirtualClock):
    """The time of a machine."""

    def __init__(self, machine: WorkMachine) -> None:
        super().__init__()
        self._machine = machine

    def now_ms(self) -> int:
        return self._machine.now


# DUR-18, DUR-44
class ObjectMachine(WorkMachine):
    """One object: both stores of the machine are that of its isolate, and what an earlier isolate owned is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000  # time has begun: there are no alarms at 0

    def make_store(self, directory: Path) -> DurableStore:
        if not hasattr(self, "object"):
            self.disk = Disk()
            self.clock = MachineClock(self)
            self.storage = Storage(self.disk, now=self.clock.now_ms)
            self.object = DurableObjectStore(self.storage, self.clock, keep_alive=KEEP / 1000, keep=FOREVER)
            self.enlisted: set[str] = set()
            self.schedules: dict[str, Schedule] = {}
        return self.object

    def teardown(self) -> None:
        super().teardown()
        self.disk.close()

    def do(self, transition: str, *arguments: Any, **options: Any) -> Any:
        if transition in ("enlist", "renew"):
            self.enlisted.add(arguments[0])
        return super().do(transition, *arguments, **options)

    def claimant(self, owner: str) -> Claimant:
        if owner not in self.enlisted:
            self.do("enlist", owner, now=self.now, lease_until=self.now + LEASE)
            self.leases[owner] = self.now + LEASE
        return super().claimant(owner)

    def lapsed(self) -> set[str]:
        return super().lapsed() | (set(self.leases) - self.enlisted)

    # ------------------------------------------------------------------------------------------------- rules

    @rule(number=st.just(0))
    def reopen(self, number: int) -> None:
        """Evict the object: everything but its data is gone."""
        self.storage = self.storage.evict()
        self.object = DurableObjectStore(self.storage, self.clock, keep_alive=KEEP / 1000, keep=FOREVER)
        self.stores = [self.object, self.object]
        self.enlisted.clear()

    @rule(owner=owners)
    def start(self, owner: str) -> None:
        """Be the engine of a new isolate: what was running is taken over at once."""
        self.claimant(owner)
        self.take_over(owner)
        assert {claim.owner for claim in self.live} <= self.enlisted

    @rule(id=schedules, spec=st.sampled_from("ab"), delay=st.none() | st.integers(-20, 60))
    def put_schedule(self, id: str, spec: str, delay: int | None) -> None:
        schedule = Schedule(id, spec, None if delay is None else self.now + delay)
        known = self.schedules.get(id)
        kept = known if known is not None and known.spec == spec else schedule
        assert self.do("put_schedule", schedule) == kept
        self.schedules[id] = kept

    @rule(id=schedules)
    def delete_schedule(self, id: str) -> None:
        self.do("delete_schedules", [id])
        self.schedules.pop(id, None)

    @precondition(lambda self: self.ringing())
    @rule(delay=st.none() | st.integers(1, 60))
    def ring(self, delay: int | None) -> None:
        """Be the runtime: call the handler, which sets the alarm anew and does what is due."""
        with self.storage.handling():
            self.do("rearm")
            self.wake_what_is_due()
            for schedule in self.do("list_schedules", due=self.now):
                then = None if delay is None else self.now + delay
                self.do("fire", schedule, then, None, now=self.now)
                self.schedules[schedule.id] = Schedule(schedule.id, schedule.spec, then)

    def wake_what_is_due(self) -> None:
        due = [known for known in self.known.values() if known.state == "parked" and (known.wake_at or 1e9) <= self.now]
        assert self.do("wake_due", now=self.now) == len(due)
        for known in due:
            known.state = "queued"

    @rule(by=st.integers(1, 60))
    def time_passes(self, by: int) -> None:
        """Let time pass. Nobody looks: that is the alarm's business."""
        self.now += by

    def finish(self) -> None:
        self.wake_what_is_due()
        super().finish()

    # --------------------------------------------------------------------------------------------- the alarm

    def ringing(self) -> bool:
        return self.disk.alarm is not None and self.disk.alarm <= self.now

    @invariant()
    def the_alarm_is_where_it_must_be(self) -> None:
        heads = [self.known[queue[0]] for queue in self.queues.values() if queue]
        active = any(head.state in ("queued", "running") for head in heads)
        times = [head.wake_at for head in heads if head.state == "parked"]
        times += [schedule.next_at for schedule in self.schedules.values()]
        due = min((time for time in times if time is not None), default=None)
        alarm = self.disk.alarm
        if not active and due is None:
            assert alarm is None, "it would wake an object that has nothing to do"
            return
        latest = min(time for time in (self.now + KEEP if active else None, due) if time is not None)
        assert alarm is not None, "the object would sleep on what it has to do"
        assert alarm <= max(latest, self.now)
        assert active or latest <= self.now or alarm == latest, "it would wake the object too early"


TestObjectMachine = ObjectMachine.TestCase
TestObjectMachine.settings = settings(QUICK)

"""When a Durable Object's alarm is set: the object must not sleep on what it has to do, nor wake up for nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flue.cloudflare.storage.store import DurableObjectStore
from flue.durable.records import Message, Outcome, Retention, Schedule, Wait
from flue.engine.pruning import KeepFor
from flue.testing import VirtualClock
from flue.testing.work_contract import admission, claim_one, code_of
from tests.cloudflare.objects import FOREVER
from tests.cloudflare.standin.js_values import JsError
from tests.cloudflare.standin.storage import Disk, Storage

KEEP = 20_000
DAY = 86_400


class Scene:
    """An object's store on a clock of its own."""

    def __init__(self) -> None:
        self.keep = FOREVER
        self.clock = VirtualClock()
        self.disk = Disk()
        self.statements: list[str] = []
        self.full = False
        self.storage = Storage(self.disk, now=self.clock.now_ms, before=self._before)
        self.store = DurableObjectStore(self.storage, self.clock, keep=self.keep)

    def _before(self, statement: str) -> None:
        self.statements.append(statement)
        if self.full and statement == "COMMIT":
            raise JsError("database or disk is full: SQLITE_FULL")

    @property
    def now(self) -> int:
        return self.clock.now_ms()

    def evict(self, keep: KeepFor | None = None) -> None:
        """Go on in a new isolate, perhaps of another version of the project."""
        self.keep = keep or self.keep
        self.storage = self.storage.evict()
        self.store = DurableObjectStore(self.storage, self.clock, keep=self.keep)

    @property
    def alarm(self) -> int | None:
        """Return in how many milliseconds the alarm rings."""
        return None if self.disk.alarm is None else self.disk.alarm - self.now


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.disk.close()


# DUR-44
async def test_accepted_work_keeps_the_object_awake_until_it_has_ended(scene: Scene) -> None:
    await scene.store.admit(admission("s1"), now=scene.now)
    assert scene.alarm == KEEP
    await scene.clock.advance(5)
    claim = await claim_one(scene.store, "a1", now=scene.now)
    assert scene.alarm == KEEP - 5000, "an alarm that is early enough stays"
    await scene.store.settle(claim, Outcome("completed"), now=scene.now)
    assert scene.alarm is None


# DUR-44
async def test_parked_work_is_woken_in_time_and_what_waits_for_somebody_wakes_nobody(scene: Scene) -> None:
    await scene.store.admit(admission("s1"), now=scene.now)
    claim = await claim_one(scene.store, "a1", now=scene.now)
    await scene.store.park(claim, Wait("event", scene.now + 86_400_000, ("paid",)), now=scene.now)
    assert scene.alarm == 86_400_000
    await scene.store.admit(admission("s2"), now=scene.now)
    assert scene.alarm == 86_400_000, "what waits behind parked work cannot run"
    await scene.store.deliver("s1", Message("m1", "paid"), now=scene.now)
    assert scene.alarm == KEEP
    claim = await claim_one(scene.store, "a2", now=scene.now)
    await scene.store.park(claim, Wait("approval", names=("yes",)), now=scene.now)
    assert scene.alarm is None


async def test_a_wake_up_that_is_sooner_than_the_keep_alive_is_kept_to_the_millisecond(scene: Scene) -> None:
    for lane in ("l1", "l2"):
        await scene.store.admit(admission(lane, lane), now=scene.now)
    claims = [await claim_one(scene.store, f"a{n}", now=scene.now) for n in range(2)]
    await scene.store.park(claims[0], Wait("sleep", scene.now + 1234), now=scene.now)
    assert scene.alarm == 1234
    await scene.store.settle(claims[1], Outcome("completed"), now=scene.now)
    assert scene.alarm == 1234


async def test_a_schedule_sets_the_alarm(scene: Scene) -> None:
    daily = await scene.store.put_schedule(Schedule("daily", "{}", scene.now + 60_000))
    await scene.store.put_schedule(Schedule("hourly", "{}", scene.now + 90_000))
    assert scene.alarm == 60_000
    await scene.store.fire(daily, scene.now + 120_000, None, now=scene.now)
    assert scene.alarm == 90_000
    await scene.store.delete_schedules(["hourly"])
    assert scene.alarm == 120_000
    await scene.store.delete_schedules(["daily"])
    assert scene.alarm is None


async def test_the_alarm_of_work_that_ended_without_this_isolates_doing_is_deleted(scene: Scene) -> None:
    await scene.store.admit(admission("s1"), now=scene.now)
    scene.evict()
    await scene.store.cancel("s1", "enough", now=scene.now)
    assert scene.alarm is None


# DUR-44
async def test_the_handler_sets_it_anew_while_work_goes_on(scene: Scene) -> None:
    await scene.store.admit(admission("s1"), now=scene.now)
    await scene.clock.advance(20)
    with scene.storage.handling():
        assert await scene.store.rearm() == scene.now + KEEP
    assert scene.alarm == KEEP
    claim = await claim_one(scene.store, "a1", now=scene.now)
    await scene.clock.advance(20)
    with scene.storage.handling():
        await scene.store.rearm()
        await scene.store.settle(claim, Outcome("completed"), now=scene.now)
    assert scene.alarm is None


async def test_a_handler_that_is_called_a_moment_too_early_sets_it_anew_all_the_same(scene: Scene) -> None:
    await scene.store.admit(admission("s1"), now=scene.now)
    await scene.clock.advance(19.999)
    with scene.storage.handling():
        await scene.store.rearm()
    assert scene.alarm == KEEP


async def test_an_alarm_that_the_runtime_gave_up_is_set_by_the_next_transition(scene: Scene) -> None:
    await scene.store.admit(admission("s1"), now=scene.now)
    await scene.clock.advance(60)
    scene.disk.alarm = None
    await claim_one(scene.store, "a1", now=scene.now)
    assert scene.alarm == KEEP


async def test_the_handler_of_an_isolate_that_knows_nothing_sets_it_from_the_tables(scene: Scene) -> None:
    await scene.store.put_schedule(Schedule("daily", "{}", scene.now + 60_000))
    await scene.clock.advance(60)
    scene.evict()
    with scene.storage.handling():
        await scene.store.rearm()
    assert scene.alarm == KEEP, "what is overdue is looked at now, and again if that comes to nothing"
    await scene.store.fire(Schedule("daily", "{}", scene.now), None, None, now=scene.now)
    assert scene.alarm is None


async def test_work_that_parks_while_an_alarm_is_being_handled_gets_an_alarm_of_its_own(scene: Scene) -> None:
    await scene.store.admit(admission("s1"), now=scene.now)
    claim = await claim_one(scene.store, "a1", now=scene.now)
    await scene.clock.advance(20)
    with scene.storage.handling():
        await scene.store.rearm()
        await scene.store.park(claim, Wait("sleep", scene.now + KEEP), now=scene.now)
    assert scene.alarm == KEEP


# DUR-44
async def test_what_is_not_committed_leaves_the_alarm_as_it_was(scene: Scene) -> None:
    await scene.store.list_sessions()
    scene.full = True
    assert await code_of(scene.store.admit(admission("s1"), now=scene.now)) == "store_full"
    assert scene.alarm is None
    scene.full = False
    await scene.store.admit(admission("s1"), now=scene.now)
    assert scene.alarm == KEEP


async def test_a_transition_that_is_refused_or_changes_nothing_due_does_not_touch_it(scene: Scene) -> None:
    await scene.store.admit(admission("s1"), now=scene.now)
    claim = await claim_one(scene.store, "a1", now=scene.now)
    scene.statements.clear()
    for _ in range(3):
        await scene.store.renew("one", [claim], now=scene.now, lease_until=scene.now + 1000)
        await scene.store.reserve_indices("s1", 10)
    assert "ALARM" not in scene.statements
    assert not [sql for sql in scene.statements if "schedules" in sql]


async def settle_one(scene: Scene, id: str, key: str | None = None) -> None:
    await scene.store.admit(admission(id, id, key=key), now=scene.now)
    await scene.store.settle(
        await claim_one(scene.store, f"a-{id}", now=scene.now), Outcome("completed"), now=scene.now
    )


# DUR-17
async def test_what_has_ended_is_looked_at_once_more_when_all_of_it_may_be_deleted(scene: Scene) -> None:
    scene.evict(KeepFor(prompts=7 * DAY, deltas=DAY, keys=None))
    await settle_one(scene, "s1", key="k")
    await scene.clock.advance(3600)
    await settle_one(scene, "s2")
    assert scene.alarm == 7 * DAY * 1000 + 1000
    await scene.store.put_schedule(Schedule("daily", "{}", scene.now + 60_000))
    assert scene.alarm == 60_000
    await scene.store.delete_schedules(["daily"])
    await scene.clock.advance(7 * DAY + 1)
    with scene.storage.handling():
        await scene.store.rearm()
        old = scene.now - 7 * DAY * 1000
        assert await scene.store.prune(Retention(submissions=old, deltas=scene.now - DAY * 1000)) == 2
    assert scene.alarm is None, "keys are kept for ever, so nobody has to look for them"


async def test_an_idempotency_key_that_may_go_later_is_looked_at_later(scene: Scene) -> None:
    scene.evict(KeepFor(prompts=7 * DAY, keys=60 * DAY))
    await settle_one(scene, "s1", key="k")
    assert scene.alarm == 60 * DAY * 1000 + 1000
    await scene.clock.advance(60 * DAY + 1)
    with scene.storage.handling():
        await scene.store.rearm()
        while await scene.store.prune(
            Retention(submissions=scene.now - 7 * DAY * 1000, receipts=scene.now - 60 * DAY * 1000)
        ):
            pass
    assert scene.alarm is None


async def test_what_is_still_there_when_it_may_be_deleted_does_not_keep_the_object_awake(scene: Scene) -> None:
    scene.evict(KeepFor(prompts=DAY, deltas=DAY))
    await settle_one(scene, "s1")
    await scene.clock.advance(DAY + 5)
    with scene.storage.handling():
        await scene.store.rearm()
    assert scene.alarm == 3_600_000


async def test_a_handler_that_has_failed_chooses_when_it_is_called_again(scene: Scene) -> None:
    await scene.store.admit(admission("s1"), now=scene.now)
    scene.store.ring_at(scene.now + 60_000)
    assert scene.alarm == 60_000
    await claim_one(scene.store, "a1", now=scene.now)
    assert scene.alarm == KEEP, "a transition knows better"

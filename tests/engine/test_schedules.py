"""Schedules over a store: what fires, once, after pauses, changes and races."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flue import create_agent, schedule
from flue.definitions.schedule import Schedule
from flue.durable.port import DurableStore
from flue.durable.records import Admission, Submission
from flue.engine.schedules import Schedules
from flue.errors import DurabilityError, UsageError
from flue.registrations import Registrations, using_registrations
from flue.stores import SqliteStore
from flue.testing import MemoryStore, VirtualClock

HOUR = 3600
MINUTE = 60
LANE = "lane"


def defined(id: str = "hourly", **fields: Any) -> Schedule:
    """Return a schedule as `flue.schedule` makes it."""
    with using_registrations(Registrations()) as registrations:
        schedule(
            "support", id=id, **(fields if {"cron", "every", "at"} & set(fields) else {"cron": "0 * * * *", **fields})
        )
        (made,) = registrations.schedules
        assert isinstance(made, Schedule)
        return made


class Node:
    """A server: schedules over the shared store, on the shared clock."""

    def __init__(self, name: str, store: DurableStore, clock: VirtualClock, project: str) -> None:
        self.refuses: Exception | None = None
        self._name = name
        self._admitted = 0
        self.schedules = Schedules(store, clock, self._admission, project=project)

    def _admission(self, definition: Schedule, time: int) -> Admission:
        if self.refuses is not None:
            raise self.refuses
        self._admitted += 1
        return Admission(
            id=f"{self._name}-{self._admitted}",
            lane=LANE,
            kind="dispatch",
            target="support",
            payload=json.dumps({"schedule": definition.id, "time": time, "input": definition.input}),
            key=f"schedule:{definition.id}:{time}",
        )

    async def load(self, *definitions: Schedule) -> None:
        await self.schedules.load(definitions)

    async def fire(self) -> None:
        await self.schedules.fire_due()


class World:
    """A store, a clock that starts on 2026-01-01 at 0:00 UTC, and servers."""

    def __init__(self, open_store: Callable[[], DurableStore]) -> None:
        self.clock = VirtualClock()
        self.stack = AsyncExitStack()
        self._open_store = open_store
        self._nodes = 0
        self.store = self.open()

    def open(self) -> DurableStore:
        store = self._open_store()
        self.stack.push_async_callback(store.aclose)
        return store

    def node(self, project: str = "shop") -> Node:
        """Start a server, with a connection of its own."""
        self._nodes += 1
        return Node(f"node{self._nodes}", self.open(), self.clock, project)

    async def work(self) -> list[Submission]:
        return await self.store.list_lane(LANE)

    async def fired(self) -> list[str]:
        """Return what was admitted so far: schedule and time, in the order of admission."""
        payloads = [json.loads(submission.payload) for submission in await self.work()]
        return [
            f"{payload['schedule']} {datetime.fromtimestamp(payload['time'] / 1000, UTC):%d %H:%M}"
            for payload in payloads
        ]

    async def stored(self) -> dict[str, int | None]:
        return {schedule.id: schedule.next_at for schedule in await self.store.list_schedules()}

    @property
    def now(self) -> int:
        return self.clock.now_ms()


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    shared = MemoryStore()
    made = World((lambda: shared) if request.param == "memory" else (lambda: SqliteStore(tmp_path / "flue.db")))
    async with made.stack:
        yield made


# ----------------------------------------------------------------------------------------------- in good order


async def test_a_schedule_fires_at_each_of_its_times_and_not_in_between(world: World) -> None:
    node = world.node()
    await node.load(defined())
    for _ in range(9):
        await world.clock.advance(15 * MINUTE)
        await node.fire()
        await node.fire()
    assert await world.fired() == ["hourly 01 01:00", "hourly 01 02:00"]


async def test_what_is_admitted_is_what_was_defined_and_names_its_time(world: World) -> None:
    node = world.node()
    await node.load(defined(input={"do": "sum up"}))
    await world.clock.advance(HOUR)
    await node.fire()
    (submission,) = await world.work()
    assert json.loads(submission.payload)["input"] == {"do": "sum up"}
    assert submission.key == f"schedule:hourly:{world.now}"
    assert submission.accepted_at == world.now


async def test_an_interval_counts_from_when_it_was_first_seen_and_keeps_its_beat(world: World) -> None:
    node = world.node()
    await world.clock.advance(7 * MINUTE)
    await node.load(defined(every="10m"))
    await world.clock.advance(11 * MINUTE)
    await node.fire()
    await world.clock.advance(9 * MINUTE)
    await node.fire()
    assert await world.fired() == ["hourly 01 00:17", "hourly 01 00:27"]


async def test_a_single_time_comes_once(world: World) -> None:
    node = world.node()
    await node.load(defined("launch", at="2026-01-01T03:00"))
    for _ in range(5):
        await world.clock.advance(HOUR)
        await node.fire()
    assert await world.fired() == ["launch 01 03:00"]
    await node.load(defined("launch", at="2026-01-01T03:00"))
    await node.fire()
    assert await world.fired() == ["launch 01 03:00"]


async def test_a_single_time_that_is_past_when_it_is_first_seen_never_comes(world: World) -> None:
    node = world.node()
    await node.load(defined("launch", at="2025-12-31T23:59:59", missed="all"))
    await node.fire()
    assert await world.fired() == []
    assert await world.stored() == {"shop/launch": None}


async def test_several_schedules_fire_earliest_first(world: World) -> None:
    node = world.node()
    await node.load(defined("b", cron="30 * * * *"), defined("a", cron="40 * * * *"), defined("c", cron="0 5 * * *"))
    await world.clock.advance(HOUR)
    await node.fire()
    assert await world.fired() == ["b 01 00:30", "a 01 00:40"]


# ----------------------------------------------------------------------------------------------- missed times


# DUR-37
@pytest.mark.parametrize(
    ("missed", "expected"),
    [("skip", []), ("once", ["hourly 01 03:00"]), ("all", ["hourly 01 01:00", "hourly 01 02:00", "hourly 01 03:00"])],
)
async def test_after_a_pause_missed_times_are_made_up_for_as_asked(
    missed: Any, expected: list[str], world: World
) -> None:
    await world.node().load(defined(missed=missed))
    await world.clock.advance(3 * HOUR + 2 * MINUTE)
    restarted = world.node()
    await restarted.load(defined(missed=missed))
    await restarted.fire()
    assert await world.fired() == expected
    await world.clock.advance(58 * MINUTE)
    await restarted.fire()
    assert await world.fired() == [*expected, "hourly 01 04:00"]


async def test_a_time_that_is_noticed_a_little_late_is_not_missed(world: World) -> None:
    node = world.node()
    await node.load(defined(missed="skip"))
    await world.clock.advance(5 * HOUR + 59)
    await node.fire()
    assert await world.fired() == ["hourly 01 05:00"]


async def test_after_a_long_pause_the_last_hundred_times_are_made_up_for(world: World) -> None:
    node = world.node()
    await node.load(defined(cron="* * * * *", missed="all"))
    await world.clock.advance(10 * HOUR)
    await node.fire()
    fired = await world.fired()
    assert (len(fired), fired[0], fired[-1]) == (100, "hourly 01 08:21", "hourly 01 10:00")


async def test_a_single_time_is_made_up_for_after_a_pause(world: World) -> None:
    node = world.node()
    await node.load(defined("launch", at="2026-01-01T03:00"))
    await world.clock.advance(9 * HOUR)
    await node.fire()
    assert await world.fired() == ["launch 01 03:00"]


async def test_a_single_time_that_is_skipped_never_comes(world: World) -> None:
    node = world.node()
    await node.load(defined("launch", at="2026-01-01T03:00", missed="skip"))
    await world.clock.advance(9 * HOUR)
    await node.fire()
    assert await world.fired() == []
    assert await world.stored() == {"shop/launch": None}


# ----------------------------------------------------------------------------------------------- changes


async def test_another_timing_begins_when_it_is_loaded(world: World) -> None:
    node = world.node()
    await node.load(defined(cron="0 1 * * *", missed="all"))
    await world.clock.advance(30 * MINUTE)
    await node.load(defined(cron="0 2 * * *", missed="all"))
    await world.clock.advance(2 * HOUR)
    await node.fire()
    assert await world.fired() == ["hourly 01 02:00"]


async def test_another_input_or_policy_loses_no_time(world: World) -> None:
    await world.node().load(defined(input="old", missed="skip"))
    await world.clock.advance(2 * HOUR + 30 * MINUTE)
    restarted = world.node()
    await restarted.load(defined(input="new", missed="once"))
    await restarted.fire()
    (submission,) = await world.work()
    assert json.loads(submission.payload)["input"] == "new"


async def test_a_schedule_that_was_removed_is_forgotten(world: World) -> None:
    node = world.node()
    await node.load(defined("a"), defined("b"))
    await node.load(defined("b"))
    assert list(await world.stored()) == ["shop/b"]
    await world.clock.advance(HOUR)
    await node.fire()
    assert await world.fired() == ["b 01 01:00"]


async def test_two_projects_in_one_database_leave_each_other_alone(world: World) -> None:
    shop, other, beside = world.node("shop"), world.node("shop/eu"), world.node("shop2")
    for node in (shop, other, beside):
        await node.load(defined("a"))
    await shop.load()
    assert list(await world.stored()) == ["shop/eu/a", "shop2/a"]
    await world.clock.advance(HOUR)
    await shop.fire()
    assert await world.fired() == []
    await other.fire()
    assert await world.fired() == ["a 01 01:00"]


async def test_a_server_of_an_older_version_leaves_a_changed_schedule_to_the_newer_ones(world: World) -> None:
    old, new = world.node(), world.node()
    await old.load(defined(cron="0 1 * * *"), defined("gone"))
    await new.load(defined(cron="0 2 * * *"))
    await world.clock.advance(2 * HOUR)
    await old.fire()
    assert await world.fired() == []
    await new.fire()
    assert await world.fired() == ["hourly 01 02:00"]


# ----------------------------------------------------------------------------------------------- races and failures


# DUR-37
@pytest.mark.parametrize("missed", ["once", "all"])
async def test_of_servers_that_notice_at_once_one_fires_each_time(missed: Any, world: World) -> None:
    nodes = [world.node() for _ in range(4)]
    for node in nodes:
        await node.load(defined(missed=missed))
    await world.clock.advance(3 * HOUR)
    await asyncio.gather(*(node.fire() for node in nodes))
    assert sorted(await world.fired()) == [
        f"hourly 01 0{hour}:00" for hour in ((3,) if missed == "once" else (1, 2, 3))
    ]


async def test_a_clock_that_goes_back_fires_nothing_twice(world: World) -> None:
    node = world.node()
    await node.load(defined())
    await world.clock.advance(HOUR)
    await node.fire()
    world.clock = VirtualClock()
    back = world.node()
    await back.load(defined())
    for _ in range(8):
        await world.clock.advance(15 * MINUTE)
        await back.fire()
    assert await world.fired() == ["hourly 01 01:00", "hourly 01 02:00"]


async def test_work_that_cannot_be_made_is_logged_and_holds_nothing_up(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    node = world.node()
    await node.load(defined(missed="all"))
    node.refuses = UsageError('Agent "support" is not registered.', code="agent_not_found")
    await world.clock.advance(2 * HOUR)
    await node.fire()
    assert await world.fired() == []
    assert caplog.text.count('Agent "support" is not registered.') == 2
    node.refuses = None
    await world.clock.advance(HOUR)
    await node.fire()
    assert await world.fired() == ["hourly 01 03:00"]


async def test_a_time_whose_key_was_used_for_other_work_is_passed_over(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    node = world.node()
    await node.load(defined(missed="all"))
    other = Admission(
        id="x", lane="other", kind="dispatch", target="x", payload="1", key=f"schedule:hourly:{world.now + HOUR * 1000}"
    )
    await world.store.admit(other, now=world.now)
    await world.clock.advance(2 * HOUR)
    await node.fire()
    assert await world.fired() == ["hourly 01 02:00"]
    assert "was used before for something else" in caplog.text


async def test_a_store_that_fails_is_said_and_the_time_comes_again(world: World) -> None:
    node = world.node()
    await node.load(defined())
    await world.clock.advance(HOUR)
    node.refuses = DurabilityError("disk full", code="store_full")
    with pytest.raises(DurabilityError, match="disk full"):
        await node.fire()
    node.refuses = None
    await node.fire()
    assert await world.fired() == ["hourly 01 01:00"]


def test_an_agent_may_be_given_itself() -> None:
    agent = create_agent(model=False)
    with using_registrations(Registrations()) as registrations:
        schedule(agent, id="a", every=60)
        assert registrations.schedules[0].agent is agent

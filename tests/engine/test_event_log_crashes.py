"""Whatever happens when: followers that resume anywhere see each durable event once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flue.engine.log_reader import LoggedEvent
from flue.events import Idle, Log
from flue.harness.answer import PartialAnswer
from flue.testing import VirtualClock
from flue.testing.scripted import INFO
from flue.testing.work_contract import LEASE, admission
from tests.engine.log_scene import LOG, Process, SlowStore, collect, indices, settled_tasks

STEPS = st.one_of(
    st.tuples(st.just("deltas"), st.integers(1, 12)),
    st.tuples(st.just("record"), st.integers(1, 3)),
    st.tuples(st.just("answer"), st.just(0)),
    st.tuples(st.just("commit"), st.integers(1, 3)),
    st.tuples(st.just("time"), st.integers(1, 3)),
    st.tuples(st.just("loop"), st.just(0)),
    st.tuples(st.just("follow"), st.integers(-1, 30)),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("crash"), st.booleans()),
    st.tuples(st.just("reserve"), st.integers(1, 5)),
)


class Play:
    """A log written by one process after the other, and everybody who followed it, with what they saw."""

    def __init__(self) -> None:
        self.store = SlowStore()
        self.clock = VirtualClock()
        self.attempts = 0
        self.process: Process
        self.partial = PartialAnswer(INFO, 1)
        self.told: dict[int, Any] = {}
        self.followers: list[tuple[int, list[LoggedEvent], asyncio.Task[None]]] = []

    async def begin(self) -> None:
        await self.store.admit(admission(LOG), now=0)
        await self.claim(Process(self.store, self.clock))

    async def claim(self, process: Process) -> None:
        self.attempts += 1
        await process.claim(f"a{self.attempts}", now=LEASE * (self.attempts - 1), reserve=8)
        self.process = process
        self.partial = PartialAnswer(INFO, 1)

    async def step(self, what: str, count: int) -> None:
        process = self.process
        match what:
            case "deltas":
                process.stream_text([f"{n}" for n in range(count)], end=False, partial=self.partial)
            case "record":
                for _ in range(count):
                    process.emit(Log, "info", "x" * 300)
            case "answer":
                self.partial = PartialAnswer(INFO, 1)
            case "commit":
                self.store.commit(count)
            case "time":
                await self.clock.advance(count / 10)
            case "loop":
                await settled_tasks()
            case "follow":
                self.follow(count)
            case "cancel" if count < len(self.followers):
                self.followers.pop(count)[2].cancel()
            case "crash":
                await self.crash(same_process=bool(count))
            case "reserve":
                await self.store.reserve_indices(LOG, count)

    def follow(self, after: int) -> None:
        seen: list[LoggedEvent] = []
        # Half of them elsewhere, where only the store says what happens.
        process = self.process if after % 2 else Process(self.store, self.clock)
        self.followers.append((after, seen, asyncio.create_task(collect(process, seen, after=after))))

    async def crash(self, *, same_process: bool) -> None:
        """End the attempt in the middle; the next one may be in the same process."""
        if not same_process:
            self.store.lose()
        old = self.process
        old.writer.close()
        self.store.commit()
        await settled_tasks()
        await self.store.take_over("next", now=LEASE * self.attempts)
        heir = Process(self.store, self.clock)
        if same_process:
            heir.feed, heir.reader = old.feed, old.reader
        await self.claim(heir)

    async def end(self) -> list[LoggedEvent]:
        self.process.emit(Idle)
        settling = asyncio.create_task(self.process.settle())
        while not settling.done():
            self.store.commit()
            await settled_tasks()
        await settling
        await self.clock.advance(16)
        await asyncio.wait_for(asyncio.gather(*(task for _, _, task in self.followers)), 5)
        return await self.process.read()


# DUR-34
@given(st.lists(STEPS, max_size=40))
@settings(deadline=None, max_examples=10)
def test_each_durable_event_is_seen_once_and_in_order_through_any_crash(steps: Sequence[tuple[str, int]]) -> None:
    play_through(steps)


@pytest.mark.faults
@pytest.mark.timeout(120)
@given(st.lists(STEPS, max_size=80))
@settings(deadline=None, max_examples=400)
def test_each_durable_event_is_seen_once_and_in_order_through_many_crashes(steps: Sequence[tuple[str, int]]) -> None:
    play_through(steps)


def play_through(steps: Sequence[tuple[str, int]]) -> None:
    """Write a log, die now and then, and compare what followers saw with what there is."""

    async def scenario() -> None:
        play = Play()
        await play.begin()
        for what, count in steps:
            await play.step(what, count)
        log = await play.end()
        by_index = {event.index: event for event in log}
        assert indices(log) == sorted(by_index)
        for after, seen, _ in play.followers:
            shown = indices(seen)
            assert shown == sorted(set(shown))
            assert [event for event in seen if event.index in by_index] == log[_position(log, after) :]
            # What is not in the log was never more than a delta.
            assert {event.type for event in seen if event.index not in by_index} <= {"message_update", "text_delta"}
        reader = play.process.reader
        for after in range(-1, log[-1].index + 1):
            rest = [event async for event in reader.follow(LOG, after=after)]
            assert rest == log[_position(log, after) :]

    asyncio.run(scenario())


def _position(log: Sequence[LoggedEvent], after: int) -> int:
    return sum(event.index <= after for event in log)

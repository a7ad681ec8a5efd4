"""Followers: slow ones, many, in another process, cancelled; and those of an instance's log."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing
from pathlib import Path

import pytest

from flue.durable.records import Outcome
from flue.engine.feed import BUFFERED_EVENTS, Feed
from flue.engine.log_reader import LoggedEvent, LogReader
from flue.events import Idle, MessageEnd, TurnStart
from flue.harness.answer import PartialAnswer
from flue.messages import TextContent, UserMessage
from flue.stores.presence import SUPPORTED
from flue.testing import VirtualClock
from flue.testing.scripted import INFO
from flue.testing.work_contract import LEASE, admission
from tests.engine.log_scene import (
    LOG,
    Process,
    SlowStore,
    collect,
    indices,
    open_store,
    settled_tasks,
    values,
    writing,
)


async def until(condition: object) -> None:
    """Wait for what another thread may still have to do."""
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_slow_follower_delays_nobody_and_misses_nothing() -> None:
    async with writing() as process:
        quick: list[LoggedEvent] = []
        collector = asyncio.create_task(collect(process, quick))
        async with aclosing(process.reader.follow(LOG)) as slow:
            process.emit(TurnStart, "agent")
            seen = [await anext(slow)]
            for n in range(3 * BUFFERED_EVENTS):
                process.emit(Idle)
                if not n % 100:
                    process.stream_text(["tok "] * 20)
                    await settled_tasks()
            await process.settle()
            await asyncio.wait_for(collector, 5)
            assert values(quick) == process.told
            seen += [event async for event in slow]
            assert values(seen) == process.told


async def test_a_follower_whose_buffer_overflowed_reads_on_from_the_store() -> None:
    async with writing() as process, aclosing(process.reader.follow(LOG)) as follower:
        process.emit(TurnStart, "agent")
        await anext(follower)
        reads = 0
        read_events = process.store.read_events

        async def counted(log: str, *, start: int = 0, limit: int = 1000) -> object:
            nonlocal reads
            reads += 1
            return await read_events(log, start=start, limit=limit)

        process.store.read_events = counted  # type: ignore[method-assign,assignment]
        for _ in range(BUFFERED_EVENTS - 1):
            process.emit(Idle)
        await settled_tasks()
        assert indices([await anext(follower) for _ in range(999)]) == list(range(1, 1000))
        assert reads <= 1  # to find nothing more; all of it came through the feed
        for _ in range(BUFFERED_EVENTS + 1):
            process.emit(Idle)
        await settled_tasks()
        assert indices([await anext(follower) for _ in range(1001)]) == list(range(1000, 2001))
        assert 0 < reads < 100


async def test_an_answer_stays_whole_through_an_overflow_in_its_middle() -> None:
    async with writing() as process:
        partial = PartialAnswer(INFO, 1)
        process.emit(TurnStart, "agent")
        process.stream_text(["from the store "] * 5, end=False, partial=partial)
        await process.clock.advance(0.3)
        async with aclosing(process.reader.follow(LOG)) as follower:
            seen = [await anext(follower) for _ in range(11)]
            process.stream_text(["live "] * 5, end=False, partial=partial)
            seen += [await anext(follower) for _ in range(10)]
            process.stream_text(["too many "] * 600, end=False, partial=partial)
            await process.clock.advance(0.3)
            seen += [await anext(follower) for _ in range(1200)]
            assert values(seen) == process.told


async def test_long_events_fill_a_buffer_too() -> None:
    message = UserMessage((TextContent("x" * 200_000),))
    async with writing() as process, aclosing(process.reader.follow(LOG)) as follower:
        process.emit(TurnStart, "agent")
        await anext(follower)
        for _ in range(60):
            process.emit(MessageEnd, message)
        await settled_tasks()
        (subscription,) = process.feed._channels[LOG].subscribers
        assert sum(len(event.data) for event in subscription._buffer) < 5_000_000
        assert indices([await anext(follower) for _ in range(60)]) == list(range(1, 61))


async def test_many_followers_share_one_text_of_each_event() -> None:
    async with writing() as process:
        everybody: list[list[LoggedEvent]] = [[] for _ in range(100)]
        tasks = [asyncio.create_task(collect(process, one)) for one in everybody]
        await settled_tasks()
        process.emit(TurnStart, "agent")
        process.stream_text(["tok "] * 50)
        await process.settle()
        await asyncio.wait_for(asyncio.gather(*tasks), 5)
        for event in range(len(process.told)):
            assert len({id(one[event].data) for one in everybody}) == 1
        assert values(everybody[0]) == process.told


async def test_a_follower_that_comes_in_the_middle_of_an_answer_has_no_gap() -> None:
    store = SlowStore()
    async with writing(store=store) as process:
        process.emit(TurnStart, "agent")
        process.stream_text(["a", "b"], end=False)
        await settled_tasks()
        store.commit()
        await settled_tasks()
        process.stream_text(["c", "d"], end=False)  # neither on disk nor shown to anybody
        seen: list[LoggedEvent] = []
        follower = asyncio.create_task(collect(process, seen))
        await settled_tasks()
        process.stream_text(["e"], end=False)
        await settled_tasks()
        assert indices(seen) == list(range(5))
        await process.clock.advance(0.3)
        store.commit()
        await settled_tasks()
        assert values(seen) == process.told
        follower.cancel()


async def test_a_cancelled_follower_leaves_nothing_behind() -> None:
    async with writing() as process:
        followers = [asyncio.create_task(process.follow()) for _ in range(3)]
        await settled_tasks()
        assert process.clock.sleeping == 1  # one look again for all of them
        followers[0].cancel()
        async with aclosing(process.reader.follow(LOG)) as other:
            process.emit(Idle)
            await anext(other)
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        await settled_tasks()
        assert process.clock.sleeping == 0
        assert process.feed._channels[LOG].subscribers == []
        assert process.store._listeners._all == []  # type: ignore[attr-defined]
        process.writer.close()
        assert process.feed._channels == {}


async def test_following_what_nobody_works_on_ends_at_once() -> None:
    async with writing() as process:
        assert [event async for event in process.reader.follow("unknown")] == []
        assert await process.reader.read("unknown") == []


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_log_that_is_written_elsewhere_is_followed_by_wake_ups(kind: str, tmp_path: Path) -> None:
    async with writing(kind, tmp_path) as process:
        other = Process(process.store, process.clock)
        seen: list[LoggedEvent] = []
        follower = asyncio.create_task(collect(other, seen))
        await settled_tasks()
        process.emit(TurnStart, "agent")
        await until(lambda: len(seen) == 1)
        process.stream_text(["a", "b"], end=False)
        process.emit(Idle)
        await until(lambda: len(seen) == 6)
        await process.settle()
        await asyncio.wait_for(follower, 10)
        assert values(seen) == process.told


# DUR-40
@pytest.mark.skipif(not SUPPORTED, reason="this platform has no named pipes")
async def test_a_process_that_only_follows_a_log_in_a_file_hears_of_it_at_once(tmp_path: Path) -> None:
    async with writing("sqlite", tmp_path) as process, open_store("sqlite", tmp_path) as same_file:
        await process.store.enlist("a1", now=0, lease_until=LEASE)
        other = Process(same_file, VirtualClock())
        seen: list[LoggedEvent] = []
        follower = asyncio.create_task(collect(other, seen))
        for n in range(5):
            process.emit(TurnStart, "agent")
            await until(lambda n=n: len(seen) == n + 1)
        await process.settle()
        await asyncio.wait_for(follower, 10)
        assert values(seen) == process.told


async def test_a_wake_up_that_was_lost_is_made_up_for_after_a_while() -> None:
    async with writing() as process:
        other = Process(process.store, process.clock)
        process.store.listen = lambda listener, *, events=True: lambda: None  # type: ignore[method-assign]
        seen: list[LoggedEvent] = []
        follower = asyncio.create_task(collect(other, seen))
        await settled_tasks()
        process.emit(Idle)
        await settled_tasks()
        assert seen == []
        await process.clock.advance(15)
        assert indices(seen) == [0]
        await process.settle()
        await process.clock.advance(15)
        await asyncio.wait_for(follower, 5)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_the_log_of_an_instance_holds_all_its_work_at_offsets_to_resume_from(kind: str, tmp_path: Path) -> None:
    async with open_store(kind, tmp_path) as store:
        seen: list[LoggedEvent] = []
        told = []
        clock: VirtualClock | None = None
        reader: LogReader | None = None
        follower: asyncio.Task[None] | None = None
        for name in ("s1", "s2"):
            await store.admit(admission(name, instance="ann"), now=0)
            process = Process(store, clock or VirtualClock(), log=name, stream="agent/ann")
            clock = process.clock
            if reader is None:
                reader = process.reader
                follower = asyncio.create_task(follow_stream(reader, seen))
            await process.claim(name)
            process.emit(TurnStart, "agent")
            process.stream_text(["a", "b"])
            process.emit(Idle)
            await process.settle()
            told += process.told
            await until(lambda told=told: len(seen) == len(told))
        assert reader is not None
        assert follower is not None
        assert values(seen) == told
        offsets = [event.offset for event in seen]
        assert offsets == sorted(offsets)
        assert 0 < offsets[0] < offsets[-1]
        for after in sorted({0, *offsets}):
            rest: list[LoggedEvent] = []
            task = asyncio.create_task(follow_stream(reader, rest, after))
            expected = [event for event in seen if event.offset > after]
            await until(lambda rest=rest, expected=expected: len(rest) == len(expected))
            assert rest == expected
            await stop(task)
        await stop(follower)


async def test_the_work_of_one_instance_does_not_wake_the_followers_of_another() -> None:
    async with writing(stream="agent/ann") as process:
        reads = []
        read_stream = process.store.read_stream

        async def counted(stream: str, *, after: int = 0, limit: int = 1000) -> object:
            reads.append(stream)
            return await read_stream(stream, after=after, limit=limit)

        process.store.read_stream = counted  # type: ignore[method-assign,assignment]
        ann: list[LoggedEvent] = []
        followers = [
            asyncio.create_task(follow_stream(process.reader, ann, stream="agent/ann")),
            asyncio.create_task(follow_stream(process.reader, [], stream="agent/bob")),
        ]
        await settled_tasks()
        for _ in range(5):
            process.emit(Idle)
            await settled_tasks()
        assert len(ann) == 5
        assert reads.count("agent/bob") == 1
        for follower in followers:
            await stop(follower)


async def test_a_follower_sees_the_end_of_work_that_another_process_took_over() -> None:
    async with writing() as first:
        seen: list[LoggedEvent] = []
        follower = asyncio.create_task(collect(first, seen))
        await settled_tasks()
        first.emit(TurnStart, "agent")
        await settled_tasks()
        heir = Process(first.store, first.clock)
        await first.store.take_over("a2", now=LEASE)
        await heir.claim("a2", now=LEASE)
        heir.emit(Idle)
        await settled_tasks()
        first.emit(Idle)  # fails: the claim is lost
        await settled_tasks()
        assert [event.type for event in seen] == ["turn_start", "idle"]
        await heir.outbox.settle(Outcome("completed"), now=LEASE)
        heir.writer.close()
        await first.clock.advance(15)
        await asyncio.wait_for(follower, 5)
        assert seen == await first.read()


async def follow_stream(
    reader: LogReader, into: list[LoggedEvent], after: int = 0, *, stream: str = "agent/ann"
) -> None:
    async with aclosing(reader.follow_stream(stream, after=after)) as events:
        async for event in events:
            into.append(event)  # noqa: PERF401 - seen while it grows


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_that_the_store_holds_news_is_not_forgotten_over_news_from_this_process() -> None:
    feed = Feed()
    with feed.subscribe("s1") as follower:
        feed.changed("s1")
        feed.open("s1", 3)
        assert follower.stale

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from flue import create_agent, open_context, tool
from flue.durable.claimed_store import ClaimedStore
from flue.durable.records import EventRow
from flue.engine.log_reader import LoggedEvent
from flue.engine.row_writer import rows_of
from flue.events import (
    AgentEnd,
    AgentStart,
    Idle,
    Log,
    MessageEnd,
    MessageStart,
    OperationStart,
    RunStart,
    Scope,
    TurnStart,
)
from flue.harness.answer import PartialAnswer
from flue.messages import AssistantMessage, TextContent, ToolCall, UserMessage
from flue.ports import Delta
from flue.testing import ScriptedModel, SequentialIds, call, thinking
from flue.testing.scripted import INFO
from flue.testing.store_contract import entry, head
from tests.engine.log_scene import (
    LOG,
    Process,
    SlowStore,
    collect,
    indices,
    settled_tasks,
    take_over,
    values,
    wire,
    writing,
)

STORES = ["memory", "sqlite"]


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word}: a tower with a light, seen from far away. " * 10


async def converse(process: Process, *texts: str, **config: Any) -> None:
    """Have a conversation whose events go into the process's log."""
    steps: list[Any] = [
        [
            thinking("Where could that be? I should look."),
            "I look it up. " * 20,
            call("look_up", {"word": "lighthouse"}),
        ],
        "It is a tower. " * 30,
        "Nothing to add.",
    ]
    store = ClaimedStore(process.store, process.outbox)
    async with open_context(
        id="i1", store=store, clock=process.clock, ids=SequentialIds(), on_event=process.emitter.sinks[0]
    ) as context:
        context.emitter.next_index = process.emitter.next_index
        context.emitter.sinks.append(process.writer)
        harness = await context.init(
            create_agent(model=ScriptedModel(steps), tools=[look_up], instructions="Be kind. " * 50, **config)
        )
        session = await harness.session()
        for text in texts:
            await session.prompt(text)


@pytest.mark.parametrize("kind", STORES)
async def test_what_is_read_later_and_what_is_seen_live_are_the_events_as_they_were(kind: str, tmp_path: Path) -> None:
    async with writing(kind, tmp_path) as process:
        live = asyncio.create_task(process.follow())
        await converse(process, "Where is it? " * 30, "And now?")
        await process.settle()
        assert values(await process.read()) == process.told
        assert await live == await process.read()
        assert process.told[-1]["type"] == "idle"


# DUR-34
@pytest.mark.parametrize("kind", STORES)
async def test_a_log_is_resumed_at_every_index(kind: str, tmp_path: Path) -> None:
    async with writing(kind, tmp_path) as process:
        await converse(process, "Where is it?")
        await process.settle()
        everything = await process.read()
        for after in range(-1, len(everything) + 2):
            assert await process.follow(after=after) == everything[after + 1 :]
        for after in range(-1, len(everything), 7):
            assert await process.read(after=after, limit=3) == everything[after + 1 : after + 4]


async def test_types_are_filtered_before_the_limit() -> None:
    async with writing() as process:
        await converse(process, "Where is it?")
        await process.settle()
        wanted = [event for event in await process.read() if event.type in ("text_delta", "turn", "idle")]
        assert await process.read(types=["text_delta", "turn", "idle"]) == wanted
        assert await process.read(types=["text_delta", "turn", "idle"], limit=4, after=wanted[2].index) == wanted[3:7]
        assert await process.read(types=["log"]) == []


async def test_the_log_keeps_a_conversation_once_and_its_messages_come_from_the_session() -> None:
    async with writing() as process:
        await converse(process, "Where is it? " * 400, "And now?")
        await process.settle()
        rows = await process.store.read_events(LOG)
        assert sum(stored.row.body.count("Where is it? Where is it?") for stored in rows) < 400  # its own event
        kept = sum(len(stored.row.body) for stored in rows)
        assert kept < len(json.dumps(process.told)) / 5
        (request,) = await process.read(types=["turn_request"], limit=1)
        assert "Where is it?" in request.data
        for key in await process.store.list_sessions():
            await process.store.delete_sessions([key])
        (request,) = await process.read(types=["turn_request"], limit=1)
        assert json.loads(request.data)["input"]["messages"]["truncated"] is True
        assert [event.type for event in await process.read()] == [event["type"] for event in process.told]


async def test_a_request_after_a_compaction_is_read_as_it_was_sent() -> None:
    async with writing() as process:
        steps = ["One. " * 50, "Two. " * 50, "A summary.", "A summary of the rest.", "Three."]
        store = ClaimedStore(process.store, process.outbox)
        async with open_context(
            id="i1", store=store, clock=process.clock, ids=SequentialIds(), on_event=process.emitter.sinks[0]
        ) as context:
            context.emitter.sinks.append(process.writer)
            harness = await context.init(create_agent(model=ScriptedModel(steps), compaction={"keep_recent_tokens": 1}))
            session = await harness.session()
            await session.prompt("First? " * 50)
            await session.prompt("Second?")
            await session.compact()
            await session.prompt("Third?")
        await process.settle()
        assert "compaction" in {event["type"] for event in process.told}
        assert values(await process.read(types=["turn_request"])) == [
            event for event in process.told if event["type"] == "turn_request"
        ]


# -------------------------------------------------------------------------------------------- what is shown when


# DUR-23
async def test_nothing_but_deltas_is_seen_before_it_is_on_disk_and_the_order_is_the_logs() -> None:
    store = SlowStore()
    async with writing(store=store) as process:
        seen: list[LoggedEvent] = []
        follower = asyncio.create_task(collect(process, seen))
        await settled_tasks()
        process.emit(TurnStart, "agent")
        process.stream_text(["a", "b"], end=False)
        await settled_tasks()
        assert seen == []  # the deltas wait for the turn's start
        store.commit()
        await settled_tasks()
        assert [event.type for event in seen] == ["turn_start", *["message_update", "text_delta"] * 2]
        process.stream_text(["c"], end=False)
        await settled_tasks()
        assert indices(seen) == list(range(7))  # at once, and not on disk
        assert len(await process.read()) == 5
        process.emit(Idle)
        process.stream_text(["d"], end=False)
        await settled_tasks()
        assert indices(seen) == list(range(7))
        store.commit()
        await settled_tasks()
        assert indices(seen) == list(range(10))
        follower.cancel()


async def test_deltas_are_written_a_quarter_of_a_second_after_the_first_of_them_many_to_a_row() -> None:
    async with writing() as process:
        partial = PartialAnswer(INFO, 1)
        for _ in range(24):
            process.stream_text(["tok"] * 10, end=False, partial=partial)
            await process.clock.advance(0.01)
        assert await process.read() == []
        await process.clock.advance(0.01)
        assert len(await process.read()) == 24 * 20
        (stored,) = await process.store.read_events(LOG)
        assert stored.row.deltas
        assert len(stored.row.body) < 24 * 20 * 10


async def test_events_of_one_tick_are_written_together_and_with_what_is_written_anyway() -> None:
    store = SlowStore()
    async with writing(store=store) as process:
        for _ in range(3):
            process.emit(Idle)
        await settled_tasks()
        assert len(store.waiting) == 1
        process.emit(Idle)
        process.outbox.write()
        process.emit(Idle)
        await settled_tasks()
        assert len(store.waiting) == 2  # the last waits for those before it
        store.commit()
        await settled_tasks()
        store.commit()
        await settled_tasks()
        assert indices(await process.read()) == [0, 1, 2, 3, 4]


async def test_deltas_of_a_block_reserved_after_the_last_write_are_shown_once_that_is_confirmed() -> None:
    """Who has lost its claim may still reserve indices; a follower must not run ahead of the log with them."""
    store = SlowStore()
    async with writing(store=store, reserve=4) as process:
        seen: list[LoggedEvent] = []
        follower = asyncio.create_task(collect(process, seen))
        await settled_tasks()
        process.stream_text(["a", "b", "c"], end=False)
        await settled_tasks()
        assert seen == []
        store.commit()
        await settled_tasks()
        assert len(seen) == 6
        process.stream_text(["d"], end=False)
        await settled_tasks()
        assert len(seen) == 8
        follower.cancel()


# --------------------------------------------------------------------------------------------------- indices


@pytest.mark.parametrize("kind", STORES)
async def test_a_storm_of_deltas_in_one_tick_gets_indices_and_arrives_whole(kind: str, tmp_path: Path) -> None:
    async with writing(kind, tmp_path, reserve=8) as process:
        follower = asyncio.create_task(process.follow())
        await settled_tasks()
        process.emit(TurnStart, "agent")
        process.stream_text(["x"] * 1000)
        process.emit(Idle)
        await process.settle()
        everything = await process.read()
        assert values(everything) == process.told
        assert indices(everything) == list(range(2003))
        assert await follower == everything


async def test_indices_that_somebody_else_has_reserved_are_left_out() -> None:
    async with writing(reserve=2) as process:
        await process.store.reserve_indices(LOG, 10)  # as one does that does not know yet that its claim is lost
        process.stream_text(["a", "b", "c"])
        process.emit(Idle)
        await process.settle()
        read = await process.read()
        assert indices(read) == [0, 1, *range(12, 18)]
        told = [{**event, "eventIndex": index} for event, index in zip(process.told, indices(read), strict=True)]
        assert values(read) == told
        assert await process.follow() == read


async def test_after_a_crash_the_log_goes_on_with_a_gap_and_no_index_means_two_things() -> None:
    store = SlowStore()
    async with writing(store=store) as first:
        seen: list[LoggedEvent] = []
        follower = asyncio.create_task(collect(first, seen))
        await settled_tasks()
        first.emit(TurnStart, "agent")
        await settled_tasks()
        store.commit()
        await settled_tasks()
        first.stream_text(["lost"], end=False)
        await settled_tasks()
        assert indices(seen) == [0, 1, 2]
        store.lose()
        second = await take_over(first, "a2")
        second.emit(Idle)
        settling = asyncio.create_task(second.settle())
        await settled_tasks()
        store.commit()
        await settled_tasks()
        await settling
        await asyncio.wait_for(follower, 5)
        assert indices(seen) == [0, 1, 2, 1000]
        assert indices(await second.follow(after=2)) == [1000]
        assert indices(await second.follow()) == [0, 1000]


async def test_an_attempt_that_was_lost_writes_and_shows_nothing_more() -> None:
    async with writing() as first:
        heir = Process(first.store, first.clock)
        await first.store.take_over("a2", now=30_000)
        await heir.claim("a2", now=30_000)
        seen: list[LoggedEvent] = []
        follower = asyncio.create_task(collect(first, seen))
        await settled_tasks()
        first.emit(Idle)
        first.stream_text(["never"])
        await settled_tasks()
        first.emit(Idle)
        await settled_tasks()
        heir.emit(TurnStart, "agent")
        await heir.settle()
        await asyncio.wait_for(follower, 5)
        assert [event.type for event in seen] == ["turn_start"]
        assert await heir.read() == seen


# ------------------------------------------------------------------------------------------------- other uses


async def test_the_events_of_an_admission_are_rows_like_all_others() -> None:
    event = RunStart(Scope(run_id="r1"), 0, 5, "then", {"a": 1}, {"kind": "workflow"}, "report")
    (row,) = rows_of([event], "r1", "report/i1")
    assert (row.log, row.first, row.last, row.stream, row.deltas) == ("r1", 0, 0, "report/i1", False)
    async with writing() as process:
        await process.store.checkpoint(process.outbox.claim, writes(rows_of([event], LOG)))
        assert values(await process.read()) == [wire(event)]


async def test_a_streamed_answer_is_found_by_its_turn() -> None:
    async with writing() as process:
        process.emit(MessageStart, UserMessage((TextContent("Go"),)))
        empty = PartialAnswer(INFO, 1).message()
        process.emit(MessageStart, empty)
        process.stream_text(["first ", "try"], end=False)
        process.emit(MessageStart, empty)
        await process.clock.advance(1)
        assert await process.reader.streamed_text(LOG, "turn_1") == ""
        process.stream_text(["second ", "try"], end=False)
        child = Scope(session="task:1", turn_id="turn_2", task_id="t")
        partial = PartialAnswer(INFO, 1)
        process.emit_delta(partial, Delta("text_delta", 0, "of a task"), scope=child)
        await process.clock.advance(1)
        assert await process.reader.streamed_text(LOG, "turn_1") == "second try"
        assert await process.reader.streamed_text(LOG, "turn_1", after=2) == "second try"
        assert await process.reader.streamed_text(LOG, "turn_2") == ""
        partial = PartialAnswer(INFO, 1)
        process.emit(MessageStart, empty)
        process.emit_delta(partial, Delta("text_delta", 0, "Look:"))
        process.emit_delta(partial, Delta("toolcall_start", 1, content=ToolCall("c1", "look", {})))
        await process.clock.advance(1)
        assert await process.reader.streamed_text(LOG, "turn_1") == ""


async def test_the_log_of_what_was_said_forgets_nothing_that_a_task_said_meanwhile() -> None:
    """Two turn loops at once: the end of one must not lose what the other refers to."""
    long = UserMessage((TextContent("long " * 100),))
    answer = AssistantMessage((TextContent("also long " * 100),), "a", "p", "m")
    async with writing() as process:
        for kind, *fields in (
            (OperationStart, "prompt"),
            (AgentStart,),
            (MessageStart, long),
            (AgentStart,),
            (MessageEnd, answer),
            (AgentEnd, (answer,)),
            (MessageEnd, long),
            (AgentEnd, (long, answer)),
            (AgentEnd, (long,)),
            (Log, "info", "done", {"n": 1}),
        ):
            process.emit(kind, *fields)
        await process.settle()
        assert values(await process.read()) == process.told


def writes(rows: tuple[EventRow, ...]) -> Any:
    from flue.durable.records import Writes

    return Writes(events=rows)


async def test_a_log_goes_on_when_whoever_waited_for_its_write_is_cancelled() -> None:
    """As an abort does that comes while an answer is being written."""
    store = SlowStore()
    async with writing(store=store) as process:
        process.emit(OperationStart, "prompt")
        written = ClaimedStore(store, process.outbox).append_entries("s", head("a"), [entry("a")], expected=0)
        waiting = asyncio.ensure_future(asyncio.gather(written))
        await settled_tasks()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        store.commit()
        process.emit(Idle)
        settling = asyncio.create_task(process.settle())
        await settled_tasks()
        store.commit()
        await settling
        assert values(await process.read()) == process.told

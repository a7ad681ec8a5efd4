"""What is stored of an event is enough to tell it again, whatever it holds."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flue import events
from flue.definitions.tool import ToolResult
from flue.events import (
    AgentEnd,
    ErrorInfo,
    Idle,
    Log,
    MessageEnd,
    MessageStart,
    MessageUpdate,
    Operation,
    RunEnd,
    Scope,
    TextDelta,
    ToolExecutionEnd,
    Turn,
    TurnRequest,
)
from flue.harness.answer import PartialAnswer
from flue.messages import (
    AssistantMessage,
    ImageContent,
    Json,
    TextContent,
    ToolCall,
    ToolSpecs,
    Transcript,
    UserMessage,
)
from flue.ports import Delta
from flue.testing.scripted import INFO
from tests.engine.event_strategies import FIELDS, Telling, stories
from tests.engine.log_scene import LOG, SCOPE, settled_tasks, values, writing


def test_the_stories_know_every_type_of_event() -> None:
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert kinds == {*FIELDS, MessageUpdate, events.Event}


def without_images(value: Any) -> Any:
    """Return JSON values with images as the log shows them."""
    if isinstance(value, list):
        return [without_images(item) for item in value]
    if not isinstance(value, dict):
        return value
    shown = {name: without_images(item) for name, item in value.items()}
    for block in shown["content"] if isinstance(shown.get("content"), list) else ():
        if isinstance(block, dict) and set(block) == {"type", "data", "mimeType"} and block["type"] == "image":
            block.update(data="", truncated=True, characters=len(block["data"]))
    return shown


@given(stories(), st.data())
@settings(deadline=None, max_examples=10)
def test_every_event_is_read_as_it_was_told_by_whomever_and_from_wherever(
    story: Sequence[Telling], data: st.DataObject
) -> None:
    tell_and_read(story, data)


@pytest.mark.faults
@pytest.mark.timeout(120)
@given(stories(), st.data())
@settings(deadline=None, max_examples=300)
def test_many_stories_are_read_as_they_were_told(story: Sequence[Telling], data: st.DataObject) -> None:
    tell_and_read(story, data)


def tell_and_read(story: Sequence[Telling], data: st.DataObject) -> None:
    """Write a log while it is followed, and compare all that is read of it with what was told."""

    async def scenario() -> None:
        async with writing(reserve=data.draw(st.sampled_from([3, 1000]))) as process:
            early = asyncio.create_task(process.follow())
            late: asyncio.Task[Any] | None = None
            for tell in story:
                tell(process)
                if data.draw(st.booleans()):
                    await process.clock.advance(data.draw(st.sampled_from([0.0, 0.1, 0.3])))
                if late is None and data.draw(st.integers(0, 3)) == 0:
                    late = asyncio.create_task(process.follow())
            await process.settle()
            told = [without_images(event) for event in process.told]
            stored = await process.read()
            assert values(stored) == told
            assert [list(event) for event in values(stored)] == [list(event) for event in process.told]
            assert values(await early) == told
            assert late is None or values(await late) == told
            after = data.draw(st.integers(-1, len(told)))
            assert await process.read(after=after) == stored[after + 1 :]
            assert all("\n" not in event.data for event in stored)
            assert all(event.data.encode() for event in stored)

    asyncio.run(scenario())


async def test_answers_that_stream_at_once_and_in_uneven_time_share_a_row() -> None:
    async with writing() as process:
        one, two = PartialAnswer(INFO, 1), PartialAnswer(INFO, 2)
        other = Scope(session="other")
        for n in range(5):
            process.emit_delta(one, Delta("text_delta", 0, f"one {n} "))
            await process.clock.advance(0.004)
            process.emit(TextDelta, f"one {n} ")
            process.emit_delta(two, Delta("text_delta", 0, f"two {n} "), other)
            process.emit_delta(two, Delta("text_delta", 0, "and "), other)
            process.emit(TextDelta, "and ", scope=other)
            process.emit(TextDelta, f"two {n} ", scope=SCOPE)
            process.emit_delta(one, Delta("text_delta", 0, ""))
            process.emit(TextDelta, "")
        await process.settle()
        assert len(await process.store.read_events(LOG)) == 1
        assert values(await process.read()) == process.told


# ------------------------------------------------------------------------------------------------- what is cut

LIMIT = 2000


async def told_and_read(*emits: Sequence[Any], **options: Any) -> list[Json]:
    """Return what is read after emitting events; what was seen live must be the same."""
    async with writing(**{"field_limit": LIMIT, **options}) as process:
        live = asyncio.create_task(process.follow())
        await settled_tasks()
        for kind, *fields in emits:
            process.emit(kind, *fields)
        await process.settle()
        read = await process.read()
        assert values(await live) == values(read)
        return values(read)


def says(text: str) -> UserMessage:
    return UserMessage((TextContent(text),))


async def test_an_oversized_field_is_replaced_by_a_marker_and_the_rest_of_the_event_stays() -> None:
    long = says("x" * LIMIT)
    text = json.dumps(long.to_json(), separators=(",", ":"))
    marker = {"truncated": True, "characters": len(text), "preview": text[:1000]}
    ended, listed, log = await told_and_read(
        (MessageEnd, long), (AgentEnd, (long, says("short"))), (Log, "info", "y" * LIMIT, {"small": 1})
    )
    assert ended["message"] == marker
    assert listed["messages"] == [marker, says("short").to_json()]
    assert (log["message"]["truncated"], log["message"]["characters"], log["attributes"]) == (
        True,
        LIMIT + 2,
        {"small": 1},
    )


async def test_a_long_conversation_is_cut_in_the_request_not_in_its_messages() -> None:
    messages = [says(f"{n} " + "x" * 300) for n in range(10)]
    request = (TurnRequest, "agent", "m", "p", "a", "system", Transcript(messages), 10, ToolSpecs())
    (cut,) = await told_and_read(request)
    whole = json.dumps([message.to_json() for message in messages], separators=(",", ":"))
    assert cut["input"]["messages"]["characters"] == len(whole)
    assert whole.startswith(cut["input"]["messages"]["preview"])
    assert cut["input"]["systemPrompt"] == "system"
    (ended,) = await told_and_read((AgentEnd, tuple(messages)))
    assert ended["messages"]["characters"] == len(whole)


async def test_an_answer_that_outgrows_the_limit_goes_on_as_deltas_with_a_marker_for_the_whole() -> None:
    async with writing(field_limit=LIMIT) as process:
        live = asyncio.create_task(process.follow())
        await settled_tasks()
        process.stream_text(["word " * 10] * 60)
        await process.settle()
        read = values(await process.read())
        assert values(await live) == read
        updates = [event for event in read if event["type"] == "message_update"]
        told = [event for event in process.told if event["type"] == "message_update"]
        small = [event for event in updates if "content" in event["message"]]
        assert small == told[: len(small)]
        assert 0 < len(small) < 60
        for event, original in zip(updates[len(small) : -1], told[len(small) : -1], strict=True):
            assert event["assistantMessageEvent"]["delta"] == "word " * 10
            size = len(json.dumps(original["message"], separators=(",", ":")))
            assert event["message"]["characters"] == event["assistantMessageEvent"]["partial"]["characters"] == size


async def test_one_huge_delta_and_huge_arguments_are_cut_in_the_row_too() -> None:
    async with writing(field_limit=LIMIT) as process:
        live = asyncio.create_task(process.follow())
        await settled_tasks()
        partial = PartialAnswer(INFO, 1)
        process.emit_delta(partial, Delta("text_delta", 0, "x" * 100_000))
        process.emit(TextDelta, "x" * 100_000)
        process.emit_delta(partial, Delta("text_end", 0, content=TextContent("x" * 100_000)))
        arguments = {"text": "y" * 100_000}
        process.emit_delta(partial, Delta("toolcall_end", 1, content=ToolCall("c", "write", arguments)))
        process.emit_delta(partial, Delta("text_delta", 2, "after"))
        await process.settle()
        read = values(await process.read())
        assert values(await live) == read
        assert [event["message"]["truncated"] for event in read if event["type"] == "message_update"] == [True] * 4
        assert read[1]["text"]["characters"] == 100_002
        assert read[0]["assistantMessageEvent"]["delta"]["characters"] == 100_002
        assert read[3]["assistantMessageEvent"]["toolCall"]["truncated"] is True
        assert read[4]["assistantMessageEvent"]["delta"] == "after"
        rows = await process.store.read_events("s1")
        assert sum(len(stored.row.body) for stored in rows) < 10_000


async def test_images_are_named_and_their_data_is_left_out() -> None:
    image = ImageContent("aGVsbG8=" * 1000, "image/png")
    shown = {"type": "image", "data": "", "mimeType": "image/png", "truncated": True, "characters": 8000}
    message, tool = await told_and_read(
        (MessageEnd, UserMessage((TextContent("Look:"), image))),
        (ToolExecutionEnd, "camera", "c1", ToolResult((image,)), False),
    )
    assert message["message"]["content"] == [{"type": "text", "text": "Look:"}, shown]
    assert tool["result"]["content"] == [shown]


async def test_what_cannot_be_encoded_is_noted_and_the_log_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Odd:
        def to_json(self) -> Any:
            raise ValueError("odd")

    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with caplog.at_level(logging.CRITICAL, "flue"):
        read = await told_and_read(
            (RunEnd, False, 5, object()),
            (RunEnd, False, 5, float("nan")),
            (RunEnd, False, 5, deep),
            (RunEnd, False, 5, Odd()),
            (TextDelta, 7),
            (Idle,),
            told=False,
        )
    assert [(event["type"], event["eventIndex"]) for event in read] == [
        *(("run_end", index) for index in range(4)),
        ("text_delta", 4),
        ("idle", 5),
    ]
    assert [event["result"]["truncated"] for event in read[:2]] == [True, True]
    assert all(event["durationMs"] == 5 for event in read[:2])
    assert [event["note"] for event in read[2:5]] == [
        "This event could not be encoded (RecursionError).",
        "This event could not be encoded (ValueError).",
        "This event could not be encoded (TypeError).",
    ]


# ----------------------------------------------------------------------------------------------------- redaction


@pytest.mark.parametrize("errors", ["full", "redacted"])
async def test_the_messages_of_errors_are_kept_or_left_out_as_configured(errors: str) -> None:
    secret = "the password is swordfish"
    failed = AssistantMessage((), "a", "p", "m", stop_reason="error", error_message=secret)
    async with writing(errors=errors) as process:
        live = asyncio.create_task(process.follow())
        await settled_tasks()
        process.emit(MessageStart, failed)
        process.emit(MessageEnd, failed)
        process.emit(AgentEnd, (failed,))
        process.emit(Turn, "agent", 1, "m", "p", "a", failed, True, secret)
        process.emit(TurnRequest, "agent", "m", "p", "a", "", Transcript([failed]), 1, ToolSpecs())
        process.emit(Operation, "prompt", 1, True, ErrorInfo("OperationError", secret))
        process.emit(Log, "error", "it failed", {"error": {"name": "E", "message": secret, "stack": secret}, "n": 1})
        process.emit(RunEnd, True, 1, None, ErrorInfo("OperationError", secret))
        await process.settle()
        read = values(await process.read())
        assert values(await live) == read
        kept = "".join(stored.row.body for stored in await process.store.read_events("s1"))
        if errors == "full":
            assert read == process.told
            return
        assert secret not in kept + json.dumps(read)
        assert [read[-1]["error"]["name"], read[-3]["error"]["name"]] == ["OperationError", "OperationError"]
        assert read[-2]["attributes"]["error"]["name"] == "E"
        assert read[-2]["attributes"]["n"] == 1

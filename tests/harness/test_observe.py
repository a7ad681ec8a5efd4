from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from threading import Lock
from typing import Any

import pytest
from pydantic import BaseModel

from flue import FlueContext, Session, create_agent, observe, open_context, tool
from flue.definitions.tool import ToolResult
from flue.events import (
    AgentEnd,
    Event,
    Log,
    MessageEnd,
    MessageUpdate,
    Operation,
    Scope,
    ToolCallEnd,
    ToolExecutionStart,
    ToolStart,
    TurnRequest,
)
from flue.harness.own_copy import own_copy
from flue.messages import AssistantMessage, ToolCall
from flue.registrations import Registrations, using_registrations
from flue.testing import ScriptedModel, call


@pytest.fixture(autouse=True)
def registrations() -> Iterator[Registrations]:
    """Keep subscriptions out of other tests."""
    with using_registrations(Registrations()) as registrations:
        yield registrations


@tool
def look(place: str, options: dict[str, str]) -> str:
    """Look somewhere."""
    return f"{place}: {options}"


async def talk(registrations: Registrations, *steps: Any, **options: Any) -> tuple[Session, Any]:
    """Run one prompt in a context of its own; return its session and reply."""
    async with open_context(registrations=registrations) as context:
        return await prompt(context, *steps, **options)


async def prompt(context: FlueContext, *steps: Any, **options: Any) -> tuple[Session, Any]:
    harness = await context.init(create_agent(model=ScriptedModel(list(steps)), tools=[look]))
    session = await harness.session()
    return session, await session.prompt("Go", **options)


LOOK = call("look", {"place": "here", "options": {"light": "on"}})


async def test_a_subscriber_hears_everything_in_order_with_the_context(registrations: Registrations) -> None:
    heard: list[tuple[Event, Any]] = []
    observe(lambda event, context: heard.append((event, context)))
    await talk(registrations, LOOK, "ok")
    assert [event.index for event, _ in heard] == list(range(len(heard)))
    assert {type(context) for _, context in heard} == {FlueContext}
    assert {"operation_start", "tool_call", "text_delta", "operation", "idle"} <= {event.type for event, _ in heard}


async def test_what_a_subscriber_raises_is_logged_and_reaches_nobody_else(
    registrations: Registrations, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def broken(event: Event, context: Any) -> None:
        raise RuntimeError("broken subscriber")

    observe(broken)
    observe(lambda event, context: heard.append(event.type))
    _, reply = await talk(registrations, "fine")
    assert reply.text == "fine"
    assert heard[-1] == "idle"
    assert "broken subscriber" in caplog.text


def vandalise(event: Event, context: Any) -> None:
    """Change whatever can be changed."""
    match event:
        case ToolStart() | ToolExecutionStart():
            event.args["options"]["light"] = "spoiled"
            event.args["place"] = "spoiled"
        case MessageEnd() if isinstance(event.message, AssistantMessage):
            _spoil(event.message)
        case MessageUpdate():
            _spoil(event.partial())
            event.delta.delta = "spoiled"
            if isinstance(event.delta.content, ToolCall):
                event.delta.content.arguments["place"] = "spoiled"
        case TurnRequest():
            for message in [*event.messages, *event.transcript.messages]:
                if isinstance(message, AssistantMessage):
                    _spoil(message)
            for spec in [*event.tools, *event.tools.specs]:
                spec.parameters.clear()
            event.transcript.messages.clear()
        case AgentEnd():
            for message in event.messages:
                if isinstance(message, AssistantMessage):
                    _spoil(message)
        case ToolCallEnd() if isinstance(event.result.details, dict):
            event.result.details["spoiled"] = True
        case Operation():
            event.result.data.places.append("spoiled")
            event.result.json["places"].append("spoiled")


def _spoil(message: AssistantMessage) -> None:
    for block in message.tool_calls:
        block.arguments["place"] = "spoiled"


class Places(BaseModel):
    places: list[str]


async def test_what_a_subscriber_changes_reaches_neither_the_conversation_nor_other_subscribers(
    registrations: Registrations,
) -> None:
    heard: list[Event] = []
    observe(vandalise)
    observe(lambda event, context: heard.append(event))
    session, reply = await talk(
        registrations, LOOK, call("bash", {"command": "true"}), call("finish", {"places": ["here"]}), result=Places
    )
    assert reply.data == Places(places=["here"])
    assert reply.json == {"places": ["here"]}
    calls = [
        call
        for message in session.history.transcript
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls
    ]
    assert calls[0].arguments == {"place": "here", "options": {"light": "on"}}
    assert "spoiled" not in repr([event.to_json() for event in heard])
    model: Any = session.setup.model
    assert "spoiled" not in repr(model.requests)
    assert all(tool.parameters for request in model.requests for tool in request.tools)
    assert [len(request.messages) for request in model.requests] == [1, 3, 5]


async def test_what_was_sent_cannot_be_added_to(registrations: Registrations) -> None:
    requests: list[TurnRequest] = []
    observe(lambda event, context: requests.append(event) if isinstance(event, TurnRequest) else None)
    await talk(registrations, "ok")
    (request,) = requests
    assert len(request.transcript) == 2
    assert len(request.messages) == 1
    with pytest.raises(TypeError, match="what was sent"):
        request.transcript.append(request.messages[0])


def test_details_that_cannot_be_copied_are_handed_on_as_they_are() -> None:
    lock = Lock()
    event = ToolCallEnd(Scope(), 0, 0, "t", "call_1", False, ToolResult.from_text("ok", {"lock": lock}), 1)
    copied: Any = own_copy(event)
    assert copied.result.details["lock"] is lock


async def test_a_coroutine_function_runs_in_the_background_one_event_after_the_other(
    registrations: Registrations,
) -> None:
    begun: list[int] = []
    done: list[int] = []

    async def note(event: Event, context: Any) -> None:
        begun.append(event.index)
        for _ in range(3):
            await asyncio.sleep(0)
        assert begun[-1] == event.index
        done.append(event.index)

    observe(note)
    await talk(registrations, LOOK, "ok")
    # The context waited for them at its end.
    assert done == list(range(len(done)))
    assert len(done) > 10


async def test_a_failing_coroutine_is_logged_and_the_next_event_still_arrives(
    registrations: Registrations, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    async def note(event: Event, context: Any) -> None:
        heard.append(event.type)
        if event.type == "operation_start":
            raise RuntimeError("broken coroutine")
        if event.type == "agent_start":
            raise asyncio.CancelledError

    observe(note)
    await talk(registrations, "ok")
    assert heard[:2] == ["operation_start", "agent_start"]
    assert heard[-1] == "idle"
    assert "broken coroutine" in caplog.text
    assert "was cancelled" in caplog.text


async def test_a_slow_coroutine_does_not_hold_the_prompt_up(registrations: Registrations) -> None:
    free = asyncio.Event()
    done: list[str] = []

    async def wait(event: Event, context: Any) -> None:
        await free.wait()
        done.append(event.type)

    observe(wait)
    async with open_context(registrations=registrations) as context:
        _, reply = await prompt(context, "ok")
        assert (reply.text, done) == ("ok", [])
        free.set()
    assert done[-1] == "idle"


async def test_a_coroutine_that_is_too_slow_misses_events_and_is_told_how_many(
    registrations: Registrations, caplog: pytest.LogCaptureFixture
) -> None:
    free = asyncio.Event()
    heard: list[Event] = []

    async def wait(event: Event, context: FlueContext) -> None:
        await free.wait()
        heard.append(event)
        if isinstance(event, Log) and event.attributes:
            context.log.info("I missed some.")

    observe(wait)
    async with open_context(registrations=registrations) as context:
        for n in range(10_007):
            context.log.info(str(n))
        free.set()
    note, then = heard[10_000:]
    assert isinstance(note, Log)
    assert (note.level, note.attributes, note.index) == ("warn", {"leftOut": 7}, 10_006)
    assert (then.index, len(registrations.observers)) == (10_007, 1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "wait is too slow" in caplog.text


async def test_background_work_that_opens_a_context_of_its_own_does_not_wait_for_itself(
    registrations: Registrations,
) -> None:
    opened: list[str] = []

    async def nested(event: Event, context: Any) -> None:
        if event.type == "idle" and not opened:
            opened.append("yes")
            async with open_context(registrations=registrations):
                pass
            opened.append("closed")

    observe(nested)
    await talk(registrations, "ok")
    assert opened == ["yes", "closed"]


async def test_a_context_ends_without_work_that_takes_too_long(
    registrations: Registrations, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("flue.host._SETTLE_SECONDS", 0.01)
    tasks: list[asyncio.Task[Any] | None] = []

    async def stuck(event: Event, context: Any) -> None:
        tasks.append(asyncio.current_task())
        await asyncio.Event().wait()

    observe(stuck)
    await talk(registrations, "ok")
    assert "still at work" in caplog.text
    (task,) = tasks
    assert task is not None
    assert not task.done()


def test_a_loop_that_ends_first_leaves_no_coroutine_behind(registrations: Registrations) -> None:
    begun: list[str] = []

    async def note(event: Event, context: Any) -> None:
        begun.append(event.type)
        await asyncio.Event().wait()

    async def main() -> None:
        async with open_context(registrations=registrations) as context:
            context.log.info("one")
            context.log.info("two")
            registrations.observers.clear()

    observe(note)
    asyncio.run(main())  # a coroutine that is never awaited would be a warning, and warnings are errors here
    assert begun in ([], ["log"])


async def test_a_line_of_the_log_may_be_any_object(registrations: Registrations) -> None:
    lines: list[Event] = []
    observe(lambda event, context: lines.append(event))
    async with open_context(registrations=registrations) as context:
        context.log.info(42)
        context.log.warning(ValueError("no stock"), {"sku": "A-1"})
    assert [(line.level, line.message, line.attributes) for line in lines if isinstance(line, Log)] == [
        ("info", "42", None),
        ("warn", "no stock", {"sku": "A-1"}),
    ]


async def test_unsubscribing_ends_it_at_once_also_in_open_contexts(registrations: Registrations) -> None:
    heard: list[str] = []
    unsubscribe = observe(lambda event, context: heard.append(event.type))
    async with open_context(registrations=registrations) as context:
        context.log.info("before")
        unsubscribe()
        unsubscribe()
        context.log.info("after")
    assert heard == ["log"]
    assert registrations.observers == []


async def test_one_function_may_subscribe_twice_and_leave_once(registrations: Registrations) -> None:
    heard: list[str] = []

    def note(event: Event, context: Any) -> None:
        heard.append(event.type)

    leave = observe(note)
    observe(note)
    leave()
    async with open_context(registrations=registrations) as context:
        context.log.info("x")
    assert heard == ["log"]


def test_an_event_outside_any_loop_is_reported_not_lost_silently(
    registrations: Registrations, caplog: pytest.LogCaptureFixture
) -> None:
    async def note(event: Event, context: Any) -> None:
        raise AssertionError("never runs")

    async def opened() -> FlueContext:
        async with open_context(registrations=registrations) as context:
            return context

    observe(note)
    context = asyncio.run(opened())
    with caplog.at_level(logging.ERROR, "flue"):
        context.log.info("late")
    assert "subscriber failed on log" in caplog.text

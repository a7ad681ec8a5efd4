from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from flue import OperationError, create_agent, define_agent_profile, open_context, tool
from flue.errors import ProviderError
from flue.events import Event
from flue.observability import log_events
from flue.registrations import Registrations
from flue.testing import ScriptedModel, VirtualClock, call, thinking


@tool
def look(place: str) -> str:
    """Look somewhere."""
    if place == "nowhere":
        raise LookupError(f"there is no {place}")
    return f"something in {place}"


async def lines_of(
    registrations: Registrations,
    caplog: pytest.LogCaptureFixture,
    *steps: Any,
    level: int = logging.DEBUG,
    **options: Any,
) -> list[dict[str, Any]]:
    """Log one prompt and return the lines, read back."""
    unsubscribe = log_events(**options)
    model = ScriptedModel(list(steps))
    agent = create_agent(model=model, tools=[look], subagents=[define_agent_profile(name="scout")])
    with caplog.at_level(level, "flue.events"):
        async with open_context(registrations=registrations, id="i1", clock=VirtualClock(auto=True)) as context:
            session = await (await context.init(agent)).session()
            notes = context.log
            notes.info("half way", {"done": 3})
            try:
                await session.prompt("a question")
            except OperationError:
                notes.error("no answer")
    unsubscribe()
    return [json.loads(record.message) for record in caplog.records if record.name == "flue.events"]


async def test_each_event_is_one_line_with_where_and_when(
    registrations: Registrations, caplog: pytest.LogCaptureFixture
) -> None:
    lines = await lines_of(registrations, caplog, call("look", {"place": "here"}), "found it")
    assert [line["type"] for line in lines] == [
        *("log", "operation_start", "agent_start", "turn_start", "message_end", "turn_request", "message_end"),
        *("tool_start", "tool_call", "message_end", "turn_end", "turn"),
        *("turn_start", "turn_request", "message_end", "turn_end", "turn", "agent_end", "operation", "idle"),
    ]
    assert all(line["instanceId"] == "i1" and line["timestamp"].endswith("Z") for line in lines)
    assert [line["eventIndex"] for line in lines] == sorted(line["eventIndex"] for line in lines)


async def test_a_line_tells_names_times_tokens_and_cost_but_not_what_was_said(
    registrations: Registrations, caplog: pytest.LogCaptureFixture
) -> None:
    lines = await lines_of(
        registrations,
        caplog,
        [thinking("a thought"), call("look", {"place": "cupboard"})],
        call("look", {"place": "nowhere"}),
        call("task", {"prompt": "a task", "agent": "scout"}),
        "a child's answer",
        "an answer",
    )
    text = json.dumps(lines)
    for said in ("question", "thought", "cupboard", "nowhere", "a task", "answer", "You "):
        assert said not in text
    of = {line["type"]: line for line in lines}
    assert of["turn_request"] | {"model": "model", "provider": "scripted", "messageCount": 7} == of["turn_request"]
    assert of["turn"]["stopReason"] == "stop"
    assert of["turn"]["usage"]["cost"]["total"] > 0
    assert of["operation"] | {"operationKind": "prompt", "isError": False} == of["operation"]
    assert of["task_start"]["agent"] == "scout"
    assert of["tool_call"] | {"toolName": "task", "toolCallId": "call_3", "isError": False} == of["tool_call"]
    assert of["message_end"]["role"] == "assistant"
    assert of["log"] | {"message": "half way", "attributes": {"done": 3}} == of["log"]


async def test_what_failed_has_its_class_and_a_level_of_its_own(
    registrations: Registrations, caplog: pytest.LogCaptureFixture
) -> None:
    again = ProviderError("overloaded by canary", retryable=True)
    broken = ProviderError("broken by canary")
    lines = await lines_of(registrations, caplog, again, call("look", {"place": "nowhere"}), broken)
    levels = {
        (record.event["type"], record.levelname)  # type: ignore[attr-defined]
        for record in caplog.records
        if record.name == "flue.events" and record.levelno > logging.INFO
    }
    assert levels == {
        *(("log", "WARNING"), ("tool_call", "WARNING"), ("turn", "ERROR"), ("operation", "ERROR"), ("log", "ERROR")),
    }
    (operation,) = [line for line in lines if line["type"] == "operation"]
    assert operation["error"] == {"name": "OperationError"}
    assert "canary" not in json.dumps(lines)


async def test_with_content_everything_said_is_there_and_each_message_once(
    registrations: Registrations, caplog: pytest.LogCaptureFixture
) -> None:
    lines = await lines_of(registrations, caplog, call("look", {"place": "cupboard"}), "the answer is 42", content=True)
    of = {line["type"]: line for line in lines}
    assert of["tool_start"]["args"] == {"place": "cupboard"}
    assert of["operation"]["result"]["text"] == "the answer is 42"
    assert "systemPrompt" in of["turn_request"]
    ends = [line for line in lines if line["type"] == "message_end"]
    assert json.dumps(ends).count("a question") == 1
    assert "a question" not in json.dumps([line for line in lines if line["type"] != "message_end"])


async def test_deltas_are_lines_only_when_asked_for(
    registrations: Registrations, caplog: pytest.LogCaptureFixture
) -> None:
    lines = await lines_of(registrations, caplog, [thinking("hm"), "a long enough answer"], deltas=True, content=True)
    assert "".join(line["text"] for line in lines if line["type"] == "text_delta") == "a long enough answer"
    assert [line["delta"] for line in lines if line["type"] == "thinking_delta"] == ["hm"]
    assert not [line for line in lines if line["type"] == "message_update"]


async def test_deltas_without_content_hold_no_text(
    registrations: Registrations, caplog: pytest.LogCaptureFixture
) -> None:
    lines = await lines_of(registrations, caplog, "a long enough answer", deltas=True)
    assert {"type", "timestamp"} < {key for line in lines if line["type"] == "text_delta" for key in line}
    assert not [line for line in lines if "text" in line]


async def test_a_logger_that_is_off_costs_nothing_and_gets_nothing(
    registrations: Registrations, caplog: pytest.LogCaptureFixture
) -> None:
    assert await lines_of(registrations, caplog, "ok", level=logging.ERROR) == []


async def test_it_goes_to_the_logger_it_was_given_until_it_is_ended(registrations: Registrations) -> None:
    class Kept(logging.Handler):
        def __init__(self) -> None:
            super().__init__()
            self.records: list[logging.LogRecord] = []

        def emit(self, record: logging.LogRecord) -> None:
            self.records.append(record)

    logger, kept = logging.getLogger("flue.tests.mine"), Kept()
    logger.setLevel(logging.INFO)
    logger.addHandler(kept)
    unsubscribe = log_events(logger)
    async with open_context(registrations=registrations) as context:
        context.log.info("100 % done")
        unsubscribe()
        context.log.info("later")
    (record,) = kept.records
    event: Any = record.event  # type: ignore[attr-defined]
    assert json.loads(record.getMessage()) == event
    assert event["message"] == "100 % done"


def test_every_event_has_a_line_in_both_forms() -> None:
    from flue.observability.log_lines import full, harmless

    class Unheard(Event):
        """An event that does not exist yet, with something to hide."""

        type = "unheard"

        def own_json(self) -> dict[str, Any]:
            return {"secret": "canary"}

    from flue.events import Scope

    event = Unheard(Scope(run_id="r"), 7, 0)
    assert full(event)["secret"] == "canary"
    assert harmless(event) == {
        "type": "unheard",
        "runId": "r",
        "eventIndex": 7,
        "timestamp": "1970-01-01T00:00:00.000Z",
    }

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from flue.cli.render import Renderer
from flue.definitions.tool import ToolResult
from flue.events import (
    ApprovalEnd,
    ApprovalRequest,
    Compaction,
    CompactionStart,
    ErrorInfo,
    Event,
    Idle,
    Log,
    MessageEnd,
    Operation,
    OperationStart,
    RunEnd,
    RunResume,
    RunStart,
    Scope,
    TaskEnd,
    TaskStart,
    TextDelta,
    ThinkingDelta,
    ThinkingEnd,
    ThinkingStart,
    ToolCallEnd,
    ToolStart,
)
from flue.messages import AssistantMessage, Json, TextContent, ThinkingContent, UserMessage


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(*events: Event, terminal: bool = False, runs: bool = False) -> str:
    stream = Terminal() if terminal else io.StringIO()
    renderer = Renderer(stream, runs=runs)
    for event in events:
        renderer(wire(event))
    renderer.end_line()
    return stream.getvalue()


def wire(event: Event) -> Json:
    """Return an event as logs and servers give it."""
    values: Json = json.loads(json.dumps(event.to_json()))
    return values


def make(kind: Any, *values: Any, scope: Scope | None = None, **named: Any) -> Any:
    return kind(scope or Scope(), 0, 0, *values, **named)


def tool_end(text: str, *, is_error: bool = False) -> Any:
    return make(ToolCallEnd, "bash", "call", is_error, ToolResult.from_text(text), 5)


def test_text_is_indented_and_appears_piece_by_piece() -> None:
    stream = io.StringIO()
    renderer = Renderer(stream)
    renderer(wire(make(TextDelta, "Hel")))
    assert stream.getvalue() == "  Hel"
    renderer(wire(make(TextDelta, "lo\n\nwor")))
    renderer(wire(make(TextDelta, "ld")))
    assert stream.getvalue() == "  Hello\n\n  world"


def test_other_events_begin_a_line_of_their_own() -> None:
    text = shown(make(TextDelta, "Looking"), make(ToolStart, "bash", "call", {"command": "ls -l"}))
    assert text == "  Looking\n[flue] tool:start  bash  $ ls -l\n"


MODEL_SAID = AssistantMessage((TextContent("a b"),), "api", "provider", "model")
ONE, TWO = Scope(session="one"), Scope(session="two")


def streamed(*pieces: tuple[Scope, str]) -> list[Event]:
    return [make(TextDelta, text, scope=scope) for scope, text in pieces]


def test_two_sessions_that_stream_at_once_are_not_mixed_within_a_line() -> None:
    events = streamed((ONE, "a "), (TWO, "c "), (ONE, "b\n"), (TWO, "d"), (ONE, "e"), (TWO, "\n"), (ONE, "f"))
    assert shown(*events) == "  a b\n  c d\n  ef\n"


def test_the_first_to_write_has_the_line_and_is_seen_at_once() -> None:
    stream = io.StringIO()
    renderer = Renderer(stream)
    for event in streamed((ONE, "a "), (TWO, "c\nd "), (ONE, "b")):
        renderer(wire(event))
    assert stream.getvalue() == "  a b"
    renderer(wire(make(MessageEnd, MODEL_SAID, scope=ONE)))
    assert stream.getvalue() == "  a b\n  c\n"
    renderer(wire(make(TextDelta, "e", scope=TWO)))
    assert stream.getvalue() == "  a b\n  c\n  d e"


def test_a_line_of_an_event_comes_after_what_its_session_wrote_and_breaks_the_line_of_another() -> None:
    events = [*streamed((ONE, "a "), (TWO, "c")), make(ToolStart, "read", "call", {"path": "x"}, scope=TWO)]
    assert shown(*events, *streamed((ONE, "b"))) == "  a \n  c\n[flue] tool:start  read  x\n  b\n"


def test_what_waits_when_all_is_over_is_written() -> None:
    assert shown(*streamed((ONE, "a"), (TWO, "b\nc"))) == "  a\n  b\n  c\n"


def test_a_session_that_stops_thinking_begins_a_new_line() -> None:
    events = [make(ThinkingDelta, "hm"), make(TextDelta, "yes")]
    assert shown(*events) == "  hm\n  yes\n"


def test_thinking_is_marked_and_dimmed_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    events = [make(ThinkingStart), make(ThinkingDelta, "hm"), make(ThinkingEnd, "hm"), make(TextDelta, "Yes")]
    assert shown(*events) == "[flue] thinking:start\n  hm\n  Yes\n"
    assert shown(*events, terminal=True) == "\x1b[2m[flue] thinking:start\x1b[0m\n  \x1b[2mhm\x1b[0m\n  Yes\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    assert "\x1b" not in shown(make(ThinkingStart), make(ThinkingDelta, "hm"), terminal=True)


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("bash", {"command": "a\n  b"}, "bash  $ a b"),
        ("read", {"path": "/x", "limit": 3}, "read  /x"),
        ("grep", {"pattern": "TODO", "path": "/"}, "grep  TODO"),
        ("weather", {"city": "Århus"}, 'weather  {"city": "Århus"}'),
        ("bash", "not an object", "bash  not an object"),
    ],
)
def test_a_tool_call_shows_what_says_most(name: str, arguments: Any, line: str) -> None:
    assert shown(make(ToolStart, name, "call", arguments)) == f"[flue] tool:start  {line}\n"


def test_a_long_command_is_cut_to_120_characters() -> None:
    line = shown(make(ToolStart, "bash", "call", {"command": "x" * 500}))
    assert line == f"[flue] tool:start  bash  $ {'x' * 117}…\n"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (tool_end("ok"), "tool:done   bash  ok"),
        (tool_end("x" * 201), "tool:done   bash  (201 chars)"),
        (tool_end("no such\nfile", is_error=True), "tool:error   bash  no such file"),
        (make(Log, "info", "half way"), "info: half way"),
        (make(Log, "warn", "slow", {"ms": 3}), 'warn: slow  {"ms": 3}'),
        (make(TaskStart, "find\nit", agent="scout"), "task:start  scout  find it"),
        (make(TaskEnd, False, 3, agent="scout"), "task:done   scout"),
        (make(TaskEnd, True, 3), "task:error  task"),
        (make(CompactionStart, "threshold", 1234), "compaction:start  reason=threshold tokens=1234"),
        (make(Compaction, 40, 7, 1200), "compaction:done   messages: 40 → 7"),
        (make(ApprovalRequest, "bash", "call_1", {"command": "rm x"}), "approval:wait  bash  $ rm x  id=call_1"),
        (make(ApprovalEnd, "bash", "call_1", True), "approval:yes   bash"),
        (make(ApprovalEnd, "bash", "call_1", False, "too\nrisky"), "approval:no    bash  too risky"),
    ],
)
def test_an_event_is_one_line(event: Event, line: str) -> None:
    assert shown(event) == f"[flue] {line}\n"


def test_events_nobody_watches_for_are_not_shown() -> None:
    assert shown(make(Idle)) == ""


def test_control_characters_of_models_and_tools_do_not_reach_the_terminal() -> None:
    nasty = "\x1b]52;c;aGk=\x07\x9b2J\rdone"
    text = shown(make(TextDelta, nasty), tool_end(nasty), make(Log, "info", nasty))
    assert set(text) & set("\x1b\x07\x9b\r") == set()
    assert "done" in text


def test_an_answer_whose_pieces_are_not_kept_any_more_is_shown_when_it_ends() -> None:
    thought = AssistantMessage((ThinkingContent("hm"), TextContent("One\ntwo.")), "api", "provider", "model")
    asked = UserMessage((TextContent("What?"),))
    assert shown(make(MessageEnd, asked), make(MessageEnd, thought)) == "  One\n  two.\n"
    pieces = [make(TextDelta, "One\n"), make(TextDelta, "two."), make(MessageEnd, thought)]
    assert shown(*pieces, make(MessageEnd, thought)) == "  One\n  two.\n  One\n  two.\n"


OWNER = {"kind": "workflow", "workflowName": "w", "instanceId": "r1"}
RUN = Scope(run_id="r1")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (make(RunStart, "now", {}, OWNER, scope=RUN, workflow_name="w"), "run:start  r1  workflow=w"),
        (make(RunResume, "now", OWNER, scope=RUN, agent_name="a"), "run:resume r1  agent=a"),
        (make(RunEnd, False, 1234, scope=RUN), "run:end    r1  ok  (1.23s)"),
        (make(RunEnd, True, 12, None, ErrorInfo("E", "no\nluck"), scope=RUN), "run:end    r1  ERROR  no luck  (12ms)"),
        (make(OperationStart, "prompt"), "op:start   prompt"),
        (make(Operation, "prompt", 61_500, False), "op:done    prompt (1m1.5s)"),
        (make(Operation, "shell", 3, True, ErrorInfo("E", "no")), "op:done    shell (3ms)  ERROR  no"),
    ],
)
def test_runs_and_calls_have_lines_where_they_are_asked_for(event: Event, line: str) -> None:
    assert shown(event, runs=True) == f"[flue] {line}\n"
    assert shown(event) == ""


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"type": None},
        {"type": "text_delta"},
        {"type": "text_delta", "text": {"truncated": True}, "session": ["odd"]},
        {"type": "message_end", "message": "lost"},
        {"type": "message_end", "message": {"role": "assistant", "content": [1, {"type": "text"}, {"type": "image"}]}},
        {"type": "tool_start", "toolName": 7, "args": {"command": None}},
        {"type": "tool_call", "toolName": "bash", "isError": "yes", "result": {"content": {"a": 1}}},
        {"type": "turn", "isError": True, "error": {"message": "x"}},
        {"type": "log", "level": [], "message": 3.5, "attributes": "odd"},
        {"type": "run_end", "isError": True, "error": "text", "durationMs": "soon"},
        {"type": "task", "agent": {}, "isError": 1},
    ],
)
def test_events_of_an_odd_server_are_no_error(event: Json) -> None:
    stream = io.StringIO()
    renderer = Renderer(stream, runs=True)
    renderer(event)
    renderer.end_line()
    assert "Traceback" not in stream.getvalue()

from __future__ import annotations

import io
from typing import Any

import pytest

from flue.cli.render import Renderer
from flue.definitions.tool import ToolResult
from flue.events import (
    Event,
    Idle,
    Log,
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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(*events: Event, terminal: bool = False) -> str:
    stream = Terminal() if terminal else io.StringIO()
    renderer = Renderer(stream)
    for event in events:
        renderer(event)
    renderer.end_line()
    return stream.getvalue()


def make(kind: Any, *values: Any, scope: Scope | None = None, **named: Any) -> Any:
    return kind(scope or Scope(), 0, 0, *values, **named)


def tool_end(text: str, *, is_error: bool = False) -> Any:
    return make(ToolCallEnd, "bash", "call", is_error, ToolResult.from_text(text), 5)


def test_text_is_indented_and_appears_piece_by_piece() -> None:
    stream = io.StringIO()
    renderer = Renderer(stream)
    renderer(make(TextDelta, "Hel"))
    assert stream.getvalue() == "  Hel"
    renderer(make(TextDelta, "lo\n\nwor"))
    renderer(make(TextDelta, "ld"))
    assert stream.getvalue() == "  Hello\n\n  world"


def test_other_events_begin_a_line_of_their_own() -> None:
    text = shown(make(TextDelta, "Looking"), make(ToolStart, "bash", "call", {"command": "ls -l"}))
    assert text == "  Looking\n[flue] tool:start  bash  $ ls -l\n"


def test_two_sessions_that_stream_at_once_do_not_share_a_line() -> None:
    one, two = Scope(session="one"), Scope(session="two")
    events = [make(TextDelta, text, scope=scope) for text, scope in (("a", one), ("b", two), ("c", two), ("d", one))]
    assert shown(*events) == "  a\n  bc\n  d\n"


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

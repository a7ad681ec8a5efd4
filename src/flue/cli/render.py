"""Events as lines of a terminal: the answer as it streams, tool calls, logs; for `flue logs` also runs and calls."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TextIO

_WIDTH = 120
_SHORT_RESULT = 200
# A model or a tool must not move the cursor, set the title or reach the clipboard of whoever watches.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DIM, _RED, _RESET = "\x1b[2m", "\x1b[31m", "\x1b[0m"
# The argument that says most, for the tools every agent has; others show all their arguments.
_TELLING = {"read": "path", "write": "path", "edit": "path", "grep": "pattern", "glob": "pattern"}

WireEvent = Mapping[str, Any]
"""An event as JSON values. It may come from a server: nothing is known of its fields."""


class _Writer(NamedTuple):
    """Who writes text: a session, thinking or not (its thoughts have a style of their own)."""

    harness: object
    session: object
    task_id: object
    style: str

    @property
    def place(self) -> tuple[object, object, object]:
        """Return the session."""
        return self[:3]


class Renderer:
    """Writes events to `stream`. Text appears as it arrives, indented by two spaces; the rest is one line an event.

    Where several sessions write at once, one of them has the line until it is full; what the others write waits. With
    `runs` the beginning and end of runs and calls have lines, too: whoever started a run does not need them.

    Colour is used on terminals, unless NO_COLOR is set (no-color.org) or TERM is `dumb`.
    """

    def __init__(self, stream: TextIO, *, runs: bool = False) -> None:
        self._stream = stream
        self._runs = runs
        self._live = stream.isatty()
        self._colour = self._live and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._open: _Writer | None = None
        """Whose text stands on the line that is not finished yet."""
        self._waiting: dict[_Writer, str] = {}
        """What others have written meanwhile."""
        self._streaming: set[tuple[object, object, object]] = set()
        """Sessions whose message is shown already, as it arrives."""

    def __call__(self, event: WireEvent) -> None:
        """Write an event, if it is one that people want to see."""
        match event.get("type"):
            case "text_delta":
                self._streaming.add(_place(event))
                self._text(_string(event.get("text")), event, "")
            case "thinking_start":
                self._tell(event, "thinking:start", _DIM)
            case "thinking_delta":
                self._text(_string(event.get("delta")), event, _DIM)
            case "thinking_end":
                self._end_text(event)
            case "message_end":
                self._message_end(event)
            case "turn" if event.get("isError"):
                error = _cut(_string(event.get("error")))
                self._tell(event, f"turn:error  {_string(event.get('model'))}  {error}", _RED)
            case _:
                line = line_of(event, runs=self._runs)
                if line is not None:
                    self._tell(event, line.text, _RED if line.bad else "")
        if self._live:
            self._stream.flush()

    def say(self, text: str, *, style: str = "") -> None:
        """Write one line of Flue's own."""
        self.end_line()
        self._line(text, style)

    def write(self, text: str) -> None:
        """Write text as it is, without ending the line."""
        self.end_line()
        self._stream.write(text)
        self._stream.flush()

    def end_line(self) -> None:
        """End the line of streamed text, if one is open, and write what waits."""
        self._break()
        self._release(tuple(self._waiting))

    def _tell(self, event: WireEvent, text: str, style: str = "") -> None:
        """Write the line of an event, after what its session wrote before."""
        self._end_text(event)
        self._break()
        self._line(text, style)

    def _line(self, text: str, style: str) -> None:
        self._stream.write(f"{self._styled(f'[flue] {plain(text)}', style)}\n")

    def _text(self, text: str, event: WireEvent, style: str) -> None:
        writer = _Writer(*_place(event), style)
        text = _CONTROL.sub("", text)
        if self._open is not None and self._open.place == writer.place:
            if self._open != writer:
                self._break()
        elif self._open is not None:
            self._waiting[writer] = self._waiting.get(writer, "") + text
            return
        self._put(writer, self._waiting.pop(writer, "") + text)
        if self._open is None:
            self._release_lines()

    def _put(self, writer: _Writer, text: str) -> None:
        for position, line in enumerate(text.split("\n")):
            if position:
                self._stream.write("\n")
                self._open = None
            if line:
                indent = "" if self._open else "  "
                self._stream.write(indent + self._styled(line, writer.style))
                self._open = writer

    def _message_end(self, event: WireEvent) -> None:
        """End a message; one whose pieces are not kept any more, or never came, is shown now."""
        message = event.get("message")
        if _place(event) not in self._streaming and isinstance(message, Mapping) and message.get("role") == "assistant":
            self._text(_blocks(message.get("content")), event, "")
        self._streaming.discard(_place(event))
        self._end_text(event)

    def _break(self) -> None:
        if self._open is not None:
            self._stream.write("\n")
            self._open = None

    def _end_text(self, event: WireEvent) -> None:
        """End what a session has written so far."""
        place = _place(event)
        mine = [writer for writer in self._waiting if writer.place == place]
        if mine or (self._open is not None and self._open.place == place):
            self._break()
            self._release(mine)
            self._release_lines()

    def _release(self, writers: Iterable[_Writer]) -> None:
        """Write all that these have waiting, down to the unfinished line."""
        for writer in writers:
            self._put(writer, self._waiting.pop(writer))
            self._break()

    def _release_lines(self) -> None:
        """Write the lines that wait and are complete."""
        for writer, text in tuple(self._waiting.items()):
            whole, newline, rest = text.rpartition("\n")
            if newline:
                self._put(writer, whole + newline)
                self._waiting[writer] = rest

    def _styled(self, text: str, style: str) -> str:
        return f"{style}{text}{_RESET}" if self._colour and style else text


class Line(NamedTuple):
    """What there is to say of an event; `bad` when something went wrong."""

    text: str
    bad: bool = False


def line_of(event: WireEvent, *, runs: bool = False) -> Line | None:
    """Return the line for an event that is no text, None for one that nobody wants to see; see `Renderer`."""
    tool, bad = _string(event.get("toolName")), bool(event.get("isError"))
    match event.get("type"):
        case "tool_start":
            return Line(f"tool:start  {tool}  {call_of(tool, event.get('args'))}")
        case "tool_call":
            return Line(f"tool:{'error ' if bad else 'done '}  {tool}  {_result_of(event.get('result'), bad=bad)}", bad)
        case "approval_request":
            call = call_of(tool, event.get("args"))
            return Line(f"approval:wait  {tool}  {call}  id={_string(event.get('toolCallId'))}")
        case "approval":
            reason = f"  {_cut(_string(event.get('reason')))}" if event.get("reason") else ""
            return Line(f"approval:{'yes ' if event.get('approved') else 'no  '}  {tool}{reason}")
        case "task_start":
            return Line(f"task:start  {_agent(event)}  {_cut(_string(event.get('prompt')))}")
        case "task":
            return Line(f"{'task:error' if bad else 'task:done '}  {_agent(event)}", bad)
        case "compaction_start":
            return Line(f"compaction:start  reason={event.get('reason')} tokens={event.get('estimatedTokens')}")
        case "compaction":
            return Line(f"compaction:done   messages: {event.get('messagesBefore')} → {event.get('messagesAfter')}")
        case "log":
            more = f"  {_compact(event['attributes'])}" if event.get("attributes") else ""
            level = _string(event.get("level"))
            return Line(f"{level}: {_string(event.get('message'))}{more}", level == "error")
        case _:
            return _run_line(event, bad=bad) if runs else None


def _run_line(event: WireEvent, *, bad: bool) -> Line | None:
    kind = _string(event.get("operationKind"))
    match event.get("type"):
        case "run_start" | "run_resume" as type:
            what = "workflow" if event.get("workflowName") else "agent"
            name = _string(event.get("workflowName") or event.get("agentName"))
            began = "run:start  " if type == "run_start" else "run:resume "
            return Line(f"{began}{_string(event.get('runId'))}  {what}={name}")
        case "run_end":
            error = f"ERROR  {_cut(_error_text(event.get('error')))}" if bad else "ok"
            return Line(f"run:end    {_string(event.get('runId'))}  {error}  ({_duration(event)})", bad)
        case "operation_start":
            return Line(f"op:start   {kind}")
        case "operation":
            error = f"  ERROR  {_cut(_error_text(event.get('error')))}" if bad else ""
            return Line(f"op:done    {kind} ({_duration(event)}){error}", bad)
    return None


def call_of(tool: str, arguments: Any) -> str:
    """Return what a call of a tool is about, in one line."""
    if not isinstance(arguments, Mapping):
        return _cut(_string(arguments))
    if tool == "bash":
        return _cut(f"$ {arguments.get('command', '')}")
    telling = arguments.get(_TELLING.get(tool, ""))
    return _cut(telling if isinstance(telling, str) else _compact(arguments))


def plain(text: str) -> str:
    """Return text in one line, without what a terminal would take for commands."""
    return " ".join(_CONTROL.sub("", text).split("\n")).rstrip()


def _place(event: WireEvent) -> tuple[object, object, object]:
    harness, session, task = event.get("harness"), event.get("session"), event.get("taskId")
    return _string(harness), _string(session), _string(task)


def _agent(event: WireEvent) -> str:
    return _string(event.get("agent")) or "task"


def _string(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else _compact(value)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"


def _compact(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False, default=str))


def _result_of(result: Any, *, bad: bool) -> str:
    text = _blocks(result["content"]) if isinstance(result, Mapping) and "content" in result else _string(result)
    return f"({len(text)} chars)" if len(text) > _SHORT_RESULT and not bad else _cut(text)


def _blocks(content: Any) -> str:
    """Return the text of a message or a result; the model's thoughts and calls have events of their own."""
    if not isinstance(content, list):
        return _string(content)
    texts = []
    for block in content:
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind == "text":
            texts.append(_string(block.get("text")))
        elif kind == "image":
            texts.append("[image]")
    return "\n".join(texts)


def _error_text(error: Any) -> str:
    return _string(error.get("message")) if isinstance(error, Mapping) else _string(error)


def _duration(event: WireEvent) -> str:
    milliseconds = event.get("durationMs")
    if not isinstance(milliseconds, int | float):
        return "?"
    if milliseconds < 1000:
        return f"{milliseconds:.0f}ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.2f}s"
    return f"{milliseconds // 60_000:.0f}m{milliseconds % 60_000 / 1000:.1f}s"

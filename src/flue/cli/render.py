"""Events as lines of a terminal: the answer as it streams, tool calls, logs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple, TextIO

from flue.definitions.tool import ToolResult
from flue.events import (
    ApprovalEnd,
    ApprovalRequest,
    Compaction,
    CompactionStart,
    Event,
    Log,
    MessageEnd,
    Scope,
    TaskEnd,
    TaskStart,
    TextDelta,
    ThinkingDelta,
    ThinkingEnd,
    ThinkingStart,
    ToolCallEnd,
    ToolStart,
    Turn,
)
from flue.messages import TextContent

_WIDTH = 120
_SHORT_RESULT = 200
# A model or a tool must not move the cursor, set the title or reach the clipboard of whoever watches.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DIM, _RED, _RESET = "\x1b[2m", "\x1b[31m", "\x1b[0m"
# The argument that says most, for the tools every agent has; others show all their arguments.
_TELLING = {"read": "path", "write": "path", "edit": "path", "grep": "pattern", "glob": "pattern"}


class _Writer(NamedTuple):
    """Who writes text: a session, thinking or not (its thoughts have a style of their own)."""

    harness: str | None
    session: str | None
    task_id: str | None
    style: str

    @property
    def place(self) -> tuple[str | None, str | None, str | None]:
        """Return the session."""
        return self[:3]


class Renderer:
    """Writes events to `stream`. Text appears as it arrives, indented by two spaces; the rest is one line an event.

    Where several sessions write at once, one of them has the line until it is full; what the others write waits.

    Colour is used on terminals, unless NO_COLOR is set (no-color.org) or TERM is `dumb`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._colour = self._live and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._open: _Writer | None = None
        """Whose text stands on the line that is not finished yet."""
        self._waiting: dict[_Writer, str] = {}
        """What others have written meanwhile."""

    def __call__(self, event: Event) -> None:
        """Write an event, if it is one that people want to see."""
        match event:
            case TextDelta():
                self._text(event.text, event.scope, "")
            case ThinkingStart():
                self._tell(event, "thinking:start", _DIM)
            case ThinkingDelta():
                self._text(event.delta, event.scope, _DIM)
            case ThinkingEnd() | MessageEnd():
                self._end_text(event.scope)
            case ToolStart():
                self._tell(event, f"tool:start  {event.tool_name}  {_call(event.tool_name, event.args)}")
            case ToolCallEnd():
                self._tool_end(event)
            case ApprovalRequest():
                what = f"{event.tool_name}  {_call(event.tool_name, event.args)}"
                self._tell(event, f"approval:wait  {what}  id={event.tool_call_id}")
            case ApprovalEnd():
                reason = f"  {_cut(event.reason)}" if event.reason else ""
                self._tell(event, f"approval:{'yes ' if event.approved else 'no  '}  {event.tool_name}{reason}")
            case TaskStart():
                self._tell(event, f"task:start  {event.agent or 'task'}  {_cut(event.prompt)}")
            case TaskEnd():
                outcome = "task:error" if event.is_error else "task:done "
                self._tell(event, f"{outcome}  {event.agent or 'task'}", _RED if event.is_error else "")
            case CompactionStart():
                self._tell(event, f"compaction:start  reason={event.reason} tokens={event.estimated_tokens}")
            case Compaction():
                self._tell(event, f"compaction:done   messages: {event.messages_before} → {event.messages_after}")
            case Turn(is_error=True):
                self._tell(event, f"turn:error  {event.model}  {_cut(event.error or '')}", _RED)
            case Log():
                more = f"  {_compact(event.attributes)}" if event.attributes else ""
                self._tell(event, f"{event.level}: {event.message}{more}", _RED if event.level == "error" else "")
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

    def _tell(self, event: Event, text: str, style: str = "") -> None:
        """Write the line of an event, after what its session wrote before."""
        self._end_text(event.scope)
        self._break()
        self._line(text, style)

    def _line(self, text: str, style: str) -> None:
        self._stream.write(f"{self._styled(f'[flue] {_one_line(text)}', style)}\n")

    def _text(self, text: str, scope: Scope, style: str) -> None:
        writer = _Writer(scope.harness, scope.session, scope.task_id, style)
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

    def _break(self) -> None:
        if self._open is not None:
            self._stream.write("\n")
            self._open = None

    def _end_text(self, scope: Scope) -> None:
        """End what a session has written so far."""
        place = (scope.harness, scope.session, scope.task_id)
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

    def _tool_end(self, event: ToolCallEnd) -> None:
        text = _result_text(event.result)
        if event.is_error:
            self._tell(event, f"tool:error   {event.tool_name}  {_cut(text)}", _RED)
        else:
            shown = f"({len(text)} chars)" if len(text) > _SHORT_RESULT else _cut(text)
            self._tell(event, f"tool:done   {event.tool_name}  {shown}")

    def _styled(self, text: str, style: str) -> str:
        return f"{style}{text}{_RESET}" if self._colour and style else text


def _one_line(text: str) -> str:
    return " ".join(_CONTROL.sub("", text).split("\n")).rstrip()


def _call(name: str, arguments: Any) -> str:
    if not isinstance(arguments, dict):
        return _cut(str(arguments))
    if name == "bash":
        return _cut(f"$ {arguments.get('command', '')}")
    telling = arguments.get(_TELLING.get(name, ""))
    return _cut(telling if isinstance(telling, str) else _compact(arguments))


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"


def _compact(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False, default=str))


def _result_text(result: Any) -> str:
    if isinstance(result, ToolResult):
        return "\n".join(block.text if isinstance(block, TextContent) else "[image]" for block in result.content)
    return result if isinstance(result, str) else _compact(result)

"""Events as lines of a terminal: the answer as it streams, tool calls, logs."""

from __future__ import annotations

import json
import os
import re
from typing import Any, TextIO

from flue.definitions.tool import ToolResult
from flue.events import (
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


class Renderer:
    """Writes events to `stream`. Text appears as it arrives, indented by two spaces; the rest is one line an event.

    Colour is used on terminals, unless NO_COLOR is set (no-color.org) or TERM is `dumb`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._colour = self._live and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._open: tuple[Any, ...] | None = None
        """Whose text stands on the line that is not finished yet."""

    def __call__(self, event: Event) -> None:
        """Write an event, if it is one that people want to see."""
        match event:
            case TextDelta():
                self._text(event.text, event.scope, "")
            case ThinkingStart():
                self.say("thinking:start", style=_DIM)
            case ThinkingDelta():
                self._text(event.delta, event.scope, _DIM)
            case ThinkingEnd() | MessageEnd():
                self.end_line()
            case ToolStart():
                self.say(f"tool:start  {event.tool_name}  {_call(event.tool_name, event.args)}")
            case ToolCallEnd():
                self._tool_end(event)
            case TaskStart():
                self.say(f"task:start  {event.agent or 'task'}  {_cut(event.prompt)}")
            case TaskEnd():
                outcome = "task:error" if event.is_error else "task:done "
                self.say(f"{outcome}  {event.agent or 'task'}", style=_RED if event.is_error else "")
            case Turn(is_error=True):
                self.say(f"turn:error  {event.model}  {_cut(event.error or '')}", style=_RED)
            case Log():
                more = f"  {_compact(event.attributes)}" if event.attributes else ""
                self.say(f"{event.level}: {event.message}{more}", style=_RED if event.level == "error" else "")
        if self._live:
            self._stream.flush()

    def say(self, text: str, *, style: str = "") -> None:
        """Write one line of Flue's own."""
        self.end_line()
        self._stream.write(f"{self._styled(f'[flue] {_one_line(text)}', style)}\n")

    def write(self, text: str) -> None:
        """Write text as it is, without ending the line."""
        self.end_line()
        self._stream.write(text)
        self._stream.flush()

    def end_line(self) -> None:
        """End the line of streamed text, if one is open."""
        if self._open is not None:
            self._stream.write("\n")
            self._open = None

    def _text(self, text: str, scope: Scope, style: str) -> None:
        owner = (scope.harness, scope.session, scope.task_id, style)
        if self._open != owner:
            self.end_line()
        for position, line in enumerate(_CONTROL.sub("", text).split("\n")):
            if position:
                self._stream.write("\n")
                self._open = None
            if line:
                indent = "" if self._open else "  "
                self._stream.write(indent + self._styled(line, style))
                self._open = owner

    def _tool_end(self, event: ToolCallEnd) -> None:
        text = _result_text(event.result)
        if event.is_error:
            self.say(f"tool:error   {event.tool_name}  {_cut(text)}", style=_RED)
        else:
            shown = f"({len(text)} chars)" if len(text) > _SHORT_RESULT else _cut(text)
            self.say(f"tool:done   {event.tool_name}  {shown}")

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

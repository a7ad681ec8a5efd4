"""Rows of events that are no deltas: a line each, the wire's JSON cut into pieces where something repeats.

The pieces of a line are separated by tabs, which JSON text never contains. Put together they are the event, except

    #12.1         stands for piece 1 of event 12 of the same log
    &{…}          stands for the messages that a session's stored entries lead to

so that a message, a tool's result, the instructions and the tools are kept once, and a conversation not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from flue.engine.json_text import (
    NOT_JSON,
    WITHHELD,
    encode,
    event_text,
    field,
    joined,
    list_length,
    message_json,
    scope_text,
    strip_images,
    truncated_list,
)
from flue.engine.log_settings import LogSettings
from flue.events import (
    AgentEnd,
    AgentStart,
    ErrorInfo,
    Event,
    Log,
    MessageEnd,
    MessageStart,
    Operation,
    RunEnd,
    ToolCallEnd,
    ToolExecutionEnd,
    ToolExecutionStart,
    ToolStart,
    Turn,
    TurnEnd,
    TurnRequest,
    iso_time,
)
from flue.messages import Json, Message, ToolSpecs

logger = logging.getLogger("flue")

_WORTH_A_REFERENCE = 200
_CACHE = "event log"
_LASTING = 16
_REPEATED = {ToolExecutionStart: "args", ToolStart: "args", ToolExecutionEnd: "result", ToolCallEnd: "result"}


@dataclass(frozen=True, slots=True)
class Reference:
    """A piece that stands for something kept elsewhere: as it is stored, and what it stands for."""

    stored: str
    shown: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Line:
    """An event in pieces."""

    pieces: Sequence[str | Reference]

    def stored(self) -> str:
        """Return what the row holds."""
        return "\t".join(piece if isinstance(piece, str) else piece.stored for piece in self.pieces)

    def shown(self) -> str:
        """Return the wire's JSON."""
        return "".join(piece if isinstance(piece, str) else piece.shown() for piece in self.pieces)


class _Pieces:
    def __init__(self, text: str) -> None:
        self.pieces: list[str | Reference] = [text]
        self._open = True

    def add(self, text: str) -> None:
        if self._open:
            self.pieces[-1] += text  # type: ignore[operator]  # the last piece is open only when it is text
        else:
            self.pieces.append(text)
            self._open = True

    def put(self, piece: str | Reference) -> int:
        """Add a piece of its own; return its number."""
        self.pieces.append(piece)
        self._open = False
        return len(self.pieces) - 1


def request_reference(event: TurnRequest, settings: LogSettings, session_prefix: str) -> str:
    """Return what stands for the messages of a request in the log."""
    found = {"session": f"{session_prefix}{event.session_key}", "leaf": event.leaf_id, "count": event.count}
    return "&" + encode({**found, "limit": settings.field_limit, "redacted": settings.redacted})


class RecordWriter:
    """Turns events of one log into lines, in order. `session_prefix` stands before session keys in the store."""

    def __init__(self, settings: LogSettings, session_prefix: str = "") -> None:
        self._settings = settings
        self._limit = settings.field_limit
        self._prefix = session_prefix
        self._loops = 0
        self._messages: dict[int, tuple[Message, str, int]] = {}
        """What this run of the turn loop has said, by identity: message, reference, length."""
        self._lasting: dict[str | ToolSpecs, str] = {}
        """Where instructions and tools stand."""
        self._last: tuple[Any, str] = (None, "")
        """The value that the next event may repeat, and where it stands."""

    def line(self, event: Event, index: int) -> Line:
        """Return an event as a line. What cannot be encoded is replaced by a note, and logged."""
        try:
            return self._line(event, index)
        except Exception as error:
            logger.exception("The event %s could not be encoded for the log.", event.type)
            self._messages.clear()
            self._lasting.clear()
            self._last = (None, "")
            return note(event, index, error)

    def _line(self, event: Event, index: int) -> Line:
        if self._settings.redacted:
            event = _redacted(event)
        line = _Pieces(f'{{"type":"{event.type}",{scope_text(event.scope)}')
        match event:
            case MessageStart() | MessageEnd():
                line.add('"message":')
                self._message(line, event.message, index)
                line.add(",")
            case TurnEnd():
                line.add(f'"purpose":"{event.purpose}","message":')
                self._message(line, event.message, index)
                line.add(',"toolResults":')
                self._list(line, event.tool_results, index)
            case AgentEnd():
                line.add('"messages":')
                self._list(line, event.messages, index)
            case TurnRequest():
                self._request(line, event, index)
            case _:
                self._fields(line, event, index)
        line.add(f'"eventIndex":{index},"timestamp":"{iso_time(event.at_ms)}"}}')
        self._forget(event)
        return Line(line.pieces)

    def _fields(self, line: _Pieces, event: Event, index: int) -> None:
        repeated = _REPEATED.get(type(event))
        own = event.own_json()
        if repeated is None and (text := self._whole(own)):
            line.add(f"{text},")
            return
        for name, value in own.items():
            line.add(f'"{name}":')
            if name == repeated:
                self._repeated(line, getattr(event, name), value, index)
            else:
                line.add(field(value, self._limit))
            line.add(",")

    def _whole(self, own: Json) -> str:
        """Return all fields at once when none of them can be too long, which is the rule, else nothing."""
        try:
            text = encode(own)
        except NOT_JSON:
            return ""
        return text[1:-1] if len(text) <= self._limit else ""

    def _repeated(self, line: _Pieces, value: Any, data: Any, index: int) -> None:
        """Add arguments or a result, which two events in a row carry."""
        if isinstance(data, dict) and isinstance(data.get("content"), list):
            strip_images(data)
        last, reference = self._last
        if last is value and reference:
            line.put(Reference(reference, lambda: field(data, self._limit)))
            return
        text = field(data, self._limit)
        if len(text) < _WORTH_A_REFERENCE:
            line.add(text)
        else:
            self._last = (value, f"#{index}.{line.put(text)}")

    def _message(self, line: _Pieces, message: Message, index: int, text: str | None = None) -> None:
        known = self._messages.get(id(message))
        if known is not None:
            line.put(Reference(known[1], lambda: self._message_text(message)))
            return
        text = text or self._message_text(message)
        if len(text) < _WORTH_A_REFERENCE:
            line.add(text)
        else:
            self._messages[id(message)] = (message, f"#{index}.{line.put(text)}", len(text))

    def _list(self, line: _Pieces, messages: Sequence[Message], index: int) -> None:
        known = self._messages
        texts = [None if id(message) in known else self._message_text(message) for message in messages]
        pairs = list(zip(messages, texts, strict=True))
        length = list_length(known[id(message)][2] if text is None else len(text) for message, text in pairs)
        if length > self._limit:
            line.add(truncated_list([self._message_text(messages[0])], length) + ",")
            return
        line.add("[")
        for place, (message, text) in enumerate(pairs):
            line.add("," if place else "")
            self._message(line, message, index, text)
        line.add("],")

    def _request(self, line: _Pieces, event: TurnRequest, index: int) -> None:
        for name in ("purpose", "model", "provider", "api"):
            line.add(f'"{name}":{encode(getattr(event, name))},')
        line.add('"input":{"systemPrompt":')
        self._kept(line, event.system, lambda: field(event.system, self._limit), index)
        line.add(',"messages":')
        if event.leaf_id is None:
            line.add(self._transcript(event))
        else:
            line.put(Reference(request_reference(event, self._settings, self._prefix), lambda: self._transcript(event)))
        if len(event.tools):
            line.add(',"tools":')
            self._kept(line, event.tools, lambda: self._tools(event.tools), index)
        line.add("}," if event.reasoning is None else f'}},"reasoning":{encode(event.reasoning)},')

    def _kept(self, line: _Pieces, value: str | ToolSpecs, text: Callable[[], str], index: int) -> None:
        """Add what request after request carries."""
        reference = self._lasting.get(value)
        if reference is not None:
            line.put(Reference(reference, text))
            return
        if len(self._lasting) >= _LASTING:
            self._lasting.clear()
        self._lasting[value] = f"#{index}.{line.put(text())}"

    def _tools(self, tools: ToolSpecs) -> str:
        key = (_CACHE, self._limit)
        if key not in tools.cache:
            tools.cache[key] = field([spec.to_json() for spec in tools], self._limit)
        return str(tools.cache[key])

    def _transcript(self, event: TurnRequest) -> str:
        """Return the messages of a request; each is encoded once for all requests that carry it."""
        key = (_CACHE, self._limit, self._settings.redacted)
        texts: list[str] = event.transcript.cache.setdefault(key, [])
        texts += [self._message_text(message) for message in islice(event.transcript, len(texts), event.count)]
        return joined(texts[: event.count], self._limit)

    def _message_text(self, message: Message) -> str:
        return field(message_json(message, redacted=self._settings.redacted), self._limit)

    def _forget(self, event: Event) -> None:
        """Let go of the messages when the turn loop, with the loops of its tasks, has ended."""
        match event:
            case AgentStart():
                self._loops += 1
            case AgentEnd():
                self._loops -= 1
        if self._loops <= 0:
            self._loops = 0
            self._messages.clear()


def _redacted(event: Event) -> Event:
    """Return an event without the messages of errors."""
    match event:
        case RunEnd(error=ErrorInfo(name=name)) | Operation(error=ErrorInfo(name=name)):
            return replace(event, error=ErrorInfo(name, WITHHELD))
        case Turn(error=str()):
            return replace(event, error=WITHHELD)
        case Log(attributes={"error": error}):
            kept = {"name": error["name"]} if isinstance(error, dict) and "name" in error else {}
            return replace(event, attributes={**(event.attributes or {}), "error": {**kept, "message": WITHHELD}})
    return event


def note(event: Event, index: int, error: Exception) -> Line:
    """Return what takes the place of an event that cannot be encoded."""
    own = f'"note":{encode(f"This event could not be encoded ({type(error).__name__}).")},'
    return Line([event_text(event.type, scope_text(event.scope), [own], index, event.at_ms)])

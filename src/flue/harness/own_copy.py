"""An event of one's own: a subscriber may change what it was given, and nobody else sees it.

Events hold references into the conversation. Copying a whole conversation for every turn would make late turns cost
more than early ones, so what is long is copied only where a subscriber looks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from flue.definitions.tool import ToolResult
from flue.events import ErrorInfo, Event, MessageUpdate, Scope
from flue.harness.responses import ModelRef, PromptResponse, ResultResponse
from flue.messages import (
    AssistantMessage,
    Cost,
    ImageContent,
    Message,
    TextContent,
    ThinkingContent,
    ToolCall,
    ToolResultMessage,
    ToolSpec,
    ToolSpecs,
    Transcript,
    Usage,
    UserMessage,
)
from flue.ports import Delta, ExecResult

_UNCHANGING = frozenset(
    {
        *(type(None), bool, int, float, str, bytes),
        *(Usage, Cost, ErrorInfo, Scope, ModelRef, PromptResponse, ExecResult),
        *(TextContent, ImageContent, ThinkingContent, UserMessage),
    }
)


def own_copy(event: Event) -> Event:
    """Return the event with copies of everything in it that can be changed; the event itself when there is nothing."""
    if type(event) is MessageUpdate:
        # One for every piece of text, by the thousand: spelled out, it costs much less than the general way.
        delta, partial = _own_delta(event.delta), _calls_for_own(event.partial)
        return MessageUpdate(event.scope, event.index, event.at_ms, delta, partial)
    changed: dict[str, Any] = {}
    kind: Any = type(event)
    for name in _fields_to_copy(kind):
        value = getattr(event, name)
        own = _own(value)
        if own is not value:
            changed[name] = own
    return replace(event, **changed) if changed else event


@cache
def _fields_to_copy(cls: type[Any]) -> tuple[str, ...]:
    shared = Event.__dataclass_fields__
    # Annotations are text in these modules: a field of plain text or numbers is not worth a look at every delta.
    plain = {"str", "int", "bool", "float"}
    return tuple(
        name for name, field in cls.__dataclass_fields__.items() if name not in shared and field.type not in plain
    )


def _own(value: Any) -> Any:
    if type(value) in _UNCHANGING:
        return value
    match value:
        case tuple():
            return tuple(_own(item) for item in value)
        case ToolCall():
            return replace(value, arguments=_deep(value.arguments))
        case AssistantMessage():
            return replace(value, content=_own(value.content)) if value.tool_calls else value
        case ToolResultMessage() | ToolResult():
            return replace(value, details=_deep(value.details))
        case ToolSpec():
            return replace(value, parameters=_deep(value.parameters))
        case ResultResponse():
            return replace(value, data=_deep(value.data), json=_deep(value.json))
        case Delta():
            return _own_delta(value)
        case Transcript():
            return _OwnTranscript(value)
        case ToolSpecs():
            return _OwnToolSpecs(value)
        case _ if callable(value):
            return _calls_for_own(value)
    return _deep(value)


def _own_delta(delta: Delta) -> Delta:
    return Delta(delta.type, delta.index, delta.delta, _own(delta.content))


def _deep(value: Any) -> Any:
    if type(value) in _UNCHANGING:
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - a tool's details may be anything, a lock or a socket included
        return value


def _calls_for_own(function: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: _own(function())


class _OwnTranscript(Transcript):
    """A transcript whose messages are copied when they are looked at."""

    __slots__ = ("_source",)

    def __init__(self, source: Transcript) -> None:
        self._source = source
        self.cache = {}

    @property
    def messages(self) -> list[Message]:  # type: ignore[override]  # read-only here
        """Return copies of the messages."""
        return list(self)

    def append(self, message: Message) -> None:
        """Refuse: this is what was sent."""
        raise TypeError("The transcript of an event is what was sent; it cannot be added to.")

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Message]:
        return map(_own, self._source)


class _OwnToolSpecs(ToolSpecs):
    """Tools whose schemas are copied when they are looked at."""

    __slots__ = ("_source",)

    def __init__(self, source: ToolSpecs) -> None:
        self._source = source
        self.cache = {}

    @property
    def specs(self) -> tuple[ToolSpec, ...]:  # type: ignore[override]  # read-only here
        """Return copies of the tools."""
        return tuple(self)

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[ToolSpec]:
        return map(_own, self._source)

"""Events as log lines: one JSON object a line, through the standard library's logging."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from flue.events import (
    AgentEnd,
    ApprovalEnd,
    Compaction,
    CompactionStart,
    Event,
    Log,
    MessageEnd,
    MessageStart,
    MessageUpdate,
    Operation,
    OperationStart,
    RunEnd,
    RunStart,
    TaskEnd,
    TaskStart,
    TextDelta,
    ThinkingDelta,
    ThinkingEnd,
    ThinkingStart,
    ToolCallEnd,
    ToolExecutionEnd,
    ToolExecutionStart,
    Turn,
    TurnEnd,
    TurnRequest,
    iso_time,
)
from flue.harness.observe import subscribe
from flue.messages import Json

_LEVELS = {"info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_DELTAS = (TextDelta, ThinkingStart, ThinkingDelta, ThinkingEnd)
# What other events tell as well: a text delta, the end of the message, the pair of events for people.
_NEVER = (MessageUpdate, MessageStart, ToolExecutionStart, ToolExecutionEnd)
# What may be told of an event without telling what was said. A field that is not listed is left out.
_HARMLESS: dict[type[Event], tuple[str, ...]] = {
    RunStart: ("workflow_name", "agent_name", "started_at", "restarted_from_run_id"),
    RunEnd: ("is_error", "duration_ms"),
    OperationStart: ("operation_kind",),
    Operation: ("operation_kind", "duration_ms", "is_error"),
    TurnRequest: ("purpose", "model", "provider", "api", "reasoning"),
    Turn: ("purpose", "duration_ms", "model", "provider", "api", "is_error"),
    TaskStart: ("agent",),
    TaskEnd: ("agent", "is_error", "duration_ms"),
    CompactionStart: ("reason", "estimated_tokens"),
    Compaction: ("messages_before", "messages_after", "duration_ms"),
    ApprovalEnd: ("approved",),
}
_TOOL_FIELDS = ("tool_name", "tool_call_id", "is_error", "duration_ms")


def log_events(
    logger: logging.Logger | str = "flue.events", *, deltas: bool = False, content: bool = False
) -> Callable[[], None]:
    """Log every event of the contexts opened from now on as one line of JSON; return a function that ends it.

    The line goes to `logger` at level INFO, ERROR for what failed, and the level of `ctx.log` for its lines; the same
    object is on the record as `event`, for handlers that want it in parts. Set the logger's level to INFO and give it
    a handler, as for any other.

    Prompts, answers, arguments, results and the texts of errors are left out unless `content` is true; token counts,
    costs, names, times and the classes of errors are always there. The application's own `ctx.log` lines are written
    as they are. With `deltas` each piece of streamed text is a line, too.
    """
    target = logging.getLogger(logger) if isinstance(logger, str) else logger

    def write(event: Event, _context: Any) -> None:
        if isinstance(event, _NEVER) or (isinstance(event, _DELTAS) and not deltas):
            return
        level = _level(event)
        if target.isEnabledFor(level):
            data = full(event) if content else harmless(event)
            line = json.dumps(data, ensure_ascii=False, default=str)
            target.log(level, "%s", line, extra={"event": data})

    return subscribe(write, reads_only=True)


def harmless(event: Event) -> Json:
    """Return the wire form of an event without anything that a user, a model, a tool or a provider wrote."""
    own = event.own_json() if isinstance(event, Log) and event.scope.session is None else _facts(event)
    return _line(event, own)


def full(event: Event) -> Json:
    """Return the wire form of an event, without the messages that have events of their own."""
    match event:
        case TurnRequest():
            return _line(event, {**_facts(event), "systemPrompt": event.system})
        case AgentEnd() | TurnEnd() | Turn():
            return harmless(event)
    return _line(event, event.own_json())


def _line(event: Event, own: Json) -> Json:
    where = event.scope.to_json()
    return {"type": event.type, **where, **own, "eventIndex": event.index, "timestamp": iso_time(event.at_ms)}


def _facts(event: Event) -> Json:
    names = _HARMLESS.get(type(event)) or (_TOOL_FIELDS if hasattr(event, "tool_name") else ())
    facts: Json = {_camel(name): value for name in names if (value := getattr(event, name, None)) is not None}
    match event:
        case Operation() | RunEnd() if event.error is not None:
            facts["error"] = {"name": event.error.name}
        case Turn():
            facts |= {"stopReason": event.output.stop_reason, "usage": event.output.usage.to_json()}
        case TurnRequest():
            facts |= {"messageCount": event.count, "toolCount": len(event.tools)}
        case MessageEnd():
            facts["role"] = event.message.role
    usage = getattr(event, "usage", None)
    return facts if usage is None else {**facts, "usage": usage.to_json()}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _level(event: Event) -> int:
    if isinstance(event, Log):
        return _LEVELS[event.level]
    if isinstance(event, ToolCallEnd) and event.is_error:
        # The model reads it and goes on.
        return logging.WARNING
    return logging.ERROR if getattr(event, "is_error", False) else logging.INFO

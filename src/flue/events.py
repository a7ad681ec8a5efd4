"""What happens while an agent works, in order, as frozen dataclasses with the wire's camelCase JSON.

Events hold references to messages and transcripts; JSON is made only when somebody asks for it, so that an event
nobody serialises costs nothing that grows with the conversation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Any, ClassVar, Literal

from flue.messages import AssistantMessage, Json, Message, ToolSpecs, Transcript, Usage
from flue.ports import Clock, Delta

logger = logging.getLogger("flue")

OperationKind = Literal["prompt", "skill", "task", "shell", "compact"]
TurnPurpose = Literal["agent", "compaction", "compaction_prefix"]


def iso_time(ms: int) -> str:
    """Return ISO 8601 in UTC with milliseconds, as every timestamp on the wire."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


@cache
def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _plain(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an event happened. `run_id` is set in runs, `instance_id` in agents; a function agent's run has both."""

    run_id: str | None = None
    instance_id: str | None = None
    dispatch_id: str | None = None
    harness: str | None = None
    session: str | None = None
    operation_id: str | None = None
    turn_id: str | None = None
    parent_session: str | None = None
    task_id: str | None = None

    def to_json(self) -> Json:
        """Return the fields that are set."""
        return {_camel(field.name): value for field in fields(self) if (value := getattr(self, field.name)) is not None}


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `index` counts from 0 in its context; `at_ms` is in milliseconds since the epoch."""

    type: ClassVar[str] = ""
    always: ClassVar[frozenset[str]] = frozenset()
    """Fields that stand in the JSON even when they are None."""

    scope: Scope
    index: int
    at_ms: int

    def own_json(self) -> Json:
        """Return the fields of this type of event alone."""
        own: Json = {}
        kind: Any = type(self)
        for field in _own_fields(kind):
            value = getattr(self, field)
            if value is not None or field in self.always:
                own[_camel(field)] = _plain(value)
        return own

    def to_json(self) -> Json:
        """Return the wire form."""
        return {
            "type": self.type,
            **self.scope.to_json(),
            **self.own_json(),
            "eventIndex": self.index,
            "timestamp": iso_time(self.at_ms),
        }


@cache
def _own_fields(cls: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls) if field.name not in ("scope", "index", "at_ms"))


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as events carry it."""

    name: str
    message: str

    def to_json(self) -> Json:
        """Return the wire form."""
        return {"name": self.name, "message": self.message}

    @classmethod
    def of(cls, error: BaseException) -> ErrorInfo:
        """Describe an exception."""
        return cls(type(error).__name__, str(error))


@dataclass(frozen=True, slots=True)
class RunStart(Event):
    """A run of a workflow, or of a function agent, began. `owner` says whose it is."""

    type = "run_start"
    always = frozenset({"payload"})
    started_at: str
    payload: Any
    owner: Json
    workflow_name: str | None = None
    agent_name: str | None = None
    restarted_from_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class RunResume(Event):
    """A run goes on: it begins again over its recorded steps, or is about to end because another takes its place."""

    type = "run_resume"
    started_at: str
    owner: Json
    workflow_name: str | None = None
    agent_name: str | None = None


@dataclass(frozen=True, slots=True)
class RunEnd(Event):
    """A run ended; the last event of its log. `result` as JSON values."""

    type = "run_end"
    is_error: bool
    duration_ms: int
    result: Any = None
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class OperationStart(Event):
    """A call on a session began."""

    type = "operation_start"
    operation_kind: OperationKind


@dataclass(frozen=True, slots=True)
class Operation(Event):
    """A call on a session ended."""

    type = "operation"
    operation_kind: OperationKind
    duration_ms: int
    is_error: bool
    error: ErrorInfo | None = None
    result: Any = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class AgentStart(Event):
    """The turn loop began."""

    type = "agent_start"


@dataclass(frozen=True, slots=True)
class AgentEnd(Event):
    """The turn loop ended; `messages` are those it added."""

    type = "agent_end"
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class TurnStart(Event):
    """A turn, one request to the model and the tool calls it leads to, began."""

    type = "turn_start"
    purpose: TurnPurpose


@dataclass(frozen=True, slots=True)
class TurnRequest(Event):
    """What is sent to the model: the first `count` messages of `transcript`.

    They are also what a session's stored entries lead to: `session_key` as its history has it, `leaf_id` the newest
    entry. Both are None for a request that is no part of a conversation, and neither is in the JSON.
    """

    type = "turn_request"
    purpose: TurnPurpose
    model: str
    provider: str
    api: str
    system: str
    transcript: Transcript
    count: int
    tools: ToolSpecs
    reasoning: str | None = None
    session_key: str | None = None
    leaf_id: str | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """Return the messages of the request."""
        return tuple(islice(self.transcript, self.count))

    def own_json(self) -> Json:
        """Return the fields of this type of event alone."""
        request: Json = {"systemPrompt": self.system, "messages": [_plain(message) for message in self.messages]}
        if len(self.tools):
            request["tools"] = [spec.to_json() for spec in self.tools]
        own: Json = {
            "purpose": self.purpose,
            "model": self.model,
            "provider": self.provider,
            "api": self.api,
            "input": request,
        }
        if self.reasoning is not None:
            own["reasoning"] = self.reasoning
        return own


@dataclass(frozen=True, slots=True)
class MessageStart(Event):
    """A message began; an assistant message is still empty."""

    type = "message_start"
    message: Message


@dataclass(frozen=True, slots=True)
class MessageEnd(Event):
    """A message is complete."""

    type = "message_end"
    message: Message


@dataclass(frozen=True, slots=True)
class MessageUpdate(Event):
    """A piece of an assistant message arrived. `partial()` gives the message so far."""

    type = "message_update"
    delta: Delta
    partial: Callable[[], AssistantMessage]

    def own_json(self) -> Json:
        """Return the fields of this type of event alone."""
        message = self.partial().to_json()
        event: Json = {"type": self.delta.type, "contentIndex": self.delta.index, "partial": message}
        if self.delta.type.endswith("_delta"):
            event["delta"] = self.delta.delta
        elif self.delta.content is not None:
            key = "toolCall" if self.delta.type.startswith("toolcall") else "content"
            block = self.delta.content.to_json()
            event[key] = block if key == "toolCall" else block.get("text", block.get("thinking", ""))
        return {"message": message, "assistantMessageEvent": event}


@dataclass(frozen=True, slots=True)
class TextDelta(Event):
    """Text of the answer, as it arrives."""

    type = "text_delta"
    text: str


@dataclass(frozen=True, slots=True)
class ThinkingStart(Event):
    """The model began to think."""

    type = "thinking_start"


@dataclass(frozen=True, slots=True)
class ThinkingDelta(Event):
    """Text of the model's thinking, as it arrives."""

    type = "thinking_delta"
    delta: str


@dataclass(frozen=True, slots=True)
class ThinkingEnd(Event):
    """The model stopped thinking; `content` is all of it."""

    type = "thinking_end"
    content: str


@dataclass(frozen=True, slots=True)
class ToolExecutionStart(Event):
    """A tool call is about to run; `args` as the model wrote them."""

    type = "tool_execution_start"
    tool_name: str
    tool_call_id: str
    args: Any


@dataclass(frozen=True, slots=True)
class ToolExecutionEnd(Event):
    """A tool call has its result."""

    type = "tool_execution_end"
    tool_name: str
    tool_call_id: str
    result: Any
    is_error: bool


@dataclass(frozen=True, slots=True)
class ToolStart(Event):
    """A tool call is about to run (the pair for people: `tool_start`, `tool_call`)."""

    type = "tool_start"
    tool_name: str
    tool_call_id: str
    args: Any


@dataclass(frozen=True, slots=True)
class ToolCallEnd(Event):
    """A tool call has its result, with the time it took."""

    type = "tool_call"
    tool_name: str
    tool_call_id: str
    is_error: bool
    result: Any
    duration_ms: int


@dataclass(frozen=True, slots=True)
class ApprovalRequest(Event):
    """A tool call waits for a person: `session.approve(tool_call_id)` or `session.deny(tool_call_id, reason)`."""

    type = "approval_request"
    tool_name: str
    tool_call_id: str
    args: Any


@dataclass(frozen=True, slots=True)
class ApprovalEnd(Event):
    """A person decided on a tool call."""

    type = "approval"
    tool_name: str
    tool_call_id: str
    approved: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TurnEnd(Event):
    """A turn and its tool calls are done."""

    type = "turn_end"
    purpose: TurnPurpose
    message: AssistantMessage
    tool_results: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Turn(Event):
    """Summary of a turn: what the model gave, what it took."""

    type = "turn"
    purpose: TurnPurpose
    duration_ms: int
    model: str
    provider: str
    api: str
    output: AssistantMessage
    is_error: bool
    error: str | None = None

    def own_json(self) -> Json:
        """Return the fields of this type of event alone."""
        own: Json = {
            "purpose": self.purpose,
            "durationMs": self.duration_ms,
            "model": self.model,
            "provider": self.provider,
            "api": self.api,
            "output": {"role": "assistant", "content": [_plain(block) for block in self.output.content]},
            "usage": self.output.usage.to_json(),
            "stopReason": self.output.stop_reason,
            "isError": self.is_error,
        }
        if self.error is not None:
            own["error"] = self.error
        return own


@dataclass(frozen=True, slots=True)
class TaskStart(Event):
    """A task was handed to a child session."""

    type = "task_start"
    prompt: str
    agent: str | None = None
    cwd: str | None = None


@dataclass(frozen=True, slots=True)
class TaskEnd(Event):
    """A task came back from its child session."""

    type = "task"
    is_error: bool
    duration_ms: int
    agent: str | None = None
    result: Any = None


@dataclass(frozen=True, slots=True)
class CompactionStart(Event):
    """The conversation is about to be compacted."""

    type = "compaction_start"
    reason: Literal["threshold", "overflow", "manual"]
    estimated_tokens: int


@dataclass(frozen=True, slots=True)
class Compaction(Event):
    """The conversation was compacted."""

    type = "compaction"
    messages_before: int
    messages_after: int
    duration_ms: int
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Log(Event):
    """A line of the application's or the harness's log."""

    type = "log"
    level: Literal["info", "warn", "error"]
    message: str
    attributes: Json | None = None


@dataclass(frozen=True, slots=True)
class Idle(Event):
    """The session has nothing to do."""

    type = "idle"


Sink = Callable[[Event], None]


class Emitter:
    """Numbers the events of one context and hands them to its sinks, in order."""

    def __init__(self, clock: Clock, sinks: Sequence[Sink] = ()) -> None:
        self.clock = clock
        self.sinks: list[Sink] = list(sinks)
        self.next_index = 0

    @property
    def active(self) -> bool:
        """Say whether anybody listens; hot paths skip building events otherwise."""
        return bool(self.sinks)

    def emit(self, scope: Scope, kind: Callable[..., Event], *values: Any, **named: Any) -> None:
        """Build an event and hand it on. What a sink raises is logged and goes no further."""
        if not self.sinks:
            return
        event = kind(scope, self.next_index, self.clock.now_ms(), *values, **named)
        self.next_index += 1
        for sink in tuple(self.sinks):
            try:
                sink(event)
            except Exception:
                logger.exception("An event subscriber failed on %s.", event.type)

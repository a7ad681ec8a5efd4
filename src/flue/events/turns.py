"""What happens in the turns of a prompt: requests, messages as they stream, tool calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from flue.events.event import Event, plain
from flue.messages import AssistantMessage, Json, Message, ToolSpecs, Transcript
from flue.ports import Delta

TurnPurpose = Literal["agent", "compaction", "compaction_prefix"]


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
        request: Json = {"systemPrompt": self.system, "messages": [plain(message) for message in self.messages]}
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
            "output": {"role": "assistant", "content": [plain(block) for block in self.output.content]},
            "usage": self.output.usage.to_json(),
            "stopReason": self.output.stop_reason,
            "isError": self.is_error,
        }
        if self.error is not None:
            own["error"] = self.error
        return own

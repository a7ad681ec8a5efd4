"""The conversation as data: content blocks, messages, usage. JSON forms use the wire's camelCase names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

StopReason = Literal["stop", "length", "toolUse", "error", "aborted"]
ThinkingLevel = Literal["off", "minimal", "low", "medium", "high", "xhigh"]
THINKING_LEVELS: tuple[ThinkingLevel, ...] = ("off", "minimal", "low", "medium", "high", "xhigh")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars."""

    input: float = 0.0
    output: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0

    @property
    def total(self) -> float:
        """Return the sum of the four parts."""
        return self.input + self.output + self.cache_read + self.cache_write

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
        )

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            self.input - other.input,
            self.output - other.output,
            self.cache_read - other.cache_read,
            self.cache_write - other.cache_write,
        )

    def to_json(self) -> Json:
        """Return the wire form."""
        return {
            "input": self.input,
            "output": self.output,
            "cacheRead": self.cache_read,
            "cacheWrite": self.cache_write,
            "total": self.total,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cost:
        """Read the wire form."""
        return cls(data["input"], data["output"], data["cacheRead"], data["cacheWrite"])


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `input` excludes what was read from or written to the provider's cache."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cost: Cost = field(default_factory=Cost)

    @property
    def total_tokens(self) -> int:
        """Return all tokens of the request and its answer."""
        return self.input + self.output + self.cache_read + self.cache_write

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.cost + other.cost,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.input - other.input,
            self.output - other.output,
            self.cache_read - other.cache_read,
            self.cache_write - other.cache_write,
            self.cost - other.cost,
        )

    def to_json(self) -> Json:
        """Return the wire form."""
        return {
            "input": self.input,
            "output": self.output,
            "cacheRead": self.cache_read,
            "cacheWrite": self.cache_write,
            "totalTokens": self.total_tokens,
            "cost": self.cost.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Usage:
        """Read the wire form."""
        return cls(data["input"], data["output"], data["cacheRead"], data["cacheWrite"], Cost.from_json(data["cost"]))


@dataclass(frozen=True, slots=True)
class TextContent:
    """Text. `signature` is provider data that must be replayed to the same model."""

    text: str
    signature: str | None = None

    def to_json(self) -> Json:
        """Return the wire form."""
        data: Json = {"type": "text", "text": self.text}
        if self.signature is not None:
            data["textSignature"] = self.signature
        return data


@dataclass(frozen=True, slots=True)
class ImageContent:
    """An image: `data` is base64 text, `mime_type` such as `image/png`."""

    data: str
    mime_type: str

    def to_json(self) -> Json:
        """Return the wire form."""
        return {"type": "image", "data": self.data, "mimeType": self.mime_type}


@dataclass(frozen=True, slots=True)
class ThinkingContent:
    """A model's reasoning. `signature` is opaque provider data; `redacted` reasoning has no readable text."""

    thinking: str
    signature: str | None = None
    redacted: bool = False

    def to_json(self) -> Json:
        """Return the wire form."""
        data: Json = {"type": "thinking", "thinking": self.thinking}
        if self.signature is not None:
            data["thinkingSignature"] = self.signature
        if self.redacted:
            data["redacted"] = True
        return data


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call by the model. `signature` is provider data that must be replayed to the same model."""

    id: str
    name: str
    arguments: Json
    signature: str | None = None

    def to_json(self) -> Json:
        """Return the wire form."""
        data: Json = {"type": "toolCall", "id": self.id, "name": self.name, "arguments": self.arguments}
        if self.signature is not None:
            data["thoughtSignature"] = self.signature
        return data


UserContent = TextContent | ImageContent
AssistantContent = TextContent | ThinkingContent | ToolCall
Content = UserContent | AssistantContent


@dataclass(frozen=True, slots=True)
class UserMessage:
    """What the user, or the harness in the user's place, said. `timestamp` is in ms since the epoch."""

    content: tuple[UserContent, ...]
    timestamp: int = 0
    role: Literal["user"] = "user"

    def to_json(self) -> Json:
        """Return the wire form."""
        return {"role": "user", "content": [block.to_json() for block in self.content], "timestamp": self.timestamp}


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """One answer of a model. `api`, `provider` and `model` say who wrote it."""

    content: tuple[AssistantContent, ...]
    api: str
    provider: str
    model: str
    usage: Usage = field(default_factory=Usage)
    stop_reason: StopReason = "stop"
    error_message: str | None = None
    response_id: str | None = None
    timestamp: int = 0
    role: Literal["assistant"] = "assistant"

    @property
    def text(self) -> str:
        """Return the text blocks joined by newlines."""
        return "\n".join(block.text for block in self.content if isinstance(block, TextContent))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Return the tool calls in the order the model wrote them."""
        return tuple(block for block in self.content if isinstance(block, ToolCall))

    def to_json(self) -> Json:
        """Return the wire form."""
        data: Json = {
            "role": "assistant",
            "content": [block.to_json() for block in self.content],
            "api": self.api,
            "provider": self.provider,
            "model": self.model,
            "usage": self.usage.to_json(),
            "stopReason": self.stop_reason,
            "timestamp": self.timestamp,
        }
        if self.error_message is not None:
            data["errorMessage"] = self.error_message
        if self.response_id is not None:
            data["responseId"] = self.response_id
        return data


@dataclass(frozen=True, slots=True)
class ToolResultMessage:
    """What a tool call gave. `details` is for programs and events; the model sees only `content`."""

    tool_call_id: str
    tool_name: str
    content: tuple[UserContent, ...]
    details: Any = None
    is_error: bool = False
    timestamp: int = 0
    role: Literal["toolResult"] = "toolResult"

    def to_json(self) -> Json:
        """Return the wire form."""
        return {
            "role": "toolResult",
            "toolCallId": self.tool_call_id,
            "toolName": self.tool_name,
            "content": [block.to_json() for block in self.content],
            "details": self.details,
            "isError": self.is_error,
            "timestamp": self.timestamp,
        }


Message = UserMessage | AssistantMessage | ToolResultMessage


def content_from_json(data: Mapping[str, Any]) -> Content:
    """Read one content block from its wire form."""
    match data["type"]:
        case "text":
            return TextContent(data["text"], data.get("textSignature"))
        case "image":
            return ImageContent(data["data"], data["mimeType"])
        case "thinking":
            return ThinkingContent(data["thinking"], data.get("thinkingSignature"), bool(data.get("redacted")))
        case "toolCall":
            return ToolCall(data["id"], data["name"], data["arguments"], data.get("thoughtSignature"))
        case other:
            raise ValueError(f"unknown content block type {other!r}")


def _user_content(data: str | Sequence[Mapping[str, Any]]) -> tuple[UserContent, ...]:
    if isinstance(data, str):
        return (TextContent(data),)
    blocks = (content_from_json(block) for block in data)
    return tuple(block for block in blocks if isinstance(block, TextContent | ImageContent))


def message_from_json(data: Mapping[str, Any]) -> Message:
    """Read one message from its wire form. Raises `ValueError` for an unknown role."""
    match data["role"]:
        case "user":
            return UserMessage(_user_content(data["content"]), data["timestamp"])
        case "assistant":
            blocks = (content_from_json(block) for block in data["content"])
            return AssistantMessage(
                tuple(block for block in blocks if not isinstance(block, ImageContent)),
                data["api"],
                data["provider"],
                data["model"],
                Usage.from_json(data["usage"]),
                data["stopReason"],
                data.get("errorMessage"),
                data.get("responseId"),
                data["timestamp"],
            )
        case "toolResult":
            return ToolResultMessage(
                data["toolCallId"],
                data["toolName"],
                _user_content(data["content"]),
                data.get("details"),
                data["isError"],
                data["timestamp"],
            )
        case other:
            raise ValueError(f"unknown message role {other!r}")


class Transcript:
    """The messages sent to a model: append-only, so that each message is encoded once.

    `cache` belongs to the wire adapters: what they have encoded so far, keyed by target model. A history that
    changes anywhere but at its end (compaction, going back) is a new transcript.
    """

    __slots__ = ("cache", "messages")

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self.messages: list[Message] = list(messages)
        self.cache: dict[Any, Any] = {}

    def append(self, message: Message) -> None:
        """Add a message at the end."""
        self.messages.append(message)

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it. `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: Json

    def to_json(self) -> Json:
        """Return the wire form."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}


_SHARED_MOST = 64


class ToolSpecs:
    """The tools offered in a request; immutable, so that adapters encode them once (see `cache`).

    `ToolSpecs.of(specs)` is the same object for the same specs (those that are identical, not only equal), as long as
    it is used now and then: sessions with the same tools share what was encoded.
    """

    __slots__ = ("cache", "specs")

    def __init__(self, specs: Sequence[ToolSpec] = ()) -> None:
        self.specs: tuple[ToolSpec, ...] = tuple(specs)
        self.cache: dict[Any, Any] = {}

    @classmethod
    def of(cls, specs: Sequence[ToolSpec]) -> ToolSpecs:
        """Return the object for these specs."""
        key = tuple(map(id, specs))  # which stay theirs while the object, which holds them, is kept
        shared = _SHARED.pop(key, None) or cls(specs)
        _SHARED[key] = shared
        if len(_SHARED) > _SHARED_MOST:
            del _SHARED[next(iter(_SHARED))]
        return shared

    def __len__(self) -> int:
        return len(self.specs)

    def __iter__(self) -> Iterator[ToolSpec]:
        return iter(self.specs)


_SHARED: dict[tuple[int, ...], ToolSpecs] = {}

"""What the fake provider server answers with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from flue.messages import AssistantContent, Json, StopReason, TextContent, ThinkingContent, ToolCall, Usage

FailureKind = Literal["error", "overflow", "cut", "truncate", "error-event", "hang", "silence", "drop", "html"]
Quirk = Literal[
    "start-delta",  # the first piece of a block arrives inside the event that opens the block
    "null-finish",  # Chat Completions: a complete reply whose finish reason stays null, as Ollama does
    "no-index",  # Chat Completions: tool-call deltas without an index
    "no-ids",  # Chat Completions: tool-call deltas without an id
    "repeat-ids",  # Chat Completions: id and name come again with every argument delta
    "reasoning",  # Chat Completions: reasoning in `reasoning` instead of `reasoning_content`
    "reasoning_text",  # Chat Completions: reasoning in `reasoning_text`
    "call-ids",  # Google: function calls carry an id
    "failed-event",  # Responses: a mid-stream error comes as `response.failed`
    "crlf",  # lines end with CR LF
    "comments",  # a comment line before every event, as OpenRouter sends while it waits
]
QUIRKS: frozenset[str] = frozenset(Quirk.__args__)  # type: ignore[attr-defined]
FAILURES: frozenset[str] = frozenset(FailureKind.__args__)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Failure:
    """How an answer goes wrong.

    `error` is an HTTP error of `status` (with `retry_after` seconds in its header), `overflow` the provider's own
    "conversation too long", `html` a 200 with a web page. Before any answer: `drop` closes the connection, `silence`
    never answers. In the middle of the stream: `cut` breaks the connection, `truncate` ends cleanly but without the
    final event, `error-event` sends an error inside the 200 stream, `hang` sends nothing more.
    """

    kind: FailureKind
    status: int = 500
    message: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer: content blocks in order, and how they travel.

    A thinking block without a signature is signed by the server; a tool call with an empty id gets one. `usage`
    defaults to an estimate from sizes, `stop_reason` follows from the content. `delta_size` is in characters, `delay`
    in seconds before every write, `batch` the number of events in one write, `split` cuts the stream into pieces of
    that many bytes wherever they fall.
    """

    content: tuple[AssistantContent, ...] = ()
    usage: Usage | None = None
    stop_reason: StopReason | None = None
    delta_size: int = 12
    delay: float = 0.0
    batch: int = 64
    split: int = 0
    failure: Failure | None = None
    quirks: frozenset[str] = frozenset()

    @property
    def ends_with(self) -> StopReason:
        """Return the stop reason, given or implied."""
        if self.stop_reason is not None:
            return self.stop_reason
        return "toolUse" if any(isinstance(block, ToolCall) for block in self.content) else "stop"


@dataclass(frozen=True, slots=True)
class RawReply:
    """A complete response, sent as it is."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def reply(
    text: str = "",
    *,
    thinking: str = "",
    calls: Iterable[ToolCall] = (),
    usage: Usage | None = None,
    stop_reason: StopReason | None = None,
    failure: Failure | None = None,
    quirks: Iterable[Quirk] = (),
    delta_size: int = 12,
) -> Reply:
    """Return the usual answer: thinking, then text, then tool calls, each only if there is any."""
    blocks: list[AssistantContent] = []
    if thinking:
        blocks.append(ThinkingContent(thinking))
    if text:
        blocks.append(TextContent(text))
    return Reply(
        content=(*blocks, *calls),
        usage=usage,
        stop_reason=stop_reason,
        failure=failure,
        quirks=frozenset(quirks),
        delta_size=delta_size,
    )


def call(name: str, arguments: Json | None = None, *, id: str = "") -> ToolCall:
    """Return a tool call; without an id the server gives it one that is unique in the conversation."""
    return ToolCall(id, name, arguments or {})

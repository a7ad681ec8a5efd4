"""An answer while it arrives: collects pieces, hands out deltas, ends as an `AssistantMessage`."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

from flue.errors import ProviderError
from flue.messages import AssistantContent, AssistantMessage, Json, StopReason, TextContent, ThinkingContent, ToolCall
from flue.models.cost import priced_usage
from flue.ports import Delta, DeltaType, ModelInfo

BlockKind = Literal["text", "thinking", "toolcall"]
_DELTAS: dict[BlockKind, DeltaType] = {
    "text": "text_delta",
    "thinking": "thinking_delta",
    "toolcall": "toolcall_delta",
}
_STARTS: dict[BlockKind, DeltaType] = {
    "text": "text_start",
    "thinking": "thinking_start",
    "toolcall": "toolcall_start",
}
_ENDS: dict[BlockKind, DeltaType] = {"text": "text_end", "thinking": "thinking_end", "toolcall": "toolcall_end"}


class Block:
    """One block of an answer. Pieces are kept in a list and joined once, at the end."""

    __slots__ = ("content", "delta", "id", "index", "kind", "name", "open", "parts", "redacted", "signature")

    def __init__(self, kind: BlockKind, index: int, id: str = "", name: str = "") -> None:
        self.kind = kind
        self.delta = _DELTAS[kind]
        self.index = index
        self.id = id
        self.name = name
        self.parts: list[str] = []
        self.signature: str | None = None
        self.redacted = False
        self.open = True
        self.content: AssistantContent | None = None


class Answer:
    """Collects one answer.

    `out` holds the deltas not yet handed out. A decoder sets `stop_reason`, the four token counts (`input` without
    cached tokens), `response_id`, and `error_message` when the provider refused.
    """

    __slots__ = (
        "blocks",
        "cache_read",
        "cache_write",
        "current",
        "error_message",
        "info",
        "input",
        "out",
        "output",
        "response_id",
        "stop_reason",
    )

    def __init__(self, info: ModelInfo) -> None:
        self.info = info
        self.out: list[Delta] = []
        self.blocks: list[Block] = []
        self.current: Block | None = None
        self.stop_reason: StopReason | None = None
        self.error_message: str | None = None
        self.response_id: str | None = None
        self.input = self.output = self.cache_read = self.cache_write = 0

    def begin(self, kind: BlockKind, id: str = "", name: str = "") -> Block:
        """Open a block and make it the current one, ending text or thinking before it.

        A tool call needs its id and name; calls may overlap, so they end when their protocol says so.
        """
        if self.current is not None and self.current.kind != "toolcall":
            self.end(self.current)
        block = self.current = Block(kind, len(self.blocks), id, name)
        self.blocks.append(block)
        content = ToolCall(id, name, {}) if kind == "toolcall" else None
        self.out.append(Delta(_STARTS[kind], block.index, "", content))
        return block

    def flowing(self, kind: BlockKind) -> Block:
        """Return the current block when it is of this kind and open, else open a new one.

        For protocols that do not mark where a block begins or ends.
        """
        current = self.current
        if current is not None and current.open and current.kind == kind:
            return current
        return self.begin(kind)

    def add(self, block: Block, piece: str) -> None:
        """Add a piece to a block: text, thinking, or a tool call's JSON arguments."""
        if piece:
            block.parts.append(piece)
            self.out.append(Delta(block.delta, block.index, piece))

    def end(self, block: Block) -> None:
        """Close a block; closing it again does nothing.

        A tool call with unreadable arguments stays without content: `message` decides what that means.
        """
        if not block.open:
            return
        block.open = False
        text = "".join(block.parts)
        if block.kind == "text":
            block.content = TextContent(text, block.signature)
        elif block.kind == "thinking":
            block.content = ThinkingContent(text, block.signature, block.redacted)
        else:
            try:
                block.content = ToolCall(block.id, block.name, parse_arguments(text), block.signature)
            except ValueError:
                return
        self.out.append(Delta(_ENDS[block.kind], block.index, "", block.content))

    def message(self) -> AssistantMessage:
        """Close what is open and return the whole answer.

        Raises a retryable `ProviderError` when a tool call's arguments are not JSON: a tool must not run with
        arguments the model did not write. After `length` such a call was merely cut off, and is left out.
        """
        for block in self.blocks:
            self.end(block)
        reason = self.stop_reason or "stop"
        broken = next((block for block in self.blocks if block.content is None), None)
        if broken is not None and reason not in ("length", "error"):
            raise ProviderError(
                f"Model {self.info.specifier!r} called tool {broken.name!r} with arguments that are not JSON.",
                status=200,
                retryable=True,
                code="invalid_tool_arguments",
            )
        content = tuple(block.content for block in self.blocks if block.content is not None and _says(block.content))
        if reason in ("stop", "toolUse"):  # some hosts say "stop" after a tool call, or the reverse
            reason = "toolUse" if any(isinstance(block, ToolCall) for block in content) else "stop"
        info = self.info
        usage = priced_usage(
            info, input=self.input, output=self.output, cache_read=self.cache_read, cache_write=self.cache_write
        )
        return AssistantMessage(
            content, info.api, info.provider, info.id, usage, reason, self.error_message, self.response_id
        )


def _says(content: AssistantContent) -> bool:
    match content:
        case TextContent(text, signature):
            return bool(text) or signature is not None
        case ThinkingContent(thinking, signature, _):
            return bool(thinking) or signature is not None
    return True


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number in the arguments is out of range")
    return number


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Control characters inside strings are accepted: small models write them. NaN and infinities are not: they could
# not be sent back.
_ARGUMENTS = json.JSONDecoder(strict=False, parse_constant=_refuse, parse_float=_finite)


def parse_arguments(text: str) -> Json:
    """Return a tool call's arguments; nothing at all, and `null`, mean none. Raises `ValueError` when unreadable."""
    if not text.strip():
        return {}
    value = _ARGUMENTS.decode(text)
    if isinstance(value, str):  # some hosts encode the object twice
        value = _ARGUMENTS.decode(value) if value.strip() else None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("arguments are not an object")  # noqa: TRY004 - one error for every unreadable text
    return value

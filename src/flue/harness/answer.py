"""An answer while it streams: what is kept of it when the stream breaks or the call is aborted."""

from __future__ import annotations

import json
from typing import Any

from flue.messages import AssistantContent, AssistantMessage, StopReason, TextContent, ThinkingContent, ToolCall
from flue.ports import Delta, ModelInfo


class PartialAnswer:
    """Collects deltas. Text is joined only when somebody asks for the message."""

    __slots__ = ("_blocks", "_info", "_timestamp")

    def __init__(self, info: ModelInfo, timestamp: int) -> None:
        self._info = info
        self._timestamp = timestamp
        self._blocks: dict[int, tuple[str, list[str], AssistantContent | None]] = {}

    def add(self, delta: Delta) -> None:
        """Take in one delta."""
        block = self._blocks.get(delta.index)
        if block is None:
            block = self._blocks[delta.index] = (delta.type.partition("_")[0], [], delta.content)
        if delta.delta:
            block[1].append(delta.delta)
        if delta.content is not None and delta.content is not block[2]:
            self._blocks[delta.index] = (block[0], block[1], delta.content)

    def message(self, stop_reason: StopReason = "stop", error: str | None = None) -> AssistantMessage:
        """Return the answer so far."""
        content = tuple(_block(*self._blocks[index]) for index in sorted(self._blocks))
        info = self._info
        return AssistantMessage(
            content,
            info.api,
            info.provider,
            info.id,
            stop_reason=stop_reason,
            error_message=error,
            timestamp=self._timestamp,
        )


def _block(kind: str, pieces: list[str], known: AssistantContent | None) -> AssistantContent:
    if kind == "toolcall":
        call = known if isinstance(known, ToolCall) else ToolCall("", "", {})
        return call if call.arguments else ToolCall(call.id, call.name, _arguments("".join(pieces)), call.signature)
    if known is not None:
        return known
    return ThinkingContent("".join(pieces)) if kind == "thinking" else TextContent("".join(pieces))


def _arguments(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}

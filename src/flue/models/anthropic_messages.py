"""The `anthropic-messages` protocol: `POST {base_url}/v1/messages`, streamed.

Facts: docs.claude.com (Messages API, prompt caching, extended and adaptive thinking).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flue.errors import ProviderError
from flue.messages import (
    AssistantContent,
    Json,
    StopReason,
    TextContent,
    ThinkingContent,
    ToolCall,
    ToolResultMessage,
    ToolSpecs,
    UserContent,
)
from flue.models.answer import Answer, Block
from flue.models.compat import Compat
from flue.models.encoding import dumps
from flue.models.thinking import BUDGETS, clamp_level, level_name
from flue.models.wire import Decoder, WireEncoder, WireModel
from flue.ports import ModelRequest

VERSION = "2023-06-01"
INTERLEAVED = "interleaved-thinking-2025-05-14"  # thinking between tool calls, for models that do not adapt
OAUTH = "oauth-2025-04-20"
OAUTH_PREFIX = "sk-ant-oat"
CACHE_MARK = b',"cache_control":{"type":"ephemeral"}}'
DEFAULT_MAX_TOKENS = 8192  # the protocol requires a number; for models whose limit is unknown
LEAST_BUDGET = 1024  # tokens; the smallest thinking budget that the API accepts
LEAST_ANSWER = 1024  # tokens kept for the answer when thinking has to share a small limit
# Opus and Sonnet decide for themselves how much to think from version 4.6 on.
ADAPTIVE = re.compile(r"(?:opus|sonnet)-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
STOP_REASONS: Mapping[str, StopReason] = {
    "end_turn": "stop",
    "pause_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "toolUse",
}


def is_adaptive(model_id: str) -> bool:
    """Say whether a model takes an effort instead of a thinking budget."""
    match = ADAPTIVE.search(model_id)
    return match is not None and (int(match[1]), int(match[2] or 0)) >= (4, 6)


class AnthropicMessages(WireModel):
    """A model behind the Anthropic Messages protocol."""

    api = "anthropic-messages"

    def make_encoder(self) -> WireEncoder:
        """Return the encoder for this target."""
        return AnthropicEncoder(self.compat)

    def url(self) -> str:
        """Return the address to post to."""
        return f"{self.base_url}/v1/messages"

    def auth(self, api_key: str) -> Mapping[str, str]:
        """Return the key's header; an OAuth token travels as a bearer token under our own name."""
        if api_key.startswith(OAUTH_PREFIX):
            return {"authorization": f"Bearer {api_key}"}
        return {"x-api-key": api_key}

    def extra_headers(self, request: ModelRequest) -> Mapping[str, str]:
        """Return the protocol's version, the beta features used, and the session's affinity where a host wants it."""
        headers = {"anthropic-version": VERSION}
        betas = [INTERLEAVED] if self.info.reasoning and not is_adaptive(self.info.id) else []
        if self.api_key and self.api_key.startswith(OAUTH_PREFIX):
            betas.append(OAUTH)
        if betas:
            headers["anthropic-beta"] = ",".join(betas)
        if self.compat.send_session_affinity_headers and request.affinity:
            headers["x-session-affinity"] = request.affinity
        return headers

    def body(self, request: ModelRequest) -> bytes:
        """Return the request body."""
        settings: Json = {"model": self.info.id, **self._limits(request), "stream": True}
        if request.system.strip():
            mark = {"type": "ephemeral"}
            settings["system"] = [{"type": "text", "text": request.system, "cache_control": mark}]
        tools = (b',"tools":', self.tools(request.tools)) if len(request.tools) else ()
        return b"".join((dumps(settings)[:-1], *tools, b',"messages":[', *self.messages(request.transcript), b"]}"))

    def decoder(self, answer: Answer) -> Decoder:
        """Return a decoder for one answer."""
        return AnthropicDecoder(answer)

    def _limits(self, request: ModelRequest) -> Json:
        """Return `max_tokens` and the thinking settings, which share it."""
        info = self.info
        limit = info.max_tokens or DEFAULT_MAX_TOKENS
        wanted = min(request.max_tokens or limit, limit)
        if not info.reasoning:
            return {"max_tokens": wanted}
        level = clamp_level(info, self.compat, request.thinking)
        if level == "off":
            return {"max_tokens": wanted, "thinking": {"type": "disabled"}}
        if is_adaptive(info.id):
            effort = "low" if level == "minimal" else level_name(self.compat, level)
            thinking = {"type": "adaptive", "display": "summarized"}
            return {"max_tokens": wanted, "thinking": thinking, "output_config": {"effort": effort}}
        total = min(wanted + BUDGETS[level], limit)
        budget = min(BUDGETS[level], total - min(wanted, LEAST_ANSWER))
        if budget < LEAST_BUDGET:
            return {"max_tokens": wanted, "thinking": {"type": "disabled"}}
        return {
            "max_tokens": total,
            "thinking": {"type": "enabled", "budget_tokens": budget, "display": "summarized"},
        }


class AnthropicEncoder(WireEncoder):
    """Content blocks; consecutive tool results share one user message."""

    def __init__(self, compat: Compat) -> None:
        self._compat = compat

    def tools(self, tools: ToolSpecs) -> bytes:
        """Return the tools; the last one carries a cache mark."""
        encoded = [dumps(self._tool(spec.name, spec.description, spec.parameters)) for spec in tools]
        if encoded and self._compat.supports_cache_control_on_tools:
            encoded[-1] = encoded[-1][:-1] + CACHE_MARK
        return b"[" + b",".join(encoded) + b"]"

    def _tool(self, name: str, description: str, parameters: Json) -> Json:
        tool: Json = {"name": name, "description": description, "input_schema": {"type": "object", **parameters}}
        if self._compat.supports_eager_tool_input_streaming:
            tool["eager_input_streaming"] = True
        return tool

    def user(self, content: Sequence[UserContent]) -> list[Any]:
        """Encode each block."""
        return [dumps(_shown(block)) for block in content]

    def users(self, parts: Sequence[Any], *, last: bool) -> bytes:
        """Return one user message; at the end of the request its last block carries the cache mark."""
        joined: bytes = b",".join(parts)
        return b'{"role":"user","content":[' + (joined[:-1] + CACHE_MARK if last else joined) + b"]}"

    def assistant(self, content: Sequence[AssistantContent]) -> bytes:
        """Encode an answer. The API refuses one that ends with thinking (an answer cut off there): that is left out."""
        blocks = list(content)
        while blocks and isinstance(blocks[-1], ThinkingContent):
            blocks.pop()
        encoded = [dumps(wire) for block in blocks if (wire := _said(block)) is not None]
        return b'{"role":"assistant","content":[' + b",".join(encoded) + b"]}" if encoded else b""

    def result(self, result: ToolResultMessage) -> list[Any]:
        """Encode a tool result, images included."""
        wire: Json = {
            "type": "tool_result",
            "tool_use_id": result.tool_call_id,
            "content": [_shown(block) for block in result.content],
        }
        if result.is_error:
            wire["is_error"] = True
        return [dumps(wire)]

    def results(self, parts: Sequence[Any], *, last: bool) -> bytes:
        """Return the results of parallel calls as one user message."""
        return self.users(parts, last=last)


def _shown(block: UserContent) -> Json:
    if isinstance(block, TextContent):
        return {"type": "text", "text": block.text}
    return {"type": "image", "source": {"type": "base64", "media_type": block.mime_type, "data": block.data}}


def _said(block: AssistantContent) -> Json | None:
    if isinstance(block, TextContent):
        return {"type": "text", "text": block.text}
    if isinstance(block, ToolCall):
        return {"type": "tool_use", "id": block.id, "name": block.name, "input": block.arguments}
    if block.redacted:
        return {"type": "redacted_thinking", "data": block.signature or ""}
    if block.signature:
        return {"type": "thinking", "thinking": block.thinking, "signature": block.signature}
    # Only signed thinking is accepted as such; hosts that do not sign get it back as what it also is, text.
    return {"type": "text", "text": block.thinking} if block.thinking.strip() else None


class AnthropicDecoder(Decoder):
    """Reads `message_start`, `content_block_*`, `message_delta`, `message_stop`."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._blocks: dict[int, Block] = {}
        self._inputs: dict[int, Json] = {}  # tool input given whole in the start event

    def feed(self, event: Json) -> None:
        """Take one event; unknown ones, `ping` among them, say nothing."""
        kind = event["type"]
        if kind == "content_block_delta":
            self._delta(event["index"], event["delta"])
        elif kind == "content_block_start":
            self._start(event["index"], event["content_block"])
        elif kind == "content_block_stop":
            self._stop(event["index"])
        elif kind == "message_start":
            self.answer.response_id = event["message"].get("id")
            self._usage(event["message"].get("usage"))
        elif kind == "message_delta":
            self._usage(event.get("usage"))
            if reason := event["delta"].get("stop_reason"):
                self._stop_reason(reason)
        elif kind == "message_stop":
            self.done = True

    def _delta(self, index: int, delta: Json) -> None:
        block = self._blocks.get(index)
        if block is None:  # a kind of block that was not asked for
            return
        kind = delta["type"]
        if kind == "text_delta":
            self.answer.add(block, delta["text"])
        elif kind == "input_json_delta":
            self.answer.add(block, delta["partial_json"])
        elif kind == "thinking_delta":
            self.answer.add(block, delta["thinking"])
        elif kind == "signature_delta":
            block.signature = (block.signature or "") + delta["signature"]

    def _start(self, index: int, wire: Json) -> None:
        """Open a block; the start event may already hold its first piece, or all of it."""
        answer, kind = self.answer, wire["type"]
        if kind == "text":
            block = answer.begin("text")
            answer.add(block, wire.get("text") or "")
        elif kind == "thinking":
            block = answer.begin("thinking")
            block.signature = wire.get("signature") or None
            answer.add(block, wire.get("thinking") or "")
        elif kind == "redacted_thinking":
            block = answer.begin("thinking")
            block.redacted = True
            block.signature = wire["data"]
        elif kind == "tool_use":
            block = answer.begin("toolcall", wire["id"], wire["name"])
            self._inputs[index] = wire.get("input") or {}
        else:
            return
        self._blocks[index] = block

    def _stop(self, index: int) -> None:
        block = self._blocks.get(index)
        if block is None:
            return
        whole = self._inputs.pop(index, None)
        if whole and not block.parts:
            self.answer.add(block, dumps(whole).decode())
        self.answer.end(block)

    def _usage(self, usage: Json | None) -> None:
        """Take counts as they come: the last word on each wins, and null says nothing."""
        answer, usage = self.answer, usage or {}
        if (count := usage.get("input_tokens")) is not None:
            answer.input = count
        if (count := usage.get("output_tokens")) is not None:
            answer.output = count
        if (count := usage.get("cache_read_input_tokens")) is not None:
            answer.cache_read = count
        if (count := usage.get("cache_creation_input_tokens")) is not None:
            answer.cache_write = count

    def _stop_reason(self, reason: str) -> None:
        if reason == "model_context_window_exceeded":
            provider = self.answer.info.provider
            raise ProviderError(f"{provider} stopped: {reason}", status=200, overflow=True, code="context_overflow")
        self.answer.stop_reason = STOP_REASONS.get(reason, "error")
        if self.answer.stop_reason == "error":
            self.answer.error_message = f"The model stopped with reason {reason!r}."

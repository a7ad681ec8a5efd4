"""The `openai-completions` protocol: `POST {base_url}/chat/completions`, streamed.

Spoken by OpenAI and, with departures that `flue.models.compat` lists, by most other hosts. Facts: platform.openai.com
(Chat Completions, streaming, prompt caching) and the hosts' own references.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flue.messages import (
    AssistantContent,
    ImageContent,
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
from flue.models.thinking import clamp_level
from flue.models.wire import Decoder, WireEncoder, WireModel
from flue.ports import ModelInfo, ModelRequest

STOP_REASONS: Mapping[str, StopReason] = {
    "stop": "stop",
    "end": "stop",
    "eos": "stop",
    "length": "length",
    "tool_calls": "toolUse",
    "function_call": "toolUse",
}
# Where hosts put reasoning; the first that is filled counts, for some send the same text in two.
REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_text")
CALL_ID_LIMIT = 40  # characters OpenAI accepts in a tool call's id
CACHE_KEY_LIMIT = 64  # characters OpenAI accepts in prompt_cache_key
ONLY_IMAGES = "The result is an image."
IMAGES_OF_RESULTS = {"type": "text", "text": "Images that the tools returned:"}


class OpenAICompletions(WireModel):
    """A model behind the Chat Completions protocol."""

    api = "openai-completions"

    def make_encoder(self) -> WireEncoder:
        """Return the encoder for this target."""
        return CompletionsEncoder(self._info, self.compat)

    def url(self) -> str:
        """Return the address to post to."""
        return f"{self.base_url}/chat/completions"

    def auth(self, api_key: str) -> Mapping[str, str]:
        """Return the key's header."""
        return {"authorization": f"Bearer {api_key}"}

    def extra_headers(self, request: ModelRequest) -> Mapping[str, str]:
        """Return the session's affinity where a host routes by it."""
        if not (self.compat.send_session_affinity_headers and request.affinity):
            return {}
        return dict.fromkeys(("session_id", "x-client-request-id", "x-session-affinity"), request.affinity)

    def body(self, request: ModelRequest) -> bytes:
        """Return the request body."""
        settings = dumps(self._settings(request))[:-1]
        tools = (b',"tools":', self.tools(request.tools)) if len(request.tools) else ()
        settled, tail = self.messages(request.transcript)
        system = self._system(request.system)
        comma = b"," if system and (settled or tail) else b""
        return b"".join((settings, *tools, b',"messages":[', system, comma, settled, tail, b"]}"))

    def decoder(self, answer: Answer) -> Decoder:
        """Return a decoder for one answer."""
        return CompletionsDecoder(answer, self.compat)

    def _system(self, text: str) -> bytes:
        if not text.strip():
            return b""
        developer = self.info.reasoning and self.compat.supports_developer_role
        return dumps({"role": "developer" if developer else "system", "content": text})

    def _settings(self, request: ModelRequest) -> Json:
        compat = self.compat
        settings: Json = {"model": self.info.id, "stream": True}
        if compat.supports_usage_in_streaming:
            settings["stream_options"] = {"include_usage": True}
        if compat.supports_store:
            settings["store"] = False
        if compat.supports_prompt_cache_key and request.affinity:
            settings["prompt_cache_key"] = request.affinity[:CACHE_KEY_LIMIT]
        if request.max_tokens:
            limit = self.info.max_tokens or request.max_tokens
            settings[compat.max_tokens_field] = min(request.max_tokens, limit)
        if compat.zai_tool_stream and len(request.tools):
            settings["tool_stream"] = True
        if self.info.reasoning:
            settings.update(self._thinking(request))
        return settings

    def _thinking(self, request: ModelRequest) -> Json:
        """Return the thinking settings in the host's own form."""
        compat = self.compat
        level = clamp_level(self.info, compat, request.thinking)
        on = level != "off"
        name = dict(compat.thinking_levels).get(level) or (level if on else None)
        effort: Json = {"reasoning_effort": name} if name and compat.supports_reasoning_effort else {}
        match compat.thinking_format:
            case "openrouter":
                return {"reasoning": {"effort": name or "none"}}
            case "deepseek":
                return {"thinking": {"type": "enabled" if on else "disabled"}, **(effort if on else {})}
            case "zai" | "qwen":
                return {"enable_thinking": on}
            case "together":
                return {"reasoning": {"enabled": on}, **(effort if on else {})}
            case _:
                return effort


class CompletionsEncoder(WireEncoder):
    """Messages; a group's part is `(message bytes, bytes of the images to send behind the tool results)`."""

    id_limit = CALL_ID_LIMIT

    def __init__(self, info: ModelInfo, compat: Compat) -> None:
        self._reasoning = compat.requires_reasoning_content_on_assistant_messages and info.reasoning
        self._strict = compat.supports_strict_mode
        self._no_text = None if compat.supports_null_content else ""

    def tools(self, tools: ToolSpecs) -> bytes:
        """Return the tools."""
        extra: Json = {"strict": False} if self._strict else {}
        return dumps([{"type": "function", "function": {**spec.to_json(), **extra}} for spec in tools])

    def user(self, content: Sequence[UserContent]) -> list[Any]:
        """Encode a message; a single text travels as plain text, which every host reads."""
        first = content[0]
        plain = first.text if len(content) == 1 and isinstance(first, TextContent) else None
        value = [_shown(block) for block in content] if plain is None else plain
        return [(dumps({"role": "user", "content": value}), ())]

    def users(self, parts: Sequence[Any], *, last: bool) -> bytes:
        """Return the messages."""
        return b",".join(message for message, _ in parts)

    def assistant(self, content: Sequence[AssistantContent]) -> bytes:
        """Encode an answer: its text as one plain string, its calls, its reasoning where the host gave it a field."""
        texts = [block.text for block in content if isinstance(block, TextContent)]
        calls = [block for block in content if isinstance(block, ToolCall)]
        if not texts and not calls:
            return b""
        wire: Json = {
            "role": "assistant",
            "content": "\n".join(texts) if texts else self._no_text,
            **self._thoughts(content),
        }
        if calls:
            wire["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": dumps(call.arguments).decode()},
                }
                for call in calls
            ]
            if details := [json.loads(call.signature) for call in calls if call.signature]:
                wire["reasoning_details"] = details
        return dumps(wire)

    def result(self, result: ToolResultMessage) -> list[Any]:
        """Encode a tool result; the protocol has no place for images in it."""
        texts = "\n".join(block.text for block in result.content if isinstance(block, TextContent))
        images = tuple(dumps(_shown(block)) for block in result.content if isinstance(block, ImageContent))
        wire = {"role": "tool", "tool_call_id": result.tool_call_id, "content": texts or ONLY_IMAGES}
        return [(dumps(wire), images)]

    def results(self, parts: Sequence[Any], *, last: bool) -> bytes:
        """Return the results of parallel calls, and their images as a user message behind them."""
        messages = [message for message, _ in parts]
        images = [image for _, some in parts for image in some]
        if images:
            shown = b",".join((dumps(IMAGES_OF_RESULTS), *images))
            messages.append(b'{"role":"user","content":[' + shown + b"]}")
        return b",".join(messages)

    def _thoughts(self, content: Sequence[AssistantContent]) -> dict[str, str]:
        thoughts: dict[str, str] = {"reasoning_content": ""} if self._reasoning else {}
        for block in content:
            if isinstance(block, ThinkingContent) and block.signature in REASONING_FIELDS:
                before = thoughts.get(block.signature)
                thoughts[block.signature] = f"{before}\n{block.thinking}" if before else block.thinking
        return thoughts


def _shown(block: UserContent) -> Json:
    if isinstance(block, TextContent):
        return {"type": "text", "text": block.text}
    return {"type": "image_url", "image_url": {"url": f"data:{block.mime_type};base64,{block.data}"}}


class CompletionsDecoder(Decoder):
    """Reads chunks. The answer is complete once a finish reason was given, the stream over at `[DONE]` or its end."""

    def __init__(self, answer: Answer, compat: Compat) -> None:
        super().__init__(answer)
        self._finish_optional = compat.finish_reason_optional
        self._by_index: dict[int, Block] = {}
        self._by_id: dict[str, Block] = {}
        self._wire_ids: dict[Block, str] = {}
        self._call: Block | None = None

    def feed(self, event: Json) -> None:
        """Take one chunk."""
        answer = self.answer
        if usage := event.get("usage"):
            self._usage(usage)
        if answer.response_id is None:
            answer.response_id = event.get("id")
        choices = event.get("choices")
        if not choices:
            return
        choice = choices[0]
        if usage := choice.get("usage"):  # Moonshot
            self._usage(usage)
        if delta := choice.get("delta"):
            self._delta(delta)
        if reason := choice.get("finish_reason"):
            self._stop_reason(reason)

    def is_complete(self) -> bool:
        """Say whether a finish reason was given; a host that may omit it must have sent `[DONE]`."""
        return self.answer.stop_reason is not None or (self._finish_optional and self.ended)

    def _delta(self, delta: Json) -> None:
        answer = self.answer
        for field in REASONING_FIELDS:
            if piece := delta.get(field):
                block = answer.flowing("thinking")
                block.signature = field  # replayed under the name it came by
                answer.add(block, _text(piece))
                break
        if piece := delta.get("content") or delta.get("refusal"):
            answer.add(answer.flowing("text"), _text(piece))
        if calls := delta.get("tool_calls"):
            for call in calls:
                self._tool_call(call)
        if details := delta.get("reasoning_details"):
            self._details(details)

    def _tool_call(self, delta: Json) -> None:
        """Add to a call, or begin one.

        The protocol numbers calls; there are hosts that do not, that number them all 0, that repeat id and name in
        every delta, and that send a new id with every delta but the name only once.
        """
        function = delta.get("function") or {}
        index, id, name = delta.get("index"), delta.get("id") or "", function.get("name") or ""
        block = self._known_call(index, id, name)
        if block is None:
            block = self._begin_call(id, name)
            if isinstance(index, int):
                self._by_index[index] = block
        self._call = block
        arguments = function.get("arguments")
        if arguments:
            self.answer.add(block, arguments if isinstance(arguments, str) else dumps(arguments).decode())

    def _known_call(self, index: object, id: str, name: str) -> Block | None:
        if isinstance(index, int):
            block = self._by_index.get(index)
            other = block is not None and id and name and self._wire_ids[block] not in ("", id)
            return None if other else block
        if id:
            return self._by_id.get(id)
        return None if name else self._call

    def _begin_call(self, id: str, name: str) -> Block:
        """Begin a call. Its id is made up when it has none or one that another call of the answer has."""
        if not name:
            raise KeyError("name")
        answer = self.answer
        own = id if id and id not in self._by_id else f"{id or 'call'}_{answer.response_id or ''}_{len(answer.blocks)}"
        block = answer.begin("toolcall", own, name)
        self._by_id[id or own] = block
        self._wire_ids[block] = id
        return block

    def _details(self, details: Sequence[Json]) -> None:
        """Keep encrypted reasoning with the call it belongs to (OpenRouter): the model behind wants it back."""
        for detail in details:
            if detail.get("type") == "reasoning.encrypted" and (block := self._by_id.get(detail.get("id") or "")):
                block.signature = dumps(detail).decode()

    def _usage(self, usage: Json) -> None:
        answer = self.answer
        details = usage.get("prompt_tokens_details") or {}
        prompt, written = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        # DeepSeek counts cache hits beside the details.
        answer.cache_read = details.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or 0
        answer.cache_write = details.get("cache_write_tokens") or 0
        answer.input = prompt - answer.cache_read - answer.cache_write
        # Some hosts leave reasoning out of the completion tokens, but not out of the total.
        answer.output = max(written, (usage.get("total_tokens") or 0) - prompt)

    def _stop_reason(self, reason: str) -> None:
        self.answer.stop_reason = STOP_REASONS.get(reason, "error")
        if self.answer.stop_reason == "error":
            self.answer.error_message = f"The model stopped with reason {reason!r}."


def _text(piece: object) -> str:
    if not isinstance(piece, str):
        raise TypeError("a text delta is not text")
    return piece

"""The `openai-responses` protocol: `POST {base_url}/responses`, streamed.

By default nothing is kept on the provider's side: reasoning comes encrypted and is sent back with the history. Facts:
platform.openai.com (Responses, reasoning, streaming events).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flue.messages import (
    AssistantContent,
    Json,
    StopReason,
    TextContent,
    ThinkingContent,
    ToolResultMessage,
    ToolSpecs,
    UserContent,
)
from flue.models.answer import Answer, Block, BlockKind
from flue.models.compat import Compat
from flue.models.encoding import dumps
from flue.models.failures import event_failure
from flue.models.thinking import clamp_level
from flue.models.wire import Decoder, WireEncoder, WireModel
from flue.ports import ModelRequest

CACHE_KEY_LIMIT = 64  # characters OpenAI accepts in prompt_cache_key
LEAST_OUTPUT = 16  # smallest max_output_tokens the API accepts
INCOMPLETE: Mapping[str, StopReason] = {"max_output_tokens": "length"}
# What the API takes back of a reasoning item; `status` in one is refused.
REASONING_FIELDS = ("type", "id", "summary", "encrypted_content")


class OpenAIResponses(WireModel):
    """A model behind the Responses protocol."""

    api = "openai-responses"

    def make_encoder(self) -> WireEncoder:
        """Return the encoder for this target."""
        return ResponsesEncoder(self.compat)

    def url(self) -> str:
        """Return the address to post to."""
        return f"{self.base_url}/responses"

    def auth(self, api_key: str) -> Mapping[str, str]:
        """Return the key's header."""
        return {"authorization": f"Bearer {api_key}"}

    def extra_headers(self, request: ModelRequest) -> Mapping[str, str]:
        """Return the session's affinity."""
        return dict.fromkeys(("session_id", "x-client-request-id"), request.affinity) if request.affinity else {}

    def body(self, request: ModelRequest) -> bytes:
        """Return the request body."""
        settings = dumps(self._settings(request))[:-1]
        tools = (b',"tools":', self.tools(request.tools)) if len(request.tools) else ()
        settled, tail = self.messages(request.transcript)
        system = self._system(request.system)
        comma = b"," if system and (settled or tail) else b""
        return b"".join((settings, *tools, b',"input":[', system, comma, settled, tail, b"]}"))

    def decoder(self, answer: Answer) -> Decoder:
        """Return a decoder for one answer."""
        return ResponsesDecoder(answer, self.compat)

    def _system(self, text: str) -> bytes:
        if not text.strip():
            return b""
        developer = self.info.reasoning and self.compat.supports_developer_role
        return dumps({"role": "developer" if developer else "system", "content": text})

    def _settings(self, request: ModelRequest) -> Json:
        settings: Json = {"model": self.info.id, "stream": True, "store": self.compat.store_responses}
        if request.affinity:
            settings["prompt_cache_key"] = request.affinity[:CACHE_KEY_LIMIT]
        if request.max_tokens:
            limit = self.info.max_tokens or request.max_tokens
            settings["max_output_tokens"] = max(LEAST_OUTPUT, min(request.max_tokens, limit))
        if self.info.reasoning:
            settings.update(self._thinking(request))
        return settings

    def _thinking(self, request: ModelRequest) -> Json:
        """Return the thinking settings; a model that cannot be told to stop thinking keeps its own default."""
        level = clamp_level(self.info, self.compat, request.thinking)
        name = dict(self.compat.thinking_levels).get(level) or (None if level == "off" else level)
        settings: Json = {"include": ["reasoning.encrypted_content"]}
        if name:
            settings["reasoning"] = {"effort": name, **({} if level == "off" else {"summary": "auto"})}
        return settings


class ResponsesEncoder(WireEncoder):
    """Items. Ids of calls are `call_id|item_id` in the conversation; only the call id names a call on the wire.

    Item ids come from the blocks' signatures, so that they go back only to the model that gave them: the API pairs
    them with that model's reasoning items.
    """

    def __init__(self, compat: Compat) -> None:
        self._strict = compat.supports_strict_mode

    def clean_id(self, id: str) -> str:
        """Return the call id in the provider's alphabet and length."""
        return super().clean_id(id.partition("|")[0])

    def tools(self, tools: ToolSpecs) -> bytes:
        """Return the tools."""
        extra: Json = {"strict": False} if self._strict else {}
        return dumps([{"type": "function", **spec.to_json(), **extra} for spec in tools])

    def user(self, content: Sequence[UserContent]) -> list[Any]:
        """Encode a message."""
        return [dumps({"role": "user", "content": [_shown(block) for block in content]})]

    def users(self, parts: Sequence[Any], *, last: bool) -> bytes:
        """Return the messages."""
        return b",".join(parts)

    def assistant(self, content: Sequence[AssistantContent]) -> bytes:
        """Encode an answer as its items. Reasoning that nothing follows is refused by the API and left out."""
        blocks = list(content)
        while blocks and isinstance(blocks[-1], ThinkingContent):
            blocks.pop()
        return b",".join([dumps(item) for block in blocks if (item := _said(block)) is not None])

    def result(self, result: ToolResultMessage) -> list[Any]:
        """Encode a tool result, images included."""
        first = result.content[0]
        plain = first.text if len(result.content) == 1 and isinstance(first, TextContent) else None
        output = [_shown(block) for block in result.content] if plain is None else plain
        return [dumps({"type": "function_call_output", "call_id": result.tool_call_id, "output": output})]

    def results(self, parts: Sequence[Any], *, last: bool) -> bytes:
        """Return the items."""
        return b",".join(parts)


def _shown(block: UserContent) -> Json:
    if isinstance(block, TextContent):
        return {"type": "input_text", "text": block.text}
    return {
        "type": "input_image",
        "detail": "auto",
        "image_url": f"data:{block.mime_type};base64,{block.data}",
    }


def _said(block: AssistantContent) -> Json | None:
    """Return a block's item, or None for reasoning that cannot be sent back."""
    if isinstance(block, ThinkingContent):
        item: Json | None = json.loads(block.signature) if block.signature else None
        return item
    id: Json = {"id": block.signature} if block.signature else {}
    if isinstance(block, TextContent):
        part = {"type": "output_text", "text": block.text, "annotations": []}
        return {"type": "message", "role": "assistant", "status": "completed", "content": [part], **id}
    arguments = dumps(block.arguments).decode()
    return {"type": "function_call", "call_id": block.id, "name": block.name, "arguments": arguments, **id}


class ResponsesDecoder(Decoder):
    """Reads output items and their deltas until `response.completed`, `.incomplete` or `.failed`."""

    def __init__(self, answer: Answer, compat: Compat) -> None:
        super().__init__(answer)
        self._stored = compat.store_responses
        self._blocks: dict[int, Block] = {}
        self._reasoning_lost = False  # an item's id must not go back without the reasoning before it

    def feed(self, event: Json) -> None:
        """Take one event; unknown ones say nothing."""
        match event["type"]:
            case (
                "response.output_text.delta"
                | "response.refusal.delta"
                | "response.function_call_arguments.delta"
                | "response.reasoning_summary_text.delta"
                | "response.reasoning_text.delta"
            ):
                if block := self._blocks.get(event["output_index"]):
                    self.answer.add(block, event["delta"])
            case "response.output_item.added":
                self._begin(event["output_index"], event["item"])
            case "response.output_item.done":
                self._end(event["output_index"], event["item"])
            case "response.content_part.added":
                self._part(event["output_index"], event.get("part") or {})
            case "response.reasoning_summary_part.added":
                block = self._blocks.get(event["output_index"])
                if block and block.parts:
                    self.answer.add(block, "\n\n")
            case "response.created":
                self.answer.response_id = event["response"].get("id")
            case "response.completed" | "response.incomplete":
                self._finish(event["response"])
            case "response.failed" | "response.cancelled":
                response = event.get("response") or {}
                raise event_failure(self.answer.info.provider, response.get("error") or "the response failed")
            case "error":  # hosts that name no events
                raise event_failure(self.answer.info.provider, event)

    def _begin(self, index: int, item: Json) -> Block | None:
        kinds: dict[str, BlockKind] = {"message": "text", "reasoning": "thinking", "function_call": "toolcall"}
        kind = kinds.get(item["type"])
        if kind is None:  # a hosted tool's item: not asked for
            return None
        answer, id = self.answer, item.get("id")
        if kind == "toolcall":
            block = answer.begin(kind, f"{item['call_id']}|{id}" if id else item["call_id"], item["name"])
            answer.add(block, item.get("arguments") or "")
        else:
            block = answer.begin(kind)
        if kind != "thinking" and not self._reasoning_lost:
            block.signature = id
        self._blocks[index] = block
        return block

    def _part(self, index: int, part: Json) -> None:
        """Take the first piece of a text, where a host puts one into the opening event."""
        if (block := self._blocks.get(index)) and (text := part.get("text")):
            self.answer.add(block, text)

    def _end(self, index: int, item: Json) -> None:
        """Close an item. What its deltas left out is in the item itself."""
        block = self._blocks.get(index) or self._begin(index, item)
        if block is None or not block.open:
            return
        if not block.parts:
            self.answer.add(block, _whole(item))
        if block.kind == "thinking":
            self._keep(block, item)
        self.answer.end(block)

    def _keep(self, block: Block, item: Json) -> None:
        """Sign thinking with its whole item, if the API will take that back."""
        if self._stored or item.get("encrypted_content"):
            kept = {name: item[name] for name in REASONING_FIELDS if item.get(name) is not None}
            block.signature = dumps(kept).decode()
        else:
            self._reasoning_lost = True

    def _finish(self, response: Json) -> None:
        answer = self.answer
        if usage := response.get("usage"):
            cached = (usage.get("input_tokens_details") or {}).get("cached_tokens") or 0
            answer.input = (usage.get("input_tokens") or 0) - cached
            answer.cache_read = cached
            answer.output = usage.get("output_tokens") or 0
        answer.response_id = response.get("id") or answer.response_id
        answer.stop_reason = "stop"
        if response.get("status") == "incomplete":
            reason = (response.get("incomplete_details") or {}).get("reason") or "unknown"
            answer.stop_reason = INCOMPLETE.get(reason, "error")
            if answer.stop_reason == "error":
                answer.error_message = f"The model stopped with reason {reason!r}."
        self.done = True


def _whole(item: Json) -> str:
    """Return the text of a finished item."""
    if item["type"] == "function_call":
        return str(item.get("arguments") or "")
    parts = item.get("summary") or item.get("content") or ()
    texts = [part.get("text") or part.get("refusal") or "" for part in parts]
    return ("\n\n" if item["type"] == "reasoning" else "").join(texts)

"""Anthropic Messages as the real service speaks it (platform.claude.com, Messages API; error texts as observed)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from flue.messages import Json, TextContent, ThinkingContent, ToolCall, Usage
from flue.testing.provider.reply import Reply
from flue.testing.provider.wire import (
    DeltaFrames,
    Frames,
    Ledger,
    Turn,
    ViolationError,
    arguments_text,
    bearer,
    check_image,
    check_list,
    check_name,
    check_object,
    check_text,
    check_unique,
    pieces,
    require,
    sse,
)

STOP = {"stop": "end_turn", "length": "max_tokens", "toolUse": "tool_use", "error": "refusal", "aborted": "refusal"}
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
TOP_LEVEL = frozenset(
    [
        "model",
        "messages",
        "max_tokens",
        "stream",
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "metadata",
        "service_tier",
        "container",
        "context_management",
        "mcp_servers",
        "cache_control",
    ]
)
BLOCK_FIELDS = {
    "text": frozenset({"type", "text", "cache_control", "citations"}),
    "image": frozenset({"type", "source", "cache_control"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
    "tool_use": frozenset({"type", "id", "name", "input", "cache_control"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"}),
}
MAX_CACHE_MARKS = 4


class AnthropicMessages:
    """The `anthropic-messages` format."""

    api: ClassVar[str] = "anthropic-messages"
    base_path: ClassVar[str] = ""

    def serves(self, path: str) -> bool:
        """Serve `…/messages`."""
        return path.endswith("/messages")

    def key(self, headers: Mapping[str, str], query: str) -> str | None:
        """Read `x-api-key`, else a bearer token."""
        return headers.get("x-api-key") or bearer(headers)

    def turn(self, body: Json, path: str) -> Turn:
        """Follow the conversation to its last user text."""
        turn = Turn(body["model"])
        for message in body["messages"]:
            if message["role"] == "assistant":
                turn.rounds += 1
                continue
            blocks = _blocks(message["content"])
            texts = [block["text"] for block in blocks if block["type"] == "text"]
            results = [_plain(block.get("content", "")) for block in blocks if block["type"] == "tool_result"]
            if texts:
                turn.say("\n".join(texts))
            turn.results = results if results and not texts else turn.results
        return turn

    # ------------------------------------------------------------------------------------------------- checks

    def check(self, body: Json, path: str, headers: Mapping[str, str], ledger: Ledger) -> None:
        """Apply the rules of the Messages API."""
        require(headers.get("anthropic-version"), "anthropic-version: header is required")
        for name in body:
            require(name in TOP_LEVEL, f"{name}: Extra inputs are not permitted", name)
        check_text(body.get("model"), "model")
        limit = body.get("max_tokens")
        if not isinstance(limit, int):
            raise ViolationError("max_tokens: Field required", "max_tokens")
        require(limit > 0, "max_tokens: must be greater than or equal to 1", "max_tokens")
        require(body.get("stream") is True, "stream: this server answers only streaming requests", "stream")
        self._check_thinking(body.get("thinking"), body)
        _check_system(body.get("system"))
        _check_tools(body.get("tools"))
        _check_messages(check_list(body.get("messages"), "messages"), body["model"], ledger)
        marks = _cache_marks(body)
        require(
            marks <= MAX_CACHE_MARKS,
            f"A maximum of {MAX_CACHE_MARKS} blocks with cache_control may be provided. Found {marks}.",
        )

    def _check_thinking(self, thinking: object, body: Json) -> None:
        if thinking is None:
            return
        kind = check_object(thinking, "thinking").get("type")
        require(kind in ("enabled", "disabled", "adaptive"), f"thinking.type: {kind!r} is not known", "thinking")
        if kind != "enabled":
            return
        budget = check_object(thinking, "thinking").get("budget_tokens")
        if not isinstance(budget, int) or budget < 1024:
            raise ViolationError("thinking.enabled.budget_tokens: must be at least 1024", "thinking")
        require(budget < body["max_tokens"], "`max_tokens` must be greater than `thinking.budget_tokens`", "max_tokens")

    # ------------------------------------------------------------------------------------------------ answers

    def frames(self, reply: Reply, body: Json, turn: Turn, usage: Usage, ledger: Ledger) -> Frames:
        """Encode an answer as message_start … message_stop."""
        message: Json = {
            "id": f"msg_{turn.stamp}",
            "type": "message",
            "role": "assistant",
            "model": turn.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": usage.input,
                "cache_creation_input_tokens": usage.cache_write,
                "cache_read_input_tokens": usage.cache_read,
                "output_tokens": 1,
            },
        }
        out = [sse({"type": "message_start", "message": message}, "message_start"), sse({"type": "ping"}, "ping")]
        for index, block in enumerate(reply.content):
            match block:
                case TextContent():
                    out += _text_frames(index, block.text, reply)
                case ThinkingContent():
                    out += _thinking_frames(index, block, reply, turn.model, ledger)
                case ToolCall():
                    out += _call_frames(index, block, reply, f"toolu_{turn.stamp}_{index}")
            out.append(sse({"type": "content_block_stop", "index": index}, "content_block_stop"))
        final = {
            "type": "message_delta",
            "delta": {"stop_reason": STOP[reply.ends_with], "stop_sequence": None},
            "usage": {"output_tokens": usage.output},
        }
        return Frames(out, [sse(final, "message_delta"), sse({"type": "message_stop"}, "message_stop")])

    def error(self, status: int, message: str, param: str | None = None) -> Json:
        """Return `{"type": "error", "error": {…}, "request_id": …}`."""
        kind = ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_fake"}

    def unauthorised(self) -> tuple[int, Json]:
        """Return 401 authentication_error."""
        return 401, self.error(401, "invalid x-api-key")

    def overflow(self) -> tuple[int, Json]:
        """Return 400 with the text that clients look for."""
        return 400, self.error(400, "prompt is too long: 210000 tokens > 200000 maximum")

    def error_event(self, message: str, reply: Reply) -> bytes:
        """Return an `error` event of an overloaded service."""
        error = {"type": "overloaded_error", "message": message or "Overloaded"}
        return sse({"type": "error", "error": error}, "error")


def _blocks(content: str | list[Json]) -> list[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _plain(content: str | list[Json]) -> str:
    return "\n".join(block.get("text", f"[{block['type']}]") for block in _blocks(content))


def _cache_marks(body: Json) -> int:
    def count(value: Any) -> int:
        if isinstance(value, list):
            return sum(map(count, value))
        if isinstance(value, dict):
            return ("cache_control" in value) + count(value.get("content"))
        return 0

    return count(body.get("system")) + count(body.get("tools")) + count(body["messages"])


def _check_system(system: object) -> None:
    if isinstance(system, list):
        for index, block in enumerate(system):
            _check_block(block, f"system.{index}", ("text",))


def _check_tools(tools: object) -> None:
    if tools is None:
        return
    names = []
    for index, item in enumerate(check_list(tools, "tools", filled=False)):
        tool = check_object(item, f"tools.{index}")
        names.append(check_name(tool.get("name"), f"tools.{index}.name"))
        schema = check_object(tool.get("input_schema"), f"tools.{index}.input_schema")
        require(schema.get("type") == "object", f"tools.{index}.custom.input_schema.type: Field required")
    check_unique(names, "tools")


def _check_messages(messages: list[Any], model: str, ledger: Ledger) -> None:
    open_calls: list[str] = []
    seen: set[str] = set()
    turns = _combined(messages)
    for role, blocks, where in turns:
        if role == "user":
            _check_user(blocks, where, open_calls, ledger)
            open_calls = []
        else:
            open_calls = _check_assistant(blocks, where, seen, model, ledger)
    require(turns[0][0] == "user", 'messages: first message must use the "user" role', "messages")
    require(turns[-1][0] == "user", "messages: the conversation must end with a user message", "messages")


def _combined(messages: list[Any]) -> list[tuple[str, list[Any], str]]:
    """Return role, blocks and place of each turn; the service joins neighbours of one role into one turn."""
    turns: list[tuple[str, list[Any], str]] = []
    for index, item in enumerate(messages):
        where = f"messages.{index}"
        message = check_object(item, where)
        role = message.get("role")
        if role not in ("user", "assistant"):
            raise ViolationError(f"{where}.role: Input should be 'user' or 'assistant'", where)
        content = message.get("content")
        blocks = _blocks(content) if isinstance(content, str) else check_list(content, f"{where}.content")
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, list(blocks), where))
    return turns


def _check_user(blocks: list[Any], where: str, open_calls: list[str], ledger: Ledger) -> None:
    results, others = [], False
    for number, item in enumerate(blocks):
        place = f"{where}.content.{number}"
        block = _check_block(item, place, ("text", "image", "tool_result"))
        if block["type"] != "tool_result":
            others = True
            continue
        require(not others, f"{place}: tool_result blocks must come first in the message", place)
        results.append(block.get("tool_use_id"))
        require(
            block.get("tool_use_id") in open_calls,
            f"{place}: unexpected `tool_use_id` found in `tool_result` blocks: {block.get('tool_use_id')}. "
            "Each `tool_result` block must have a corresponding `tool_use` block in the previous message.",
            place,
        )
        _check_result(block, place)
    require(len(results) == len(set(results)), f"{where}: each tool_use must have a single result", where)
    missing = [call for call in open_calls if call not in results]
    require(
        not missing,
        f"{where}: `tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(missing)}. "
        "Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
        where,
    )


def _check_result(block: Json, place: str) -> None:
    content = block.get("content")
    if not isinstance(content, list):
        return
    for number, item in enumerate(content):
        _check_block(item, f"{place}.content.{number}", ("text", "image"))
    if block.get("is_error"):
        only_text = all(item["type"] == "text" for item in content)
        require(only_text, f"{place}: all content must be type `text` if `is_error` is true", place)


def _check_assistant(blocks: list[Any], where: str, seen: set[str], model: str, ledger: Ledger) -> list[str]:
    calls: list[str] = []
    for number, item in enumerate(blocks):
        place = f"{where}.content.{number}"
        block = _check_block(item, place, ("text", "thinking", "redacted_thinking", "tool_use"))
        match block["type"]:
            case "thinking":
                valid = ledger.verify(model, block.get("thinking", ""), block.get("signature"))
                require(valid, f"{place}: Invalid `signature` in `thinking` block", place)
            case "redacted_thinking":
                valid = ledger.verify(model, "", block.get("data"))
                require(valid, f"{place}: Invalid `data` in `redacted_thinking` block", place)
            case "tool_use":
                id = block.get("id")
                valid = isinstance(id, str) and CALL_ID.fullmatch(id) is not None
                require(valid, f"{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'", place)
                require(id not in seen, f"{where}: `tool_use` ids must be unique", place)
                check_name(block.get("name"), f"{place}.name")
                check_object(block.get("input"), f"{place}.input")
                seen.add(block["id"])
                calls.append(block["id"])
    return calls


def _check_block(item: object, place: str, kinds: Iterable[str]) -> Json:
    block = check_object(item, place)
    kind = str(block.get("type"))
    require(kind in kinds, f"{place}: Input tag {kind!r} is not one of {', '.join(kinds)}", place)
    for name in block:
        require(name in BLOCK_FIELDS[kind], f"{place}.{kind}.{name}: Extra inputs are not permitted", place)
    if kind == "text":
        text = block.get("text")
        require(isinstance(text, str) and text, f"{place}: text content blocks must be non-empty", place)
        require(str(text).strip(), f"{place}: text content blocks must contain non-whitespace text", place)
    elif kind == "image":
        source = check_object(block.get("source"), f"{place}.source")
        check_image(source.get("media_type"), source.get("data"), f"{place}.source")
    return block


def _delta(index: int, kind: str, field: str) -> DeltaFrames:
    delta = {"type": kind, field: DeltaFrames.mark()}
    return DeltaFrames({"type": "content_block_delta", "index": index, "delta": delta}, "content_block_delta")


def _open(index: int, block: Json) -> bytes:
    return sse({"type": "content_block_start", "index": index, "content_block": block}, "content_block_start")


def _text_frames(index: int, text: str, reply: Reply) -> list[bytes]:
    parts = list(pieces(text, reply.delta_size))
    first = parts.pop(0) if parts and "start-delta" in reply.quirks else ""
    delta = _delta(index, "text_delta", "text")
    return [_open(index, {"type": "text", "text": first}), *map(delta, parts)]


def _thinking_frames(index: int, block: ThinkingContent, reply: Reply, model: str, ledger: Ledger) -> list[bytes]:
    if block.redacted:
        return [_open(index, {"type": "redacted_thinking", "data": ledger.sign(model, "", block.signature)})]
    delta = _delta(index, "thinking_delta", "thinking")
    signature = {"type": "signature_delta", "signature": ledger.sign(model, block.thinking, block.signature)}
    closing = {"type": "content_block_delta", "index": index, "delta": signature}
    return [
        _open(index, {"type": "thinking", "thinking": "", "signature": ""}),
        *map(delta, pieces(block.thinking, reply.delta_size)),
        sse(closing, "content_block_delta"),
    ]


def _call_frames(index: int, call: ToolCall, reply: Reply, id: str) -> list[bytes]:
    block = {"type": "tool_use", "id": call.id or id, "name": call.name, "input": {}}
    if "start-delta" in reply.quirks:
        return [_open(index, {**block, "input": call.arguments})]
    delta = _delta(index, "input_json_delta", "partial_json")
    return [_open(index, block), *map(delta, ("", *pieces(arguments_text(call), reply.delta_size)))]

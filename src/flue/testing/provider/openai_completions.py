"""OpenAI Chat Completions as the real service speaks it (platform.openai.com; error texts as observed)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from flue.messages import Json, TextContent, ThinkingContent, ToolCall, Usage
from flue.testing.provider.reply import Reply
from flue.testing.provider.wire import (
    DeltaFrames,
    Frames,
    Ledger,
    Turn,
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

STOP = {"stop": "stop", "length": "length", "toolUse": "tool_calls", "error": "content_filter", "aborted": "stop"}
ROLES = ("system", "developer", "user", "assistant", "tool")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", None)
MAX_CALL_ID = 40
MAX_CACHE_KEY = 64
_OLD_LIMIT_REFUSED = re.compile(r"(o\d|gpt-5)")
_DATA_URL = re.compile(r"data:(?P<type>[^;,]*);base64,(?P<data>.*)", re.DOTALL)


def check_image_url(url: object, where: str) -> None:
    """Accept an address, or a data URL that holds an image."""
    found = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
    if found:
        check_image(found["type"], found["data"], where)
    else:
        require(isinstance(url, str) and url.startswith("https://"), f"Invalid '{where}': expected a URL.", where)


def openai_error(status: int, message: str, param: str | None = None, code: str | None = None) -> Json:
    """Return `{"error": {…}}` as both OpenAI formats have it."""
    kinds = {429: "requests", 401: "invalid_request_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class OpenAICompletions:
    """The `openai-completions` format."""

    api: ClassVar[str] = "openai-completions"
    base_path: ClassVar[str] = "/v1"

    def serves(self, path: str) -> bool:
        """Serve `…/chat/completions`."""
        return path.endswith("/chat/completions")

    def key(self, headers: Mapping[str, str], query: str) -> str | None:
        """Read the bearer token."""
        return bearer(headers)

    def turn(self, body: Json, path: str) -> Turn:
        """Follow the conversation to its last user text; pictures sent after tool results belong to those."""
        turn = Turn(body["model"])
        before = ""
        for message in body["messages"]:
            role, parts = message["role"], message.get("content")
            if role == "assistant":
                turn.rounds += 1
                turn.results = []
            elif role == "tool":
                turn.results.append(_plain(parts))
            elif role == "user" and not (before == "tool" and _has_image(parts)):
                turn.say(_plain(parts))
            before = role
        return turn

    # ------------------------------------------------------------------------------------------------- checks

    def check(self, body: Json, path: str, headers: Mapping[str, str], ledger: Ledger) -> None:
        """Apply the rules of Chat Completions."""
        check_text(body.get("model"), "model")
        require(body.get("stream") is True, "'stream': this server answers only streaming requests", "stream")
        _check_limits(body)
        _check_tools(body.get("tools"))
        _check_messages(check_list(body.get("messages"), "messages"))

    # ------------------------------------------------------------------------------------------------ answers

    def frames(self, reply: Reply, body: Json, turn: Turn, usage: Usage, ledger: Ledger) -> Frames:
        """Encode an answer as chunks that end with a finish reason, the usage if asked for, and `[DONE]`."""
        head = {"id": f"chatcmpl-{turn.stamp}", "object": "chat.completion.chunk", "created": 0, "model": turn.model}
        fold = "start-delta" in reply.quirks
        out = [] if fold else [_chunk(head, {"role": "assistant", "content": ""})]
        position = 0
        for block in reply.content:
            match block:
                case TextContent():
                    out += _text(head, "content", block.text, reply)
                case ThinkingContent():
                    names = reply.quirks & {"reasoning", "reasoning_text"}
                    out += _text(head, next(iter(names), "reasoning_content"), block.thinking, reply)
                case ToolCall():
                    id = block.id or f"call_{turn.stamp}_{position}"
                    out += _call(head, position, block, id, reply)
                    position += 1
        finish = None if "null-finish" in reply.quirks else STOP[reply.ends_with]
        tail = [_chunk(head, {}, finish)]
        if (body.get("stream_options") or {}).get("include_usage"):
            tail.append(sse({**head, "choices": [], "usage": _usage(usage)}))
        return Frames(out, [*tail, b"data: [DONE]\n\n"])

    def error(self, status: int, message: str, param: str | None = None) -> Json:
        """Return the error envelope."""
        return openai_error(status, message, param)

    def unauthorised(self) -> tuple[int, Json]:
        """Return 401 invalid_api_key."""
        return 401, openai_error(401, "Incorrect API key provided.", code="invalid_api_key")

    def overflow(self) -> tuple[int, Json]:
        """Return 400 context_length_exceeded."""
        text = (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 150000 tokens. "
            "Please reduce the length of the messages."
        )
        return 400, openai_error(400, text, "messages", "context_length_exceeded")

    def error_event(self, message: str, reply: Reply) -> bytes:
        """Return an error object in place of a chunk."""
        return sse(openai_error(503, message or "The server is overloaded. Please try again later."))


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content or () if part["type"] == "text")


def _has_image(content: Any) -> bool:
    return isinstance(content, list) and any(part["type"] == "image_url" for part in content)


def _check_limits(body: Json) -> None:
    old = "max_tokens" in body
    require(
        not (old and _OLD_LIMIT_REFUSED.match(body["model"])),
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "max_tokens",
    )
    require(not (old and "max_completion_tokens" in body), "Use 'max_tokens' or 'max_completion_tokens', not both.")
    for name in ("max_tokens", "max_completion_tokens"):
        require(body.get(name, 1) >= 1, f"Invalid '{name}': expected a value >= 1.", name)
    require(body.get("reasoning_effort") in EFFORTS, "Unsupported value: 'reasoning_effort'.", "reasoning_effort")
    check_cache_key(body)


def check_cache_key(body: Json) -> None:
    """Refuse an over-long `prompt_cache_key`."""
    key = body.get("prompt_cache_key", "")
    message = f"Invalid 'prompt_cache_key': string too long. Expected a string with maximum length {MAX_CACHE_KEY}."
    require(isinstance(key, str) and len(key) <= MAX_CACHE_KEY, message, "prompt_cache_key")


def _check_tools(tools: object) -> None:
    if tools is None:
        return
    names = []
    for index, item in enumerate(check_list(tools, "tools")):
        where = f"tools[{index}]"
        tool = check_object(item, where)
        require(tool.get("type") == "function", f"Missing required parameter: '{where}.type'.", where)
        function = check_object(tool.get("function"), f"{where}.function")
        names.append(check_name(function.get("name"), f"{where}.function.name"))
        check_parameters(function, f"{where}.function")
    check_unique(names, "tools")


def check_parameters(function: Json, where: str) -> None:
    """Accept missing parameters or a schema of type object."""
    kind = check_object(function.get("parameters", {"type": "object"}), f"{where}.parameters").get("type")
    message = f"Invalid schema for function '{function['name']}': schema must be a JSON Schema of 'type: \"object\"'."
    require(kind == "object", message, f"{where}.parameters")


def _check_messages(messages: list[Any]) -> None:
    waiting: list[str] = []
    for index, item in enumerate(messages):
        where = f"messages[{index}]"
        message = check_object(item, where)
        role = message.get("role")
        require(role in ROLES, f"Invalid value: {role!r}. Supported values are: {', '.join(ROLES)}.", where)
        if role == "tool":
            _check_result(message, where, waiting)
            continue
        _check_answered(waiting)
        if role == "assistant":
            waiting = _check_assistant(message, where)
        else:
            _check_content(message.get("content"), where, images=role == "user")
    _check_answered(waiting)


def _check_answered(waiting: list[str]) -> None:
    require(
        not waiting,
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(waiting)}",
        "messages",
    )


def _check_result(message: Json, where: str, waiting: list[str]) -> None:
    require(
        message.get("tool_call_id") in waiting,
        "Invalid parameter: messages with role 'tool' must be a response to a preceding message with 'tool_calls'.",
        f"{where}.role",
    )
    waiting.remove(message["tool_call_id"])
    _check_content(message.get("content"), where, images=False, empty=True)


def _check_content(content: object, where: str, *, images: bool, empty: bool = False) -> None:
    if isinstance(content, str):
        require(empty or content, f"Invalid '{where}.content': must not be empty.", where)
        return
    for number, item in enumerate(check_list(content, f"{where}.content")):
        place = f"{where}.content[{number}]"
        part = check_object(item, place)
        kinds = ("text", "image_url") if images else ("text",)
        require(part.get("type") in kinds, f"Invalid value: {part.get('type')!r} in '{place}.type'.", place)
        if part["type"] == "text":
            check_text(part.get("text"), f"{place}.text")
        else:
            check_image_url(check_object(part.get("image_url"), place).get("url"), f"{place}.image_url.url")


def _check_assistant(message: Json, where: str) -> list[str]:
    content, calls = message.get("content"), message.get("tool_calls")
    if calls is None:
        require(content, f"Invalid value for 'content': expected a string, got null. ({where})", where)
    if content not in (None, ""):
        _check_content(content, where, images=False)
    ids = []
    for number, item in enumerate(check_list(calls, f"{where}.tool_calls") if calls is not None else ()):
        ids.append(_check_call(check_object(item, where), f"{where}.tool_calls[{number}]"))
    require(len(ids) == len(set(ids)), f"Duplicate value for 'tool_call_id' in {where}.", where)
    return ids


def _check_call(call: Json, place: str) -> str:
    id = call.get("id")
    require(isinstance(id, str) and id, f"Missing required parameter: '{place}.id'.", place)
    require(
        len(str(id)) <= MAX_CALL_ID,
        f"Invalid '{place}.id': string too long. Expected a string with maximum length {MAX_CALL_ID}, but got a "
        f"string with length {len(str(id))} instead.",
        f"{place}.id",
    )
    require(call.get("type") == "function", f"Missing required parameter: '{place}.type'.", place)
    function = check_object(call.get("function"), place)
    check_name(function.get("name"), f"{place}.function.name")
    arguments = function.get("arguments")
    require(isinstance(arguments, str), f"Invalid type for '{place}.function.arguments': expected a string.", place)
    return str(id)


def _chunk(head: Json, delta: Json, finish: str | None = None) -> bytes:
    return sse({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _deltas(head: Json, delta: Json) -> DeltaFrames:
    return DeltaFrames({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def _text(head: Json, field: str, text: str, reply: Reply) -> list[bytes]:
    frames = list(map(_deltas(head, {field: DeltaFrames.mark()}), pieces(text, reply.delta_size)))
    if "start-delta" in reply.quirks and frames:
        frames[0] = _chunk(head, {"role": "assistant", field: text[: reply.delta_size]})
    return frames


def _call(head: Json, position: int, call: ToolCall, id: str, reply: Reply) -> list[bytes]:
    parts = list(pieces(arguments_text(call), reply.delta_size))
    first = parts.pop(0) if "start-delta" in reply.quirks else ""
    place: Json = {} if "no-index" in reply.quirks else {"index": position}
    names: Json = {} if "no-ids" in reply.quirks else {"id": id}
    opening = {**place, **names, "type": "function", "function": {"name": call.name, "arguments": first}}
    again: Json = {**names, "type": "function"} if "repeat-ids" in reply.quirks else {}
    function = {"name": call.name} if "repeat-ids" in reply.quirks else {}
    following = {**place, **again, "function": {**function, "arguments": DeltaFrames.mark()}}
    deltas = _deltas(head, {"tool_calls": [following]})
    return [_chunk(head, {"tool_calls": [opening]}), *map(deltas, parts)]


def _usage(usage: Usage) -> Json:
    prompt = usage.input + usage.cache_read + usage.cache_write
    details = {"cached_tokens": usage.cache_read}
    if usage.cache_write:
        details["cache_write_tokens"] = usage.cache_write
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output,
        "total_tokens": prompt + usage.output,
        "prompt_tokens_details": details,
        "completion_tokens_details": {"reasoning_tokens": 0},
    }

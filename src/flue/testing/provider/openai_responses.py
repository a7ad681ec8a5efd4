"""OpenAI Responses as the real service speaks it (platform.openai.com; error texts as observed)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from flue.messages import Json, TextContent, ThinkingContent, ToolCall, Usage
from flue.testing.provider.openai_completions import (
    check_cache_key,
    check_image_url,
    check_parameters,
    openai_error,
)
from flue.testing.provider.reply import Reply
from flue.testing.provider.wire import (
    DeltaFrames,
    Frames,
    Ledger,
    Turn,
    arguments_text,
    bearer,
    check_list,
    check_name,
    check_object,
    check_text,
    check_unique,
    pieces,
    require,
    sse,
)

MAX_ID = 64
MIN_OUTPUT = 16
ENCRYPTED = "reasoning.encrypted_content"


class OpenAIResponses:
    """The `openai-responses` format."""

    api: ClassVar[str] = "openai-responses"
    base_path: ClassVar[str] = "/v1"

    def serves(self, path: str) -> bool:
        """Serve `…/responses`."""
        return path.endswith("/responses")

    def key(self, headers: Mapping[str, str], query: str) -> str | None:
        """Read the bearer token."""
        return bearer(headers)

    def turn(self, body: Json, path: str) -> Turn:
        """Follow the conversation to its last user text."""
        items = _items(body["input"])
        turn = Turn(body["model"])
        answering = False
        for item in items:
            kind, role = item.get("type", "message"), item.get("role")
            output = kind in ("function_call", "reasoning") or role == "assistant"
            if output and not answering:
                turn.rounds += 1
                turn.results = []
            answering = output
            if kind == "function_call_output":
                turn.results.append(_plain(item["output"]))
            elif role == "user":
                turn.say(_plain(item["content"]))
        return turn

    # ------------------------------------------------------------------------------------------------- checks

    def check(self, body: Json, path: str, headers: Mapping[str, str], ledger: Ledger) -> None:
        """Apply the rules of the Responses API."""
        check_text(body.get("model"), "model")
        require(body.get("stream") is True, "'stream': this server answers only streaming requests", "stream")
        limit = body.get("max_output_tokens", MIN_OUTPUT)
        text = f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {MIN_OUTPUT}."
        require(isinstance(limit, int) and limit >= MIN_OUTPUT, text, "max_output_tokens")
        check_cache_key(body)
        _check_tools(body.get("tools"))
        if isinstance(body.get("input"), str):
            check_text(body["input"], "input")
        else:
            _check_items(check_list(body.get("input"), "input"), body, ledger)

    # ------------------------------------------------------------------------------------------------ answers

    def frames(self, reply: Reply, body: Json, turn: Turn, usage: Usage, ledger: Ledger) -> Frames:
        """Encode an answer as response.created … response.completed."""
        stream = _Stream(reply, body, turn, ledger)
        response = {"id": f"resp_{turn.stamp}", "object": "response", "model": turn.model, "status": "in_progress"}
        stream.emit("response.created", response={**response, "output": []})
        stream.emit("response.in_progress", response={**response, "output": []})
        for block in reply.content:
            stream.block(block)
        body_frames, stream.out = stream.out, []
        ended = "completed"
        final = {**response, "output": stream.items, "usage": _usage(usage)}
        if reply.ends_with == "length":
            ended, final["incomplete_details"] = "incomplete", {"reason": "max_output_tokens"}
        elif reply.ends_with in ("error", "aborted"):
            ended, final["incomplete_details"] = "incomplete", {"reason": "content_filter"}
        stream.emit(f"response.{ended}", response={**final, "status": ended})
        return Frames(body_frames, stream.out)

    def error(self, status: int, message: str, param: str | None = None) -> Json:
        """Return the error envelope."""
        return openai_error(status, message, param)

    def unauthorised(self) -> tuple[int, Json]:
        """Return 401 invalid_api_key."""
        return 401, openai_error(401, "Incorrect API key provided.", code="invalid_api_key")

    def overflow(self) -> tuple[int, Json]:
        """Return 400 context_length_exceeded."""
        text = "Your input exceeds the context window of this model. Please adjust your input and try again."
        return 400, openai_error(400, text, "input", "context_length_exceeded")

    def error_event(self, message: str, reply: Reply) -> bytes:
        """Return an `error` event, or a failed response."""
        text = message or "The server is overloaded. Please try again later."
        if "failed-event" in reply.quirks:
            error = {"code": "server_error", "message": text}
            response = {"id": "resp_failed", "status": "failed", "error": error, "output": []}
            return sse({"type": "response.failed", "response": response, "sequence_number": 0}, "response.failed")
        event = {"type": "error", "code": "server_error", "message": text, "param": None, "sequence_number": 0}
        return sse(event, "error")


class _Stream:
    """Writes one answer's events and remembers the finished items."""

    def __init__(self, reply: Reply, body: Json, turn: Turn, ledger: Ledger) -> None:
        self.reply, self.turn, self.ledger = reply, turn, ledger
        self.encrypted = ENCRYPTED in (body.get("include") or ())
        self.out: list[bytes] = []
        self.items: list[Json] = []
        self.reasoning: str | None = None

    def emit(self, kind: str, **data: Any) -> None:
        """Add an event. Sequence numbers are left out: nobody may depend on them."""
        self.out.append(sse({"type": kind, **data}, kind))

    def deltas(self, kind: str, text: str, **place: Any) -> None:
        """Add the deltas of a text."""
        frame = DeltaFrames({"type": kind, **place, "delta": DeltaFrames.mark()}, kind)
        self.out += map(frame, pieces(text, self.reply.delta_size))

    def block(self, block: TextContent | ThinkingContent | ToolCall) -> None:
        """Add the events of one output item."""
        index = len(self.items)
        suffix = f"{self.turn.stamp}_{index}"
        item: Json
        match block:
            case ThinkingContent():
                item = self._reasoning(block, index, f"rs_{suffix}")
            case TextContent():
                item = self._message(block, index, f"msg_{suffix}")
            case ToolCall():
                item = self._call(block, index, f"fc_{suffix}", block.id or f"call_{suffix}")
        self.items.append(item)
        self.emit("response.output_item.done", output_index=index, item=item)

    def _open(self, index: int, item: Json) -> None:
        self.emit("response.output_item.added", output_index=index, item=item)

    def _reasoning(self, block: ThinkingContent, index: int, id: str) -> Json:
        self.reasoning = id
        item: Json = {"id": id, "type": "reasoning", "summary": []}
        self._open(index, item)
        if block.thinking:
            place = {"item_id": id, "output_index": index, "summary_index": 0}
            part = {"type": "summary_text", "text": block.thinking}
            name = "response.reasoning_summary"
            self.emit(f"{name}_part.added", **place, part={"type": "summary_text", "text": ""})
            self.deltas(f"{name}_text.delta", block.thinking, **place)
            self.emit(f"{name}_text.done", **place, text=block.thinking)
            self.emit(f"{name}_part.done", **place, part=part)
            item = {**item, "summary": [part]}
        if self.encrypted:
            signature = self.ledger.sign(self.turn.model, block.thinking, block.signature)
            item["encrypted_content"] = signature
        return item

    def _message(self, block: TextContent, index: int, id: str) -> Json:
        item: Json = {"id": id, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        self._open(index, item)
        self._pair(id)
        place = {"item_id": id, "output_index": index, "content_index": 0}
        first = block.text[: self.reply.delta_size] if "start-delta" in self.reply.quirks else ""
        empty = {"type": "output_text", "text": first, "annotations": []}
        part = {**empty, "text": block.text}
        self.emit("response.content_part.added", **place, part=empty)
        self.deltas("response.output_text.delta", block.text[len(first) :], **place)
        self.emit("response.output_text.done", **place, text=block.text)
        self.emit("response.content_part.done", **place, part=part)
        return {**item, "status": "completed", "content": [part]}

    def _call(self, call: ToolCall, index: int, id: str, call_id: str) -> Json:
        text = arguments_text(call)
        first = text[: self.reply.delta_size] if "start-delta" in self.reply.quirks else ""
        item = {"id": id, "type": "function_call", "call_id": call_id, "name": call.name}
        self._open(index, {**item, "arguments": first, "status": "in_progress"})
        self._pair(id)
        place = {"item_id": id, "output_index": index}
        self.deltas("response.function_call_arguments.delta", text[len(first) :], **place)
        self.emit("response.function_call_arguments.done", **place, arguments=text)
        return {**item, "arguments": text, "status": "completed"}

    def _pair(self, id: str) -> None:
        if self.reasoning is not None:
            self.ledger.partners[id] = self.reasoning


def _items(value: str | list[Json]) -> list[Json]:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", f"[{part['type']}]") for part in content)


def _check_tools(tools: object) -> None:
    if tools is None:
        return
    names = []
    for index, item in enumerate(check_list(tools, "tools", filled=False)):
        where = f"tools[{index}]"
        tool = check_object(item, where)
        require(tool.get("type") == "function", f"Invalid value for '{where}.type'.", where)
        require("name" in tool, f"Missing required parameter: '{where}.name'.", where)
        names.append(check_name(tool["name"], f"{where}.name"))
        check_parameters(tool, where)
    check_unique(names, "tools")


def _check_items(items: list[Any], body: Json, ledger: Ledger) -> None:
    calls: dict[str, bool] = {}
    present = {item.get("id") for item in items if isinstance(item, dict)}
    for index, value in enumerate(items):
        where = f"input[{index}]"
        item = check_object(value, where)
        match item.get("type", "message"):
            case "message":
                _check_message(item, where)
            case "function_call":
                calls[_check_call(item, where)] = False
            case "function_call_output":
                _check_output(item, where, calls)
            case "reasoning":
                following = items[index + 1] if index + 1 < len(items) else {}
                _check_reasoning(item, where, following, body, ledger)
            case other:
                require(False, f"Invalid value: {other!r} in '{where}.type'.", where)
        partner = ledger.partners.get(item.get("id", ""))
        require(
            partner is None or partner in present,
            f"Item '{item.get('id')}' of type '{item.get('type')}' was provided without its required 'reasoning' "
            f"item: '{partner}'.",
            "input",
        )
    for call, answered in calls.items():
        require(answered, f"No tool output found for function call {call}.", "input")


def _check_id(item: Json, where: str, prefix: str) -> None:
    id = item.get("id")
    if id is None:
        return
    known = isinstance(id, str) and id.startswith(prefix)
    require(known, f"Invalid '{where}.id': '{id}'. Expected an ID that begins with '{prefix}'.", f"{where}.id")
    long = f"Invalid '{where}.id': string too long. Expected a string with maximum length {MAX_ID}."
    require(len(str(id)) <= MAX_ID, long, f"{where}.id")


def _check_message(item: Json, where: str) -> None:
    role = item.get("role")
    require(role in ("user", "system", "developer", "assistant"), f"Invalid value: {role!r} in '{where}.role'.", where)
    _check_id(item, where, "msg")
    kinds = ("output_text", "refusal") if role == "assistant" else ("input_text", "input_image")
    _check_content(item.get("content"), f"{where}.content", kinds)


def _check_content(content: object, where: str, kinds: tuple[str, ...]) -> None:
    if isinstance(content, str):
        check_text(content, where)
        return
    for number, value in enumerate(check_list(content, where)):
        part = check_object(value, f"{where}[{number}]")
        supported = ", ".join(f"'{kind}'" for kind in kinds)
        wrong = f"Invalid value: {part.get('type')!r}. Supported values are: {supported}. ({where}[{number}].type)"
        require(part.get("type") in kinds, wrong, where)
        if part["type"] == "input_image":
            check_image_url(part.get("image_url"), f"{where}[{number}].image_url")
        else:
            check_text(part.get("text", part.get("refusal")), f"{where}[{number}].text")


def _check_call(item: Json, where: str) -> str:
    _check_id(item, where, "fc")
    call_id = item.get("call_id")
    require(isinstance(call_id, str) and call_id, f"Missing required parameter: '{where}.call_id'.", where)
    long = f"Invalid '{where}.call_id': string too long. Expected a string with maximum length {MAX_ID}."
    require(len(str(call_id)) <= MAX_ID, long, where)
    check_name(item.get("name"), f"{where}.name")
    require(isinstance(item.get("arguments"), str), f"Missing required parameter: '{where}.arguments'.", where)
    return str(call_id)


def _check_output(item: Json, where: str, calls: dict[str, bool]) -> None:
    call_id = item.get("call_id")
    unknown = f"No tool call found for function call output with call_id {call_id}."
    require(isinstance(call_id, str) and calls.get(call_id) is False, unknown, "input")
    calls[str(call_id)] = True
    if not isinstance(item.get("output"), str):
        _check_content(item.get("output"), f"{where}.output", ("input_text", "input_image"))


def _check_reasoning(item: Json, where: str, following: object, body: Json, ledger: Ledger) -> None:
    id = item.get("id")
    require(isinstance(id, str), f"Missing required parameter: '{where}.id'.", where)
    _check_id(item, where, "rs")
    after = following if isinstance(following, dict) else {}
    owned = after.get("type") in ("function_call", "reasoning") or after.get("role") == "assistant"
    require(owned, f"Item '{id}' of type 'reasoning' was provided without its required following item.", "input")
    if body.get("store") is not False:
        return
    encrypted = item.get("encrypted_content")
    require(
        encrypted,
        f"Item with id '{id}' not found. Items are not persisted when `store` is set to false.",
        "input",
    )
    text = "\n\n".join(part["text"] for part in check_list(item.get("summary"), f"{where}.summary", filled=False))
    valid = ledger.verify(body["model"], text, encrypted)
    require(valid, f"The encrypted content for item {id} could not be verified.", "input")


def _usage(usage: Usage) -> Json:
    prompt = usage.input + usage.cache_read + usage.cache_write
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": usage.cache_read},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + usage.output,
    }

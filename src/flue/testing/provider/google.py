"""Google Generative AI (Gemini) as the real service speaks it (ai.google.dev; error texts as observed)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote

from flue.messages import Json, TextContent, ThinkingContent, ToolCall, Usage
from flue.testing.provider.reply import Reply
from flue.testing.provider.wire import (
    DeltaFrames,
    Frames,
    Ledger,
    Turn,
    check_image,
    check_list,
    check_name,
    check_object,
    check_unique,
    pieces,
    require,
    sse,
)

STOP = {"stop": "STOP", "length": "MAX_TOKENS", "toolUse": "STOP", "error": "SAFETY", "aborted": "OTHER"}
STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
TOP_LEVEL = frozenset(
    [
        "contents",
        "tools",
        "toolConfig",
        "safetySettings",
        "systemInstruction",
        "generationConfig",
        "cachedContent",
        "labels",
    ]
)
SCHEMA_FIELDS = frozenset(
    [
        "type",
        "format",
        "title",
        "description",
        "nullable",
        "enum",
        "items",
        "maxItems",
        "minItems",
        "properties",
        "required",
        "minProperties",
        "maxProperties",
        "minLength",
        "maxLength",
        "pattern",
        "example",
        "anyOf",
        "propertyOrdering",
        "default",
        "minimum",
        "maximum",
    ]
)
DATA_FIELDS = ("text", "inlineData", "functionCall", "functionResponse")
# Values with which Google lets a client skip the check, for calls that another model made
# (ai.google.dev/gemini-api/docs/thought-signatures).
SKIP_SIGNATURE = frozenset({"context_engineering_is_the_way_to_go", "skip_thought_signature_validator"})
_PATH = re.compile(r".*/models/(?P<model>.+):streamGenerateContent")


class GoogleGenerativeAI:
    """The `google-generative-ai` format."""

    api: ClassVar[str] = "google-generative-ai"
    base_path: ClassVar[str] = "/v1beta"

    def serves(self, path: str) -> bool:
        """Serve `…/models/<id>:streamGenerateContent`."""
        return _PATH.fullmatch(path) is not None

    def key(self, headers: Mapping[str, str], query: str) -> str | None:
        """Read `x-goog-api-key`, else `?key=`."""
        return headers.get("x-goog-api-key") or next(iter(parse_qs(query).get("key", ())), None)

    def turn(self, body: Json, path: str) -> Turn:
        """Follow the conversation to its last user text; pictures sent after tool results belong to those."""
        turn = Turn(_model(path))
        answered = False
        for content in body["contents"]:
            if content.get("role") == "model":
                turn.rounds += 1
                turn.results = []
                continue
            texts = [part["text"] for part in content["parts"] if "text" in part]
            results = [part["functionResponse"] for part in content["parts"] if "functionResponse" in part]
            pictures = any("inlineData" in part for part in content["parts"])
            if results:
                turn.results += [_result_text(result["response"]) for result in results]
            elif texts and not (answered and pictures):
                turn.say("\n".join(texts))
            answered = bool(results)
        return turn

    # ------------------------------------------------------------------------------------------------- checks

    def check(self, body: Json, path: str, headers: Mapping[str, str], ledger: Ledger) -> None:
        """Apply the rules of generateContent."""
        for name in body:
            unknown = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
            require(name in TOP_LEVEL, unknown, name)
        config = check_object(body.get("generationConfig", {}), "generation_config")
        require(config.get("maxOutputTokens", 1) >= 1, "max_output_tokens must be positive.", "generation_config")
        thinking = check_object(config.get("thinkingConfig", {}), "thinking_config")
        both = "thinkingBudget" in thinking and "thinkingLevel" in thinking
        require(not both, "You can only set only one of thinking budget and thinking level.", "thinking_config")
        if "systemInstruction" in body:
            _check_parts(check_object(body["systemInstruction"], "system_instruction"), "system_instruction", ("text",))
        _check_tools(body.get("tools", []))
        contents = check_list(body.get("contents"), "contents")
        _check_contents(contents)
        _check_signatures(contents, _model(path), ledger)

    # ------------------------------------------------------------------------------------------------ answers

    def frames(self, reply: Reply, body: Json, turn: Turn, usage: Usage, ledger: Ledger) -> Frames:
        """Encode an answer as chunks; the last one carries finish reason and usage."""
        head = {"modelVersion": turn.model, "responseId": f"resp-{turn.stamp}"}
        signed = turn.model.startswith("gemini-3")
        out: list[bytes] = []
        position = 0
        for block in reply.content:
            match block:
                case TextContent():
                    out += _text(head, {}, block.text, reply)
                    if block.signature:
                        sign = ledger.sign(turn.model, "", _as_base64(block.signature))
                        out.append(_chunk(head, {"text": "", "thoughtSignature": sign}))
                case ThinkingContent():
                    out += _text(head, {"thought": True}, block.thinking, reply)
                case ToolCall():
                    part = _call_part(block, f"{turn.stamp}-{position}", reply)
                    if block.signature or (signed and position == 0):
                        wanted = _as_base64(block.signature) if block.signature else None
                        part["thoughtSignature"] = ledger.sign(turn.model, block.name, wanted)
                    out.append(_chunk(head, part))
                    position += 1
        final: Json = {
            "candidates": [
                {
                    "content": {"parts": [{"text": ""}], "role": "model"},
                    "finishReason": STOP[reply.ends_with],
                    "index": 0,
                }
            ],
            "usageMetadata": _usage(usage, any(isinstance(block, ThinkingContent) for block in reply.content)),
            **head,
        }
        return Frames(out, [sse(final)])

    def error(self, status: int, message: str, param: str | None = None) -> Json:
        """Return `{"error": {"code", "message", "status"}}`."""
        kind = STATUS.get(status, "UNAVAILABLE" if status >= 500 else "INVALID_ARGUMENT")
        return {"error": {"code": status, "message": message, "status": kind}}

    def unauthorised(self) -> tuple[int, Json]:
        """Return 400 API_KEY_INVALID, which is what Google sends for a wrong key."""
        error = self.error(400, "API key not valid. Please pass a valid API key.")
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
        }
        error["error"]["details"] = [info]
        return 400, error

    def overflow(self) -> tuple[int, Json]:
        """Return 400 with the token counts."""
        text = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048575)."
        return 400, self.error(400, text)

    def error_event(self, message: str, reply: Reply) -> bytes:
        """Return an error object in place of a chunk."""
        return sse(self.error(503, message or "The model is overloaded. Please try again later."))


def _model(path: str) -> str:
    found = _PATH.fullmatch(path)
    return unquote(found["model"]) if found else ""


def _result_text(response: Json) -> str:
    return "\n".join(str(value) for value in response.values())


def _as_base64(signature: str) -> str:
    """Return a signature Google could have sent: the field is bytes, so anything else is encoded first."""
    return signature if _is_base64(signature) else base64.b64encode(signature.encode()).decode()


def _is_base64(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(binascii.a2b_base64(text, strict_mode=True))
    except (binascii.Error, ValueError):
        return False


def _check_tools(tools: object) -> None:
    names = []
    for index, item in enumerate(check_list(tools, "tools", filled=False)):
        where = f"tools[{index}].function_declarations"
        declarations = check_list(check_object(item, where).get("functionDeclarations"), where)
        for number, value in enumerate(declarations):
            place = f"{where}[{number}]"
            declaration = check_object(value, place)
            names.append(check_name(declaration.get("name"), f"{place}.name"))
            both = "parameters" in declaration and "parametersJsonSchema" in declaration
            require(not both, f"{place}: give `parameters` or `parametersJsonSchema`, not both.", place)
            if "parameters" in declaration:
                _check_schema(declaration["parameters"], f"{place}.parameters")
            elif "parametersJsonSchema" in declaration:
                check_object(declaration["parametersJsonSchema"], f"{place}.parameters_json_schema")
    check_unique(names, "tools")


def _check_schema(value: object, where: str) -> None:
    schema = check_object(value, where)
    for name, inner in schema.items():
        unknown = f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field."
        require(name in SCHEMA_FIELDS, unknown, where)
        if name == "properties":
            for key, part in check_object(inner, where).items():
                _check_schema(part, f"{where}.properties[{key}]")
        elif name == "items":
            _check_schema(inner, f"{where}.items")
        elif name == "anyOf":
            for number, part in enumerate(check_list(inner, where)):
                _check_schema(part, f"{where}.any_of[{number}]")


def _check_contents(contents: list[Any]) -> None:
    calls: list[str] = []
    for index, value in enumerate(contents):
        where = f"contents[{index}]"
        content = check_object(value, where)
        role = content.get("role", "user")
        require(role in ("user", "model"), "Please use a valid role: user, model.", where)
        own = "functionCall" if role == "model" else "functionResponse"
        parts = _check_parts(content, where, ("text", "inlineData", own))
        answers = [part["functionResponse"] for part in parts if "functionResponse" in part]
        if role == "model":
            require(not calls, _UNEQUAL, where)
            calls = [_check_call(part["functionCall"], where) for part in parts if "functionCall" in part]
            after_user = index > 0 and contents[index - 1].get("role", "user") == "user"
            require(not calls or after_user, _OUT_OF_PLACE, where)
            continue
        require(len(answers) == len(calls), _UNEQUAL, where)
        for call, answer in zip(calls, answers, strict=True):
            matching = answer.get("name") == call
            require(matching, f"{where}: function response name {answer.get('name')!r} should be {call!r}.", where)
            check_object(answer.get("response"), f"{where}.function_response.response")
        calls = []
    require(not calls, _UNEQUAL, "contents")
    ends_with_user = contents[-1].get("role", "user") == "user"
    require(ends_with_user, "Please ensure that multiturn requests end with a user role or a function response.")


_UNEQUAL = (
    "Please ensure that the number of function response parts is equal to the number of function call parts of the "
    "function call turn."
)
_OUT_OF_PLACE = (
    "Please ensure that function call turn comes immediately after a user turn or after a function response turn."
)


def _check_call(value: object, where: str) -> str:
    call = check_object(value, f"{where}.function_call")
    check_object(call.get("args", {}), f"{where}.function_call.args")
    return check_name(call.get("name"), f"{where}.function_call.name")


def _check_parts(content: Json, where: str, kinds: Iterable[str]) -> list[Json]:
    parts = check_list(content.get("parts"), f"{where}.parts")
    for number, value in enumerate(parts):
        place = f"{where}.parts[{number}]"
        part = check_object(value, place)
        data = [name for name in DATA_FIELDS if name in part]
        require(len(data) == 1, f"{place}: required oneof field 'data' must have one initialized field", place)
        require(data[0] in kinds, f"{place}: {data[0]} is not allowed here", place)
        if data[0] == "text":
            filled = part["text"] or "thoughtSignature" in part
            require(filled, "Unable to submit request because it has an empty text parameter.", place)
        elif data[0] == "inlineData":
            blob = check_object(part["inlineData"], place)
            check_image(blob.get("mimeType"), blob.get("data"), place)
    return parts


def _check_signatures(contents: list[Any], model: str, ledger: Ledger) -> None:
    for content in contents:
        for part in content["parts"]:
            signature = part.get("thoughtSignature")
            if signature is None or signature in SKIP_SIGNATURE:
                continue
            require(_is_base64(signature), "Invalid value at 'thought_signature': Base64 decoding failed.")
            text = part.get("functionCall", {}).get("name", "")
            require(ledger.verify(model, text, signature), "Thought signature is not valid.", "contents")
    if model.startswith("gemini-3"):
        _check_present(contents)


def _check_present(contents: list[Any]) -> None:
    """Gemini 3 wants the signature back on the first call of every step since the last user text."""
    for content in reversed(contents):
        if content.get("role", "user") == "user":
            if any("text" in part for part in content["parts"]):
                return
            continue
        first = next((part for part in content["parts"] if "functionCall" in part), None)
        require(
            first is None or "thoughtSignature" in first,
            "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
            "correctly.",
            "contents",
        )


def _chunk(head: Json, part: Json) -> bytes:
    return sse({"candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}], **head})


def _text(head: Json, mark: Json, text: str, reply: Reply) -> list[bytes]:
    part = {"text": DeltaFrames.mark(), **mark}
    frame = DeltaFrames({"candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}], **head})
    return list(map(frame, pieces(text, reply.delta_size)))


def _call_part(call: ToolCall, fresh: str, reply: Reply) -> Json:
    function: Json = {"name": call.name, "args": call.arguments}
    if "call-ids" in reply.quirks:
        function["id"] = call.id or f"call-{fresh}"
    return {"functionCall": function}


def _usage(usage: Usage, thought: bool) -> Json:
    prompt = usage.input + usage.cache_read + usage.cache_write
    thoughts = usage.output // 2 if thought else 0
    return {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": usage.cache_read,
        "candidatesTokenCount": usage.output - thoughts,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + usage.output,
    }

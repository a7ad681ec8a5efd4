"""The `google-generative-ai` protocol: `POST {base_url}/models/{id}:streamGenerateContent?alt=sse`.

Facts: ai.google.dev (generateContent reference, function calling, thinking, thought signatures).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from flue.messages import (
    AssistantContent,
    ImageContent,
    Json,
    StopReason,
    TextContent,
    ThinkingContent,
    ThinkingLevel,
    ToolCall,
    ToolResultMessage,
    ToolSpecs,
    UserContent,
)
from flue.models.answer import Answer
from flue.models.encoding import dumps
from flue.models.failures import broken_stream
from flue.models.thinking import BUDGETS, clamp_level, level_name
from flue.models.wire import Decoder, WireEncoder, WireModel
from flue.ports import ModelRequest

STOP_REASONS: Mapping[str, StopReason] = {"STOP": "stop", "MAX_TOKENS": "length"}
# Gemini 3 refuses a function call of its own history without a signature. For calls that another model made, Google
# names this value to say so (ai.google.dev/gemini-api/docs/thought-signatures).
UNSIGNED = "skip_thought_signature_validator"
GENERATION = re.compile(r"gemini-(\d+)")
IMAGES_OF_RESULTS = b'{"text":"Images that the tools returned:"}'


def generation(model_id: str) -> int:
    """Return Gemini's major version, 0 for other models and undated aliases."""
    match = GENERATION.search(model_id)
    return int(match[1]) if match else 0


class GoogleGenerativeAI(WireModel):
    """A model behind Google's Generative Language protocol."""

    api = "google-generative-ai"

    def make_encoder(self) -> WireEncoder:
        """Return the encoder for this target."""
        return GoogleEncoder(generation(self.info.id))

    def url(self) -> str:
        """Return the address to post to."""
        return f"{self.base_url}/models/{quote(self.info.id)}:streamGenerateContent?alt=sse"

    def auth(self, api_key: str) -> Mapping[str, str]:
        """Return the key's header."""
        return {"x-goog-api-key": api_key}

    def body(self, request: ModelRequest) -> bytes:
        """Return the request body."""
        settings: Json = {}
        if request.system.strip():
            settings["systemInstruction"] = {"parts": [{"text": request.system}]}
        settings["generationConfig"] = self._generation_config(request)
        tools = (b',"tools":', self.tools(request.tools)) if len(request.tools) else ()
        return b"".join((dumps(settings)[:-1], *tools, b',"contents":[', *self.messages(request.transcript), b"]}"))

    def decoder(self, answer: Answer) -> Decoder:
        """Return a decoder for one answer."""
        return GoogleDecoder(answer)

    def _generation_config(self, request: ModelRequest) -> Json:
        config: Json = {}
        if request.max_tokens:
            limit = self.info.max_tokens
            config["maxOutputTokens"] = min(request.max_tokens, limit) if limit else request.max_tokens
        if self.info.reasoning:
            config["thinkingConfig"] = self._thinking(clamp_level(self.info, self.compat, request.thinking))
        return config

    def _thinking(self, level: ThinkingLevel) -> Json:
        """Return the thinking settings: a named level from Gemini 3 on and where the catalogue has one, else tokens."""
        named = generation(self.info.id) >= 3 or any(name for _, name in self.compat.thinking_levels)
        if level == "off":  # Gemini 2.5 Pro always thinks; 128 tokens is the least it accepts
            return {"thinkingBudget": 128 if "2.5-pro" in self.info.id else 0}
        if named:
            return {"includeThoughts": True, "thinkingLevel": level_name(self.compat, level).upper()}
        return {"includeThoughts": True, "thinkingBudget": BUDGETS[level]}


class GoogleEncoder(WireEncoder):
    """Parts. A group's part is `(is it an image of a tool result, bytes)`."""

    def __init__(self, generation: int) -> None:
        self._generation = generation

    def tools(self, tools: ToolSpecs) -> bytes:
        """Return the tools with their JSON Schemas as they are."""
        declarations = [
            {"name": spec.name, "description": spec.description, "parametersJsonSchema": spec.parameters}
            for spec in tools
        ]
        return dumps([{"functionDeclarations": declarations}])

    def user(self, content: Sequence[UserContent]) -> list[Any]:
        """Encode each block."""
        return [(False, dumps(_shown(block))) for block in content]

    def users(self, parts: Sequence[Any], *, last: bool) -> bytes:
        """Return one user message."""
        return _message(b"user", [part for _, part in parts])

    def assistant(self, content: Sequence[AssistantContent]) -> bytes:
        """Encode an answer."""
        parts: list[bytes] = []
        called = False
        for block in content:
            wire = _said(block)
            if isinstance(block, ToolCall):
                # Of parallel calls only the first is signed.
                if self._generation >= 3 and not called and block.signature is None:
                    wire["thoughtSignature"] = UNSIGNED
                called = True
            parts.append(dumps(wire))
        return _message(b"model", parts) if parts else b""

    def result(self, result: ToolResultMessage) -> list[Any]:
        """Encode a tool result; its images go inside it where the model can read them there, else behind."""
        texts = "\n".join(block.text for block in result.content if isinstance(block, TextContent))
        images = [_shown(block) for block in result.content if isinstance(block, ImageContent)]
        response: Json = {
            "id": result.tool_call_id,
            "name": result.tool_name,
            "response": {"error" if result.is_error else "output": texts or "The result is an image."},
        }
        if images and self._generation >= 3:
            response["parts"] = images
            images = []
        return [(False, dumps({"functionResponse": response})), *((True, dumps(image)) for image in images)]

    def results(self, parts: Sequence[Any], *, last: bool) -> bytes:
        """Return the results of parallel calls as one message, and their images as another."""
        message = _message(b"user", [part for image, part in parts if not image])
        images = [part for image, part in parts if image]
        return message + b"," + _message(b"user", [IMAGES_OF_RESULTS, *images]) if images else message


def _message(role: bytes, parts: Sequence[bytes]) -> bytes:
    return b'{"role":"' + role + b'","parts":[' + b",".join(parts) + b"]}"


def _shown(block: UserContent) -> Json:
    if isinstance(block, TextContent):
        return {"text": block.text}
    return {"inlineData": {"mimeType": block.mime_type, "data": block.data}}


def _said(block: AssistantContent) -> Json:
    if isinstance(block, TextContent):
        wire: Json = {"text": block.text}
    elif isinstance(block, ThinkingContent):
        wire = {"text": block.thinking, "thought": True}
    else:
        wire = {"functionCall": {"id": block.id, "name": block.name, "args": block.arguments}}
    if block.signature:
        wire["thoughtSignature"] = block.signature
    return wire


class GoogleDecoder(Decoder):
    """Reads `GenerateContentResponse` chunks. The answer is complete once a finish reason was given."""

    def feed(self, event: Json) -> None:
        """Take one chunk."""
        answer = self.answer
        if response_id := event.get("responseId"):
            answer.response_id = response_id
        if usage := event.get("usageMetadata"):
            self._usage(usage)
        for candidate in event.get("candidates") or ():
            for part in (candidate.get("content") or {}).get("parts") or ():
                self._part(part)
            if reason := candidate.get("finishReason"):
                self._stop_reason(reason, candidate.get("finishMessage"))
        if blocked := (event.get("promptFeedback") or {}).get("blockReason"):
            answer.stop_reason = "error"
            answer.error_message = f"The provider refused the prompt: {blocked}."

    def is_complete(self) -> bool:
        """Say whether a finish reason was given; the protocol has no other last event."""
        return self.answer.stop_reason is not None

    def _part(self, part: Json) -> None:
        answer, signature = self.answer, part.get("thoughtSignature")
        text = part.get("text")
        if call := part.get("functionCall"):
            block = answer.begin("toolcall", call.get("id") or self._call_id(), call["name"])
            block.signature = signature
            answer.add(block, dumps(call.get("args") or {}).decode())
            answer.end(block)
        elif text or (text is not None and signature):
            block = answer.flowing("thinking" if part.get("thought") else "text")
            answer.add(block, text)
            if signature:
                block.signature = signature

    def _call_id(self) -> str:
        """Return an id for a call that came without one: unique in this answer, and in fact everywhere."""
        answer = self.answer
        return f"call_{answer.response_id or ''}_{len(answer.blocks)}"

    def _usage(self, usage: Json) -> None:
        answer = self.answer
        cached = usage.get("cachedContentTokenCount") or 0
        prompt = (usage.get("promptTokenCount") or 0) + (usage.get("toolUsePromptTokenCount") or 0)
        answer.input = prompt - cached
        answer.cache_read = cached
        answer.output = (usage.get("candidatesTokenCount") or 0) + (usage.get("thoughtsTokenCount") or 0)

    def _stop_reason(self, reason: str, message: str | None) -> None:
        answer = self.answer
        if reason == "MALFORMED_FUNCTION_CALL":  # another attempt usually gets it right
            raise broken_stream(answer.info.provider, f"sent a malformed function call. {message or ''}".rstrip())
        answer.stop_reason = STOP_REASONS.get(reason, "error")
        if answer.stop_reason == "error":
            answer.error_message = message or f"The model stopped with reason {reason!r}."

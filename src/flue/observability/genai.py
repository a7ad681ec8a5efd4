"""The words of OpenTelemetry's conventions for generative AI, and Flue's data in them.

Source: github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai (status: development), read in 2026.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from flue.definitions.tool import ToolResult
from flue.events import TurnRequest
from flue.messages import (
    AssistantMessage,
    Content,
    ImageContent,
    Json,
    Message,
    TextContent,
    ThinkingContent,
    ToolCall,
    ToolResultMessage,
    Usage,
)

Attributes = dict[str, Any]

TOKEN_BUCKETS = tuple(4**power for power in range(14))
SECONDS_BUCKETS = tuple(round(0.01 * 2**power, 2) for power in range(14))
AGENT_SECONDS_BUCKETS = tuple(round(0.1 * 2**power, 1) for power in range(13))
# Only where the convention has another word for a provider than Flue's catalogue.
_PROVIDERS = {
    "amazon-bedrock": "aws.bedrock",
    "azure-openai-responses": "azure.ai.openai",
    "google": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "moonshotai": "moonshot_ai",
    "moonshotai-cn": "moonshot_ai",
    "openai-codex": "openai",
    "xai": "x_ai",
}
_FINISH_REASONS = {"toolUse": "tool_call"}


def provider_name(provider: str) -> str:
    """Return the convention's name of a provider."""
    return _PROVIDERS.get(provider, provider)


def chat_attributes(provider: str, model: str) -> Attributes:
    """Return what a request is known by, on its span and its metrics."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider_name(provider),
        "gen_ai.request.model": model,
    }


def answer_attributes(answer: AssistantMessage) -> Attributes:
    """Return what is known of a request once it is answered."""
    found: Attributes = {
        "gen_ai.response.model": answer.model,
        "gen_ai.response.finish_reasons": [_FINISH_REASONS.get(answer.stop_reason, answer.stop_reason)],
        **usage_attributes(answer.usage),
    }
    if answer.response_id is not None:
        found["gen_ai.response.id"] = answer.response_id
    return found


def usage_attributes(usage: Usage) -> Attributes:
    """Return tokens, and US dollars; nothing for a usage that nobody reported. Cached tokens count as input, too."""
    if not usage.total_tokens:
        return {}
    return {
        "gen_ai.usage.input_tokens": input_tokens(usage),
        "gen_ai.usage.output_tokens": usage.output,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write,
        "flue.cost.usd": usage.cost.total,
    }


def input_tokens(usage: Usage) -> int:
    """Return all tokens that were read."""
    return usage.input + usage.cache_read + usage.cache_write


def request_content(request: TurnRequest) -> Attributes:
    """Return what was sent to the model, as JSON text."""
    tools = [{"type": "function", "name": tool.name, "description": tool.description} for tool in request.tools]
    content = {
        "gen_ai.system_instructions": [{"type": "text", "content": request.system}] if request.system else None,
        "gen_ai.input.messages": [_message(message) for message in request.messages],
        "gen_ai.tool.definitions": tools or None,
    }
    return {name: as_text(value) for name, value in content.items() if value is not None}


def answer_content(answer: AssistantMessage) -> Attributes:
    """Return what the model answered, as JSON text."""
    reason = _FINISH_REASONS.get(answer.stop_reason, answer.stop_reason)
    return {"gen_ai.output.messages": as_text([{**_message(answer), "finish_reason": reason}])}


def tool_result_content(result: Any) -> Attributes:
    """Return what a tool gave, as JSON text."""
    given = _parts(result.content) if isinstance(result, ToolResult) else result
    return {"gen_ai.tool.call.result": as_text(given)}


def as_text(value: Any) -> str:
    """Return JSON; what has no JSON form is shown as text."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _message(message: Message) -> Json:
    if isinstance(message, ToolResultMessage):
        response = {"type": "tool_call_response", "id": message.tool_call_id, "response": _parts(message.content)}
        return {"role": "tool", "parts": [response]}
    return {"role": message.role, "parts": _parts(message.content)}


def _parts(content: Iterable[Content]) -> list[Json]:
    return [_part(block) for block in content]


def _part(block: Content) -> Json:
    match block:
        case TextContent():
            return {"type": "text", "content": block.text}
        case ThinkingContent():
            return {"type": "reasoning", "content": block.thinking}
        case ToolCall():
            return {"type": "tool_call", "id": block.id, "name": block.name, "arguments": block.arguments}
        case ImageContent():
            return {"type": "blob", "modality": "image", "mime_type": block.mime_type, "content": block.data}

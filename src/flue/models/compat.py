"""Where a provider departs from its protocol: one record, one table by host.

Facts: the hosts' own references, what they answered, and the catalogue's flags. A host that is not listed here speaks
the protocol as its inventor does, except that only the inventor's own host gets its extras (see `STANDARD_HOSTS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

ThinkingFormat = Literal["openai", "openrouter", "deepseek", "zai", "qwen", "together"]


@dataclass(frozen=True, slots=True)
class Compat:
    """The quirks of one provider or model. Hashable: it is part of the key under which history is encoded."""

    # openai-completions
    supports_store: bool = True
    supports_developer_role: bool = True
    supports_reasoning_effort: bool = True
    supports_strict_mode: bool = True
    supports_usage_in_streaming: bool = True
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    thinking_format: ThinkingFormat = "openai"
    requires_reasoning_content_on_assistant_messages: bool = False
    supports_prompt_cache_key: bool = False
    zai_tool_stream: bool = False
    # An answer that only calls tools goes back with null for its text; else with an empty one.
    supports_null_content: bool = True
    # A complete answer may end without a finish reason (Ollama sends null).
    finish_reason_optional: bool = False
    # openai-responses
    store_responses: bool = False
    # anthropic-messages
    supports_eager_tool_input_streaming: bool = True
    supports_cache_control_on_tools: bool = True
    # any protocol
    supports_long_cache_retention: bool = True
    send_session_affinity_headers: bool = False
    auth: Literal["protocol", "bearer", "cloudflare-gateway"] = "protocol"
    # What this model calls a thinking level; None = not supported. Pairs, so that the record stays hashable.
    thinking_levels: tuple[tuple[str, str | None], ...] = ()


_FIELDS = frozenset(field.name for field in fields(Compat))
_PLAIN: dict[str, Any] = {"supports_store": False, "supports_developer_role": False}
_NO_EFFORT: dict[str, Any] = {**_PLAIN, "supports_reasoning_effort": False}
_MAX_TOKENS: dict[str, Any] = {**_PLAIN, "max_tokens_field": "max_tokens"}

# The first row whose text occurs in the base URL applies.
HOSTS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("api.openai.com", {"supports_prompt_cache_key": True}),
    ("cerebras.ai", _PLAIN),
    ("api.x.ai", _NO_EFFORT),
    (
        "api.together.",
        {
            **_MAX_TOKENS,
            "supports_reasoning_effort": False,
            "thinking_format": "together",
            "supports_strict_mode": False,
        },
    ),
    ("chutes.ai", _MAX_TOKENS),
    (
        "deepseek.com",
        {**_PLAIN, "thinking_format": "deepseek", "requires_reasoning_content_on_assistant_messages": True},
    ),
    ("api.z.ai", {**_NO_EFFORT, "thinking_format": "zai"}),
    ("api.moonshot.", {**_MAX_TOKENS, "supports_reasoning_effort": False, "supports_strict_mode": False}),
    ("opencode.ai", _PLAIN),
    ("gateway.ai.cloudflare.com", {**_MAX_TOKENS, "supports_strict_mode": False, "auth": "cloudflare-gateway"}),
    ("api.cloudflare.com", _PLAIN),
    (
        "workers-binding.ai",  # what the binding of Workers AI asks
        {
            **_MAX_TOKENS,
            "supports_strict_mode": False,
            "supports_usage_in_streaming": False,
            "supports_null_content": False,
            "send_session_affinity_headers": True,
        },
    ),
    ("openrouter.ai", {"thinking_format": "openrouter"}),
    ("githubcopilot.com", {"auth": "bearer"}),
    (":11434", {**_MAX_TOKENS, "finish_reason_optional": True}),  # Ollama's port
)
# A server on the user's own machine or network is rarely complete: it gets none of the extras.
LOCAL: Mapping[str, Any] = {**_MAX_TOKENS, "supports_strict_mode": False, "finish_reason_optional": True}
LOCAL_HOSTS = ("//localhost", "//127.", "//[::1]", "//0.0.0.0", "//host.docker.internal", "//192.168.", "//10.")


def compat_for(base_url: str, flags: Mapping[str, Any] | None = None) -> Compat:
    """Return the quirks of the host in `base_url`; `flags` (camelCase or snake_case) have the last word.

    Unknown flags raise `TypeError`: the catalogue and `register_provider` name them explicitly.
    """
    host = next((quirks for text, quirks in HOSTS if text in base_url), None)
    if host is None and any(text in base_url for text in LOCAL_HOSTS):
        host = LOCAL
    compat = Compat(**(host or {}))
    return replace(compat, **{_snake_case(name): value for name, value in flags.items()}) if flags else compat


def is_compat_flag(name: str) -> bool:
    """Say whether `name`, in either spelling, is a quirk."""
    return _snake_case(name) in _FIELDS


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)

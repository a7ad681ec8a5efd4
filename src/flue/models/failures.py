"""What went wrong at a provider: HTTP answers and error events turned into `ProviderError`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from flue.errors import ProviderError

RETRYABLE_STATUSES = frozenset({408, 409, 429})
# Error types and codes seen inside 200 streams: Anthropic "overloaded_error", "api_error"; OpenAI "server_error",
# "rate_limit_exceeded"; Google "UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED".
RETRYABLE_KINDS = re.compile(
    r"overloaded|rate_?limit|api_error|server_error|internal|timeout|deadline|unavailable|resource_exhausted|aborted",
    re.IGNORECASE,
)
# A spent budget answers 429 too, and asking again cannot help.
SPENT = re.compile(
    r"insufficient_quota|billing_hard_limit|credit balance is too low|used up your daily free allocation", re.IGNORECASE
)
# How providers say that a conversation no longer fits: the words of their own answers.
OVERFLOW = re.compile(
    r"prompt is too long|request_too_large|input is too long for requested model|exceeds the context window"
    r"|exceeds (?:the )?(?:model'?s )?maximum context length of [\d,]+ tokens?"
    r"|input token count.*exceeds the maximum|maximum prompt length is \d+|reduce the length of the messages"
    r"|maximum context length is [\d,]+ tokens|exceeded this model context window limit"
    r"|input \([\d,]+ tokens\) is longer than the model'?s context length \([\d,]+ tokens\)"
    r"|exceeds the limit of \d+|exceeds the available context size|greater than the context length"
    r"|context window exceeds limit|exceeded model token limit|too large for model with [\d,]+ maximum context length"
    r"|model_context_window_exceeded|prompt too long|exceeded (?:max )?context length|context[_ ]length[_ ]exceeded"
    r"|too many tokens|token limit exceeded|^4(?:00|13)\s*(?:status code)?\s*\(no body\)",
    re.IGNORECASE | re.DOTALL,
)
NOT_OVERFLOW = re.compile(r"^Throttling error:|^Service unavailable:|rate limit|too many requests", re.IGNORECASE)
MESSAGE_LIMIT = 2000  # characters of a provider's own words that are passed on


def is_overflow(text: str) -> bool:
    """Say whether a provider's error text means that the conversation exceeds the context window."""
    return OVERFLOW.search(text) is not None and NOT_OVERFLOW.search(text) is None


def http_failure(provider: str, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """Return the error for an answer whose status is not 200."""
    text, kind = error_text(body)
    overflow = is_overflow(text) or is_overflow(kind) or (not body.strip() and is_overflow(f"{status} (no body)"))
    retryable = (status in RETRYABLE_STATUSES or status >= 500) and not overflow and not SPENT.search(f"{kind} {text}")
    return ProviderError(
        f"{provider} answered {status}: {text or '(no body)'}",
        status=status,
        retryable=retryable,
        retry_after=retry_after(headers),
        overflow=overflow,
        code="context_overflow" if overflow else None,
        hint=_hint(status, provider, text),
    )


def event_failure(provider: str, error: Any) -> ProviderError:
    """Return the error for an error event inside a 200 stream; `error` is the event's error object or text."""
    text, kind = _describe(error)
    overflow = is_overflow(text) or is_overflow(kind)
    retryable = (
        not overflow
        and not SPENT.search(f"{kind} {text}")
        and bool(RETRYABLE_KINDS.search(kind or text) or _is_server_code(error))
    )
    return ProviderError(
        f"{provider} broke off its answer: {text or kind or 'no reason given'}",
        status=200,
        retryable=retryable,
        overflow=overflow,
        code="context_overflow" if overflow else None,
    )


def broken_stream(provider: str, what: str, hint: str = "") -> ProviderError:
    """Return the retryable error for an answer that was cut off or cannot be read; `what` is what the provider did."""
    return ProviderError(f"{provider} {what}", status=200, retryable=True, code="provider_stream", hint=hint)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the provider asks to wait, or None.

    A date in `retry-after` counts as no wish: reading it would need a clock.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def error_text(body: bytes) -> tuple[str, str]:
    """Return a provider's own words from an error body and the kind of error it names ("" when it names none)."""
    try:
        data = json.loads(body)
    except ValueError:
        return _plain_text(body), ""
    if isinstance(data, list) and data:  # Google answers with a list of one
        data = data[0]
    if isinstance(data, dict) and data.get("error"):
        return _describe(data["error"])
    if isinstance(data, dict) and isinstance(listed := data.get("errors"), list) and listed:  # Cloudflare
        return _describe(listed[0])
    return _describe(data)


def _describe(error: Any) -> tuple[str, str]:
    if not isinstance(error, dict):
        return (str(error)[:MESSAGE_LIMIT] if error else ""), ""
    kinds = " ".join(str(error[name]) for name in ("type", "code", "status") if error.get(name))
    for name in ("message", "detail", "msg", "error_description", "error"):
        if error.get(name):
            value = error[name]
            return (value if isinstance(value, str) else json.dumps(value))[:MESSAGE_LIMIT], kinds
    return json.dumps(error)[:MESSAGE_LIMIT] if error else "", kinds


def _is_server_code(error: Any) -> bool:
    code = error.get("code") if isinstance(error, dict) else None
    return isinstance(code, int) and (code in RETRYABLE_STATUSES or code >= 500)


def _plain_text(body: bytes) -> str:
    text = body[: 4 * MESSAGE_LIMIT].decode("utf-8", "replace").strip()
    if text[:1] == "<":
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        return f"a web page{f' titled {title[1].strip()!r}' if title else ''}"
    return text[:MESSAGE_LIMIT]


def _hint(status: int, provider: str, text: str) -> str:
    if status in (401, 403) or "api key" in text.lower():
        return f"Check the API key of provider {provider!r}."
    if status == 404:
        return f"Check the model id and the base URL of provider {provider!r}."
    return ""

from __future__ import annotations

import pytest

from flue.models.failures import error_text, event_failure, http_failure, is_overflow


@pytest.mark.parametrize(
    "text",
    [
        "prompt is too long: 213462 tokens > 200000 maximum",
        "request_too_large: Request exceeds the maximum size",
        "Input is too long for requested model.",
        "Your input exceeds the context window of this model.",
        "This model's maximum context length is 128,000 tokens. However, your messages resulted in 130000 tokens.",
        "The request exceeds the model's maximum context length of 131072 tokens",
        "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        "Please reduce the length of the messages or completion.",
        "Input (300000 tokens) is longer than the model's context length (262144 tokens).",
        "prompt token count of 200001 exceeds the limit of 128000",
        "the request exceeds the available context size, try increasing it",
        "tokens to keep from the initial prompt is greater than the context length",
        "invalid params, context window exceeds limit",
        "Your request exceeded model token limit: 262144",
        "Prompt contains 300000 tokens, too large for model with 131072 maximum context length",
        "Unhandled stop reason: model_context_window_exceeded",
        "Prompt too long",
        "exceeded max context length by 12",
        "context_length_exceeded",
        "Context length exceeded",
        "too many tokens",
        "Token limit exceeded",
        "413 status code (no body)",
        "400 (no body)",
    ],
)
def test_every_providers_words_for_an_overlong_conversation_are_known(text: str) -> None:
    assert is_overflow(text)


@pytest.mark.parametrize(
    "text",
    [
        "Throttling error: Too many tokens, please wait before trying again.",
        "Service unavailable: too many tokens in flight",
        "Rate limit reached: too many tokens per minute",
        "Too many requests: token limit exceeded",
        "invalid api key",
        "",
    ],
)
def test_throttling_and_other_failures_are_not_taken_for_an_overlong_conversation(text: str) -> None:
    assert not is_overflow(text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": {"message": "no", "type": "x"}}', "no"),
        (b'[{"error": {"message": "no", "status": "UNAVAILABLE"}}]', "no"),
        (b'{"error": "no"}', "no"),
        (b'{"message": "no"}', "no"),
        (b'{"detail": "no"}', "no"),
        (b'{"detail": [{"loc": ["body"]}]}', '[{"loc": ["body"]}]'),
        (b"no\n", "no"),
        (b"", ""),
        (b"\xff\xfe", "��"),
    ],
)
def test_a_providers_own_words_are_found_in_whatever_shape(body: bytes, text: str) -> None:
    assert error_text(body)[0] == text


def test_endless_words_are_cut() -> None:
    assert len(http_failure("acme", 500, {}, b"x" * 1_000_000).message) < 3000


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        ({"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}, True),
        ({"code": 429, "message": "later"}, True),
        ({"type": "server_error", "message": "The server had an error"}, True),
        ({"code": "rate_limit_exceeded", "message": "Rate limit reached"}, True),
        ({"code": "insufficient_quota", "message": "rate limit of your plan"}, False),
        ({"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}, False),
        ("Overloaded", True),
        (None, False),
    ],
)
def test_error_events_say_whether_to_try_again(error: object, retryable: bool) -> None:
    assert event_failure("acme", error).retryable is retryable


def test_an_error_event_can_mean_an_overlong_conversation() -> None:
    failure = event_failure("acme", {"code": "context_length_exceeded", "message": "Your input is too big"})
    assert failure.overflow
    assert not failure.retryable

from __future__ import annotations

import pytest

from flue.models.compat import Compat, compat_for, is_compat_flag


def test_the_inventors_host_gets_everything() -> None:
    compat = compat_for("https://api.openai.com/v1")
    assert compat.supports_store
    assert compat.supports_developer_role
    assert compat.supports_prompt_cache_key
    assert compat.max_tokens_field == "max_completion_tokens"


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.cerebras.ai/v1",
        "https://api.x.ai/v1",
        "https://api.together.ai/v1",
        "https://llm.chutes.ai/v1",
        "https://api.deepseek.com",
        "https://api.z.ai/api/coding/paas/v4",
        "https://api.moonshot.ai/v1",
        "https://opencode.ai/zen/v1",
        "https://gateway.ai.cloudflare.com/v1/a/b/compat",
        "https://api.cloudflare.com/client/v4/accounts/a/ai/v1",
        "http://localhost:8000/v1",
        "http://127.0.0.1:11434/v1",
    ],
)
def test_other_hosts_are_not_asked_to_store_or_to_know_developers(base_url: str) -> None:
    compat = compat_for(base_url)
    assert not compat.supports_store
    assert not compat.supports_developer_role
    assert not compat.supports_prompt_cache_key


@pytest.mark.parametrize(
    ("base_url", "field"),
    [
        ("https://llm.chutes.ai/v1", "max_tokens"),
        ("https://api.moonshot.cn/v1", "max_tokens"),
        ("https://api.together.ai/v1", "max_tokens"),
        ("https://gateway.ai.cloudflare.com/v1/a/b/compat", "max_tokens"),
        ("https://openrouter.ai/api/v1", "max_completion_tokens"),
    ],
)
def test_the_limit_of_an_answer_has_the_name_the_host_knows(base_url: str, field: str) -> None:
    assert compat_for(base_url).max_tokens_field == field


@pytest.mark.parametrize(
    ("base_url", "form"),
    [
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://api.z.ai/api/coding/paas/v4", "zai"),
        ("https://api.together.ai/v1", "together"),
        ("https://api.groq.com/openai/v1", "openai"),
    ],
)
def test_thinking_is_asked_for_in_the_hosts_own_form(base_url: str, form: str) -> None:
    assert compat_for(base_url).thinking_format == form


@pytest.mark.parametrize(
    "base_url", ["http://localhost:11434/v1", "http://192.168.1.4:11434/v1", "http://[::1]:8080/v1"]
)
def test_local_servers_may_leave_the_finish_reason_out(base_url: str) -> None:
    assert compat_for(base_url).finish_reason_optional


def test_hosted_providers_may_not() -> None:
    assert not compat_for("https://api.groq.com/openai/v1").finish_reason_optional


def test_named_quirks_have_the_last_word_in_either_spelling() -> None:
    compat = compat_for("https://api.z.ai/v4", {"thinkingFormat": "qwen", "supports_store": True})
    assert compat.thinking_format == "qwen"
    assert compat.supports_store
    assert not compat.supports_developer_role


def test_quirks_are_part_of_a_key() -> None:
    assert hash(compat_for("https://api.z.ai")) == hash(compat_for("https://api.z.ai"))
    assert Compat() != compat_for("https://api.z.ai")


def test_only_known_quirks_are_quirks() -> None:
    assert is_compat_flag("maxTokensField")
    assert not is_compat_flag("max_token_field")

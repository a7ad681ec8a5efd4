from __future__ import annotations

import pytest

from flue.models.catalog import find_model, main_endpoint, model_ids, provider_ids
from flue.models.compat import Compat, compat_for
from flue.models.providers import APIS


def test_about_thirty_providers_are_known() -> None:
    assert len(provider_ids()) >= 28
    assert {"anthropic", "openai", "google", "openrouter", "groq", "cerebras", "deepseek", "xai"} <= set(provider_ids())


@pytest.mark.parametrize(
    ("provider", "model", "facts"),
    [
        ("anthropic", "claude-sonnet-4-6", ("anthropic-messages", 1_000_000, 64_000, 3, 15, 0.3, 3.75)),
        ("anthropic", "claude-opus-4-7", ("anthropic-messages", 1_000_000, 128_000, 5, 25, 0.5, 6.25)),
        ("openai", "gpt-5.5", ("openai-responses", 272_000, 128_000, 5, 30, 0.5, 0)),
    ],
)
def test_limits_and_prices_are_those_of_the_provider(provider: str, model: str, facts: tuple[object, ...]) -> None:
    found = find_model(provider, model)
    assert found is not None
    info = found.info
    assert facts == (
        info.api,
        info.context_window,
        info.max_tokens,
        info.price_input,
        info.price_output,
        info.price_cache_read,
        info.price_cache_write,
    )


def test_every_model_speaks_a_protocol_we_speak_and_has_usable_facts() -> None:
    count = 0
    for provider in provider_ids():
        for model in model_ids(provider):
            found = find_model(provider, model)
            assert found is not None
            assert found.info.api in APIS
            assert found.base_url.startswith("https://")
            assert found.info.context_window > 0
            assert min(found.info.price_input, found.info.price_output, found.info.price_cache_read) >= 0
            assert isinstance(compat_for(found.base_url, found.flags), Compat)
            count += 1
    assert count > 800


def test_one_provider_may_speak_several_protocols() -> None:
    apis = {found.info.api for one in model_ids("opencode") if (found := find_model("opencode", one)) is not None}
    assert len(apis) == 4
    assert main_endpoint("anthropic") == ("anthropic-messages", "https://api.anthropic.com")


def test_what_is_not_there_is_none() -> None:
    assert find_model("anthropic", "gpt-5") is None
    assert find_model("nobody", "x") is None
    assert model_ids("nobody") == ()

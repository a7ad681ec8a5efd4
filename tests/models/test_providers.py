from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flue.errors import ModelSetupError
from flue.models.anthropic_messages import AnthropicMessages
from flue.models.keys import env_names, fill_base_url, key_from_env
from flue.models.providers import configure_provider, register_model, register_provider
from flue.models.source import Models
from flue.models.wire import WireModel
from flue.ports import Model
from flue.registrations import Registrations, using_registrations
from tests.models.replay_transport import ReplayTransport

CLAUDE = "anthropic/claude-sonnet-4-6"
ENV = {"ANTHROPIC_API_KEY": "sk-env"}


@pytest.fixture(autouse=True)
def project() -> Iterator[Registrations]:
    with using_registrations(Registrations()) as registrations:
        yield registrations


@pytest.fixture
def models() -> Models:
    return Models(ReplayTransport())


def wired(model: Model) -> WireModel:
    assert isinstance(model, WireModel)
    return model


def error(models: Models, specifier: str, env: dict[str, Any] | None = None) -> ModelSetupError:
    with pytest.raises(ModelSetupError) as caught:
        models.resolve(specifier, env or {})
    return caught.value


# --------------------------------------------------------------------------------------------- the catalogue


def test_a_model_of_the_catalogue_needs_only_its_key(models: Models) -> None:
    model = wired(models.resolve(CLAUDE, ENV))
    assert isinstance(model, AnthropicMessages)
    assert (model.info.specifier, model.base_url, model.api_key) == (CLAUDE, "https://api.anthropic.com", "sk-env")


def test_a_model_is_made_once_for_the_same_settings(models: Models) -> None:
    model = models.resolve(CLAUDE, ENV)
    assert models.resolve(CLAUDE, dict(ENV)) is model
    assert models.resolve(CLAUDE, {"ANTHROPIC_API_KEY": "sk-other"}) is not model


def test_model_ids_may_hold_slashes(models: Models) -> None:
    model = models.resolve(
        "cloudflare-workers-ai/@cf/moonshotai/kimi-k2.6", {"CLOUDFLARE_API_KEY": "k", "CLOUDFLARE_ACCOUNT_ID": "acc"}
    )
    assert model.info.id == "@cf/moonshotai/kimi-k2.6"
    assert wired(model).base_url == "https://api.cloudflare.com/client/v4/accounts/acc/ai/v1"


@pytest.mark.parametrize("specifier", ["", "claude", "/claude", "anthropic/", "nothing-like-it"])
def test_a_specifier_without_two_parts_is_refused_with_an_example(models: Models, specifier: str) -> None:
    failure = error(models, specifier)
    assert failure.code == "invalid_model_specifier"
    assert "provider-id/model-id" in str(failure)


def test_a_bare_model_id_is_answered_with_its_provider(models: Models) -> None:
    assert CLAUDE in str(error(models, "claude-sonnet-4-6"))


def test_a_misspelt_model_is_answered_with_the_closest_ones_and_a_way_to_use_a_new_one(models: Models) -> None:
    failure = error(models, "anthropic/claude-sonet-4-6", ENV)
    assert failure.code == "unknown_model"
    assert CLAUDE in failure.hint
    assert "register_provider('anthropic', api='anthropic-messages'" in failure.hint


def test_a_misspelt_provider_is_answered_with_the_closest_ones(models: Models) -> None:
    failure = error(models, "antropic/claude-sonnet-4-6", ENV)
    assert failure.code == "unknown_provider"
    assert "'anthropic'" in failure.hint


def test_an_unheard_of_provider_is_answered_with_where_to_look_in_a_line_that_can_be_read(models: Models) -> None:
    failure = error(models, "zzz/x")
    assert failure.code == "unknown_provider"
    assert "docs/guides/models.md" in failure.hint
    assert "register_provider('zzz'" in failure.hint
    assert len(str(failure)) < 250


def test_a_provider_of_another_protocol_is_answered_with_its_name_behind_the_bridge(models: Models) -> None:
    assert "'pydantic-ai/bedrock:anthropic.claude'" in error(models, "amazon-bedrock/anthropic.claude").hint


def test_a_missing_key_is_answered_with_the_variable_and_the_file_to_put_it_in(models: Models) -> None:
    failure = error(models, CLAUDE, {"ANTHROPIC_API_KEY": "  "})
    assert failure.code == "missing_api_key"
    assert "No API key for provider: anthropic" in str(failure)
    assert "ANTHROPIC_API_KEY" in failure.hint
    assert ".env" in failure.hint


def test_a_missing_part_of_an_address_is_named(models: Models) -> None:
    failure = error(
        models, "cloudflare-ai-gateway/claude-opus-4-6", {"CLOUDFLARE_API_KEY": "k", "CLOUDFLARE_ACCOUNT_ID": "a"}
    )
    assert failure.code == "missing_provider_setting"
    assert "CLOUDFLARE_GATEWAY_ID" in str(failure)
    assert "CLOUDFLARE_ACCOUNT_ID" not in str(failure)


def test_the_offline_model_needs_no_key(models: Models) -> None:
    model = models.resolve("demo/librarian", {})
    assert model.info.specifier == "demo/librarian"
    assert models.resolve("demo/librarian", {}) is model
    assert error(models, "demo/other").code == "unknown_model"


@pytest.mark.parametrize(
    ("server", "port"), [("ollama", 11434), ("lmstudio", 1234), ("llamacpp", 8080), ("vllm", 8000)]
)
def test_servers_on_the_users_own_machine_need_neither_key_nor_registration(
    models: Models, server: str, port: int
) -> None:
    model = wired(models.resolve(f"{server}/any-model:7b", {}))
    assert model.base_url == f"http://127.0.0.1:{port}/v1"
    assert (model.info.id, model.info.api, model.api_key) == ("any-model:7b", "openai-completions", None)
    assert model.compat.finish_reason_optional


def test_a_server_elsewhere_is_named_by_the_environment(models: Models) -> None:
    model = wired(models.resolve("ollama/qwen3", {"OLLAMA_BASE_URL": "http://box.example/v1"}))
    assert model.base_url == "http://box.example/v1"
    assert model.compat.finish_reason_optional


@pytest.mark.parametrize(
    ("specifier", "variable"),
    [("anthropic/claude-sonnet-4-6", "ANTHROPIC_BASE_URL"), ("openai/gpt-4.1", "OPENAI_BASE_URL")],
)
def test_the_makers_own_variables_send_their_models_elsewhere(models: Models, specifier: str, variable: str) -> None:
    keys = {"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k"}
    moved = wired(models.resolve(specifier, {**keys, variable: "https://gateway.example"}))
    assert moved.base_url == "https://gateway.example"
    assert wired(models.resolve(specifier, {**keys, variable: " "})).base_url.startswith("https://api.")


def test_a_model_without_its_provider_is_guessed_to_be_its_makers(models: Models) -> None:
    with pytest.raises(ModelSetupError, match="Did you mean 'openai/gpt-4o' or"):
        models.resolve("gpt-4o", {})


# ------------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "OPENAI_API_KEY"),
        ("google", "GEMINI_API_KEY"),
        ("google", "GOOGLE_API_KEY"),
        ("huggingface", "HF_TOKEN"),
        ("moonshotai-cn", "MOONSHOT_API_KEY"),
        ("minimax-cn", "MINIMAX_CN_API_KEY"),
        ("vercel-ai-gateway", "AI_GATEWAY_API_KEY"),
        ("opencode-go", "OPENCODE_API_KEY"),
        ("kimi-coding", "KIMI_API_KEY"),
        ("cloudflare-workers-ai", "CLOUDFLARE_API_KEY"),
        ("github-copilot", "COPILOT_GITHUB_TOKEN"),
        ("azure-openai-responses", "AZURE_OPENAI_API_KEY"),
        ("xiaomi-token-plan-cn", "XIAOMI_TOKEN_PLAN_CN_API_KEY"),
        ("my.server", "MY_SERVER_API_KEY"),
    ],
)
def test_keys_are_found_under_the_names_people_use(provider: str, name: str) -> None:
    assert name in env_names(provider)
    assert key_from_env(provider, {name: " key \n"}) == "key"


def test_an_oauth_token_for_anthropic_comes_before_a_key() -> None:
    assert key_from_env("anthropic", {"ANTHROPIC_API_KEY": "a", "ANTHROPIC_OAUTH_TOKEN": "b"}) == "b"


def test_values_of_the_environment_that_are_not_text_are_no_keys() -> None:
    assert key_from_env("openai", {"OPENAI_API_KEY": object()}) is None


def test_an_address_without_placeholders_stays_as_it_is() -> None:
    assert fill_base_url("https://h/v1", "x", {}) == "https://h/v1"


# --------------------------------------------------------------------------------------- registered providers


def test_a_registered_provider_accepts_any_model_id_and_needs_no_key(models: Models) -> None:
    register_provider("local", api="anthropic-messages", base_url="http://127.0.0.1:9/x")
    model = wired(models.resolve("local/any/model", {}))
    assert model.api_key is None
    info = model.info
    assert (info.id, info.reasoning, info.input, info.context_window, info.price_input) == (
        "any/model",
        False,
        ("text",),
        0,
        0,
    )


def test_facts_may_be_given_for_all_models_and_for_single_ones(models: Models) -> None:
    register_provider(
        "acme",
        api="anthropic-messages",
        base_url="https://acme.example",
        context_window=1000,
        max_tokens=100,
        cost={"input": 1, "output": 2},
        models={
            "camel": {"contextWindow": 2000, "maxTokens": 200, "cost": {"input": 3, "cacheRead": 0.5}},
            "snake": {
                "max_tokens": 300,
                "reasoning": True,
                "input": ["text", "image"],
                "thinking_level_map": {"off": None},
            },
        },
    )
    other, camel, snake = (models.resolve(f"acme/{one}", {}).info for one in ("other", "camel", "snake"))
    assert (other.context_window, other.max_tokens, other.price_input, other.price_output) == (1000, 100, 1, 2)
    assert (camel.context_window, camel.max_tokens, camel.price_input, camel.price_cache_read) == (2000, 200, 3, 0.5)
    assert (snake.context_window, snake.max_tokens, snake.reasoning, snake.input) == (
        1000,
        300,
        True,
        ("text", "image"),
    )
    assert wired(models.resolve("acme/snake", {})).compat.thinking_levels == (("off", None),)


def test_a_registered_provider_beats_the_catalogue_and_the_last_registration_wins(models: Models) -> None:
    register_provider("anthropic", api="anthropic-messages", base_url="https://one.example")
    register_provider("anthropic", api="anthropic-messages", base_url="https://two.example")
    assert wired(models.resolve(CLAUDE, ENV)).base_url == "https://two.example"


def test_registering_a_known_provider_for_a_new_model_keeps_what_is_known_of_the_others(models: Models) -> None:
    register_provider(
        "anthropic", api="anthropic-messages", base_url="https://proxy.example", models={"new": {"maxTokens": 5}}
    )
    assert models.resolve(CLAUDE, ENV).info.context_window == 1_000_000
    assert models.resolve("anthropic/new", ENV).info.max_tokens == 5


def test_a_key_is_taken_from_configuration_then_registration_then_environment(models: Models) -> None:
    env = {"ACME_API_KEY": "env"}
    register_provider("acme", api="anthropic-messages", base_url="https://h")
    assert wired(models.resolve("acme/m", env)).api_key == "env"
    register_provider("acme", api="anthropic-messages", base_url="https://h", api_key="registered")
    assert wired(models.resolve("acme/m", env)).api_key == "registered"
    configure_provider("acme", api_key="configured")
    assert wired(models.resolve("acme/m", env)).api_key == "configured"


def test_configuration_adds_up_and_keeps_the_models(models: Models) -> None:
    configure_provider("anthropic", headers={"X-One": "1", "x-two": "2"})
    configure_provider("anthropic", base_url="https://proxy.example/", headers={"x-two": "3"}, store_responses=True)
    model = wired(models.resolve(CLAUDE, ENV))
    assert model.base_url == "https://proxy.example"
    assert model.headers == {"x-one": "1", "x-two": "3"}
    assert model.compat.store_responses
    assert model.info.context_window == 1_000_000


def test_registrations_belong_to_the_project_being_loaded(models: Models, project: Registrations) -> None:
    configure_provider("anthropic", base_url="https://process.example", headers={"x-a": "1"})
    with using_registrations(Registrations(parent=project)):
        register_provider("mine", api="anthropic-messages", base_url="https://mine.example")
        configure_provider("anthropic", headers={"x-b": "2"})
        assert models.resolve("mine/m", {}).info.provider == "mine"
        inner = wired(models.resolve(CLAUDE, ENV))
        assert (inner.base_url, inner.headers) == ("https://process.example", {"x-a": "1", "x-b": "2"})
    assert error(models, "mine/m").code == "unknown_provider"
    assert wired(models.resolve(CLAUDE, ENV)).headers == {"x-a": "1"}


def test_a_provider_may_be_a_python_function(models: Models) -> None:
    model = models.resolve("demo/librarian", {})
    seen: list[tuple[str, object]] = []

    def factory(model_id: str, env: Any) -> Model:
        seen.append((model_id, env))
        return model

    register_model("mine", factory)
    assert models.resolve("mine/a/b", {"K": "v"}) is model
    assert seen == [("a/b", {"K": "v"})]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"id": ""}, "''"),
        ({"id": "a/b"}, "a/b"),
        ({"api": "smtp"}, "smtp"),
        ({"base_url": "localhost:1"}, "localhost:1"),
        ({"headers": {"x": 1}}, "'x'"),
        ({"context_window": -1}, "context_window=-1"),
        ({"max_tokens": "9"}, "max_tokens='9'"),
        ({"input": "text"}, "input='text'"),
        ({"input": ["smell"]}, "smell"),
        ({"cost": {"inptu": 1}}, "inptu"),
        ({"cost": {"input": "1"}}, "input"),
        ({"compat": {"magic": True}}, "magic"),
        ({"models": {"m": {"contextWidow": 1}}}, "context_widow"),
        ({"models": {"m": {"thinkingLevelMap": {"hihg": "x"}}}}, "hihg"),
    ],
)
def test_a_bad_registration_is_refused_where_it_is_made_and_names_the_mistake(
    change: dict[str, Any], word: str
) -> None:
    good: dict[str, Any] = {"id": "acme", "api": "anthropic-messages", "base_url": "https://h"}
    with pytest.raises(ModelSetupError) as caught:
        register_provider(**{**good, **change})
    assert caught.value.code == "invalid_provider"
    assert word in str(caught.value)


def test_a_bad_configuration_is_refused_where_it_is_made() -> None:
    with pytest.raises(ModelSetupError):
        configure_provider("acme", base_url="ftp://h")
    with pytest.raises(ModelSetupError):
        configure_provider("a/b")
    with pytest.raises(ModelSetupError):
        register_model("acme", "not callable")  # type: ignore[arg-type]

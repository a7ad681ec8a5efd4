"""Registering and configuring model providers.

What is registered belongs to the project being loaded (see `flue.registrations`) and beats the catalogue; the last
call for an id wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from flue.errors import ModelSetupError
from flue.messages import THINKING_LEVELS
from flue.models.compat import is_compat_flag
from flue.ports import Model, ModelInfo
from flue.registrations import current_registrations

# Protocol → the module and class that speak it, imported at first use.
APIS: Mapping[str, tuple[str, str]] = {
    "anthropic-messages": ("flue.models.anthropic_messages", "AnthropicMessages"),
    "openai-completions": ("flue.models.openai_completions", "OpenAICompletions"),
    "openai-responses": ("flue.models.openai_responses", "OpenAIResponses"),
    "google-generative-ai": ("flue.models.google_generative_ai", "GoogleGenerativeAI"),
}
# Servers that people run themselves: any model id, no key; `<ID>_BASE_URL` in the environment moves them.
LOCAL_SERVERS: Mapping[str, str] = {
    "ollama": "http://127.0.0.1:11434/v1",
    "lmstudio": "http://127.0.0.1:1234/v1",
    "llamacpp": "http://127.0.0.1:8080/v1",
    "vllm": "http://127.0.0.1:8000/v1",
}
ModelFactory = Callable[[str, Mapping[str, Any]], Model]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a registration says of one model. `flags` are quirks (see `flue.models.compat.Compat`)."""

    context_window: int = 0
    max_tokens: int = 0
    reasoning: bool = False
    input: tuple[Literal["text", "image"], ...] = ("text",)
    prices: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    flags: Mapping[str, Any] = field(default_factory=dict)

    def info(self, provider: str, model_id: str, api: str) -> ModelInfo:
        """Return the model these facts describe."""
        return ModelInfo(
            provider, model_id, api, self.context_window, self.max_tokens, self.reasoning, self.input, *self.prices
        )


@dataclass(frozen=True, slots=True)
class RegisteredProvider:
    """A provider as registered. `default` describes models that are not in `models`."""

    id: str
    api: str
    base_url: str
    default: ModelFacts
    models: Mapping[str, ModelFacts]
    api_key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RegisteredModels:
    """An in-process provider: `factory(model_id, env)` returns the model."""

    id: str
    factory: ModelFactory


@dataclass(frozen=True, slots=True)
class ProviderOverride:
    """What `configure_provider` changed; None leaves a setting as it is."""

    base_url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    api_key: str | None = None
    store_responses: bool | None = None

    @property
    def flags(self) -> Mapping[str, Any]:
        """Return the quirks this sets (see `flue.models.compat.Compat`)."""
        return {} if self.store_responses is None else {"store_responses": self.store_responses}

    def over(self, older: ProviderOverride) -> ProviderOverride:
        """Return both, this one having the last word."""
        return ProviderOverride(
            self.base_url or older.base_url,
            {**older.headers, **self.headers},
            self.api_key or older.api_key,
            older.store_responses if self.store_responses is None else self.store_responses,
        )


def register_provider(
    id: str,
    *,
    api: str,
    base_url: str,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    context_window: int = 0,
    max_tokens: int = 0,
    reasoning: bool = False,
    input: Sequence[str] = ("text",),
    cost: Mapping[str, float] | None = None,
    models: Mapping[str, Mapping[str, Any]] | None = None,
    compat: Mapping[str, Any] | None = None,
) -> None:
    """Make `id/<any model id>` usable: a proxy, a local server, or a provider the catalogue does not know.

    `api` is one of the four protocols; `base_url` what comes before the protocol's own path. Limits are in tokens
    (0 = unknown: then nothing is compacted by size), `cost` in US dollars per million tokens under `input`,
    `output`, `cache_read`, `cache_write`. `models` maps model ids to the same facts where they differ, in snake_case
    or camelCase, plus `thinking_level_map`; `compat` sets quirks of the host. Without `api_key` the environment
    is looked at (`<ID>_API_KEY`), and without that the server is called without a key.

    Raises `ModelSetupError` (code `invalid_provider`).
    """
    _check_id(id)
    if api not in APIS:
        raise _invalid(id, f"has the unknown api {api!r}", f"Use one of: {', '.join(APIS)}.")
    _check_url(id, base_url)
    shared: dict[str, Any] = {
        "context_window": context_window,
        "max_tokens": max_tokens,
        "reasoning": reasoning,
        "input": input,
        "cost": cost or {},
        "compat": compat or {},
    }
    facts = model_facts(id, models or {}, shared)
    current_registrations().providers[id] = RegisteredProvider(
        id, api, base_url, _facts(id, shared), facts, api_key or None, _checked_headers(id, headers)
    )


def model_facts(
    id: str, models: Mapping[str, Mapping[str, Any]], shared: Mapping[str, Any] | None = None
) -> dict[str, ModelFacts]:
    """Return what a registration says of single models; `shared` is what holds for all of them where they say nothing.

    Raises `ModelSetupError` (code `invalid_provider`).
    """
    every = _NO_FACTS if shared is None else shared
    return {name: _facts(id, {**every, **_snake_keys(id, name, own)}) for name, own in models.items()}


def configure_provider(
    id: str,
    *,
    base_url: str | None = None,
    headers: Mapping[str, str] | None = None,
    api_key: str | None = None,
    store_responses: bool | None = None,
) -> None:
    """Change how a provider is reached, keeping its models: another address, further headers, another key.

    Calls add up; the last word on each setting wins. `store_responses` lets OpenAI keep responses on its side.
    Raises `ModelSetupError` (code `invalid_provider`).
    """
    _check_id(id)
    if base_url is not None:
        _check_url(id, base_url)
    overrides = current_registrations().overrides
    override = ProviderOverride(base_url, _checked_headers(id, headers), api_key, store_responses)
    overrides[id] = override.over(overrides.get(id, ProviderOverride()))


def register_model(provider_id: str, factory: ModelFactory) -> None:
    """Serve `provider_id/<any model id>` by Python: `factory(model_id, env)` returns an object that is a `Model`.

    Raises `ModelSetupError` (code `invalid_provider`).
    """
    _check_id(provider_id)
    if not callable(factory):
        raise _invalid(provider_id, "needs a callable that returns the model", "Pass factory=lambda model_id, env: ...")
    current_registrations().providers[provider_id] = RegisteredModels(provider_id, factory)


def _invalid(id: object, what: str, hint: str) -> ModelSetupError:
    return ModelSetupError(f"Provider {id!r} {what}.", code="invalid_provider", hint=hint)


def _check_id(id: object) -> None:
    if not isinstance(id, str) or not id or "/" in id or id != id.strip():
        raise _invalid(id, "has an unusable id", 'Use a word without "/", such as "acme".')


def _check_url(id: str, base_url: object) -> None:
    if not isinstance(base_url, str) or not base_url.startswith(("http://", "https://")):
        raise _invalid(id, f"has the unusable base_url {base_url!r}", "It must start with https:// or http://.")


def _checked_headers(id: str, headers: Mapping[Any, Any] | None) -> dict[str, str]:
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise _invalid(id, f"has a header {name!r} that is not text", "Names and values of headers are strings.")
    return {name.lower(): value for name, value in (headers or {}).items()}


_FACTS = ("context_window", "max_tokens", "reasoning", "input", "cost", "compat", "thinking_level_map")
_NO_FACTS: Mapping[str, Any] = {
    "context_window": 0,
    "max_tokens": 0,
    "reasoning": False,
    "input": ("text",),
    "cost": {},
    "compat": {},
}
_PRICES = ("input", "output", "cache_read", "cache_write")


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _snake_keys(id: str, model: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    named = {_snake(name): value for name, value in facts.items()}
    if unknown := sorted(set(named) - set(_FACTS)):
        raise _invalid(
            id, f"says {unknown[0]!r} of model {model!r}, which is not known", f"Known: {', '.join(_FACTS)}."
        )
    return named


def _facts(id: str, facts: Mapping[str, Any]) -> ModelFacts:
    for name in ("context_window", "max_tokens"):
        value = facts[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise _invalid(id, f"has {name}={value!r}", "Use a number of tokens; 0 means unknown.")
    kinds = facts["input"]
    if isinstance(kinds, str) or not kinds or not set(kinds) <= {"text", "image"}:
        raise _invalid(id, f"has input={kinds!r}", 'Use ["text"] or ["text", "image"].')
    ordered: tuple[Literal["text", "image"], ...] = ("text", "image") if "image" in kinds else ("text",)
    flags = dict(facts["compat"])
    if unknown := [name for name in flags if not is_compat_flag(name)]:
        raise _invalid(id, f"has the unknown quirk {unknown[0]!r}", "See flue.models.compat.Compat for those known.")
    if levels := facts.get("thinking_level_map"):
        if not set(levels) <= set(THINKING_LEVELS):
            raise _invalid(
                id, f"maps unknown thinking levels {sorted(levels)!r}", f"Known: {', '.join(THINKING_LEVELS)}."
            )
        flags["thinking_levels"] = tuple(levels.items())
    return ModelFacts(
        facts["context_window"],
        facts["max_tokens"],
        bool(facts["reasoning"]),
        ordered,
        _prices(id, facts["cost"]),
        flags,
    )


def _prices(id: str, cost: Mapping[str, Any]) -> tuple[float, float, float, float]:
    named = {_snake(name): value for name, value in cost.items()}
    bad = [name for name, value in named.items() if name not in _PRICES or not isinstance(value, int | float)]
    if bad:
        raise _invalid(id, f"has an unusable price {bad[0]!r}", f"Give numbers for: {', '.join(_PRICES)}.")
    return tuple(float(named.get(name, 0.0)) for name in _PRICES)  # type: ignore[return-value]

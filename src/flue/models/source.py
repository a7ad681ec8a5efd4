"""From a specifier to a model.

"anthropic/claude-sonnet-4-6" → registered provider? → in-process model? → bridge → catalogue → local server → error
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from flue.errors import ModelSetupError
from flue.models.catalog import find_model, main_endpoint, model_ids, provider_ids
from flue.models.compat import compat_for
from flue.models.keys import base_url_from_env, fill_base_url, key_from_env, missing_key
from flue.models.providers import (
    APIS,
    LOCAL_SERVERS,
    ModelFacts,
    ProviderOverride,
    RegisteredModels,
    RegisteredProvider,
)
from flue.ports import HttpTransport, Model, ModelInfo
from flue.registrations import current_registrations

EXAMPLE = "anthropic/claude-sonnet-4-6"
DEMO = "demo/librarian"
GUIDE = "docs/guides/models.md names the providers that are known."
BRIDGE = "pydantic-ai"
# Providers whose protocols are not spoken here, and what pydantic-ai calls them.
BRIDGED = {
    "amazon-bedrock": "bedrock",
    "google-vertex": "google-cloud",
    "mistral": "mistral",
    "openai-codex": "openai-codex",
}


class Models:
    """The models reachable over one transport. Model objects are kept and shared: they hold no conversation."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport
        self._models: dict[Any, Model] = {}

    def resolve(self, specifier: str, env: Mapping[str, Any]) -> Model:
        """Return the model for `provider/model-id`; `env` is where keys and addresses are looked up.

        Raises `ModelSetupError` with code `invalid_model_specifier`, `unknown_provider`, `unknown_model`,
        `missing_api_key`, `missing_provider_setting` or `missing_package`.
        """
        provider, model_id = split_specifier(specifier)
        registered = _registered(provider)
        if isinstance(registered, RegisteredModels):
            return registered.factory(model_id, env)
        if registered is None and specifier == DEMO:
            return self._demo()
        override = _override(provider)
        if registered is not None:
            return self._registered_model(registered, model_id, override, env)
        if provider == BRIDGE:
            return self._bridged(model_id, env)
        return self._known_model(provider, model_id, override, env)

    def _registered_model(
        self, registered: RegisteredProvider, model_id: str, override: ProviderOverride, env: Mapping[str, Any]
    ) -> Model:
        base_url = fill_base_url(override.base_url or registered.base_url, registered.id, env)
        key = override.api_key or registered.api_key or key_from_env(registered.id, env)
        info, flags = _described(registered, model_id)
        headers = {**registered.headers, **override.headers}
        return self._wire_model(info, base_url, key, headers, {**flags, **override.flags})

    def _known_model(self, provider: str, model_id: str, override: ProviderOverride, env: Mapping[str, Any]) -> Model:
        found = find_model(provider, model_id)
        if found is not None:
            address = override.base_url or base_url_from_env(provider, env) or found.base_url
            base_url = fill_base_url(address, provider, env)
            key = override.api_key or key_from_env(provider, env)
            if not key:
                raise missing_key(provider)
            return self._wire_model(found.info, base_url, key, override.headers, {**found.flags, **override.flags})
        if provider in LOCAL_SERVERS:
            base_url = override.base_url or env.get(f"{provider.upper()}_BASE_URL") or LOCAL_SERVERS[provider]
            key = override.api_key or key_from_env(provider, env)
            info = ModelInfo(provider, model_id, "openai-completions")
            return self._wire_model(
                info, base_url, key, override.headers, {"finish_reason_optional": True, **override.flags}
            )
        raise unknown_model(provider, model_id)

    def _wire_model(
        self,
        info: ModelInfo,
        base_url: str,
        api_key: str | None,
        headers: Mapping[str, str],
        flags: Mapping[str, Any],
    ) -> Model:
        compat = compat_for(base_url, flags)
        wiring = (info, base_url, api_key, tuple(sorted(headers.items())), compat)
        model = self._models.get(wiring)
        if model is None:
            module, name = APIS[info.api]
            adapter = getattr(import_module(module), name)
            model = self._models[wiring] = adapter(
                info, self._transport, base_url=base_url, api_key=api_key, headers=headers, compat=compat
            )
        return model

    def _bridged(self, model_id: str, env: Mapping[str, Any]) -> Model:
        key = (BRIDGE, model_id, frozenset(item for item in env.items() if isinstance(item[1], str)))
        model = self._models.get(key)
        if model is None:
            from flue.models.pydantic_ai_bridge import bridged_model

            model = self._models[key] = bridged_model(model_id, env)
        return model

    def _demo(self) -> Model:
        model = self._models.get(DEMO)
        if model is None:
            from flue.models.librarian import Librarian

            model = self._models[DEMO] = Librarian()
        return model


def _described(registered: RegisteredProvider, model_id: str) -> tuple[ModelInfo, Mapping[str, Any]]:
    """Return what is known of a registered provider's model, and its quirks.

    A registration that says nothing of a model the catalogue has under the same provider and protocol (a provider
    registered anew for one newer id) does not make it forgotten.
    """
    facts = registered.models.get(model_id, registered.default)
    if facts == ModelFacts():
        found = find_model(registered.id, model_id)
        if found is not None and found.info.api == registered.api:
            return found.info, found.flags
    return facts.info(registered.id, model_id, registered.api), facts.flags


def split_specifier(specifier: str) -> tuple[str, str]:
    """Return provider and model id. Raises `ModelSetupError` (code `invalid_model_specifier`)."""
    provider, slash, model_id = specifier.partition("/")
    if provider and slash and model_id:
        return provider, model_id
    # A model's maker before those who also offer it.
    makers = ("anthropic", "openai", "google")
    providers = sorted(provider_ids(), key=lambda one: one not in makers)
    owners = [f"{one}/{specifier}" for one in providers if specifier in model_ids(one)]
    hint = f"Did you mean {' or '.join(map(repr, owners[:2]))}?" if owners else f"For example: {EXAMPLE!r}."
    raise ModelSetupError(
        f'Invalid model specifier {specifier!r}. Use the "provider-id/model-id" format.',
        code="invalid_model_specifier",
        hint=hint,
    )


def unknown_model(provider: str, model_id: str) -> ModelSetupError:
    """Return the error for a model that nothing knows, with the closest names and how to use it all the same."""
    known = model_ids(provider)
    if not known:
        return _unknown_provider(provider, model_id)
    close = get_close_matches(model_id, known, n=3, cutoff=0.5)
    api, base_url = main_endpoint(provider)
    return ModelSetupError(
        f"Unknown model specifier {provider + '/' + model_id!r}: "
        f"the catalogue has no model {model_id!r} of provider {provider!r}.",
        code="unknown_model",
        hint=(f"Did you mean {' or '.join(repr(f'{provider}/{one}') for one in close)}? " if close else "")
        + f"To use a newer model: register_provider({provider!r}, api={api!r}, base_url={base_url!r}).",
    )


def _unknown_provider(provider: str, model_id: str) -> ModelSetupError:
    specifier = f"{provider}/{model_id}"
    if provider == "demo":
        return ModelSetupError(
            f"Unknown model specifier {specifier!r}.",
            code="unknown_model",
            hint=f"The only bundled model is {DEMO!r}.",
        )
    names = [*provider_ids(), *LOCAL_SERVERS, "demo"]
    close = get_close_matches(provider, names, n=3, cutoff=0.5)
    if provider == "cloudflare":
        hint = (
            "Workers AI by its binding is there on Cloudflare only; elsewhere use "
            f"'cloudflare-workers-ai/{model_id}', with an API token."
        )
    elif provider in BRIDGED:
        bridged = f"{BRIDGE}/{BRIDGED[provider]}:{model_id}"
        hint = f"Its protocol is not built in; pydantic-ai's is: use {bridged!r} with the extra flue-agents[{BRIDGE}]."
    elif close:
        hint = f"Did you mean {' or '.join(map(repr, close))}? Else call register_provider({provider!r}, ...); {GUIDE}"
    else:
        hint = f"For a server of your own call register_provider({provider!r}, api=..., base_url=...); {GUIDE}"
    return ModelSetupError(
        f"Unknown model specifier {specifier!r}: there is no provider {provider!r}.",
        code="unknown_provider",
        hint=hint,
    )


def _registered(provider: str) -> RegisteredProvider | RegisteredModels | None:
    for node in current_registrations().chain():
        found: RegisteredProvider | RegisteredModels | None = node.providers.get(provider)
        if found is not None:
            return found
    return None


def _override(provider: str) -> ProviderOverride:
    merged = ProviderOverride()
    for node in reversed(list(current_registrations().chain())):
        if (found := node.overrides.get(provider)) is not None:
            merged = found.over(merged)
    return merged

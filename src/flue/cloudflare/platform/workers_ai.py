"""Workers AI through its binding: models `cloudflare/@cf/…`, without a key.

The binding is asked for a stream and for the response as it is, status and headers included; then it is an exchange
like any other (its source: workerd, `src/cloudflare/internal/ai-api.ts`). What streams is one of two things: chunks of
the Chat Completions protocol, from most newer models, or Workers AI's own `{"response": "…"}` with tool calls and usage
beside it (https://developers.cloudflare.com/workers-ai/). Both end with `[DONE]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol

from flue.cloudflare.platform.fetch_transport import Exchange, FetchedResponse, opened
from flue.errors import ModelSetupError, ProviderError
from flue.messages import Json
from flue.models.answer import Answer
from flue.models.catalog import find_model
from flue.models.compat import compat_for
from flue.models.encoding import dumps
from flue.models.openai_completions import CompletionsDecoder, OpenAICompletions
from flue.models.providers import ModelFacts, RegisteredModels, model_facts
from flue.models.wire import Decoder
from flue.ports import HttpResponse, Model, ModelInfo, ModelRequest
from flue.registrations import Registrations, current_registrations

PROVIDER = "cloudflare"
CATALOGUE = "cloudflare-workers-ai"
"""The provider under which the catalogue has the same models, reached over HTTP with a key."""

ADDRESS = "https://workers-binding.ai"  # what the binding asks
GATEWAY = {"id": "default"}
GATEWAY_OPTIONS = {
    "id": str,
    "skipCache": bool,
    "cacheTtl": int | float,
    "cacheKey": str,
    "metadata": Mapping,
    "collectLog": bool,
    "eventId": str,
    "requestTimeoutMs": int,
}
MOST_TOKENS = 16_384
"""Tokens that an answer may have at most unless a call says more.

Without a number Workers AI takes 256; a large one counts against the context, as if the answer was to be so long.
"""
UNKNOWN_TOKENS = 2048  # the same, for a model of which nothing is known

_AFFINITY = "x-session-affinity"


class Run(Protocol):
    """Asks the binding of a name: `AI.run(model, inputs, {…options, returnRawResponse: true})`."""

    def __call__(self, binding: str, model: str, inputs: bytes, options: Mapping[str, Any]) -> Exchange:
        """Return the exchange at once; `inputs` is JSON."""
        ...


def register_workers_ai(
    id: str = PROVIDER,
    *,
    binding: str = "AI",
    gateway: Mapping[str, Any] | Literal[False] | None = None,
    models: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Make `id/@cf/…` the models of Workers AI, through a binding of the Worker.

    A project on Cloudflare has `cloudflare/…` without calling this; call it for other settings. `gateway` are the
    options of the AI Gateway that requests go through: `id`, `skip_cache`, `cache_ttl` (seconds), `cache_key`,
    `metadata`, `collect_log`, `event_id`, `request_timeout_ms`, in snake_case or camelCase; by default the gateway
    `default`, with False none. `models` gives facts of models that the catalogue does not have, as in
    `register_provider`.

    Raises `ModelSetupError` (code `invalid_provider`).
    """
    factory = workers_ai(id, binding=binding, gateway=gateway, models=models)
    current_registrations().providers[id] = RegisteredModels(id, factory)


def offer_workers_ai(registrations: Registrations) -> None:
    """Have a project's models `cloudflare/…` be those of Workers AI, unless it registered that provider itself."""
    registrations.providers.setdefault(PROVIDER, RegisteredModels(PROVIDER, workers_ai()))


def workers_ai(
    id: str = PROVIDER,
    *,
    binding: str = "AI",
    gateway: Mapping[str, Any] | Literal[False] | None = None,
    models: Mapping[str, Mapping[str, Any]] | None = None,
    run: Run | None = None,
) -> Callable[[str, Mapping[str, Any]], Model]:
    """Return what makes the models; arguments are those of `register_workers_ai`, `run` is for tests."""
    options = _checked_gateway(id, gateway)
    facts = model_facts(id, models or {})
    made: dict[str, WorkersAI] = {}

    def model(model_id: str, env: Mapping[str, Any]) -> Model:
        if binding not in env:
            raise _no_binding(f"{id}/{model_id}", binding)
        if model_id not in made:
            info, flags = _known(id, model_id, facts)
            made[model_id] = WorkersAI(info, _Binding(run or _native, binding, model_id, options), flags)
        return made[model_id]

    return model


class WorkersAI(OpenAICompletions):
    """A model of Workers AI."""

    api = "cloudflare-ai-binding"

    def __init__(self, info: ModelInfo, binding: _Binding, flags: Mapping[str, Any]) -> None:
        super().__init__(info, binding, base_url=ADDRESS, compat=compat_for(ADDRESS, flags))

    def decoder(self, answer: Answer) -> Decoder:
        """Return a decoder for one answer."""
        return WorkersAIDecoder(answer, self.compat)

    def _settings(self, request: ModelRequest) -> Json:
        settings = super()._settings(request)
        del settings["model"]  # stands beside the inputs
        settings.setdefault("max_tokens", _longest_answer(self.info))
        return settings

    async def _check(self, response: HttpResponse) -> None:
        try:
            await super()._check(response)
        except ProviderError as error:
            error.hint = _hint(error)
            raise


class WorkersAIDecoder(CompletionsDecoder):
    """Reads chunks of both kinds. Workers AI's own give no finish reason: `[DONE]` says that all has been said."""

    _own = False

    def feed(self, event: Json) -> None:
        """Take one chunk."""
        if "choices" in event:
            super().feed(event)
            return
        self._own = True
        if usage := event.get("usage"):
            self._usage(usage)
        piece = event.get("response")
        if piece not in (None, ""):
            # A token that is a number, or an answer in JSON mode, comes as what it is.
            text = piece if isinstance(piece, str) else dumps(piece).decode()
            self.answer.add(self.answer.flowing("text"), text)
        for call in event.get("tool_calls") or ():
            self._own_call(call)
        if reason := event.get("finish_reason"):
            self._stop_reason(reason)

    def is_complete(self) -> bool:
        """Say whether the answer was complete if the stream ends now."""
        return super().is_complete() or (self._own and self.ended)

    def _own_call(self, call: Json) -> None:
        function = call.get("function") or {"name": call.get("name"), "arguments": call.get("arguments")}
        # One without anything in it says that the calls are over.
        if call.get("id") or function.get("name") or function.get("arguments"):
            self._tool_call({**call, "function": function})


class _Binding:
    """`HttpTransport` with one place to send to. There is nothing to close."""

    def __init__(self, run: Run, binding: str, model: str, gateway: Mapping[str, Any] | None) -> None:
        self._run = run
        self._binding = binding
        self._model = model
        self._options = {} if gateway is None else {"gateway": gateway}

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes, read_timeout: float | None
    ) -> FetchedResponse:
        """Ask the model; see `flue.ports.HttpTransport`. Of the headers only the session's affinity is passed on."""
        options: dict[str, Any] = dict(self._options)
        if affinity := headers.get(_AFFINITY):
            options["extraHeaders"] = {_AFFINITY: affinity}
        return await opened(self._run(self._binding, self._model, content, options), ADDRESS, read_timeout)

    async def aclose(self) -> None:
        """Do nothing."""


def _native(binding: str, model: str, inputs: bytes, options: Mapping[str, Any]) -> Exchange:
    from flue.cloudflare.platform.js_exchanges import Inference

    return Inference(binding, model, inputs, options)


def _known(provider: str, model_id: str, facts: Mapping[str, ModelFacts]) -> tuple[ModelInfo, Mapping[str, Any]]:
    """Return what a registration or else the catalogue says of a model, and its quirks."""
    own = facts.get(model_id)
    found = None if own else find_model(CATALOGUE, model_id)
    if found is not None:
        return replace(found.info, provider=provider, api=WorkersAI.api), found.flags
    own = own or ModelFacts()
    return own.info(provider, model_id, WorkersAI.api), own.flags


def _longest_answer(info: ModelInfo) -> int:
    known = [info.max_tokens, info.context_window // 4, MOST_TOKENS]
    return min(filter(None, known)) if info.max_tokens or info.context_window else UNKNOWN_TOKENS


def _checked_gateway(id: str, gateway: Mapping[str, Any] | Literal[False] | None) -> Mapping[str, Any] | None:
    if gateway is False:
        return None
    checked: dict[str, Any] = dict(GATEWAY)
    for given, value in ({} if gateway is None else gateway).items():
        first, *rest = given.split("_")
        name = first + "".join(part.capitalize() for part in rest)
        kind = GATEWAY_OPTIONS.get(name)
        if kind is None:
            raise _invalid(id, f"has the unknown gateway option {given!r}", f"Known: {', '.join(GATEWAY_OPTIONS)}.")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise _invalid(id, f"has the gateway option {given}={value!r}", "It is of the wrong kind.")
        checked[name] = value
    return checked


def _invalid(id: str, what: str, hint: str) -> ModelSetupError:
    return ModelSetupError(f"Provider {id!r} {what}.", code="invalid_provider", hint=hint)


def _no_binding(specifier: str, binding: str) -> ModelSetupError:
    return ModelSetupError(
        f"The model {specifier!r} needs the binding {binding!r} of Workers AI, which the environment does not have.",
        code="missing_binding",
        hint=f'Add "ai": {{"binding": "{binding}"}} to wrangler.jsonc. The binding is there on Cloudflare only; '
        f"elsewhere use the provider {CATALOGUE!r} with an API token.",
    )


def _hint(error: ProviderError) -> str:
    """Return what to do next. Facts: https://developers.cloudflare.com/workers-ai/platform/errors/."""
    if error.status in (401, 403):
        return "Look in Cloudflare's dashboard whether the account may use this model, and has agreed to its terms."
    if error.status in (400, 404) and "model" in error.message.lower():
        return "The models are listed at https://developers.cloudflare.com/workers-ai/models/."
    if error.status == 200:
        return "The model may be one that does not stream text."
    return ""

"""The bridge to pydantic-ai: models behind protocols that are not built in (Bedrock, Vertex, Mistral, Cohere …).

    "pydantic-ai/<provider>:<model>" → pydantic_ai.models.infer_model → PydanticAIModel
    history → pydantic-ai's own JSON messages, encoded once → pydantic_ai.direct.model_request_stream → deltas

Needs the extra `pydantic-ai` (package `pydantic-ai-slim`, plus that package's own extra for the provider). Names and
shapes: ai.pydantic.dev, versions 2.68 and later. Slower than the built-in adapters: pydantic-ai reads the whole
history for every request.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flue.errors import ModelSetupError, ProviderError
from flue.messages import (
    AssistantContent,
    AssistantMessage,
    Cost,
    Json,
    StopReason,
    TextContent,
    ThinkingContent,
    ToolResultMessage,
    UserContent,
)
from flue.models.answer import Answer, Block, BlockKind
from flue.models.encoding import Encoder, dumps, history_for
from flue.models.failures import broken_stream, http_failure, is_overflow
from flue.models.keys import env_names
from flue.ports import Delta, ModelInfo, ModelRequest

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponsePart
    from pydantic_ai.models import Model as PydanticModel
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.settings import ModelSettings

API = "pydantic-ai"
INSTALL = 'Install it: pip install "flue-agents[pydantic-ai]"'
STOP_REASONS: Mapping[str, StopReason] = {"stop": "stop", "length": "length", "tool_call": "toolUse"}
KINDS: Mapping[str, BlockKind] = {"text": "text", "thinking": "thinking", "tool-call": "toolcall"}
# What a pydantic-ai part carries beside its content and wants back.
PROVIDER_DATA = ("id", "signature", "provider_name", "provider_details")
# Arguments of pydantic-ai's provider classes that an environment may hold; the first variable set wins.
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "aws_access_key_id": ("AWS_ACCESS_KEY_ID",),
    "aws_secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "aws_session_token": ("AWS_SESSION_TOKEN",),
    "region_name": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "project": ("GOOGLE_CLOUD_PROJECT",),
    "location": ("GOOGLE_CLOUD_LOCATION",),
}


def bridged_model(name: str, env: Mapping[str, Any]) -> PydanticAIModel:
    """Return the model that pydantic-ai calls `name` (`<provider>:<model>`, such as `mistral:mistral-large-latest`).

    Keys and regions come from `env`; what is not there pydantic-ai looks up in the process environment. Raises
    `ModelSetupError`: code `missing_package` when pydantic-ai or the provider's own package is not installed,
    `unknown_model` for a name it does not know, `missing_provider_setting` when it lacks a key.
    """
    _require_package()
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.models import infer_model
    from pydantic_ai.providers import Provider, infer_provider, infer_provider_class

    def make_provider(provider: str) -> Provider[Any]:
        if provider.startswith("gateway/"):
            return infer_provider(provider)
        kind: Any = infer_provider_class(provider)
        made: Provider[Any] = kind(**_provider_settings(kind, provider, env))
        return made

    try:
        return PydanticAIModel(infer_model(name, make_provider), name=name)
    except ImportError as error:
        raise ModelSetupError(
            f"Model {API}/{name} needs a package that is not installed.", code="missing_package", hint=str(error)
        ) from error
    except ValueError as error:  # an unknown provider
        raise _unknown(name, error) from error
    except UserError as error:
        if str(error).startswith("Unknown model"):
            raise _unknown(name, error) from error
        raise ModelSetupError(
            f"Model {API}/{name} cannot be set up.", code="missing_provider_setting", hint=str(error)
        ) from error


def _require_package() -> None:
    try:
        import pydantic_ai  # noqa: F401 -- to see whether it is there
    except ImportError as error:
        raise ModelSetupError(
            "The pydantic-ai bridge needs a package that is not installed.", code="missing_package", hint=INSTALL
        ) from error


def _unknown(name: str, error: Exception) -> ModelSetupError:
    return ModelSetupError(
        f"Unknown model specifier {f'{API}/{name}'!r}: {error}",
        code="unknown_model",
        hint=f'Use "{API}/<provider>:<model>", for example "{API}/mistral:mistral-large-latest".',
    )


def _provider_settings(kind: Any, provider: str, env: Mapping[str, Any]) -> dict[str, str]:
    names = {"api_key": env_names(provider), **SETTINGS}
    accepted = inspect.signature(kind).parameters
    found: dict[str, str] = {}
    for argument, variables in names.items():
        value = next((env[name] for name in variables if isinstance(env.get(name), str) and env[name].strip()), None)
        if value and argument in accepted:
            found[argument] = value.strip()
    return found


class PydanticAIModel:
    """A pydantic-ai model as a `flue.ports.Model`.

    `name` is what it is called in specifiers and messages (by default pydantic-ai's own `system:model_name`). Costs
    come from the price list that pydantic-ai ships, 0 where it has none.
    """

    def __init__(self, model: PydanticModel, *, name: str | None = None) -> None:
        self.model = model
        profile: Mapping[str, Any] = model.profile
        self._info = ModelInfo(
            API,
            name or f"{model.system}:{model.model_name}",
            API,
            context_window=profile.get("context_window") or 0,
            reasoning=bool(profile.get("supports_thinking")),
            input=("text", "image") if profile.get("supports_image_input", True) else ("text",),
        )
        self._key = (API, self._info)
        self._encoder = PydanticAIEncoder()

    @property
    def info(self) -> ModelInfo:
        """Return what is known of the model."""
        return self._info

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | AssistantMessage]:
        """Send the request; yield deltas, then the whole answer. Raises `ProviderError`."""
        from pydantic_ai.direct import model_request_stream

        answer = Answer(self._info)
        reader = _Reader(answer)
        with self._errors():
            opened = model_request_stream(
                self.model,
                self._messages(request),
                model_settings=self._settings(request),
                model_request_parameters=_parameters(request),
            )
            async with opened as stream:
                async for event in stream:
                    reader.take(event)
                    for delta in answer.out:
                        yield delta
                    answer.out.clear()
                response = stream.get()
            reader.finish(response)
            message = answer.message()
        for delta in answer.out:
            yield delta
        yield _priced(message, response)

    def _messages(self, request: ModelRequest) -> list[ModelMessage]:
        from pydantic_ai.messages import ModelMessagesTypeAdapter

        settled, tail = history_for(request.transcript, self._key, self._info, self._encoder).render(request.transcript)
        return ModelMessagesTypeAdapter.validate_json(b"".join((b"[", settled, tail, b"]")))

    def _settings(self, request: ModelRequest) -> ModelSettings:
        settings: ModelSettings = {}
        if request.max_tokens:
            settings["max_tokens"] = request.max_tokens
        if self._info.reasoning:
            settings["thinking"] = False if request.thinking == "off" else request.thinking
        if "max_retries" not in self.model.unsupported_settings:
            settings["max_retries"] = 0  # the harness retries, once for every provider
        return settings

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what pydantic-ai raises into `ProviderError`."""
        from pydantic_ai.exceptions import AgentRunError, UserError

        try:
            yield
        except (AgentRunError, UserError) as error:
            raise _provider_error(self._info.id, error) from error


def _parameters(request: ModelRequest) -> ModelRequestParameters:
    from pydantic_ai.messages import InstructionPart
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

    tools: list[ToolDefinition] | None = request.tools.cache.get(API)
    if tools is None:
        tools = request.tools.cache[API] = [
            ToolDefinition(
                name=spec.name, parameters_json_schema=spec.parameters, description=spec.description, strict=False
            )
            for spec in request.tools
        ]
    instructions = [InstructionPart(content=request.system)] if request.system.strip() else None
    return ModelRequestParameters(function_tools=tools, instruction_parts=instructions)


class PydanticAIEncoder(Encoder[bytes]):
    """pydantic-ai's own JSON: `ModelRequest` and `ModelResponse` objects, whose parts are a group's parts."""

    def user(self, content: Sequence[UserContent]) -> list[bytes]:
        """Encode a user message as one prompt part."""
        return [dumps({"part_kind": "user-prompt", "content": _shown(content)})]

    def users(self, parts: Sequence[bytes], *, last: bool) -> bytes:
        """Return one request."""
        return b'{"kind":"request","parts":[' + b",".join(parts) + b"]}"

    def assistant(self, content: Sequence[AssistantContent]) -> bytes:
        """Encode an answer."""
        if not content:
            return b""
        return b'{"kind":"response","parts":[' + b",".join([dumps(_said(block)) for block in content]) + b"]}"

    def result(self, result: ToolResultMessage) -> list[bytes]:
        """Encode a tool result, images included."""
        part = {
            "part_kind": "tool-return",
            "tool_name": result.tool_name,
            "tool_call_id": result.tool_call_id,
            "content": _shown(result.content),
            "outcome": "failed" if result.is_error else "success",
        }
        return [dumps(part)]

    def results(self, parts: Sequence[bytes], *, last: bool) -> bytes:
        """Return the results of parallel calls as one request."""
        return self.users(parts, last=last)


def _shown(content: Sequence[UserContent]) -> str | list[Any]:
    shown = [
        block.text
        if isinstance(block, TextContent)
        else {"kind": "binary", "data": block.data, "media_type": block.mime_type}
        for block in content
    ]
    return shown[0] if len(shown) == 1 and isinstance(shown[0], str) else shown


def _said(block: AssistantContent) -> Json:
    own: Json = json.loads(block.signature) if block.signature else {}
    if isinstance(block, TextContent):
        return {"part_kind": "text", "content": block.text, **own}
    if isinstance(block, ThinkingContent):
        return {"part_kind": "thinking", "content": block.thinking, **own}
    return {
        "part_kind": "tool-call",
        "tool_name": block.name,
        "tool_call_id": block.id,
        "args": block.arguments,
        **own,
    }


class _Reader:
    """Turns pydantic-ai's part events into an `Answer`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._blocks: dict[int, Block] = {}

    def take(self, event: Any) -> None:
        """Take one event; those of other kinds say nothing."""
        match event.event_kind:
            case "part_start":
                self._start(event.index, event.part)
            case "part_delta":
                self._delta(event.index, event.delta)
            case "part_end":
                self._end(event.index, event.part)

    def finish(self, response: ModelResponse) -> None:
        """Take what is known at the end. Raises a retryable `ProviderError` when the stream ended too early."""
        answer, usage = self._answer, response.usage
        if response.state != "complete":
            raise broken_stream(answer.info.provider, f"ended its stream before the answer was {response.state}.")
        for index, part in enumerate(response.parts):
            self._end(index, part)
        answer.response_id = response.provider_response_id
        answer.cache_read, answer.cache_write = usage.cache_read_tokens, usage.cache_write_tokens
        answer.input = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
        answer.output = usage.output_tokens
        reason = response.finish_reason or "stop"
        answer.stop_reason = STOP_REASONS.get(reason, "error")
        if answer.stop_reason == "error":
            answer.error_message = f"The model stopped with reason {reason!r}."

    def _start(self, index: int, part: Any) -> Block | None:
        kind = KINDS.get(part.part_kind)
        if kind is None:  # a hosted tool, a file: not asked for
            return None
        block = self._blocks.get(index)
        if block is not None and block.kind == kind and block.open:  # a part that starts again replaces itself
            block.parts.clear()
        elif kind == "toolcall":
            block = self._answer.begin(kind, part.tool_call_id, part.tool_name)
        else:
            block = self._answer.begin(kind)
        self._blocks[index] = block
        first = part.args if kind == "toolcall" else part.content
        self._answer.add(block, first if isinstance(first, str) else "")
        return block

    def _delta(self, index: int, delta: Any) -> None:
        block = self._blocks.get(index)
        if block is None:
            return
        piece = delta.args_delta if block.kind == "toolcall" else delta.content_delta
        if isinstance(piece, str):  # arguments that come as objects are read when the part ends
            self._answer.add(block, piece)

    def _end(self, index: int, part: ModelResponsePart) -> None:
        """Close a part. What its events did not tell is in the part itself."""
        block = self._blocks.get(index) or self._start(index, part)
        if block is None or not block.open:
            return
        found: Any = part
        whole = _arguments(found) if block.kind == "toolcall" else found.content
        if not block.parts:
            self._answer.add(block, whole)
        elif "".join(block.parts) != whole:
            block.parts[:] = [whole]
        own = {name: value for name in PROVIDER_DATA if (value := getattr(found, name, None)) is not None}
        if own:
            block.signature = dumps(own).decode()
        self._answer.end(block)


def _arguments(part: Any) -> str:
    args = part.args
    return args if isinstance(args, str) else dumps(args or {}).decode()


def _priced(message: AssistantMessage, response: ModelResponse) -> AssistantMessage:
    """Return the message with its cost, where pydantic-ai knows the model's prices."""
    try:
        price = response.cost()
    except (LookupError, ValueError, AssertionError):
        return message
    cost = Cost(input=float(price.input_price), output=float(price.output_price))
    return replace(message, usage=replace(message.usage, cost=cost))


def _provider_error(name: str, error: Exception) -> ProviderError:
    from pydantic_ai import exceptions

    provider = f"{API}/{name}"
    if isinstance(error, exceptions.ModelHTTPError):
        failure = http_failure(provider, error.status_code, {}, _body(error.body))
        failure.retry_after = error.retry_after
        return _overflowing(failure, error)
    if isinstance(error, exceptions.ModelAPIError):
        lasting = (exceptions.ModelRequestRejectedError, exceptions.ModelQuotaExceededError)
        failure = ProviderError(
            f"{provider} failed: {error}",
            retryable=not isinstance(error, lasting) and not is_overflow(str(error)),
            retry_after=error.retry_after,
            overflow=is_overflow(str(error)),
        )
        return _overflowing(failure, error)
    if isinstance(error, exceptions.UnexpectedModelBehavior):
        return broken_stream(provider, f"sent an answer that cannot be read: {error}")
    return ProviderError(f"{provider} refused the request: {error}")


def _overflowing(failure: ProviderError, error: Exception) -> ProviderError:
    from pydantic_ai.exceptions import ModelContextWindowExceededError

    if failure.overflow or isinstance(error, ModelContextWindowExceededError):
        failure.overflow, failure.retryable, failure.code = True, False, "context_overflow"
    return failure


def _body(body: object) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body, default=str).encode()

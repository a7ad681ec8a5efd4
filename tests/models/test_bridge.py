"""The pydantic-ai bridge, tried with pydantic-ai's own test models."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from flue.errors import ModelSetupError, ProviderError
from flue.messages import (
    AssistantMessage,
    ImageContent,
    Message,
    TextContent,
    ThinkingContent,
    ToolCall,
    ToolResultMessage,
    ToolSpec,
    ToolSpecs,
    Transcript,
    UserMessage,
    message_from_json,
)
from flue.models import Httpx2Transport, Models, register_model
from flue.models.pydantic_ai_bridge import PydanticAIModel, bridged_model
from flue.ports import Delta, Model, ModelRequest
from flue.registrations import Registrations, using_registrations
from tests.lazily import Lazily

pytestmark = pytest.mark.skipif(find_spec("pydantic_ai") is None, reason="needs the extra: pydantic-ai")

if TYPE_CHECKING:
    from pydantic_ai import exceptions
    from pydantic_ai import messages as parts
    from pydantic_ai.models import function as scripted
    from pydantic_ai.models import test as trial
else:
    exceptions = Lazily("pydantic_ai.exceptions")
    parts = Lazily("pydantic_ai.messages")
    scripted = Lazily("pydantic_ai.models.function")
    trial = Lazily("pydantic_ai.models.test")

LOOK = ToolSpec("look", "Look somewhere.", {"type": "object", "properties": {"at": {"type": "string"}}})
PNG = ImageContent("iVBORw0KGgo=", "image/png")


class Recorder:
    """A scripted pydantic-ai model that keeps what it was sent."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = pieces
        self.messages: list[parts.ModelMessage] = []
        self.info: scripted.AgentInfo | None = None

    async def __call__(self, messages: list[parts.ModelMessage], info: scripted.AgentInfo) -> AsyncIterator[Any]:
        self.messages, self.info = messages, info
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def model(self) -> PydanticAIModel:
        return PydanticAIModel(scripted.FunctionModel(stream_function=self))


async def ask(model: Model, *messages: Message, **options: Any) -> tuple[list[Delta], AssistantMessage]:
    tools = options.pop("tools", ())
    given: dict[str, Any] = {"system": "Be brief.", **options}
    request = ModelRequest(transcript=Transcript(messages or (user("hello"),)), tools=ToolSpecs(tools), **given)
    items = [item async for item in model.stream(request)]
    deltas = [item for item in items if isinstance(item, Delta)]
    assert len(deltas) == len(items) - 1
    assert isinstance(items[-1], AssistantMessage)
    return deltas, items[-1]


def user(*content: str | ImageContent) -> UserMessage:
    return UserMessage(tuple(TextContent(one) if isinstance(one, str) else one for one in content))


async def test_text_streams_and_ends_as_a_message() -> None:
    deltas, answer = await ask(Recorder("Hello ", "there").model())
    assert [delta.type for delta in deltas] == ["text_start", "text_delta", "text_delta", "text_end"]
    assert (answer.text, answer.stop_reason, answer.provider, answer.api) == (
        "Hello there",
        "stop",
        "pydantic-ai",
        "pydantic-ai",
    )
    assert answer.usage.input > 0
    assert answer.usage.output > 0


async def test_system_prompt_tools_and_limit_reach_the_model() -> None:
    recorder = Recorder("x")
    await ask(recorder.model(), tools=[LOOK], max_tokens=77)
    assert recorder.info is not None
    assert recorder.info.instructions == "Be brief."
    assert [(tool.name, tool.parameters_json_schema) for tool in recorder.info.function_tools] == [
        ("look", LOOK.parameters)
    ]
    assert recorder.info.model_settings is not None
    assert recorder.info.model_settings.get("max_tokens") == 77


async def test_thinking_and_calls_come_as_blocks_in_order() -> None:
    recorder = Recorder(
        {0: scripted.DeltaThinkingPart(content="so ")},
        {0: scripted.DeltaThinkingPart(content="what", signature="sig")},
        "Let me look.",
        {1: scripted.DeltaToolCall(name="look", json_args='{"at":', tool_call_id="c1")},
        {1: scripted.DeltaToolCall(json_args='"x"}')},
        {2: scripted.DeltaToolCall(name="look", json_args='{"at":"y"}', tool_call_id="c2")},
    )
    deltas, answer = await ask(recorder.model(), tools=[LOOK])
    thought, said, *calls = answer.content
    assert isinstance(thought, ThinkingContent)
    assert thought.thinking == "so what"
    assert said == TextContent("Let me look.")
    assert calls == [ToolCall("c1", "look", {"at": "x"}), ToolCall("c2", "look", {"at": "y"})]
    assert answer.stop_reason == "toolUse"
    assert "".join(delta.delta for delta in deltas if delta.type == "toolcall_delta") == '{"at":"x"}{"at":"y"}'


async def test_the_conversation_goes_back_in_pydantic_ais_own_parts() -> None:
    recorder = Recorder(
        {0: scripted.DeltaThinkingPart(content="so", signature="sig")},
        {1: scripted.DeltaToolCall("look", "{}", tool_call_id="c1")},
    )
    model = recorder.model()
    _, answer = await ask(model)
    loaded = message_from_json(json.loads(json.dumps(answer.to_json())))  # as a store would give it back
    result = ToolResultMessage("c1", "look", (TextContent("seen"), PNG), None, is_error=True)
    await ask(model, user("hello", PNG), loaded, result)
    first, second, third = recorder.messages
    assert isinstance(first, parts.ModelRequest)
    assert isinstance(second, parts.ModelResponse)
    assert isinstance(third, parts.ModelRequest)
    (prompt,), (thought, call), (returned,) = first.parts, second.parts, third.parts
    assert isinstance(prompt, parts.UserPromptPart)
    assert isinstance(prompt.content, list)
    assert prompt.content[0] == "hello"
    assert isinstance(prompt.content[1], parts.BinaryContent)
    assert isinstance(thought, parts.ThinkingPart)
    assert (thought.content, thought.signature) == ("so", "sig")
    assert isinstance(call, parts.ToolCallPart)
    assert (call.tool_name, call.tool_call_id) == ("look", "c1")
    assert isinstance(returned, parts.ToolReturnPart)
    assert (returned.tool_call_id, returned.outcome) == ("c1", "failed")
    assert isinstance(returned.content, list)
    assert returned.content[0] == "seen"


async def test_another_models_thinking_goes_as_text() -> None:
    recorder = Recorder("x")
    foreign = AssistantMessage(
        (ThinkingContent("plan", "opaque"), TextContent("ok", "opaque")), "anthropic-messages", "anthropic", "claude"
    )
    await ask(recorder.model(), user("a"), foreign, user("b"))
    answer = recorder.messages[1]
    assert isinstance(answer, parts.ModelResponse)
    assert [(part.part_kind, getattr(part, "content", None)) for part in answer.parts] == [
        ("text", "plan"),
        ("text", "ok"),
    ]


async def test_pydantic_ais_test_model_calls_a_tool_and_reads_its_result() -> None:
    model = PydanticAIModel(trial.TestModel())
    tools = ToolSpecs([LOOK])
    transcript = Transcript([user("hello")])
    for _ in range(2):
        *_, answer = [item async for item in model.stream(ModelRequest("", transcript, tools))]
        assert isinstance(answer, AssistantMessage)
        transcript.append(answer)
        for call in answer.tool_calls:
            transcript.append(ToolResultMessage(call.id, call.name, (TextContent("seen"),)))
    assert [message.role for message in transcript] == ["user", "assistant", "toolResult", "assistant"]
    last = transcript.messages[-1]
    assert isinstance(last, AssistantMessage)
    assert last.text == '{"look":"seen"}'


async def test_arguments_that_are_not_json_are_retryable() -> None:
    with pytest.raises(ProviderError) as caught:
        await ask(Recorder({0: scripted.DeltaToolCall("look", '{"at":', tool_call_id="c1")}).model())
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("kind", "values", "status", "retryable", "overflow"),
    [
        ("ModelHTTPError", (529, "m", {"error": {"message": "busy"}}), 529, True, False),
        ("ModelHTTPError", (401, "m", {"message": "no key"}), 401, False, False),
        ("ModelHTTPError", (400, "m", {"message": "prompt is too long: 9 > 8"}), 400, False, True),
        ("ModelContextWindowExceededError", ("m", "too much"), None, False, True),
        ("ModelConnectionError", ("m", "gone"), None, True, False),
        ("ModelRequestRejectedError", ("m", "no"), None, False, False),
        ("UnexpectedModelBehavior", ("nonsense",), 200, True, False),
        ("UserError", ("unsupported",), None, False, False),
    ],
)
async def test_failures_are_told_in_our_words(
    kind: str, values: tuple[Any, ...], status: int | None, retryable: bool, overflow: bool
) -> None:
    error = getattr(exceptions, kind)(*values)
    with pytest.raises(ProviderError) as caught:
        await ask(Recorder("begun", error).model())
    assert (caught.value.status, caught.value.retryable, caught.value.overflow) == (status, retryable, overflow)


async def test_the_providers_wish_to_wait_is_kept() -> None:
    error = exceptions.ModelHTTPError(429, "m", None, headers={"retry-after": "3"})
    with pytest.raises(ProviderError) as caught:
        await ask(Recorder(error).model())
    assert (caught.value.retry_after, caught.value.retryable) == (3.0, True)


# ------------------------------------------------------------------------------------------------- specifiers


async def test_a_specifier_reaches_pydantic_ai() -> None:
    model = Models(Httpx2Transport()).resolve("pydantic-ai/test", {})
    assert model.info.specifier == "pydantic-ai/test"
    _, answer = await ask(model)
    assert answer.text == "success (no tool calls)"


async def test_a_pydantic_ai_model_of_ones_own_is_registered_like_any_model() -> None:
    with using_registrations(Registrations()):
        register_model(
            "mine",
            lambda model_id, env: PydanticAIModel(
                trial.TestModel(custom_output_text=f"I am {model_id}"), name=model_id
            ),
        )
        model = Models(Httpx2Transport()).resolve("mine/parrot", {})
    _, answer = await ask(model)
    assert (answer.text, answer.model) == ("I am parrot", "parrot")


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    with pytest.raises(ModelSetupError) as caught:
        Models(Httpx2Transport()).resolve("pydantic-ai/mistral:large", {})
    assert caught.value.code == "missing_package"
    assert 'pip install "flue-agents[pydantic-ai]"' in caught.value.hint


def test_without_the_providers_own_package_the_error_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic_ai.providers.mistral", None)
    with pytest.raises(ModelSetupError) as caught:
        bridged_model("mistral:large", {})
    assert caught.value.code == "missing_package"
    assert "mistral" in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere:model", "just-a-name"])
def test_an_unknown_name_is_answered_with_the_form(name: str) -> None:
    with pytest.raises(ModelSetupError) as caught:
        bridged_model(name, {})
    assert caught.value.code == "unknown_model"
    assert "pydantic-ai/<provider>:<model>" in caught.value.hint


def test_a_providers_key_comes_from_the_given_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    class Provider:
        def __init__(self, api_key: str | None = None, region_name: str | None = None) -> None:
            made.append({"api_key": api_key, "region_name": region_name})
            raise exceptions.UserError("Set the `MISTRAL_API_KEY` environment variable.")

    monkeypatch.setattr("pydantic_ai.providers.infer_provider_class", lambda name: Provider)
    env = {"MISTRAL_API_KEY": " k-1 ", "AWS_DEFAULT_REGION": "eu-1", "GOOGLE_CLOUD_PROJECT": "not asked for"}
    with pytest.raises(ModelSetupError) as caught:
        bridged_model("mistral:large", env)
    assert made == [{"api_key": "k-1", "region_name": "eu-1"}]
    assert caught.value.code == "missing_provider_setting"
    assert "MISTRAL_API_KEY" in caught.value.hint


async def test_the_cost_comes_from_pydantic_ais_price_list() -> None:
    _, priced = await ask(PydanticAIModel(scripted.FunctionModel(stream_function=Recorder("x"), model_name="gpt-4o")))
    _, free = await ask(Recorder("x").model())
    assert priced.usage.cost.input > 0
    assert priced.usage.cost.output > 0
    assert free.usage.cost.total == 0

from __future__ import annotations

import asyncio
import json
from itertools import repeat
from typing import Any

import pytest

from flue.errors import ProviderError, UsageError
from flue.messages import (
    AssistantMessage,
    ImageContent,
    TextContent,
    ThinkingContent,
    ToolCall,
    ToolSpec,
    ToolSpecs,
    Transcript,
    Usage,
    UserMessage,
)
from flue.ports import Delta, Model, ModelInfo, ModelRequest
from flue.testing import RecordedRequest, ScriptedModel, call, hang, thinking


def request(text: str = "Hi.", **changes: Any) -> ModelRequest:
    return ModelRequest("Be brief.", Transcript([UserMessage((TextContent(text),))]), ToolSpecs(), **changes)


async def answers(model: ScriptedModel, asked: ModelRequest | None = None) -> tuple[list[Delta], AssistantMessage]:
    items = [item async for item in model.stream(asked or request())]
    deltas = [item for item in items if isinstance(item, Delta)]
    assert isinstance(items[-1], AssistantMessage)
    assert len(deltas) == len(items) - 1
    return deltas, items[-1]


def test_it_is_a_model() -> None:
    model: Model = ScriptedModel()
    assert isinstance(model, Model)
    assert model.info.specifier == "scripted/model"


async def test_a_text_streams_in_pieces_and_then_comes_whole() -> None:
    deltas, message = await answers(ScriptedModel(["The quick brown fox jumps."]))
    assert [(delta.type, delta.index) for delta in deltas] == [
        ("text_start", 0), ("text_delta", 0), ("text_delta", 0), ("text_delta", 0), ("text_end", 0),
    ]  # fmt: skip
    assert "".join(delta.delta for delta in deltas) == "The quick brown fox jumps."
    assert deltas[-1].content == TextContent("The quick brown fox jumps.")
    assert (message.text, message.stop_reason) == ("The quick brown fox jumps.", "stop")
    assert (message.api, message.provider, message.model) == ("scripted", "scripted", "model")


async def test_a_tool_call_streams_its_arguments_as_pieces_of_json() -> None:
    arguments = {"path": "docs/a.md", "options": {"deep": [1, 2, 3]}}
    deltas, message = await answers(ScriptedModel([call("read", arguments)]))
    assert deltas[0] == Delta("toolcall_start", 0, content=ToolCall("call_1", "read", {}))
    pieces = [delta.delta for delta in deltas if delta.type == "toolcall_delta"]
    assert len(pieces) > 3
    assert json.loads("".join(pieces)) == arguments
    assert deltas[-1] == Delta("toolcall_end", 0, content=ToolCall("call_1", "read", arguments))
    assert message.tool_calls == (ToolCall("call_1", "read", arguments),)
    assert message.stop_reason == "toolUse"


async def test_a_list_mixes_parts_in_order_and_numbers_calls_without_ids() -> None:
    model = ScriptedModel([[thinking("Hm."), "Two calls.", call("a"), call("b", id="mine")], [call("c")]])
    deltas, message = await answers(model)
    assert message.content == (
        ThinkingContent("Hm."), TextContent("Two calls."), ToolCall("call_1", "a", {}), ToolCall("mine", "b", {}),
    )  # fmt: skip
    assert [delta.index for delta in deltas if delta.type.endswith("_start")] == [0, 1, 2, 3]
    _, second = await answers(model)
    assert second.tool_calls[0].id == "call_2"


async def test_an_exception_is_raised_alone_or_after_the_parts_before_it() -> None:
    busy = ProviderError("busy", status=529, retryable=True)
    model = ScriptedModel([busy, ["Half an ans", busy]])
    with pytest.raises(ProviderError, match="busy"):
        await answers(model)
    seen = []
    with pytest.raises(ProviderError, match="busy"):
        async for item in model.stream(request()):
            seen.append(item)  # noqa: PERF401 - what came before the exception is what counts
    assert [item.type for item in seen if isinstance(item, Delta)] == ["text_start", "text_delta", "text_end"]


async def test_a_hanging_answer_ends_only_by_cancelling() -> None:
    model = ScriptedModel([["Half.", hang()]])
    written = asyncio.Event()

    async def read() -> None:
        async for item in model.stream(request()):
            assert isinstance(item, Delta)
            if item.type == "text_end":
                written.set()

    task = asyncio.create_task(read())
    await written.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_whole_message_is_sent_as_it_is() -> None:
    given = AssistantMessage(
        (TextContent("Cut o"),), "x", "y", "z", Usage(7, 8), "length", error_message="e", response_id="r"
    )
    deltas, message = await answers(ScriptedModel([given]))
    assert message == given
    assert len(deltas) == 3


async def test_a_callable_sees_the_request_and_may_be_async() -> None:
    async def slowly(asked: RecordedRequest) -> str:
        await asyncio.sleep(0)
        return f"{len(asked.messages)} message"

    model = ScriptedModel([lambda asked: call("echo", {"system": asked.system}), slowly])
    assert (await answers(model))[1].tool_calls[0].arguments == {"system": "Be brief."}
    assert (await answers(model))[1].text == "1 message"


async def test_requests_are_recorded_as_they_were_at_their_time() -> None:
    model = ScriptedModel(["One.", "Two."])
    transcript = Transcript([UserMessage((TextContent("First."),))])
    tools = ToolSpecs([ToolSpec("read", "Read.", {"type": "object"})])
    for text in ("Second.", "Third."):
        await answers(model, ModelRequest("System.", transcript, tools, "high", 100, "affine"))
        transcript.append(UserMessage((TextContent(text),)))
    assert [len(recorded.messages) for recorded in model.requests] == [1, 2]
    first = model.requests[0]
    assert (first.system, first.thinking, first.max_tokens, first.affinity) == ("System.", "high", 100, "affine")
    assert [tool.name for tool in first.tools] == ["read"]


async def test_usage_is_estimated_from_sizes_and_priced_by_the_model() -> None:
    info = ModelInfo("p", "m", "a", price_input=2.0, price_output=10.0)
    _, message = await answers(ScriptedModel(["x" * 400], info=info), request("y" * 40))
    assert (message.usage.input, message.usage.output) == (3 + 10, 100)
    assert message.usage.cost.total == pytest.approx(13 * 2e-6 + 100 * 10e-6)
    with_image = ModelRequest("", Transcript([UserMessage((ImageContent("", "image/png"),))]), ToolSpecs())
    assert (await answers(ScriptedModel(["ok"]), with_image))[1].usage.input == 1200


async def test_usage_can_be_given_or_computed() -> None:
    assert (await answers(ScriptedModel(["ok"], usage=Usage(1, 2, 3, 4))))[1].usage == Usage(1, 2, 3, 4)
    computed = ScriptedModel(["ok"], usage=lambda asked, content: Usage(len(asked.system), len(content)))
    assert (await answers(computed))[1].usage == Usage(9, 1)


async def test_a_request_after_the_last_step_says_how_many_steps_there_were() -> None:
    model = ScriptedModel(["One."])
    await answers(model)
    with pytest.raises(UsageError, match="scripted/model is used up: it had 1 step, and request 2 came") as caught:
        await answers(model)
    assert caught.value.code == "script_exhausted"
    model.add("Two.", "Three.")
    assert [(await answers(model))[1].text for _ in range(2)] == ["Two.", "Three."]
    with pytest.raises(UsageError, match="had 3 steps, and request 5 came"):
        await answers(model)


async def test_steps_may_be_endless() -> None:
    model = ScriptedModel(repeat("ok"))
    assert [(await answers(model))[1].text for _ in range(3)] == ["ok"] * 3


async def test_concurrent_requests_take_steps_in_the_order_they_start() -> None:
    model = ScriptedModel(["first", "second", "third"])
    results = await asyncio.gather(*(answers(model) for _ in range(3)))
    assert [message.text for _, message in results] == ["first", "second", "third"]


def test_a_bare_text_instead_of_a_list_is_refused() -> None:
    with pytest.raises(UsageError, match=r"needs a list of steps.*Write \['Hello'\]"):
        ScriptedModel("Hello")


async def test_a_step_of_the_wrong_kind_is_named() -> None:
    with pytest.raises(UsageError, match="cannot be 42"):
        await answers(ScriptedModel([42]))  # type: ignore[list-item]

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from flue.errors import ProviderError
from flue.messages import (
    AssistantMessage,
    ImageContent,
    TextContent,
    ThinkingContent,
    ThinkingLevel,
    ToolCall,
    ToolResultMessage,
    ToolSpec,
)
from flue.models.compat import Compat
from flue.models.google_generative_ai import GoogleGenerativeAI
from flue.ports import Delta, ModelInfo, ModelRequest
from tests.models.replay_transport import Replay, ReplayTransport, answer, ask, cut, sse

INFO = ModelInfo("google", "gemini-2.5-flash", "google-generative-ai", 10**6, 65536, True, ("text", "image"))
GEMINI_3 = replace(INFO, id="gemini-3-pro-preview")
IMAGE = ImageContent("AAAA", "image/png")
LOOK = ToolSpec("look", "Look.", {"type": "object", "properties": {"q": {"$ref": "#/$defs/Q"}}, "$defs": {"Q": {}}})


def chunk(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "responseId": "r1", **more}


def model(transport: ReplayTransport, info: ModelInfo = INFO, compat: Compat | None = None) -> GoogleGenerativeAI:
    return GoogleGenerativeAI(info, transport, base_url="https://h/v1beta", api_key="key-123456", compat=compat)


async def read(*events: dict[str, Any]) -> tuple[list[Delta], AssistantMessage]:
    return await answer(model(ReplayTransport(Replay([sse(*events)]))))


def body(request: ModelRequest, info: ModelInfo = INFO, compat: Compat | None = None) -> Any:
    return json.loads(model(ReplayTransport(), info, compat).body(request))


def said(*blocks: Any, info: ModelInfo = INFO) -> AssistantMessage:
    return AssistantMessage(blocks, info.api, info.provider, info.id)


# ------------------------------------------------------------------------------------------------- request


async def test_the_model_is_in_the_address_and_the_key_in_its_header() -> None:
    transport = ReplayTransport(Replay([sse(chunk({"text": "x"}, finish="STOP"))]))
    await answer(model(transport))
    [sent] = transport.sent
    assert sent.url == "https://h/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert sent.headers["x-goog-api-key"] == "key-123456"


def test_system_text_and_tools_are_sent_as_they_are() -> None:
    wire = body(ask(tools=[LOOK]))
    assert wire["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    [declaration] = wire["tools"][0]["functionDeclarations"]
    assert declaration == {"name": "look", "description": "Look.", "parametersJsonSchema": LOOK.parameters}
    assert wire["contents"] == [{"role": "user", "parts": [{"text": "Hi"}]}]


def test_without_tools_or_system_text_neither_is_sent() -> None:
    assert set(body(ask(system=""))) == {"contents", "generationConfig"}


def test_calls_and_results_carry_matching_ids_and_names() -> None:
    calls = said(ToolCall("c1", "look", {"q": 1}, "sig"), ToolCall("c2", "look", {}))
    results = (
        ToolResultMessage("c2", "look", (TextContent("two"), TextContent("lines"))),
        ToolResultMessage("c1", "look", (TextContent("bad"),), None, is_error=True),
    )
    contents = body(ask("a", calls, *results))["contents"]
    assert contents[1] == {
        "role": "model",
        "parts": [
            {"functionCall": {"id": "c1", "name": "look", "args": {"q": 1}}, "thoughtSignature": "sig"},
            {"functionCall": {"id": "c2", "name": "look", "args": {}}},
        ],
    }
    assert contents[2] == {
        "role": "user",
        "parts": [
            {"functionResponse": {"id": "c2", "name": "look", "response": {"output": "two\nlines"}}},
            {"functionResponse": {"id": "c1", "name": "look", "response": {"error": "bad"}}},
        ],
    }


def test_images_are_inline_data_and_those_of_results_follow_in_a_message_of_their_own() -> None:
    calls = said(ToolCall("c1", "look", {}))
    contents = body(ask("a", calls, ToolResultMessage("c1", "look", (TextContent("see"), IMAGE)), "b"))["contents"]
    assert [content["role"] for content in contents] == ["user", "model", "user", "user", "user"]
    assert contents[3]["parts"][1] == {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}


def test_gemini_3_reads_images_inside_results() -> None:
    calls = said(ToolCall("c1", "look", {}, "s"), info=GEMINI_3)
    contents = body(ask("a", calls, ToolResultMessage("c1", "look", (IMAGE,))), GEMINI_3)["contents"]
    response = contents[2]["parts"][0]["functionResponse"]
    assert response["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]
    assert response["response"]["output"]
    assert len(contents) == 3


def test_gemini_3_is_told_which_calls_another_model_made() -> None:
    calls = AssistantMessage((ToolCall("c1", "look", {}, "s"), ToolCall("c2", "look", {})), "x", "y", "z")
    parts = body(ask("a", calls), GEMINI_3)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["skip_thought_signature_validator", None]
    parts = body(ask("a", calls))["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [None, None]


def test_own_thoughts_go_back_as_thoughts() -> None:
    parts = body(ask("a", said(ThinkingContent("hm"), TextContent("b", "sig"))))["contents"][1]["parts"]
    assert parts == [{"text": "hm", "thought": True}, {"text": "b", "thoughtSignature": "sig"}]


@pytest.mark.parametrize(
    ("level", "thinking"),
    [
        ("off", {"thinkingBudget": 0}),
        ("low", {"includeThoughts": True, "thinkingBudget": 2048}),
        ("high", {"includeThoughts": True, "thinkingBudget": 16384}),
    ],
)
def test_gemini_2_thinks_by_budget(level: ThinkingLevel, thinking: dict[str, Any]) -> None:
    assert body(ask(thinking=level))["generationConfig"]["thinkingConfig"] == thinking


def test_a_model_that_cannot_stop_thinking_gets_the_least_budget() -> None:
    wire = body(ask(thinking="off"), replace(INFO, id="gemini-2.5-pro"))
    assert wire["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 128}


@pytest.mark.parametrize(("level", "name"), [("off", "LOW"), ("low", "LOW"), ("medium", "HIGH"), ("high", "HIGH")])
def test_gemini_3_thinks_by_the_levels_of_the_catalogue(level: ThinkingLevel, name: str) -> None:
    levels = (("off", None), ("minimal", None), ("low", "LOW"), ("medium", None), ("high", "HIGH"))
    config = body(ask(thinking=level), GEMINI_3, Compat(thinking_levels=levels))["generationConfig"]
    assert config["thinkingConfig"] == {"includeThoughts": True, "thinkingLevel": name}


def test_the_room_for_an_answer_is_given_only_when_asked_for() -> None:
    plain = replace(INFO, reasoning=False)
    assert body(ask(thinking="high"), plain)["generationConfig"] == {}
    assert body(ask(max_tokens=10**6), plain)["generationConfig"] == {"maxOutputTokens": 65536}


# -------------------------------------------------------------------------------------------------- answer


async def test_text_thoughts_and_calls_arrive_in_blocks() -> None:
    deltas, message = await read(
        chunk({"text": "h", "thought": True}),
        chunk({"text": "m", "thought": True}, {"text": "He"}),
        chunk({"text": "llo"}),
        chunk({"functionCall": {"id": "g1", "name": "look", "args": {"q": "é"}}, "thoughtSignature": "sig"}),
        chunk({"functionCall": {"name": "look"}}),
        chunk({"text": ""}, finish="STOP"),
    )
    assert message.content[:3] == (
        ThinkingContent("hm"),
        TextContent("Hello"),
        ToolCall("g1", "look", {"q": "é"}, "sig"),
    )
    assert message.stop_reason == "toolUse"
    assert [delta.type for delta in deltas].count("text_start") == 1
    assert message.tool_calls[1].arguments == {}


async def test_calls_without_an_id_get_different_ones() -> None:
    call = {"functionCall": {"name": "look", "args": {}}}
    _, message = await read(chunk(call, call), chunk(call, finish="STOP"))
    ids = [one.id for one in message.tool_calls]
    assert len(set(ids)) == 3
    assert all(ids)


async def test_a_signature_on_an_empty_last_part_belongs_to_the_text_before() -> None:
    _, message = await read(chunk({"text": "Hi"}), chunk({"text": "", "thoughtSignature": "s"}, finish="STOP"))
    assert message.content == (TextContent("Hi", "s"),)


async def test_usage_keeps_cached_tokens_apart_and_counts_thoughts_as_output() -> None:
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 60,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 3,
    }
    _, message = await read(
        chunk({"text": "x"}, usageMetadata={"promptTokenCount": 100}), chunk(finish="STOP", usageMetadata=usage)
    )
    assert (message.usage.input, message.usage.cache_read, message.usage.output) == (45, 60, 10)


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "error"), ("RECITATION", "error"), ("NEW", "error")],
)
async def test_finish_reasons_are_translated(reason: str, stop: str) -> None:
    _, message = await read(chunk({"text": "x"}, finish=reason))
    assert message.stop_reason == stop
    assert (message.error_message is None) == (stop != "error")


async def test_a_refused_prompt_is_an_answer_that_says_so() -> None:
    _, message = await read({"promptFeedback": {"blockReason": "SAFETY"}})
    assert message.stop_reason == "error"
    assert "SAFETY" in (message.error_message or "")


async def test_a_malformed_call_is_worth_another_attempt() -> None:
    with pytest.raises(ProviderError) as caught:
        await read(chunk(finish="MALFORMED_FUNCTION_CALL"))
    assert caught.value.retryable


async def test_a_stream_without_a_finish_reason_is_a_retryable_error() -> None:
    with pytest.raises(ProviderError) as caught:
        await read(chunk({"text": "x"}))
    assert caught.value.retryable


async def test_an_error_inside_the_stream_is_an_error() -> None:
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    with pytest.raises(ProviderError, match="overloaded") as caught:
        await read(chunk({"text": "x"}), error)
    assert caught.value.retryable


async def test_two_thousand_identical_deltas_in_any_chunking_are_one_text() -> None:
    stream = sse(*[chunk({"text": "same "})] * 2000, chunk(finish="STOP"))
    replay = Replay(cut(stream, range(0, len(stream), 997)))
    deltas, message = await answer(model(ReplayTransport(replay)))
    assert message.text == "same " * 2000
    assert len(deltas) == 2002

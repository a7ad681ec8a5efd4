"""Responses: items out, items back, and whose reasoning is whose."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from flue.errors import ProviderError
from flue.messages import (
    AssistantMessage,
    ImageContent,
    Json,
    TextContent,
    ThinkingContent,
    UserMessage,
    message_from_json,
)
from flue.models import Models, configure_provider
from flue.models.compat import Compat
from flue.ports import HttpTransport
from flue.registrations import Registrations, using_registrations
from flue.testing.provider_server import ProviderServer, RawReply, call, reply
from tests.models.over_http import LOOK, PNG, Conversation, model_at, transport_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
API = "openai-responses"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def transport() -> AsyncIterator[HttpTransport]:
    async with transport_of() as transport:
        yield transport


def events(*items: Json, named: bool = True) -> RawReply:
    """Return a stream of these events."""
    names = [f"event: {item['type']}\n" if named else "" for item in items]
    lines = [f"{name}data: {json.dumps(item)}\n\n" for name, item in zip(names, items, strict=True)]
    return RawReply(200, "".join(lines).encode(), "text/event-stream")


def completed(status: str = "completed", **more: Any) -> Json:
    return {"type": f"response.{status}", "response": {"id": "resp_9", "status": status, **more}}


def done(index: int, **item: Any) -> Json:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


# ---------------------------------------------------------------------------------------------------- requests


async def test_the_request_of_a_reasoning_model(transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        model = model_at(server, API, transport, id="gpt-5.5", reasoning=True, max_tokens=1000)
        options: Json = {"thinking": "high", "max_tokens": 5, "affinity": "session-" + "x" * 80}
        await Conversation(model, tools=[LOOK], **options).say("hello")
        request = server.requests[0]
    assert request.path == "/v1/responses"
    assert request.headers["authorization"] == "Bearer test-key"
    assert request.headers["session_id"] == request.headers["x-client-request-id"] == options["affinity"]
    assert request.json == {
        "model": "gpt-5.5",
        "stream": True,
        "store": False,
        "prompt_cache_key": "session-" + "x" * 56,
        "max_output_tokens": 16,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "high", "summary": "auto"},
        "tools": [
            {
                "type": "function",
                "name": "look",
                "description": "Look somewhere.",
                "parameters": LOOK.parameters,
                "strict": False,
            }
        ],
        "input": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
        ],
    }


async def test_the_request_of_a_plain_model(transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        await Conversation(model_at(server, API, transport)).say("hello")
        assert server.requests[0].json == {
            "model": "m",
            "stream": True,
            "store": False,
            "input": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
            ],
        }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), None),
        ((("off", "none"),), {"effort": "none"}),
        ((("off", None),), {"effort": "minimal", "summary": "auto"}),
    ],
    ids=["no name for off", "a name for off", "cannot be off"],
)
async def test_thinking_off_is_said_as_far_as_the_model_can(
    names: tuple[tuple[str, str | None], ...], expected: Json | None, transport: HttpTransport
) -> None:
    async with ProviderServer() as server:
        model = model_at(server, API, transport, compat=Compat(thinking_levels=names), reasoning=True)
        await Conversation(model, thinking="off").say("hello")
        assert server.requests[0].json.get("reasoning") == expected


async def test_configure_provider_lets_the_provider_keep_responses(transport: HttpTransport) -> None:
    async with ProviderServer([reply("a", thinking="plan"), "b"]) as server:
        with using_registrations(Registrations()):
            server.register("acme", api=API, reasoning=True)
            configure_provider("acme", store_responses=True)
            conversation = Conversation(Models(transport).resolve("acme/m", {}))  # type: ignore[arg-type]
            await conversation.say("hello")
            await conversation.say("again")
        sent = server.requests[1].json
    assert sent["store"] is True
    assert [item.get("type") for item in sent["input"][2:4]] == ["reasoning", "message"]


async def test_images_go_to_the_model_inside_tool_results(transport: HttpTransport) -> None:
    image = ImageContent(PNG, "image/png")
    async with ProviderServer([reply(calls=[call("look")])]) as server:
        conversation = Conversation(model_at(server, API, transport, input=("text", "image")), tools=[LOOK])
        await conversation.say("hello")
        await conversation.answer_calls("A picture:", image)
        output = server.requests[1].json["input"][-1]["output"]
    assert [part["type"] for part in output] == ["input_text", "input_image"]
    assert output[1]["image_url"] == f"data:image/png;base64,{PNG}"


# ------------------------------------------------------------------------------------------------- reasoning


async def test_items_go_back_as_they_came_with_their_ids(transport: HttpTransport) -> None:
    async with ProviderServer(
        [reply("Hm.", thinking="plan", calls=[call("look", {"at": "x"}, id="call_1")])]
    ) as server:
        conversation = Conversation(model_at(server, API, transport, reasoning=True), tools=[LOOK])
        answer = await conversation.say("hello")
        await conversation.answer_calls("ok")
        reasoning, message, made, result = server.requests[1].json["input"][2:]
    assert answer.tool_calls[0].id == f"call_1|{made['id']}"
    assert reasoning["id"].startswith("rs_")
    assert reasoning["summary"] == [{"type": "summary_text", "text": "plan"}]
    assert reasoning["encrypted_content"]
    assert message["id"].startswith("msg_")
    assert made["id"].startswith("fc_")
    assert (made["call_id"], json.loads(made["arguments"])) == ("call_1", {"at": "x"})
    assert result == {"type": "function_call_output", "call_id": "call_1", "output": "ok"}


async def test_item_ids_stay_behind_when_another_model_takes_over(transport: HttpTransport) -> None:
    async with ProviderServer([reply("Hm.", thinking="plan", calls=[call("look")])]) as server:
        conversation = Conversation(model_at(server, API, transport, reasoning=True), tools=[LOOK])
        await conversation.say("hello")
        conversation.model = model_at(server, API, transport, id="other", reasoning=True)
        answer = await conversation.answer_calls("ok")
        items = server.requests[1].json["input"][2:5]
    assert answer.text == "ok"
    assert [item["type"] for item in items] == ["message", "message", "function_call"]
    assert not any("id" in item for item in items)


async def test_item_ids_stay_behind_without_the_reasoning_before_them(transport: HttpTransport) -> None:
    script = [reply("Hm.", thinking="plan", calls=[call("look")])]
    async with ProviderServer(script) as server:  # not known to reason, so nothing encrypted was asked for
        conversation = Conversation(model_at(server, API, transport), tools=[LOOK])
        await conversation.say("hello")
        answer = await conversation.answer_calls("ok")
        items = server.requests[1].json["input"][2:4]
    assert answer.text == "ok"
    assert not any("id" in item for item in items)


async def test_reasoning_that_was_cut_off_before_its_answer_is_left_out(transport: HttpTransport) -> None:
    async with ProviderServer([reply(thinking="endless", stop_reason="length")]) as server:
        conversation = Conversation(model_at(server, API, transport, reasoning=True))
        first = await conversation.say("hello")
        second = await conversation.say("shorter")
        items = server.requests[1].json["input"]
    assert first.stop_reason == "length"
    assert second.text == "shorter"
    assert [item["role"] for item in items] == ["developer", "user", "user"]


async def test_calls_with_one_call_id_are_told_apart(transport: HttpTransport) -> None:
    async with ProviderServer(
        [reply(calls=[call("look", id="call_0")]), reply(calls=[call("look", id="call_0")])]
    ) as server:
        conversation = Conversation(model_at(server, API, transport), tools=[LOOK])
        await conversation.say("hello")
        await conversation.answer_calls("one")
        answer = await conversation.answer_calls("two")
    assert answer.text == "two"


async def test_a_conversation_from_a_store_replays_reasoning(transport: HttpTransport) -> None:
    async with ProviderServer([reply("Hm.", thinking="plan")]) as server:
        first = Conversation(model_at(server, API, transport, reasoning=True))
        stored = await first.say("hello")
        second = Conversation(model_at(server, API, transport, reasoning=True))
        loaded = message_from_json(json.loads(json.dumps(stored.to_json())))
        assert isinstance(loaded, AssistantMessage)
        hello, again = (UserMessage((TextContent(text),)) for text in ("hello", "again"))
        await second.add(hello, loaded, again)
        assert server.requests[1].json["input"][2]["type"] == "reasoning"


# ----------------------------------------------------------------------------------------------------- answers


async def test_parts_of_a_summary_are_separate_paragraphs(transport: HttpTransport) -> None:
    place = {"output_index": 0, "item_id": "rs_1"}
    summary = [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}]
    script = events(
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_1"}},
        {"type": "response.reasoning_summary_part.added", **place, "summary_index": 0},
        {"type": "response.reasoning_summary_text.delta", **place, "delta": "one"},
        {"type": "response.reasoning_summary_part.added", **place, "summary_index": 1},
        {"type": "response.reasoning_summary_text.delta", **place, "delta": "two"},
        done(0, type="reasoning", id="rs_1", summary=summary, encrypted_content="e", status=None),
        completed(),
    )
    async with ProviderServer([script]) as server:
        answer = await Conversation(model_at(server, API, transport)).say("hello")
    (thought,) = answer.content
    assert isinstance(thought, ThinkingContent)
    assert thought.thinking == "one\n\ntwo"
    assert json.loads(thought.signature or "") == {
        "type": "reasoning",
        "id": "rs_1",
        "summary": summary,
        "encrypted_content": "e",
    }


async def test_items_without_deltas_are_read_whole(transport: HttpTransport) -> None:
    script = events(
        {"type": "response.created", "response": {"id": "resp_1"}},
        done(0, type="reasoning", id="rs_1", summary=[], content=[{"type": "reasoning_text", "text": "hm"}]),
        done(1, type="web_search_call", id="ws_1"),
        done(2, type="message", id="msg_1", content=[{"type": "output_text", "text": "said"}]),
        done(3, type="function_call", call_id="c", name="look", arguments='{"at":"x"}'),
        completed(),
    )
    async with ProviderServer([script]) as server:
        conversation = Conversation(model_at(server, API, transport))
        answer = await conversation.say("hello")
    thought, said, made = answer.content
    assert isinstance(thought, ThinkingContent)
    assert (thought.thinking, said, answer.response_id) == ("hm", TextContent("said"), "resp_9")
    assert (answer.tool_calls[0].id, answer.tool_calls[0].arguments) == ("c", {"at": "x"})
    assert made == answer.tool_calls[0]
    assert [delta.delta for delta in conversation.deltas if delta.delta] == ["hm", "said", '{"at":"x"}']


@pytest.mark.parametrize("quirk", ["", "[[quirk failed-event]]"])
async def test_both_forms_of_an_error_event_are_understood(quirk: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        with pytest.raises(ProviderError, match="On fire") as caught:
            await Conversation(model_at(server, API, transport)).say(f"{quirk} [[error-event On fire]]")
    assert caught.value.retryable


async def test_an_error_of_a_host_that_names_no_events_is_understood(transport: HttpTransport) -> None:
    script = events({"type": "error", "code": "server_error", "message": "On fire"}, named=False)
    async with ProviderServer([script]) as server:
        with pytest.raises(ProviderError, match="On fire") as caught:
            await Conversation(model_at(server, API, transport)).say("hello")
    assert caught.value.retryable


async def test_an_overflow_inside_the_stream_is_recognised(transport: HttpTransport) -> None:
    error = {"code": "context_length_exceeded", "message": "Your input exceeds the context window of this model."}
    async with ProviderServer([events(completed("failed", error=error))]) as server:
        with pytest.raises(ProviderError) as caught:
            await Conversation(model_at(server, API, transport)).say("hello")
    assert (caught.value.overflow, caught.value.retryable) == (True, False)


@pytest.mark.parametrize(
    ("reason", "expected"), [("max_output_tokens", "length"), ("content_filter", "error"), (None, "error")]
)
async def test_an_incomplete_response_says_why(reason: str | None, expected: str, transport: HttpTransport) -> None:
    details = {"reason": reason} if reason else None
    script = events(
        done(0, type="message", id="msg_1", content=[{"type": "output_text", "text": "said"}]),
        completed("incomplete", incomplete_details=details),
    )
    async with ProviderServer([script]) as server:
        answer = await Conversation(model_at(server, API, transport)).say("hello")
    assert (answer.text, answer.stop_reason) == ("said", expected)
    assert (answer.error_message is not None) is (expected == "error")

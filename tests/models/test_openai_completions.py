"""Chat Completions: what is sent to which host, and what its hosts send."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
import pytest_asyncio

from flue.errors import ProviderError
from flue.messages import ImageContent, Json, ThinkingContent, ToolCall, Usage
from flue.models.compat import Compat, compat_for
from flue.ports import HttpTransport
from flue.testing.provider_server import ProviderServer, RawReply, call, reply
from tests.models.over_http import LOOK, PNG, Conversation, model_at, transport_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
API = "openai-completions"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def transport() -> AsyncIterator[HttpTransport]:
    async with transport_of() as transport:
        yield transport


def chunks(*deltas: Json, finish: str | None = "stop", done: bool = True, **more: Any) -> RawReply:
    """Return a stream of these deltas; `more` goes into the last chunk."""
    head = {"id": "chatcmpl-9", "object": "chat.completion.chunk"}
    frames = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    frames.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}], **more})
    lines = [f"data: {json.dumps(frame)}\n\n" for frame in frames]
    return RawReply(200, "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode(), "text/event-stream")


def arguments(calls: Iterable[ToolCall]) -> list[Json]:
    return [made.arguments for made in calls]


# ---------------------------------------------------------------------------------------------------- requests


async def test_the_request_to_openai(transport: HttpTransport) -> None:
    compat = compat_for("https://api.openai.com/v1")
    async with ProviderServer() as server:
        model = model_at(server, API, transport, id="gpt-5.5", compat=compat, reasoning=True, max_tokens=1000)
        options: Json = {"thinking": "low", "max_tokens": 5000, "affinity": "session-" + "x" * 80}
        await Conversation(model, tools=[LOOK], **options).say("hello")
        request = server.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer test-key"
    assert request.json == {
        "model": "gpt-5.5",
        "stream": True,
        "stream_options": {"include_usage": True},
        "store": False,
        "prompt_cache_key": "session-" + "x" * 56,
        "max_completion_tokens": 1000,
        "reasoning_effort": "low",
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "description": "Look somewhere.",
                    "parameters": LOOK.parameters,
                    "strict": False,
                },
            }
        ],
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "hello"},
        ],
    }


async def test_a_plain_model_on_an_unknown_host_gets_only_what_every_host_reads(transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        compat = compat_for("http://localhost:8000/v1")
        conversation = Conversation(model_at(server, API, transport, compat=compat), system=" ", affinity="s")
        await conversation.say("hello")
        assert server.requests[0].json == {
            "model": "m",
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": "hello"}],
        }


@pytest.mark.parametrize(
    ("host", "level", "expected"),
    [
        ("https://api.deepseek.com", "high", {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}),
        ("https://api.deepseek.com", "off", {"thinking": {"type": "disabled"}}),
        ("https://api.z.ai/api/paas/v4", "high", {"enable_thinking": True}),
        ("https://api.z.ai/api/paas/v4", "off", {"enable_thinking": False}),
        ("https://openrouter.ai/api/v1", "medium", {"reasoning": {"effort": "medium"}}),
        ("https://openrouter.ai/api/v1", "off", {"reasoning": {"effort": "none"}}),
        ("https://api.together.xyz/v1", "high", {"reasoning": {"enabled": True}}),
        ("https://api.together.xyz/v1", "off", {"reasoning": {"enabled": False}}),
        ("https://api.x.ai/v1", "high", {}),
        ("https://api.cerebras.ai/v1", "minimal", {"reasoning_effort": "minimal"}),
        ("https://api.openai.com/v1", "off", {}),
    ],
)
async def test_hosts_are_asked_to_think_in_their_own_words(
    host: str, level: str, expected: Json, transport: HttpTransport
) -> None:
    async with ProviderServer() as server:
        model = model_at(server, API, transport, compat=compat_for(host), reasoning=True)
        await Conversation(model, thinking=level).say("hello")
        sent = server.requests[0].json
    names = ("thinking", "reasoning", "reasoning_effort", "enable_thinking")
    assert {name: sent[name] for name in names if name in sent} == expected


async def test_a_level_is_called_what_the_model_calls_it(transport: HttpTransport) -> None:
    compat = Compat(thinking_levels=(("off", "none"), ("medium", None), ("xhigh", "max")))
    async with ProviderServer(check=False) as server:
        model = model_at(server, API, transport, compat=compat, reasoning=True)
        for level in ("off", "medium", "xhigh"):
            await Conversation(model, thinking=level).say("hello")
        sent = [request.json["reasoning_effort"] for request in server.requests]
    assert sent == ["none", "high", "max"]


@pytest.mark.parametrize(
    ("host", "role", "store", "limit"),
    [
        ("https://api.openai.com/v1", "developer", True, "max_completion_tokens"),
        ("https://api.groq.com/openai/v1", "developer", True, "max_completion_tokens"),
        ("https://api.cerebras.ai/v1", "system", False, "max_completion_tokens"),
        ("https://llm.chutes.ai/v1", "system", False, "max_tokens"),
        ("https://api.moonshot.ai/v1", "system", False, "max_tokens"),
        ("http://127.0.0.1:11434/v1", "system", False, "max_tokens"),
    ],
)
async def test_hosts_differ_in_role_store_and_limit(
    host: str, role: str, store: bool, limit: str, transport: HttpTransport
) -> None:
    async with ProviderServer() as server:
        model = model_at(server, API, transport, compat=compat_for(host), reasoning=True)
        await Conversation(model, max_tokens=50).say("hello")
        sent = server.requests[0].json
    assert sent["messages"][0]["role"] == role
    assert ("store" in sent) is store
    assert sent[limit] == 50
    assert len({"max_tokens", "max_completion_tokens"} & set(sent)) == 1


async def test_session_affinity_goes_into_headers_where_a_host_wants_it(transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        compat = Compat(send_session_affinity_headers=True)
        await Conversation(model_at(server, API, transport, compat=compat), affinity="s-1").say("hello")
        await Conversation(model_at(server, API, transport), affinity="s-1").say("hello")
        first, second = (request.headers for request in server.requests)
    assert (first["session_id"], first["x-session-affinity"]) == ("s-1", "s-1")
    assert "session_id" not in second


async def test_images_in_tool_results_follow_in_one_user_message(transport: HttpTransport) -> None:
    image = ImageContent(PNG, "image/png")
    async with ProviderServer([reply(calls=[call("look"), call("look")])]) as server:
        conversation = Conversation(model_at(server, API, transport, input=("text", "image")), tools=[LOOK])
        await conversation.say("See", image)
        await conversation.answer_calls(image)
        _, user, _, *results, behind = server.requests[1].json["messages"]
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    assert user["content"] == [{"type": "text", "text": "See"}, url]
    assert [(result["role"], result["content"]) for result in results] == [("tool", "The result is an image.")] * 2
    assert (behind["role"], behind["content"][1:]) == ("user", [url, url])


async def test_over_long_call_ids_are_cut_and_stay_different(transport: HttpTransport) -> None:
    calls = [call("look", id="call_" + "x" * 50 + str(number)) for number in range(3)]
    async with ProviderServer([reply(calls=calls)]) as server:
        conversation = Conversation(model_at(server, API, transport), tools=[LOOK])
        made = await conversation.say("hello")
        await conversation.answer_calls("ok")
        sent = [item["id"] for item in server.requests[1].json["messages"][2]["tool_calls"]]
    assert [one.id for one in made.tool_calls] == [one.id for one in calls]
    assert len(set(sent)) == 3
    assert max(map(len, sent)) == 40


async def test_deepseek_gets_reasoning_with_every_answer_even_when_there_was_none(transport: HttpTransport) -> None:
    compat = compat_for("https://api.deepseek.com")
    async with ProviderServer([reply("a", thinking="why"), "b", "c"]) as server:
        conversation = Conversation(model_at(server, API, transport, compat=compat, reasoning=True))
        for _ in range(3):
            await conversation.say("hello")
        answers = [one for one in server.requests[2].json["messages"] if one["role"] == "assistant"]
    assert [one["reasoning_content"] for one in answers] == ["why", ""]


# ----------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_text"])
async def test_reasoning_is_read_from_three_fields_and_replayed_by_the_same_name(
    field: str, transport: HttpTransport
) -> None:
    script = chunks({field: "so "}, {field: "what"}, {"content": "that"})
    async with ProviderServer([script]) as server:
        conversation = Conversation(model_at(server, API, transport, reasoning=True))
        answer = await conversation.say("hello")
        await conversation.say("again")
        sent = server.requests[1].json["messages"][2]
    assert answer.content[0] == ThinkingContent("so what", field)
    assert answer.text == "that"
    assert sent == {"role": "assistant", "content": "that", field: "so what"}


async def test_reasoning_that_comes_in_two_fields_is_read_once(transport: HttpTransport) -> None:
    async with ProviderServer([chunks({"reasoning": "so", "reasoning_content": "so"}, {"content": "x"})]) as server:
        answer = await Conversation(model_at(server, API, transport)).say("hello")
    assert answer.content[0] == ThinkingContent("so", "reasoning_content")


@pytest.mark.parametrize(
    "quirks",
    [["no-index"], ["no-ids"], ["repeat-ids"], ["no-index", "repeat-ids"], ["no-index", "no-ids"], ["start-delta"]],
)
async def test_parallel_calls_are_told_apart_however_they_are_numbered(
    quirks: list[Any], transport: HttpTransport
) -> None:
    calls = [call("look", {"at": "first place"}), call("look", {"at": "second place"})]
    async with ProviderServer([reply(calls=calls, quirks=quirks, delta_size=5)]) as server:
        conversation = Conversation(model_at(server, API, transport), tools=[LOOK])
        answer = await conversation.say("hello")
        after = await conversation.answer_calls("ok")
    assert arguments(answer.tool_calls) == [{"at": "first place"}, {"at": "second place"}]
    assert len({made.id for made in answer.tool_calls}) == 2
    assert after.text == "ok\nok"


def piece(index: int | None, id: str | None, name: str | None, text: Any) -> Json:
    return {"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": text}}]}


@pytest.mark.parametrize(
    "deltas",
    [
        [piece(0, "a", "look", '{"n":1}'), piece(0, "b", "look", '{"n":2}')],
        [piece(0, "a", "look", '{"n"'), piece(0, "a2", None, ":1}"), piece(1, "b", "look", '{"n":2}')],
        [
            piece(0, "a", "look", '{"n"'),
            piece(1, "b", "look", '{"n":'),
            piece(0, None, None, ":1}"),
            piece(1, "", "", "2}"),
        ],
        [piece(0, "same", "look", '{"n":1}'), piece(1, "same", "look", '{"n":2}')],
        [piece(None, "a", "look", {"n": 1}), piece(None, "b", "look", {"n": 2})],
        [
            {
                "tool_calls": piece(0, "a", "look", '{"n":1}')["tool_calls"]
                + piece(1, "b", "look", '{"n":2}')["tool_calls"]
            }
        ],
    ],
    ids=["all numbered 0", "new id in every delta", "interleaved", "one id for all", "objects, no index", "one chunk"],
)
async def test_hosts_that_number_calls_in_their_own_way_are_understood(
    deltas: list[Json], transport: HttpTransport
) -> None:
    async with ProviderServer([chunks(*deltas, finish="tool_calls")]) as server:
        conversation = Conversation(model_at(server, API, transport), tools=[LOOK])
        answer = await conversation.say("hello")
        after = await conversation.answer_calls("ok")
    assert arguments(answer.tool_calls) == [{"n": 1}, {"n": 2}]
    assert len({made.id for made in answer.tool_calls}) == 2
    assert after.text == "ok\nok"


@pytest.mark.parametrize(
    "deltas",
    [[piece(0, "a", "look", '{"n":')], [piece(0, "a", None, "{}")], [{"content": 5}]],
    ids=["half arguments", "no name", "text that is a number"],
)
async def test_what_cannot_be_read_is_retryable(deltas: list[Json], transport: HttpTransport) -> None:
    async with ProviderServer([chunks(*deltas)]) as server:
        with pytest.raises(ProviderError) as caught:
            await Conversation(model_at(server, API, transport)).say("hello")
    assert caught.value.retryable


async def test_encrypted_reasoning_of_a_call_goes_back_with_it(transport: HttpTransport) -> None:
    detail = {"type": "reasoning.encrypted", "id": "a", "data": "opaque"}
    script = chunks(piece(0, "a", "look", "{}"), {"reasoning_details": [{"type": "reasoning.text"}, detail]})
    async with ProviderServer([script]) as server:
        conversation = Conversation(model_at(server, API, transport), tools=[LOOK])
        await conversation.say("hello")
        await conversation.answer_calls("ok")
        sent = server.requests[1].json["messages"][2]
    assert sent["reasoning_details"] == [detail]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 7}, (100, 7, 0, 0)),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 7,
                "total_tokens": 107,
                "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
            },
            (10, 7, 60, 30),
        ),
        ({"prompt_tokens": 100, "completion_tokens": 7, "prompt_cache_hit_tokens": 64}, (36, 7, 64, 0)),
        ({"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 150}, (100, 50, 0, 0)),
        ({"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": None}, (100, 7, 0, 0)),
        (None, (0, 0, 0, 0)),
    ],
    ids=["plain", "details", "deepseek", "reasoning only in the total", "null details", "none"],
)
async def test_usage_is_read_in_every_dialect(
    usage: Json | None, expected: tuple[int, ...], transport: HttpTransport
) -> None:
    async with ProviderServer([chunks({"content": "x"}, usage=usage)]) as server:
        found = (await Conversation(model_at(server, API, transport)).say("hello")).usage
    assert (found.input, found.output, found.cache_read, found.cache_write) == expected


async def test_usage_inside_the_choice_counts_too(transport: HttpTransport) -> None:
    choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": "stop", "usage": {"prompt_tokens": 5}}
    body = f"data: {json.dumps({'choices': [choice]})}\n\n".encode()
    async with ProviderServer([RawReply(200, body, "text/event-stream")]) as server:
        answer = await Conversation(model_at(server, API, transport)).say("hello")
    assert answer.usage == Usage(input=5)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("stop", "stop"), ("end", "stop"), ("length", "length"), ("content_filter", "error"), ("network_error", "error")],
)
async def test_finish_reasons_are_translated(reason: str, expected: str, transport: HttpTransport) -> None:
    async with ProviderServer([chunks({"content": "x"}, finish=reason)]) as server:
        answer = await Conversation(model_at(server, API, transport)).say("hello")
    assert answer.stop_reason == expected
    assert (answer.error_message is not None) is (expected == "error")


async def test_a_call_makes_the_reason_tool_use_whatever_the_host_says(transport: HttpTransport) -> None:
    async with ProviderServer([chunks(piece(0, "a", "look", "{}"), finish="stop")]) as server:
        answer = await Conversation(model_at(server, API, transport), tools=[LOOK]).say("hello")
    assert answer.stop_reason == "toolUse"


async def test_a_refusal_is_text(transport: HttpTransport) -> None:
    async with ProviderServer([chunks({"refusal": "I "}, {"refusal": "won't."})]) as server:
        answer = await Conversation(model_at(server, API, transport)).say("hello")
    assert (answer.text, answer.response_id) == ("I won't.", "chatcmpl-9")


async def test_a_finish_reason_completes_the_answer_even_without_the_end_mark(transport: HttpTransport) -> None:
    async with ProviderServer([chunks({"content": "x"}, done=False)]) as server:
        answer = await Conversation(model_at(server, API, transport)).say("hello")
    assert answer.text == "x"

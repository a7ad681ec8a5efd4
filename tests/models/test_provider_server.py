"""The fake provider server: four formats, scripts, directives, and the strictness of the real services."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from flue.messages import Json, ThinkingContent, ToolCall, Usage
from flue.testing.provider_server import (
    APIS,
    ProviderRequest,
    ProviderServer,
    RawReply,
    Reply,
    call,
    reply,
)

ANTHROPIC, COMPLETIONS, RESPONSES, GOOGLE = APIS
PATHS = {
    ANTHROPIC: "/v1/messages",
    COMPLETIONS: "/chat/completions",
    RESPONSES: "/responses",
    GOOGLE: "/models/m:streamGenerateContent?alt=sse",
}
PNG = "iVBORw0KGgo="


def body(api: str, text: str = "hello", **more: Any) -> Json:
    match api:
        case "anthropic-messages":
            base: Json = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": text}]}
        case "openai-completions":
            base = {"model": "m", "messages": [{"role": "user", "content": text}]}
        case "openai-responses":
            base = {"model": "m", "input": [{"role": "user", "content": text}], "store": False}
        case _:
            return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}
    return {**base, "stream": True, **more}


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        headers={"anthropic-version": "2023-06-01"}, timeout=5, trust_env=False, verify=False
    ) as client:
        yield client


async def post(client: httpx2.AsyncClient, server: ProviderServer, api: str, data: Json, **options: Any) -> Any:
    return await client.post(server.base_url(api) + PATHS[api], json=data, **options)


def events(text: str) -> list[Json]:
    lines = (line.removeprefix("data: ") for line in re.split("\r?\n", text) if line.startswith("data: "))
    return [json.loads(line) for line in lines if line != "[DONE]"]


def find(value: Any, name: str) -> list[Any]:
    """Return everything called `name`, wherever it is."""
    if isinstance(value, list):
        return [found for item in value for found in find(item, name)]
    if isinstance(value, dict):
        own = [value[name]] if name in value else []
        return own + [found for item in value.values() for found in find(item, name)]
    return []


def text_of(api: str, response: Any) -> str:
    data = events(response.text)
    match api:
        case "anthropic-messages":
            return "".join(find([event.get("delta") for event in data], "text"))
        case "openai-completions":
            return "".join(find(data, "content"))
        case "openai-responses":
            return "".join(event["delta"] for event in data if event["type"] == "response.output_text.delta")
        case _:
            return "".join(find(data, "text"))


def message_of(response: Any) -> str:
    return str(response.json()["error"]["message"])


# ----------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("api", APIS)
async def test_without_a_script_it_echoes_the_users_text(api: str, client: httpx2.AsyncClient) -> None:
    async with ProviderServer() as server:
        response = await post(client, server, api, body(api, "Grüße, 世界\u2028!"))
    assert response.headers["content-type"] == "text/event-stream"
    assert text_of(api, response) == "Grüße, 世界\u2028!"


async def test_a_scripted_list_is_answered_in_order_and_then_the_echo_takes_over(client: httpx2.AsyncClient) -> None:
    async with ProviderServer(["one", reply("two")]) as server:
        server.enqueue("three")
        texts = [text_of(ANTHROPIC, await post(client, server, ANTHROPIC, body(ANTHROPIC))) for _ in range(4)]
    assert texts == ["one", "two", "three", "hello"]


async def test_a_callable_script_sees_the_request(client: httpx2.AsyncClient) -> None:
    async def script(request: ProviderRequest) -> Reply:
        return reply(f"{request.method} {request.headers['x-name']} {request.json['model']}")

    async with ProviderServer(script) as server:
        response = await post(client, server, RESPONSES, body(RESPONSES), headers={"x-name": "Ada"})
    assert text_of(RESPONSES, response) == "POST Ada m"


async def test_what_a_callable_script_raises_reaches_the_client_and_the_test(client: httpx2.AsyncClient) -> None:
    def script(request: ProviderRequest) -> Reply:
        raise LookupError("unexpected request")

    with pytest.raises(LookupError, match="unexpected request"):
        async with ProviderServer(script) as server:
            response = await post(client, server, GOOGLE, body(GOOGLE))
            assert response.status_code == 400
            assert "unexpected request" in message_of(response)


async def test_a_raw_reply_is_sent_as_it_is(client: httpx2.AsyncClient) -> None:
    async with ProviderServer([RawReply(418, b"tea", "text/plain", (("x-pot", "short"),))]) as server:
        response = await post(client, server, GOOGLE, body(GOOGLE))
    assert (response.status_code, response.text, response.headers["x-pot"]) == (418, "tea", "short")


async def test_usage_is_told_the_way_each_provider_counts(client: httpx2.AsyncClient) -> None:
    usage = Usage(input=100, output=20, cache_read=30, cache_write=5)
    async with ProviderServer([reply("x", usage=usage) for _ in APIS]) as server:
        options: Json = {"stream_options": {"include_usage": True}}
        data = {
            api: events((await post(client, server, api, body(api, **(options if api == COMPLETIONS else {})))).text)
            for api in APIS
        }
    first, last = find(data[ANTHROPIC], "usage")
    assert (first["input_tokens"], first["cache_read_input_tokens"], last["output_tokens"]) == (100, 30, 20)
    assert find(data[COMPLETIONS], "prompt_tokens") == find(data[RESPONSES], "input_tokens") == [135]
    assert find(data[GOOGLE], "promptTokenCount") == [135]
    assert find(data[COMPLETIONS], "cached_tokens") == find(data[GOOGLE], "cachedContentTokenCount") == [30]


async def test_chat_completions_leaves_usage_out_unless_asked(client: httpx2.AsyncClient) -> None:
    async with ProviderServer() as server:
        response = await post(client, server, COMPLETIONS, body(COMPLETIONS))
    assert find(events(response.text), "usage") == []


async def test_requests_are_recorded_and_a_connection_is_kept_alive(client: httpx2.AsyncClient) -> None:
    async with ProviderServer() as server:
        for api in APIS:
            await post(client, server, api, body(api))
        assert [request.path for request in server.requests] == [
            "/v1/messages",
            "/v1/chat/completions",
            "/v1/responses",
            "/v1beta/models/m:streamGenerateContent",
        ]
        assert server.requests[3].query == "alt=sse"
        assert server.requests[0].json["messages"][0]["content"] == "hello"
        assert await server.requests[0].outcome() == "served"
        assert server.connections == 1


async def test_it_notices_a_client_that_goes_away(client: httpx2.AsyncClient) -> None:
    async with ProviderServer() as server:
        address = server.base_url(ANTHROPIC) + PATHS[ANTHROPIC]
        async with client.stream("POST", address, json=body(ANTHROPIC, "[[hang]]")) as response:
            await anext(response.aiter_bytes())
        assert await asyncio.wait_for(server.requests[0].outcome(), 5) == "disconnected"


@pytest.mark.parametrize("api", APIS)
async def test_a_stream_can_be_cut_into_pieces_at_any_byte(api: str, client: httpx2.AsyncClient) -> None:
    async with ProviderServer() as server:
        response = await post(client, server, api, body(api, "[[split 5]] [[quirk crlf]] [[quirk comments]] żółć"))
    assert "\r\n\r\n" in response.text
    assert ": PROCESSING" in response.text
    assert text_of(api, response) == "żółć"


# -------------------------------------------------------------------------------------------------- directives


@pytest.mark.parametrize("api", APIS)
async def test_directives_choose_errors(api: str, client: httpx2.AsyncClient) -> None:
    async with ProviderServer() as server:
        busy = await post(client, server, api, body(api, "[[error 529]]"))
        limited = await post(client, server, api, body(api, "[[error 429 retry-after=1.5 Slow down.]]"))
        page = await post(client, server, api, body(api, "[[html]]"))
        full = await post(client, server, api, body(api, "[[overflow]]"))
    assert busy.status_code == 529
    assert (limited.status_code, limited.headers["retry-after"], message_of(limited)) == (429, "1.5", "Slow down.")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert full.status_code == 400
    assert re.search("too long|maximum|exceeds", message_of(full))


@pytest.mark.parametrize("api", APIS)
async def test_times_fails_that_often_and_then_answers(api: str, client: httpx2.AsyncClient) -> None:
    async with ProviderServer() as server:
        data = body(api, "[[times 2 error 503]] fine")
        statuses = [(await post(client, server, api, data)).status_code for _ in range(4)]
    assert statuses == [503, 503, 200, 503]


@pytest.mark.parametrize("api", APIS)
async def test_directives_break_the_stream(api: str, client: httpx2.AsyncClient) -> None:
    final = {ANTHROPIC: "message_stop", COMPLETIONS: "[DONE]", RESPONSES: "response.completed", GOOGLE: "STOP"}[api]
    async with ProviderServer() as server:
        whole = await post(client, server, api, body(api))
        truncated = await post(client, server, api, body(api, "[[truncate]]"))
        event = await post(client, server, api, body(api, "[[error-event Out of order]]"))
        with pytest.raises(httpx2.RemoteProtocolError, match="incomplete"):
            await post(client, server, api, body(api, "[[cut]]"))
        with pytest.raises(httpx2.RemoteProtocolError, match="without sending"):
            await post(client, server, api, body(api, "[[drop]]"))
        for silent in ("[[hang]]", "[[silence]]"):
            with pytest.raises(httpx2.ReadTimeout):
                await post(client, server, api, body(api, silent), timeout=0.1)
    assert final in whole.text
    assert text_of(api, truncated)
    assert final not in truncated.text
    assert final not in event.text
    assert find(events(event.text), "message")[-1] == "Out of order"


async def test_deltas_asks_for_many_equal_pieces(client: httpx2.AsyncClient) -> None:
    async with ProviderServer() as server:
        response = await post(client, server, ANTHROPIC, body(ANTHROPIC, "[[deltas 2000 ab]]"))
    assert find([event.get("delta") for event in events(response.text)], "text") == ["ab"] * 2000


async def test_delay_and_batch_pace_the_stream(client: httpx2.AsyncClient) -> None:
    async with ProviderServer() as server:
        address = server.base_url(GOOGLE) + PATHS[GOOGLE]
        data = body(GOOGLE, "[[delay 5]] [[batch 1]] [[delta-size 1]] abcd")
        begun = asyncio.get_running_loop().time()
        async with client.stream("POST", address, json=data) as response:
            pieces = [piece async for piece in response.aiter_raw() if piece]
        took = asyncio.get_running_loop().time() - begun
    assert len(find(events(b"".join(pieces).decode()), "text")) == 5
    assert took >= 0.025


async def test_rounds_follow_the_tool_results(client: httpx2.AsyncClient) -> None:
    first = {"role": "user", "content": 'Go [[call look {"at": [["x"]]}]] [[call look {}]] [[then]] [[call end]]'}
    async with ProviderServer() as server:
        conversation: list[Json] = [first]
        said = ""
        names: list[list[str]] = []
        while not names or names[-1]:
            answer = await post(client, server, COMPLETIONS, body(COMPLETIONS, messages=conversation))
            calls = [item for item in find(events(answer.text), "tool_calls") if "id" in item[0]]
            names.append([item[0]["function"]["name"] for item in calls])
            made: list[Json] = [
                {"id": item[0]["id"], "type": "function", "function": {"name": "n", "arguments": "{}"}}
                for item in calls
            ]
            conversation.append({"role": "assistant", "content": None, "tool_calls": made})
            conversation += [
                {"role": "tool", "tool_call_id": one["id"], "content": f"r{number}"} for number, one in enumerate(made)
            ]
            said = text_of(COMPLETIONS, answer)
    assert names == [["look", "look"], ["end"], []]
    assert said == "r0"


async def test_brackets_without_a_directive_are_text_and_a_wrong_directive_is_refused(
    client: httpx2.AsyncClient,
) -> None:
    async with ProviderServer() as server:
        plain = await post(client, server, ANTHROPIC, body(ANTHROPIC, "see [[1, 2]] and [[page]]"))
        wrong = await post(client, server, ANTHROPIC, body(ANTHROPIC, "[[error soon]]"))
    assert text_of(ANTHROPIC, plain) == "see [[1, 2]] and [[page]]"
    assert wrong.status_code == 400
    assert "[[error soon]]" in message_of(wrong)


# ------------------------------------------------------------------------------------------------- strictness


@pytest.mark.parametrize(
    ("api", "headers", "status"),
    [
        (ANTHROPIC, {"x-api-key": "right"}, 401),
        (COMPLETIONS, {"authorization": "Bearer right"}, 401),
        (RESPONSES, {"authorization": "Bearer right"}, 401),
        (GOOGLE, {"x-goog-api-key": "right"}, 400),
    ],
)
async def test_a_wrong_or_missing_key_is_refused(
    api: str, headers: dict[str, str], status: int, client: httpx2.AsyncClient
) -> None:
    wrong = {name: value.replace("right", "wrong") for name, value in headers.items()}
    async with ProviderServer(api_key="right") as server:
        answers = [await post(client, server, api, body(api), headers=sent) for sent in (headers, wrong, {})]
    assert [answer.status_code for answer in answers] == [200, status, status]
    assert "key" in message_of(answers[1])


def _request(api: str, field: str, conversation: tuple[Json, ...], more: Json) -> tuple[str, Json]:
    return api, {**body(api), **({field: list(conversation)} if conversation else {}), **more}


def _anthropic(*messages: Json, **more: Any) -> tuple[str, Json]:
    return _request(ANTHROPIC, "messages", messages, more)


def _completions(*messages: Json, **more: Any) -> tuple[str, Json]:
    return _request(COMPLETIONS, "messages", messages, more)


def _responses(*items: Json, **more: Any) -> tuple[str, Json]:
    return _request(RESPONSES, "input", items, more)


def _google(*contents: Json, **more: Any) -> tuple[str, Json]:
    return _request(GOOGLE, "contents", contents, more)


USER: Json = {"role": "user", "content": "hi"}
MARK = {"type": "ephemeral"}
USE = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
DONE = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
FC = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
G_USER: Json = {"role": "user", "parts": [{"text": "hi"}]}
G_CALL = {"functionCall": {"name": "look", "args": {}}}
G_ANSWER = {"functionResponse": {"name": "look", "response": {"output": "ok"}}}

REFUSED = {
    "anthropic needs max_tokens": (_anthropic(max_tokens=None), "max_tokens: Field required"),
    "anthropic knows no other fields": (_anthropic(store=False), "Extra inputs"),
    "anthropic begins with the user": (_anthropic({"role": "assistant", "content": "x"}, USER), "first message"),
    "anthropic has two roles": (_anthropic({"role": "system", "content": "x"}, USER), "'user' or 'assistant'"),
    "anthropic ends with the user": (_anthropic(USER, {"role": "assistant", "content": "x"}), "end with a user"),
    "anthropic text is not empty": (
        _anthropic({"role": "user", "content": [{"type": "text", "text": ""}]}),
        "must be non-empty",
    ),
    "anthropic text is not blank": (_anthropic({"role": "user", "content": " \n"}), "non-whitespace"),
    "anthropic calls are answered": (
        _anthropic(USER, {"role": "assistant", "content": [USE]}, USER),
        "without `tool_result` blocks immediately after: t1",
    ),
    "anthropic results have calls": (_anthropic({"role": "user", "content": [DONE]}), "unexpected `tool_use_id`"),
    "anthropic results come first": (
        _anthropic(
            USER,
            {"role": "assistant", "content": [USE]},
            {"role": "user", "content": [{"type": "text", "text": "x"}, DONE]},
        ),
        "must come first",
    ),
    "anthropic call ids are plain": (
        _anthropic(USER, {"role": "assistant", "content": [{**USE, "id": "a|b"}]}, USER),
        "should match pattern",
    ),
    "anthropic errors hold no pictures": (
        _anthropic(
            USER,
            {"role": "assistant", "content": [USE]},
            {
                "role": "user",
                "content": [
                    {
                        **DONE,
                        "is_error": True,
                        "content": [
                            {
                                "type": "image",
                                "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                            }
                        ],
                    }
                ],
            },
        ),
        "must be type `text`",
    ),
    "anthropic takes four cache marks": (
        _anthropic(system=[{"type": "text", "text": "s", "cache_control": MARK}] * 5),
        "Found 5",
    ),
    "anthropic pictures are base64": (
        _anthropic(
            {
                "role": "user",
                "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "!"}}],
            }
        ),
        "invalid base64",
    ),
    "anthropic thinking was signed here": (
        _anthropic(
            USER,
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "forged"}]},
            USER,
        ),
        "Invalid `signature`",
    ),
    "anthropic thinking fits the limit": (
        _anthropic(thinking={"type": "enabled", "budget_tokens": 2000}),
        "must be greater than `thinking.budget_tokens`",
    ),
    "anthropic tools are objects": (_anthropic(tools=[{"name": "a", "input_schema": {}}]), "input_schema.type"),
    "anthropic tool names are unique": (
        _anthropic(tools=[{"name": "a", "input_schema": {"type": "object"}}] * 2),
        "unique",
    ),
    "completions calls are answered": (
        _completions(USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, USER),
        "did not have response messages: c1",
    ),
    "completions results have calls": (
        _completions(USER, {"role": "tool", "tool_call_id": "c1", "content": "x"}),
        "must be a response to a preceding message",
    ),
    "completions ids are short": (
        _completions(USER, {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": "c" * 41}]}),
        "maximum length 40, but got a string with length 41",
    ),
    "completions calls are not an empty list": (
        _completions(USER, {"role": "assistant", "content": "x", "tool_calls": []}),
        "at least one item",
    ),
    "completions results hold no pictures": (
        _completions(
            USER,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        ),
        "Invalid value: 'image_url'",
    ),
    "completions reasoning models have a new limit": (_completions(model="gpt-5.5", max_tokens=5), "Unsupported"),
    "completions tools are wrapped": (_completions(tools=[{"type": "function", "name": "a"}]), "function"),
    "completions cache keys are short": (_completions(prompt_cache_key="k" * 65), "maximum length 64"),
    "responses calls are answered": (_responses(USER, FC), "No tool output found for function call c1"),
    "responses results have calls": (
        _responses(USER, {"type": "function_call_output", "call_id": "c1", "output": "x"}),
        "No tool call found for function call output with call_id c1",
    ),
    "responses item ids have a prefix": (_responses(USER, {**FC, "id": "c1"}), "begins with 'fc'"),
    "responses reasoning belongs to an answer": (
        _responses(USER, {"type": "reasoning", "id": "rs_1", "summary": []}, USER),
        "without its required following item",
    ),
    "responses reasoning is encrypted": (
        _responses(
            USER, {"type": "reasoning", "id": "rs_1", "summary": []}, {"role": "assistant", "content": "x"}, USER
        ),
        "not persisted",
    ),
    "responses reasoning was made here": (
        _responses(
            USER,
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "forged"},
            {"role": "assistant", "content": "x"},
            USER,
        ),
        "could not be verified",
    ),
    "responses output has a least limit": (_responses(max_output_tokens=15), "Expected a value >= 16"),
    "responses tools are flat": (_responses(tools=[{"type": "function", "function": {"name": "a"}}]), "tools[0].name"),
    "google counts answers": (
        _google(G_USER, {"role": "model", "parts": [G_CALL, G_CALL]}, {"role": "user", "parts": [G_ANSWER]}),
        "number of function response parts is equal",
    ),
    "google calls are answered": (
        _google(G_USER, {"role": "model", "parts": [G_CALL]}, G_USER),
        "number of function response parts is equal",
    ),
    "google answers have names": (
        _google(
            G_USER,
            {"role": "model", "parts": [G_CALL]},
            {"role": "user", "parts": [{"functionResponse": {"name": "other", "response": {}}}]},
        ),
        "should be 'look'",
    ),
    "google text is not empty": (_google({"role": "user", "parts": [{"text": ""}]}), "empty text parameter"),
    "google parts hold one thing": (_google({"role": "user", "parts": [{}]}), "oneof field 'data'"),
    "google schemas are a subset": (
        _google(
            tools=[
                {
                    "functionDeclarations": [
                        {"name": "a", "parameters": {"type": "object", "additionalProperties": False}}
                    ]
                }
            ]
        ),
        'Unknown name "additionalProperties"',
    ),
    "google signatures are bytes": (
        _google(G_USER, {"role": "model", "parts": [{"text": "x", "thoughtSignature": "?"}]}, G_USER),
        "Base64",
    ),
    "google knows no other fields": (_google(model="m"), 'Unknown name "model"'),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_requests_that_the_real_service_refuses_are_refused(case: str, client: httpx2.AsyncClient) -> None:
    (api, data), expected = REFUSED[case]
    async with ProviderServer() as server:
        response = await post(client, server, api, data)
        assert await server.requests[0].outcome() == "refused"
    assert response.status_code == 400
    assert expected in message_of(response)


async def test_without_checks_anything_is_answered(client: httpx2.AsyncClient) -> None:
    async with ProviderServer(check=False) as server:
        response = await post(client, server, ANTHROPIC, body(ANTHROPIC, max_tokens=None))
    assert text_of(ANTHROPIC, response) == "hello"


async def test_gemini_3_wants_its_signature_back(client: httpx2.AsyncClient) -> None:
    async with ProviderServer([reply(calls=[call("look")]), "fine"]) as server:
        address = server.base_url(GOOGLE) + "/models/gemini-3-pro:streamGenerateContent?alt=sse"
        made = events((await client.post(address, json=body(GOOGLE))).text)[0]["candidates"][0]["content"]
        answered: list[Json] = [G_USER, made, {"role": "user", "parts": [G_ANSWER]}]
        assert (await client.post(address, json={"contents": answered})).status_code == 200
        del made["parts"][0]["thoughtSignature"]
        refused = await client.post(address, json={"contents": answered})
    assert "missing a thought_signature" in message_of(refused)


async def test_a_signature_given_by_the_script_is_known_to_the_server(client: httpx2.AsyncClient) -> None:
    thought = ThinkingContent("so", "sig-1")
    async with ProviderServer([Reply(content=(thought, ToolCall("t1", "look", {})))]) as server:
        await post(client, server, ANTHROPIC, body(ANTHROPIC))
        block: Json = {"type": "thinking", "thinking": "so", "signature": "sig-1"}
        replay: list[Json] = [USER, {"role": "assistant", "content": [block, USE]}, {"role": "user", "content": [DONE]}]
        same = await post(client, server, ANTHROPIC, body(ANTHROPIC, messages=replay))
        other = await post(client, server, ANTHROPIC, body(ANTHROPIC, messages=replay, model="other"))
    assert same.status_code == 200
    assert "Invalid `signature`" in message_of(other)


async def test_a_responses_item_must_come_with_its_reasoning(client: httpx2.AsyncClient) -> None:
    async with ProviderServer([reply("said", thinking="so")]) as server:
        data = body(RESPONSES, include=["reasoning.encrypted_content"])
        done = events((await post(client, server, RESPONSES, data)).text)[-1]["response"]["output"]
        with_both = await post(client, server, RESPONSES, body(RESPONSES, input=[USER, *done, USER]))
        alone = await post(client, server, RESPONSES, body(RESPONSES, input=[USER, done[1], USER]))
    assert with_both.status_code == 200
    assert "without its required 'reasoning' item" in message_of(alone)


# ----------------------------------------------------------------------------------------------- own process


@pytest.mark.e2e
async def test_it_runs_as_a_command_that_prints_its_address(client: httpx2.AsyncClient) -> None:
    # Where a script has put the tests in the background they ignore Ctrl-C, and what they start inherits that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command = ("-m", "flue.testing.provider_server", "--port", "0", "--api-key", "k-1")
        process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        headers = {"x-api-key": "k-1"}
        response = await client.post(f"{url}/v1/messages", json=body(ANTHROPIC), headers=headers)
        refused = await client.post(f"{url}/v1/messages", json=body(ANTHROPIC))
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert text_of(ANTHROPIC, response) == "hello"
    assert refused.status_code == 401
    assert process.returncode == 0


async def test_an_unknown_path_and_an_unknown_format_say_so(client: httpx2.AsyncClient) -> None:
    async with ProviderServer() as server:
        response = await client.post(f"{server.url}/v2/nothing", json={})
        with pytest.raises(ValueError, match="known are anthropic-messages"):
            server.base_url("smoke-signals")
    assert response.status_code == 404
    assert "/v2/nothing" in message_of(response)

"""The traps of every provider protocol, over real HTTP: one row a trap, one column a protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from flue.errors import ProviderError
from flue.messages import ImageContent, Json, TextContent, ThinkingContent, ToolCall, Usage, UserMessage
from flue.models import Models
from flue.models.compat import Compat
from flue.ports import Delta, HttpTransport
from flue.registrations import Registrations, using_registrations
from flue.testing.provider_server import APIS, ProviderServer, Reply, call, reply
from tests.models.over_http import LOOK, PNG, Conversation, ImpatientTransport, model_at, transport_by

# One event loop for the module, so that the transport's client is made once.
pytestmark = pytest.mark.asyncio(loop_scope="module")
ANTHROPIC, COMPLETIONS, RESPONSES, GOOGLE = APIS
each_api = pytest.mark.parametrize("api", APIS)


# `make faults` runs all of it over the transport of Workers too; in every run test_http.py tests that transport.
WAYS = ["httpx2", pytest.param("fetch", marks=pytest.mark.faults)]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=WAYS)
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[HttpTransport]:
    async with transport_by(request.param) as transport:
        yield ImpatientTransport(transport)


def texts(deltas: list[Delta], kind: str = "text_delta") -> list[str]:
    return [delta.delta for delta in deltas if delta.type == kind]


async def failure(conversation: Conversation, text: str) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await conversation.say(text)
    return caught.value


# ----------------------------------------------------------------------------------------------------- answers


@each_api
async def test_text_streams_and_ends_as_a_message(api: str, transport: HttpTransport) -> None:
    async with ProviderServer([Reply(content=(TextContent("Grüße, 世界\u2028\n  ok"),), delta_size=4)]) as server:
        conversation = Conversation(model_at(server, api, transport))
        answer = await conversation.say("hello")
    assert answer.text == "".join(texts(conversation.deltas)) == "Grüße, 世界\u2028\n  ok"
    assert (answer.stop_reason, answer.provider, answer.model, answer.api) == ("stop", "fake", "m", api)
    assert [delta.type for delta in conversation.deltas if delta.type != "text_delta"] == ["text_start", "text_end"]


@each_api
@pytest.mark.parametrize("mangle", ["[[split 1]]", "[[split 7]]", "[[quirk crlf]] [[split 3]]", "[[quirk comments]]"])
async def test_a_stream_in_odd_pieces_reads_the_same(api: str, mangle: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        answer = await Conversation(model_at(server, api, transport)).say(f"{mangle} żółć 👩‍🚀")
    assert answer.text == "żółć 👩‍🚀"


@each_api
async def test_thinking_comes_before_text_as_its_own_block(api: str, transport: HttpTransport) -> None:
    async with ProviderServer([reply("Four.", thinking="Two and two.", delta_size=3)]) as server:
        conversation = Conversation(model_at(server, api, transport, reasoning=True))
        answer = await conversation.say("2+2?")
    thought, said = answer.content
    assert isinstance(thought, ThinkingContent)
    assert isinstance(said, TextContent)
    assert thought.thinking == "".join(texts(conversation.deltas, "thinking_delta")) == "Two and two."
    assert said.text == "Four."


@each_api
async def test_a_tool_call_comes_with_its_arguments_and_its_result_is_understood(
    api: str, transport: HttpTransport
) -> None:
    arguments = {"at": "[[\u2028\"{'}", "n": 1.5, "deep": {"list": [None, True]}}
    async with ProviderServer([reply("Let me look.", calls=[call("look", arguments)], delta_size=5)]) as server:
        conversation = Conversation(model_at(server, api, transport), tools=[LOOK])
        answer = await conversation.say("Where?")
        final = await conversation.answer_calls("On the shelf.")
    assert answer.stop_reason == "toolUse"
    assert answer.text == "Let me look."
    (made,) = answer.tool_calls
    assert (made.name, made.arguments) == ("look", arguments)
    starts = [delta.content for delta in conversation.deltas if delta.type == "toolcall_start"]
    assert starts == []  # the second answer called nothing
    assert final.text == "On the shelf."


@each_api
async def test_parallel_calls_keep_their_order_and_have_different_ids(api: str, transport: HttpTransport) -> None:
    calls = [call("look", {"at": "a"}), call("look", {}), call("look", {"at": "c" * 100})]
    async with ProviderServer([reply(calls=calls)]) as server:
        conversation = Conversation(model_at(server, api, transport), tools=[LOOK])
        answer = await conversation.say("Look everywhere.")
        deltas = conversation.deltas
        final = await conversation.answer_calls("seen")
    assert [made.arguments for made in answer.tool_calls] == [{"at": "a"}, {}, {"at": "c" * 100}]
    assert len({made.id for made in answer.tool_calls}) == 3
    for made, start in zip(answer.tool_calls, (d for d in deltas if d.type == "toolcall_start"), strict=True):
        assert isinstance(start.content, ToolCall)
        assert (start.content.id, start.content.name) == (made.id, made.name)
    assert final.text == "seen\nseen\nseen"


@each_api
async def test_a_long_tool_loop_stays_valid(api: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        conversation = Conversation(model_at(server, api, transport), tools=[LOOK])
        answer = await conversation.say('[[call look {"at": "x"}]] [[call look {}]] [[repeat 12]]')
        rounds = 0
        while answer.tool_calls:
            rounds += 1
            answer = await conversation.answer_calls(f"result {rounds}", is_error=rounds % 3 == 0)
        await conversation.say("And now?")
    assert rounds == 12
    assert answer.text == "result 12\nresult 12"


@each_api
async def test_a_call_whose_result_is_missing_does_not_brick_the_conversation(
    api: str, transport: HttpTransport
) -> None:
    async with ProviderServer([reply(calls=[call("look", {"at": "a"}), call("look", {"at": "b"})])]) as server:
        conversation = Conversation(model_at(server, api, transport), tools=[LOOK])
        await conversation.say("Look.")
        answer = await conversation.say("Never mind.")
    assert answer.text == "Never mind."


@each_api
async def test_images_arrive_from_the_user_and_from_tools(api: str, transport: HttpTransport) -> None:
    image = ImageContent(PNG, "image/png")
    async with ProviderServer(
        [reply("A cat.", calls=[call("look"), call("look")]), "Two more cats.", "Yes."]
    ) as server:
        conversation = Conversation(model_at(server, api, transport, input=("text", "image")), tools=[LOOK])
        await conversation.say("What is this?", image)
        answer = await conversation.answer_calls("A picture:", image)
        await conversation.say(image)
        sent = [request.body.count(PNG.encode()) for request in server.requests]
    assert answer.text == "Two more cats."
    assert sent == [1, 3, 4]


@each_api
async def test_a_model_that_cannot_see_is_told_that_there_was_an_image(api: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        answer = await Conversation(model_at(server, api, transport)).say("Look:", ImageContent(PNG, "image/png"))
        assert PNG not in server.requests[0].body.decode()
    assert "image" in answer.text


@each_api
async def test_usage_counts_cached_tokens_apart_and_is_priced(api: str, transport: HttpTransport) -> None:
    told = Usage(input=1000, output=500, cache_read=4000)
    async with ProviderServer([reply("x", thinking="y", usage=told)]) as server:
        facts: Json = {"reasoning": True, "price_input": 3.0, "price_output": 15.0, "price_cache_read": 0.3}
        usage = (await Conversation(model_at(server, api, transport, **facts)).say("hello")).usage
    assert (usage.input, usage.output, usage.cache_read, usage.cache_write) == (1000, 500, 4000, 0)
    assert usage.cost.total == pytest.approx(0.003 + 0.0075 + 0.0012)


@each_api
async def test_an_answer_that_hit_the_limit_says_so(api: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        answer = await Conversation(model_at(server, api, transport)).say("[[stop length]] and so")
    assert (answer.stop_reason, answer.text) == ("length", "and so")


@each_api
async def test_a_refusal_by_the_provider_is_an_answer_with_an_error(api: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        answer = await Conversation(model_at(server, api, transport)).say("[[stop error]] no")
    assert answer.stop_reason == "error"
    assert answer.error_message


@each_api
async def test_two_thousand_identical_deltas_are_all_kept(api: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        conversation = Conversation(model_at(server, api, transport))
        answer = await conversation.say("[[deltas 2000 ha]]")
    assert texts(conversation.deltas) == ["ha"] * 2000
    assert answer.text == "ha" * 2000


@each_api
async def test_a_delta_inside_the_start_event_is_not_lost(api: str, transport: HttpTransport) -> None:
    calls = [call("look", {"at": "first"}), call("look", {"at": "second"})]
    script = [reply("Beginning, end.", calls=calls, quirks=["start-delta"], delta_size=9)]
    async with ProviderServer(script) as server:
        conversation = Conversation(model_at(server, api, transport), tools=[LOOK])
        answer = await conversation.say("hello")
    assert answer.text == "".join(texts(conversation.deltas)) == "Beginning, end."
    assert [made.arguments for made in answer.tool_calls] == [{"at": "first"}, {"at": "second"}]


# ---------------------------------------------------------------------------------------------------- failures


@each_api
@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
async def test_passing_errors_are_retryable_with_the_providers_wish(
    api: str, status: int, transport: HttpTransport
) -> None:
    async with ProviderServer() as server:
        conversation = Conversation(model_at(server, api, transport))
        error = await failure(conversation, f"[[error {status} retry-after=1.5 Come back later.]]")
        assert len(server.requests) == 1  # an adapter never retries by itself
    assert (error.status, error.retryable, error.retry_after, error.overflow) == (status, True, 1.5, False)
    assert "Come back later." in error.message


@each_api
@pytest.mark.parametrize("status", [400, 403, 404, 422])
async def test_lasting_errors_are_not_retryable(api: str, status: int, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        error = await failure(Conversation(model_at(server, api, transport)), f"[[error {status} No.]]")
    assert (error.status, error.retryable, error.overflow) == (status, False, False)


@each_api
async def test_an_overflow_is_recognised(api: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        error = await failure(Conversation(model_at(server, api, transport)), "[[overflow]]")
    assert (error.overflow, error.retryable, error.code) == (True, False, "context_overflow")


@each_api
async def test_a_wrong_key_is_refused_and_never_quoted(api: str, transport: HttpTransport) -> None:
    async with ProviderServer(api_key="sk-right-key") as server:
        error = await failure(Conversation(model_at(server, api, transport, key="sk-wrong-key")), "hello")
        answer = await Conversation(model_at(server, api, transport, key="sk-right-key")).say("hello")
    assert error.status in (400, 401)
    assert not error.retryable
    assert "sk-wrong-key" not in str(error)
    assert answer.text == "hello"


@each_api
@pytest.mark.parametrize("how", ["[[cut]]", "[[drop]]"])
async def test_a_cut_connection_is_a_retryable_transport_error(api: str, how: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        error = await failure(Conversation(model_at(server, api, transport)), how)
    assert (error.status, error.retryable) == (None, True)


@each_api
async def test_a_clean_end_without_the_final_event_is_no_success(api: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        conversation = Conversation(model_at(server, api, transport))
        error = await failure(conversation, "[[truncate]]")
    assert error.retryable
    assert texts(conversation.deltas)  # what came before was handed out


@each_api
async def test_a_truncated_tool_call_is_no_success_either(api: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        conversation = Conversation(model_at(server, api, transport), tools=[LOOK])
        error = await failure(conversation, '[[call look {"at": "somewhere"}]] [[truncate]]')
    assert error.retryable


@each_api
async def test_an_error_inside_the_stream_is_raised_as_one(api: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        conversation = Conversation(model_at(server, api, transport))
        error = await failure(conversation, "[[error-event The kitchen is on fire.]]")
    assert error.retryable
    assert "The kitchen is on fire." in error.message
    assert texts(conversation.deltas)


@each_api
async def test_a_web_page_is_no_answer(api: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        error = await failure(Conversation(model_at(server, api, transport)), "[[html]]")
    assert error.retryable
    assert "text/html" in error.message
    assert "<html" not in error.message


@each_api
@pytest.mark.parametrize("how", ["[[hang]]", "[[silence]]"])
async def test_silence_ends_with_the_read_timeout(
    api: str, how: str, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImpatientTransport, "patience", 0.1)
    async with ProviderServer() as server:
        error = await failure(Conversation(model_at(server, api, transport)), how)
        outcome = await asyncio.wait_for(server.requests[0].outcome(), 5)
    assert (error.status, error.retryable) == (None, True)
    assert outcome == "disconnected"


@each_api
async def test_closing_the_stream_closes_the_connection(api: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        conversation = Conversation(model_at(server, api, transport))
        conversation.transcript.append(UserMessage((TextContent("[[hang]]"),)))
        stream = conversation.stream()
        assert isinstance(await anext(stream), Delta)
        await stream.aclose()
        assert await asyncio.wait_for(server.requests[0].outcome(), 5) == "disconnected"


@each_api
async def test_after_a_failure_the_same_conversation_goes_on(api: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        conversation = Conversation(model_at(server, api, transport))
        await failure(conversation, "[[times 1 error 529]] here I am")
        answer = await conversation.ask()
    assert answer.text == "here I am"


@each_api
async def test_connections_are_used_again(api: str, transport: HttpTransport) -> None:
    async with ProviderServer() as server:
        conversation = Conversation(model_at(server, api, transport))
        for _ in range(5):
            await conversation.say("hello")
        assert server.connections == 1


# ----------------------------------------------------------------------------------------------- other models


@each_api
async def test_thinking_goes_back_signed_to_the_same_model(api: str, transport: HttpTransport) -> None:
    async with ProviderServer([reply("Hm.", thinking="secret plan", calls=[call("look")])]) as server:
        conversation = Conversation(model_at(server, api, transport, id="gemini-3-x", reasoning=True), tools=[LOOK])
        await conversation.say("Think.")
        answer = await conversation.answer_calls("seen")
        sent = server.requests[1].json
    assert answer.text == "seen"  # the server has verified what it signed
    assert "secret plan" in json.dumps(sent)
    if api == ANTHROPIC:
        assert [block["type"] for block in sent["messages"][1]["content"]] == ["thinking", "text", "tool_use"]
    elif api == RESPONSES:
        assert [item.get("type") for item in sent["input"][2:5]] == ["reasoning", "message", "function_call"]
    elif api == COMPLETIONS:
        assert sent["messages"][2]["reasoning_content"] == "secret plan"
    else:
        assert "thoughtSignature" in sent["contents"][1]["parts"][-1]


@each_api
@pytest.mark.parametrize("change", [{"id": "gemini-3-other"}, {"provider": "elsewhere"}])
async def test_another_model_gets_thinking_as_text_without_signatures(
    api: str, change: dict[str, str], transport: HttpTransport
) -> None:
    script = [reply("Hm.", thinking="secret plan", calls=[call("look")])]
    async with ProviderServer(script) as server:
        first = Conversation(model_at(server, api, transport, id="gemini-3-x", reasoning=True), tools=[LOOK])
        made = await first.say("Think.")
        facts: Json = {"id": "gemini-3-x", "reasoning": True, **change}
        first.model = model_at(server, api, transport, **facts)
        answer = await first.answer_calls("seen")
        sent = server.requests[1].body.decode()
    assert answer.text == "seen"
    assert "secret plan" in sent
    for block in made.content:
        signature = block.signature
        if signature and signature != "reasoning_content":
            assert signature not in sent
            assert json.dumps(signature)[1:-1] not in sent
    assert '"reasoning_content"' not in sent


@pytest.mark.parametrize("to", APIS)
@each_api
async def test_a_conversation_moves_between_protocols(api: str, to: str, transport: HttpTransport) -> None:
    calls = [call("look", {"at": "a"}), call("look", {"at": "b"})]
    async with ProviderServer([reply("Hm.", thinking="plan", calls=calls, quirks=["call-ids"])]) as server:
        conversation = Conversation(model_at(server, api, transport, reasoning=True), tools=[LOOK])
        await conversation.say("Think.")
        conversation.model = model_at(server, to, transport, id="gemini-3-x", reasoning=True)
        answer = await conversation.answer_calls("seen")
    assert answer.text == "seen\nseen"


@each_api
async def test_a_registered_server_answers_under_its_provider_id(api: str, transport: HttpTransport) -> None:
    async with ProviderServer(api_key="k-123") as server:
        with using_registrations(Registrations()):
            server.register("acme", api=api, context_window=1000)
            model = Models(transport).resolve("acme/some-model", {})
            assert (model.info.specifier, model.info.context_window) == ("acme/some-model", 1000)
            answer = await Conversation(model).say("hello")  # type: ignore[arg-type]
    assert answer.text == "hello"


async def test_a_null_finish_reason_is_fine_only_where_it_is_expected(transport: HttpTransport) -> None:
    local = Compat(finish_reason_optional=True)
    async with ProviderServer() as server:
        relaxed = await Conversation(model_at(server, COMPLETIONS, transport, compat=local)).say(
            "[[quirk null-finish]] x"
        )
        strict = await failure(Conversation(model_at(server, COMPLETIONS, transport)), "[[quirk null-finish]] x")
        cut = await failure(Conversation(model_at(server, COMPLETIONS, transport, compat=local)), "[[truncate]] x")
    assert (relaxed.text, relaxed.stop_reason) == ("x", "stop")
    assert strict.retryable
    assert cut.retryable

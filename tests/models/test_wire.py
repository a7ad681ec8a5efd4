from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flue.errors import ProviderError
from flue.messages import AssistantMessage, TextContent, ToolCall
from flue.models import wire
from flue.models.anthropic_messages import AnthropicMessages
from flue.models.compat import Compat
from flue.ports import Delta, ModelInfo
from tests.models.replay_transport import STREAM, Replay, ReplayTransport, answer, ask, cut, sse

INFO = ModelInfo("anthropic", "claude", "anthropic-messages", 200_000, 4096, price_input=3.0, price_output=15.0)
KEY = "sk-ant-secret-0123456789"
START: dict[str, Any] = {
    "type": "message_start",
    "message": {"id": "msg_1", "usage": {"input_tokens": 10, "output_tokens": 1}},
}
BEGIN: dict[str, Any] = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
HELLO: dict[str, Any] = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Héllo "}}
END: dict[str, Any] = {"type": "content_block_stop", "index": 0}
FINAL: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
STOP: dict[str, Any] = {"type": "message_stop"}
WHOLE = sse(START, BEGIN, HELLO, HELLO, END, FINAL, STOP)


def model(
    transport: ReplayTransport, *, headers: Mapping[str, str] | None = None, key: str | None = KEY
) -> AnthropicMessages:
    return AnthropicMessages(INFO, transport, base_url="https://api.example/", api_key=key, headers=headers)


async def failure(replay: Replay, *, headers: Mapping[str, str] | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await answer(model(ReplayTransport(replay), headers=headers))
    assert replay.closed
    return caught.value


def refusal(status: int, error: object, headers: Mapping[str, str] | None = None) -> Replay:
    body = json.dumps({"type": "error", "error": error}).encode()
    return Replay([body], status, {"content-type": "application/json", **(headers or {})})


# ------------------------------------------------------------------------------------------------- answers


async def test_deltas_come_first_and_the_whole_message_last() -> None:
    replay = Replay([WHOLE])
    deltas, message = await answer(model(ReplayTransport(replay)))
    assert [delta.type for delta in deltas] == ["text_start", "text_delta", "text_delta", "text_end"]
    assert "".join(delta.delta for delta in deltas) == "Héllo Héllo "
    assert message.content == (TextContent("Héllo Héllo "),)
    assert (message.api, message.provider, message.model) == ("anthropic-messages", "anthropic", "claude")
    assert message.response_id == "msg_1"
    assert replay.closed


async def test_the_message_carries_usage_and_its_cost_in_dollars() -> None:
    _, message = await answer(model(ReplayTransport(Replay([WHOLE]))))
    assert (message.usage.input, message.usage.output) == (10, 5)
    assert message.usage.cost.total == pytest.approx((10 * 3 + 5 * 15) / 1e6)


async def test_the_request_goes_to_the_protocols_address_with_the_key_and_extra_headers() -> None:
    transport = ReplayTransport(Replay([WHOLE]))
    await answer(model(transport, headers={"X-Team": "blue"}))
    [sent] = transport.sent
    assert (sent.method, sent.url) == ("POST", "https://api.example/v1/messages")
    assert sent.headers["x-api-key"] == KEY
    assert sent.headers["x-team"] == "blue"
    assert sent.read_timeout is not None


async def test_a_server_without_a_key_is_called_without_one() -> None:
    transport = ReplayTransport(Replay([WHOLE]))
    await answer(model(transport, key=None))
    assert "x-api-key" not in transport.sent[0].headers


@pytest.mark.parametrize(
    ("auth", "header"), [("bearer", "authorization"), ("cloudflare-gateway", "cf-aig-authorization")]
)
async def test_hosts_with_their_own_way_of_taking_keys_get_it(auth: str, header: str) -> None:
    transport = ReplayTransport(Replay([WHOLE]))
    compat = Compat(auth=auth)  # type: ignore[arg-type]
    await answer(AnthropicMessages(INFO, transport, base_url="https://h", api_key=KEY, compat=compat))
    assert transport.sent[0].headers[header] == f"Bearer {KEY}"
    assert "x-api-key" not in transport.sent[0].headers


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_any_chunking_of_the_stream_gives_the_same_answer(places: list[int]) -> None:
    async def read() -> tuple[list[Delta], AssistantMessage]:
        return await answer(model(ReplayTransport(Replay(cut(WHOLE, places)))))

    deltas, message = asyncio.run(read())
    assert message.text == "Héllo Héllo "
    assert len(deltas) == 4


async def test_two_thousand_identical_deltas_are_legal() -> None:
    stream = sse(START, BEGIN, *[HELLO] * 2000, END, FINAL, STOP)
    deltas, message = await answer(model(ReplayTransport(Replay([stream]))))
    assert len(deltas) == 2002
    assert message.text == "Héllo " * 2000


async def test_deltas_are_handed_out_as_they_arrive() -> None:
    replay = Replay([sse(START, BEGIN, HELLO), sse(HELLO, END, FINAL, STOP)])
    stream = model(ReplayTransport(replay)).stream(ask())
    await anext(stream)
    await anext(stream)
    assert replay.read == 1
    rest = [item async for item in stream]
    assert len(rest) == 3


async def test_closing_the_iterator_closes_the_connection() -> None:
    replay = Replay([sse(START, BEGIN, HELLO), sse(HELLO, END, FINAL, STOP)])
    stream = model(ReplayTransport(replay)).stream(ask())
    await anext(stream)
    closed_before = replay.closed
    await stream.aclose()  # type: ignore[attr-defined]
    assert (closed_before, replay.closed, replay.ended) == (False, True, False)


async def test_the_stream_is_read_to_its_end_so_that_the_connection_can_be_reused() -> None:
    replay = Replay([WHOLE, b": bye\n\n"])
    await answer(model(ReplayTransport(replay)))
    assert replay.ended


async def test_a_host_that_keeps_a_finished_stream_open_does_not_hold_up_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Open(Replay):
        async def aiter_bytes(self) -> AsyncIterator[bytes]:
            yield WHOLE
            await asyncio.Event().wait()

    monkeypatch.setattr(wire, "DRAIN_TIMEOUT", 0.001)
    _, message = await answer(model(ReplayTransport(Open())))
    assert message.text == "Héllo Héllo "


# ------------------------------------------------------------------------------------------- broken streams


@pytest.mark.parametrize("upto", range(6))
async def test_a_stream_that_ends_cleanly_before_its_final_event_is_a_retryable_error(upto: int) -> None:
    events: list[dict[str, Any]] = [START, BEGIN, HELLO, END, FINAL][:upto]
    error = await failure(Replay([sse(*events)] if events else []))
    assert error.retryable
    assert error.code == "provider_stream"


async def test_a_stream_cut_inside_an_event_is_a_retryable_error() -> None:
    error = await failure(Replay([WHOLE[:-40]]))
    assert error.retryable


async def test_a_connection_that_breaks_is_a_retryable_error_behind_what_came_before() -> None:
    replay = Replay([sse(START, BEGIN, HELLO)], breaks=True)
    seen = []
    with pytest.raises(ProviderError) as caught:
        async for item in model(ReplayTransport(replay)).stream(ask()):
            seen.append(item)  # noqa: PERF401 - what came before the error counts
    assert caught.value.retryable
    assert [item.type for item in seen if isinstance(item, Delta)] == ["text_start", "text_delta"]
    assert replay.closed


async def test_an_error_event_inside_the_stream_is_an_error_behind_what_came_before() -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    seen = []
    with pytest.raises(ProviderError, match="Overloaded") as caught:
        async for item in model(ReplayTransport(Replay([sse(START, BEGIN, HELLO, overloaded)]))).stream(ask()):
            seen.append(item)  # noqa: PERF401 - what came before the error counts
    assert caught.value.retryable
    assert len(seen) == 2


async def test_an_error_event_that_blames_the_request_is_not_retried() -> None:
    bad = {"type": "error", "error": {"type": "invalid_request_error", "message": "tools.0: bad"}}
    error = await failure(Replay([sse(START, bad)]))
    assert not error.retryable


@pytest.mark.parametrize(
    "data", ["{nonsense", "[1]", '"text"', "{}", '{"type": "content_block_delta"}', '{"type": "message_start"}', "null"]
)
async def test_an_event_that_cannot_be_read_is_a_retryable_error(data: str) -> None:
    error = await failure(Replay([sse(START, data)]))
    assert error.retryable
    assert error.code == "provider_stream"


async def test_bytes_that_are_not_text_are_a_retryable_error() -> None:
    error = await failure(Replay([b'data: {"type": "ping\xff"}\n\n']))
    assert error.retryable


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "application/xhtml+html"])
async def test_a_web_page_with_status_200_is_a_retryable_error_that_names_the_page(kind: str) -> None:
    page = b"<!doctype html><html><head><title>Sign in</title></head></html>"
    error = await failure(Replay([page], headers={"content-type": kind}))
    assert error.retryable
    assert "Sign in" in error.message


async def test_a_web_page_without_a_content_type_is_a_retryable_error() -> None:
    assert (await failure(Replay([b"<html>hello</html>"], headers={}))).retryable


async def test_an_error_as_plain_json_with_status_200_is_read() -> None:
    replay = refusal(200, {"type": "overloaded_error", "message": "Overloaded"})
    error = await failure(replay)
    assert error.retryable
    assert "Overloaded" in error.message


async def test_json_that_is_no_error_instead_of_a_stream_is_a_retryable_error() -> None:
    error = await failure(Replay([b'{"ok": true}'], headers={"content-type": "application/json"}))
    assert error.retryable


async def test_broken_arguments_of_a_tool_call_are_never_handed_to_a_tool() -> None:
    begin = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "tool_use", "id": "c", "name": "rm", "input": {}},
    }
    piece = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": '{"path": '},
    }
    final = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}}
    error = await failure(Replay([sse(START, begin, piece, END, final, STOP)]))
    assert error.retryable
    assert error.code == "invalid_tool_arguments"


async def test_a_tool_call_cut_off_by_the_length_limit_is_left_out() -> None:
    begin = {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "c", "name": "rm", "input": {}},
    }
    piece = {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "input_json_delta", "partial_json": '{"path": '},
    }
    final = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {}}
    _, message = await answer(
        model(ReplayTransport(Replay([sse(START, BEGIN, HELLO, END, begin, piece, final, STOP)])))
    )
    assert message.stop_reason == "length"
    assert not [block for block in message.content if isinstance(block, ToolCall)]
    assert message.text == "Héllo "


# ------------------------------------------------------------------------------------------- HTTP refusals


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
async def test_passing_failures_are_retryable(status: int) -> None:
    error = await failure(refusal(status, {"type": "api_error", "message": "later"}))
    assert (error.status, error.retryable) == (status, True)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 422])
async def test_failures_that_would_repeat_are_not_retryable(status: int) -> None:
    error = await failure(refusal(status, {"type": "invalid_request_error", "message": "no"}))
    assert (error.status, error.retryable) == (status, False)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
async def test_the_providers_wish_to_wait_is_passed_on(headers: dict[str, str], seconds: float | None) -> None:
    error = await failure(refusal(429, {"message": "slow down"}, headers))
    assert error.retry_after == seconds


async def test_a_spent_budget_is_not_retried() -> None:
    error = await failure(refusal(429, {"message": "You exceeded your quota", "code": "insufficient_quota"}))
    assert not error.retryable


async def test_a_wrong_key_is_named_as_such_and_not_shown() -> None:
    error = await failure(refusal(401, {"type": "authentication_error", "message": f"invalid key {KEY}"}))
    assert KEY not in str(error)
    assert "API key" in str(error)


@pytest.mark.parametrize(
    "replay",
    [
        refusal(500, {"message": f"crashed on {KEY} and team-secret-1"}),
        refusal(200, {"message": f"crashed on {KEY} and team-secret-1"}),
        Replay(
            [f"<title>{KEY} team-secret-1</title>".replace("<title>", "<html><title>").encode()],
            headers={"content-type": "text/html"},
        ),
        Replay([sse({"type": "error", "error": {"message": f"crashed on {KEY} and team-secret-1"}})]),
    ],
)
async def test_no_secret_that_a_provider_echoes_reaches_an_error(replay: Replay) -> None:
    error = await failure(replay, headers={"x-token": "team-secret-1"})
    shown = f"{error} {error.args} {error.to_json()}"
    assert KEY not in shown
    assert "team-secret-1" not in shown


async def test_an_overlong_conversation_is_recognised() -> None:
    error = await failure(refusal(400, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}))
    assert error.overflow
    assert not error.retryable
    assert error.code == "context_overflow"


@pytest.mark.parametrize("status", [400, 413])
async def test_a_bare_refusal_without_a_body_counts_as_an_overlong_conversation(status: int) -> None:
    assert (await failure(Replay([], status, {}))).overflow


async def test_a_stream_header_is_recognised_whatever_its_parameters() -> None:
    _, message = await answer(model(ReplayTransport(Replay([WHOLE], headers={**STREAM, "x": "y"}))))
    assert message.text

from __future__ import annotations

import base64
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
from flue.models.anthropic_messages import AnthropicMessages, is_adaptive
from flue.models.compat import Compat
from flue.ports import ModelInfo, ModelRequest
from tests.models.replay_transport import Replay, ReplayTransport, answer, ask, sse

INFO = ModelInfo("anthropic", "claude-sonnet-4-5", "anthropic-messages", 200_000, 64_000, True, ("text", "image"))
MARK = {"type": "ephemeral"}
LOOK = ToolSpec("look", "Look.", {"type": "object", "properties": {"q": {"$ref": "#/$defs/Q"}}, "$defs": {"Q": {}}})
READ = ToolSpec("read", "Read.", {"properties": {}})


def start(**usage: int | None) -> dict[str, Any]:
    return {
        "type": "message_start",
        "message": {"id": "msg_1", "usage": {"input_tokens": 3, "output_tokens": 1, **usage}},
    }


def begin(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(index: int, kind: str, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **delta}}


def end(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def final(reason: str | None = "end_turn", **usage: int | None) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


STOP = {"type": "message_stop"}


async def read(*events: dict[str, Any], info: ModelInfo = INFO) -> AssistantMessage:
    replay = Replay([sse(*events)])
    return (await answer(AnthropicMessages(info, ReplayTransport(replay), base_url="https://h")))[1]


def body(request: ModelRequest, info: ModelInfo = INFO, compat: Compat | None = None) -> Any:
    model = AnthropicMessages(info, ReplayTransport(), base_url="https://h", compat=compat)
    return json.loads(model.body(request))


def headers(
    request: ModelRequest, info: ModelInfo = INFO, key: str = "sk-ant-api", compat: Compat | None = None
) -> Any:
    model = AnthropicMessages(info, ReplayTransport(), base_url="https://h", api_key=key, compat=compat)
    return model._request_headers(request)


# ------------------------------------------------------------------------------------------------- request


def test_cache_marks_are_on_system_last_tool_and_last_user_block() -> None:
    wire = body(ask("a", "b", tools=[LOOK, READ]))
    assert wire["system"] == [{"type": "text", "text": "Be brief.", "cache_control": MARK}]
    assert [tool.get("cache_control") for tool in wire["tools"]] == [None, MARK]
    assert [block.get("cache_control") for message in wire["messages"] for block in message["content"]] == [None, MARK]


def test_a_tool_result_at_the_end_carries_the_cache_mark() -> None:
    called = AssistantMessage((ToolCall("c1", "look", {}),), INFO.api, INFO.provider, INFO.id)
    wire = body(ask("a", called, ToolResultMessage("c1", "look", (TextContent("r"),))))
    assert wire["messages"][-1]["content"][-1]["cache_control"] == MARK
    assert "cache_control" not in wire["messages"][0]["content"][0]


def test_tools_keep_their_whole_schema() -> None:
    tools = body(ask(tools=[LOOK, READ]))["tools"]
    assert tools[0]["input_schema"] == LOOK.parameters
    assert tools[1]["input_schema"] == {"type": "object", "properties": {}}
    assert tools[0]["eager_input_streaming"] is True


def test_hosts_without_the_extras_are_spared_them() -> None:
    compat = Compat(supports_cache_control_on_tools=False, supports_eager_tool_input_streaming=False)
    [tool] = body(ask(tools=[READ]), compat=compat)["tools"]
    assert set(tool) == {"name", "description", "input_schema"}


def test_without_tools_or_system_text_neither_is_sent() -> None:
    wire = body(ask(system="  "))
    assert "tools" not in wire
    assert "system" not in wire


def test_parallel_tool_results_share_one_user_message_and_may_hold_images() -> None:
    image = ImageContent(base64.b64encode(b"png").decode(), "image/png")
    calls = AssistantMessage((ToolCall("c1", "look", {"q": 1}), ToolCall("c2", "look", {})), "x", "y", "z")
    results = (
        ToolResultMessage("c1", "look", (TextContent("one"), image)),
        ToolResultMessage("c2", "look", (TextContent("bad"),), None, is_error=True),
    )
    messages = body(ask("a", calls, *results, "go on"))["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "user"]
    one, two = messages[2]["content"]
    source = {"type": "base64", "media_type": "image/png", "data": image.data}
    assert one["content"] == [{"type": "text", "text": "one"}, {"type": "image", "source": source}]
    assert "is_error" not in one
    assert two["is_error"] is True


def test_thinking_without_a_signature_goes_back_as_text_and_at_the_end_not_at_all() -> None:
    def said(*blocks: Any) -> AssistantMessage:
        return AssistantMessage(blocks, INFO.api, INFO.provider, INFO.id)

    messages = body(ask("a", said(ThinkingContent("hm"), TextContent("b"), ThinkingContent("cut", "s")), "c"))[
        "messages"
    ]
    assert messages[1]["content"] == [{"type": "text", "text": "hm"}, {"type": "text", "text": "b"}]
    messages = body(ask("a", said(ThinkingContent("only", "s")), "c"))["messages"]
    assert [message["role"] for message in messages] == ["user", "user"]


def test_signed_thinking_with_hidden_text_goes_back_as_it_came() -> None:
    said = AssistantMessage((ThinkingContent("", "s"), TextContent("b")), INFO.api, INFO.provider, INFO.id)
    assert body(ask("a", said, "c"))["messages"][1]["content"][0] == {
        "type": "thinking",
        "thinking": "",
        "signature": "s",
    }


@pytest.mark.parametrize(
    ("model", "adaptive"),
    [
        ("claude-opus-4-6", True),
        ("claude-opus-4-7", True),
        ("claude-sonnet-4-6", True),
        ("anthropic/claude-opus-4.6", True),
        ("claude-opus-5", True),
        ("claude-opus-4-5-20251101", False),
        ("claude-opus-4-20250514", False),
        ("claude-opus-4", False),
        ("claude-3-7-sonnet-20250219", False),
        ("claude-haiku-4-5", False),
        ("MiniMax-M2", False),
    ],
)
def test_models_that_choose_their_own_thinking_are_known(model: str, adaptive: bool) -> None:
    assert is_adaptive(model) is adaptive


@pytest.mark.parametrize(
    ("level", "effort"), [("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "max")]
)
def test_adaptive_models_get_an_effort(level: ThinkingLevel, effort: str) -> None:
    compat = Compat(thinking_levels=(("xhigh", "max"),))
    wire = body(ask(thinking=level), replace(INFO, id="claude-opus-4-6"), compat)
    assert wire["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert wire["output_config"] == {"effort": effort}


@pytest.mark.parametrize(("level", "budget"), [("minimal", 1024), ("low", 2048), ("medium", 8192), ("high", 16384)])
def test_other_models_get_a_budget_besides_the_room_asked_for(level: ThinkingLevel, budget: int) -> None:
    wire = body(ask(thinking=level, max_tokens=1000))
    assert wire["thinking"] == {"type": "enabled", "budget_tokens": budget, "display": "summarized"}
    assert wire["max_tokens"] == 1000 + budget


@pytest.mark.parametrize(("limit", "budget"), [(64_000, 16384), (8192, 7168), (2048, 1024)])
def test_a_budget_leaves_room_for_the_answer_inside_the_models_limit(limit: int, budget: int) -> None:
    wire = body(ask(thinking="high"), replace(INFO, max_tokens=limit))
    assert wire["thinking"]["budget_tokens"] == budget
    assert wire["max_tokens"] == limit


def test_a_model_too_small_to_think_and_answer_does_not_think() -> None:
    wire = body(ask(thinking="high"), replace(INFO, max_tokens=2000))
    assert wire["thinking"] == {"type": "disabled"}


def test_thinking_is_switched_off_only_where_there_is_any() -> None:
    assert body(ask(thinking="off"))["thinking"] == {"type": "disabled"}
    assert "thinking" not in body(ask(thinking="high"), replace(INFO, reasoning=False))


def test_the_room_for_an_answer_is_always_given_and_never_above_the_models_limit() -> None:
    plain = replace(INFO, reasoning=False)
    assert body(ask(), plain)["max_tokens"] == 64_000
    assert body(ask(max_tokens=100), plain)["max_tokens"] == 100
    assert body(ask(max_tokens=10**6), plain)["max_tokens"] == 64_000
    assert body(ask(), replace(plain, max_tokens=0))["max_tokens"] > 0


def test_thinking_between_calls_is_asked_for_where_a_model_does_not_adapt() -> None:
    assert "interleaved-thinking" in headers(ask())["anthropic-beta"]
    assert "anthropic-beta" not in headers(ask(), replace(INFO, id="claude-sonnet-4-6"))
    assert headers(ask())["anthropic-version"] == "2023-06-01"


def test_an_oauth_token_is_a_bearer_token_under_our_own_name() -> None:
    sent = headers(ask(), key="sk-ant-oat01-abc")
    assert sent["authorization"] == "Bearer sk-ant-oat01-abc"
    assert "x-api-key" not in sent
    assert "oauth-2025-04-20" in sent["anthropic-beta"].split(",")
    assert sent["user-agent"] == "flue-agents"
    assert "claude-code" not in str(sent).lower()
    assert "Claude Code" not in str(body(ask()))


def test_a_session_stays_with_its_host_where_the_host_wants_it() -> None:
    compat = Compat(send_session_affinity_headers=True)
    assert headers(ask(affinity="s1"), compat=compat)["x-session-affinity"] == "s1"
    assert "x-session-affinity" not in headers(ask(affinity="s1"))


# -------------------------------------------------------------------------------------------------- answer


async def test_text_thinking_and_calls_arrive_with_their_signatures() -> None:
    message = await read(
        start(),
        begin(0, type="thinking", thinking="", signature=""),
        piece(0, "thinking_delta", thinking="h"),
        piece(0, "thinking_delta", thinking="m"),
        piece(0, "signature_delta", signature="sig"),
        end(0),
        begin(1, type="redacted_thinking", data="enc"),
        end(1),
        {"type": "ping"},
        begin(2, type="text", text=""),
        piece(2, "text_delta", text="ok"),
        end(2),
        begin(3, type="tool_use", id="c1", name="look", input={}),
        piece(3, "input_json_delta", partial_json=""),
        piece(3, "input_json_delta", partial_json='{"q":'),
        piece(3, "input_json_delta", partial_json=' "é"}'),
        end(3),
        begin(4, type="tool_use", id="c2", name="read", input={}),
        end(4),
        final("tool_use", output_tokens=9),
        STOP,
    )
    assert message.content == (
        ThinkingContent("hm", "sig"),
        ThinkingContent("", "enc", redacted=True),
        TextContent("ok"),
        ToolCall("c1", "look", {"q": "é"}),
        ToolCall("c2", "read", {}),
    )
    assert message.stop_reason == "toolUse"


async def test_a_delta_inside_the_start_event_is_not_lost() -> None:
    message = await read(
        start(),
        begin(0, type="thinking", thinking="h", signature="s"),
        piece(0, "thinking_delta", thinking="m"),
        end(0),
        begin(1, type="text", text="Hel"),
        piece(1, "text_delta", text="lo"),
        end(1),
        begin(2, type="tool_use", id="c", name="look", input={"q": 1}),
        end(2),
        final("tool_use"),
        STOP,
    )
    assert message.content == (ThinkingContent("hm", "s"), TextContent("Hello"), ToolCall("c", "look", {"q": 1}))


async def test_blocks_that_were_not_asked_for_are_passed_over() -> None:
    message = await read(
        start(),
        begin(0, type="server_tool_use", id="s", name="web_search", input={}),
        piece(0, "input_json_delta", partial_json="{}"),
        end(0),
        begin(1, type="text", text="x"),
        piece(1, "citations_delta", citation={}),
        end(1),
        {"type": "something_new"},
        final(),
        STOP,
    )
    assert message.content == (TextContent("x"),)


async def test_usage_keeps_cached_tokens_apart_and_takes_the_last_word() -> None:
    message = await read(
        start(cache_read_input_tokens=100, cache_creation_input_tokens=20),
        begin(0, type="text", text="x"),
        end(0),
        final(output_tokens=42, input_tokens=None, cache_read_input_tokens=110),
        STOP,
    )
    usage = message.usage
    assert (usage.input, usage.output, usage.cache_read, usage.cache_write) == (3, 42, 110, 20)


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", "stop"),
        ("pause_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("refusal", "error"),
        ("sensitive", "error"),
        ("something_new", "error"),
    ],
)
async def test_stop_reasons_are_translated(reason: str, stop: str) -> None:
    message = await read(start(), begin(0, type="text", text="x"), end(0), final(reason), STOP)
    assert message.stop_reason == stop
    assert (message.error_message is None) == (stop != "error")
    assert reason in (message.error_message or reason)


async def test_a_full_context_window_while_answering_is_an_overflow() -> None:
    with pytest.raises(ProviderError) as caught:
        await read(start(), final("model_context_window_exceeded"), STOP)
    assert caught.value.overflow

from __future__ import annotations

import pytest

from flue.errors import ProviderError
from flue.messages import TextContent, ThinkingContent, ToolCall
from flue.models.answer import Answer, parse_arguments
from flue.models.cost import priced_usage
from flue.ports import ModelInfo

INFO = ModelInfo("acme", "m", "x", price_input=1.0, price_output=2.0, price_cache_read=0.1, price_cache_write=1.25)


def test_a_block_that_starts_ends_the_text_before_it() -> None:
    answer = Answer(INFO)
    answer.add(answer.flowing("thinking"), "hm")
    answer.add(answer.flowing("thinking"), "m")
    answer.add(answer.flowing("text"), "yes")
    answer.begin("toolcall", "c", "look")
    message = answer.message()
    assert message.content == (ThinkingContent("hmm"), TextContent("yes"), ToolCall("c", "look", {}))
    types = [delta.type for delta in answer.out]
    assert types == [
        "thinking_start",
        "thinking_delta",
        "thinking_delta",
        "thinking_end",
        "text_start",
        "text_delta",
        "text_end",
        "toolcall_start",
        "toolcall_end",
    ]
    assert [delta.index for delta in answer.out] == [0, 0, 0, 0, 1, 1, 1, 2, 2]


def test_overlapping_tool_calls_keep_their_own_arguments() -> None:
    answer = Answer(INFO)
    first, second = answer.begin("toolcall", "a", "x"), answer.begin("toolcall", "b", "y")
    answer.add(first, '{"n":')
    answer.add(second, '{"n":2}')
    answer.add(first, "1}")
    assert [call.arguments for call in answer.message().tool_calls] == [{"n": 1}, {"n": 2}]


def test_a_start_of_a_tool_call_names_it() -> None:
    answer = Answer(INFO)
    answer.begin("toolcall", "c", "look")
    assert answer.out[0].content == ToolCall("c", "look", {})


@pytest.mark.parametrize(("said", "calls", "reason"), [("stop", True, "toolUse"), ("toolUse", False, "stop")])
def test_the_stop_reason_agrees_with_the_content(said: str, calls: bool, reason: str) -> None:
    answer = Answer(INFO)
    answer.add(answer.flowing("text"), "x")
    if calls:
        answer.begin("toolcall", "c", "look")
    answer.stop_reason = said  # type: ignore[assignment]
    assert answer.message().stop_reason == reason


def test_empty_blocks_are_left_out_unless_they_are_signed() -> None:
    answer = Answer(INFO)
    answer.begin("text")
    answer.begin("thinking").signature = "s"
    assert answer.message().content == (ThinkingContent("", "s"),)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        (" ", {}),
        ("null", {}),
        ('""', {}),
        ('{"a": 1}', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('{"a": "x\ny"}', {"a": "x\ny"}),
    ],
)
def test_arguments_are_read_as_models_write_them(text: str, arguments: dict[str, object]) -> None:
    assert parse_arguments(text) == arguments


@pytest.mark.parametrize("text", ['{"a": 1', "[1]", "1", "true", '{"a": NaN}', '{"a": 1e999}', '{"a": Infinity}', "x"])
def test_arguments_that_are_no_object_or_could_not_be_sent_back_are_refused(text: str) -> None:
    answer = Answer(INFO)
    answer.add(answer.begin("toolcall", "c", "look"), text)
    with pytest.raises(ProviderError) as caught:
        answer.message()
    assert caught.value.code == "invalid_tool_arguments"


def test_tokens_are_priced_by_kind() -> None:
    usage = priced_usage(INFO, input=1_000_000, output=500_000, cache_read=2_000_000, cache_write=100_000)
    cost = usage.cost
    assert (cost.input, cost.output, cost.cache_read, cost.cache_write) == pytest.approx((1.0, 1.0, 0.2, 0.125))
    assert usage.total_tokens == 3_600_000


def test_a_host_that_counts_more_cached_tokens_than_tokens_makes_no_negative_price() -> None:
    assert priced_usage(INFO, input=-5, output=0).input == 0

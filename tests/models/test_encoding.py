from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flue.messages import (
    AssistantMessage,
    ImageContent,
    Message,
    StopReason,
    TextContent,
    ThinkingContent,
    ToolCall,
    ToolResultMessage,
    ToolSpec,
    ToolSpecs,
    Transcript,
    UserContent,
    UserMessage,
)
from flue.models.anthropic_messages import AnthropicEncoder
from flue.models.compat import Compat
from flue.models.encoding import History, dumps, encoded_tools, history_for
from flue.models.google_generative_ai import GoogleEncoder
from flue.ports import ModelInfo

SEEING = ModelInfo("anthropic", "claude", "anthropic-messages", input=("text", "image"))
BLIND = ModelInfo("anthropic", "claude", "anthropic-messages")
MARK = {"type": "ephemeral"}


def user(*content: UserContent | str) -> UserMessage:
    return UserMessage(tuple(TextContent(one) if isinstance(one, str) else one for one in content))


def said(
    *content: Any, stop: StopReason = "stop", model: str = "claude", api: str = "anthropic-messages"
) -> AssistantMessage:
    blocks = tuple(TextContent(one) if isinstance(one, str) else one for one in content)
    return AssistantMessage(blocks, api, "anthropic", model, stop_reason=stop)


def called(id: str, name: str = "look") -> ToolCall:
    return ToolCall(id, name, {"q": id})


def gave(id: str, *content: UserContent | str, error: bool = False) -> ToolResultMessage:
    blocks = tuple(TextContent(one) if isinstance(one, str) else one for one in content)
    return ToolResultMessage(id, "look", blocks, None, error)


def encoded(*messages: Message, info: ModelInfo = SEEING) -> list[Any]:
    """Return the wire messages as Anthropic would read them."""
    settled, tail = History(info, AnthropicEncoder(Compat())).render(Transcript(messages))
    wire: list[Any] = json.loads(b"[" + settled + tail + b"]")
    return wire


def unmarked(wire: Any) -> Any:
    """Return the wire messages without cache marks."""
    if isinstance(wire, dict):
        return {name: unmarked(value) for name, value in wire.items() if name != "cache_control"}
    return [unmarked(one) for one in wire] if isinstance(wire, list) else wire


def texts(wire: list[Any]) -> list[str]:
    return [block["text"] for message in wire for block in message["content"] if block["type"] == "text"]


# -------------------------------------------------------------------------------------------- replay rules


@pytest.mark.parametrize("stop", ["error", "aborted"])
def test_failed_answers_are_not_replayed_and_neither_are_the_results_of_their_calls(stop: StopReason) -> None:
    wire = encoded(user("a"), said("half", called("c1"), stop=stop), gave("c1", "late"), user("b"))
    assert [message["role"] for message in wire] == ["user", "user"]
    assert texts(wire) == ["a", "b"]


def test_a_call_without_a_result_gets_an_error_result_before_the_next_message() -> None:
    wire = encoded(user("a"), said(called("c1"), called("c2")), gave("c2", "two"), user("b"))
    results = wire[2]["content"]
    assert [(one["tool_use_id"], one.get("is_error", False)) for one in results] == [("c2", False), ("c1", True)]
    assert texts(wire) == ["a", "b"]


def test_a_call_at_the_end_gets_an_error_result_only_until_its_own_arrives() -> None:
    transcript = Transcript([user("a"), said(called("c1"))])
    history = History(SEEING, AnthropicEncoder(Compat()))
    early = json.loads(b"[" + b"".join(history.render(transcript)) + b"]")
    assert early[-1]["content"][0]["is_error"] is True
    transcript.append(gave("c1", "found"))
    late = json.loads(b"[" + b"".join(history.render(transcript)) + b"]")
    assert len(late) == len(early)
    assert late[-1]["content"][0]["content"] == [{"type": "text", "text": "found"}]


def test_a_second_result_for_one_call_is_left_out() -> None:
    wire = encoded(user("a"), said(called("c1")), gave("c1", "one"), gave("c1", "two"))
    assert len(wire[-1]["content"]) == 1


def test_a_model_without_eyes_gets_a_note_in_place_of_an_image() -> None:
    picture = ImageContent("AAAA", "image/png")
    blind = encoded(user("see", picture), said(called("c1")), gave("c1", picture), info=BLIND)
    assert [block["type"] for block in blind[0]["content"]] == ["text", "text"]
    assert "image" in blind[0]["content"][1]["text"]
    assert blind[-1]["content"][0]["content"][0]["type"] == "text"
    assert encoded(user("see", picture))[0]["content"][1]["source"]["data"] == "AAAA"


def test_thinking_goes_back_to_the_model_that_thought() -> None:
    wire = encoded(user("a"), said(ThinkingContent("hm", "sig"), ThinkingContent("", "enc", redacted=True), "b"))
    assert wire[1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "enc"},
        {"type": "text", "text": "b"},
    ]


@pytest.mark.parametrize("other", [{"model": "gpt"}, {"api": "openai-responses"}])
def test_thinking_of_another_model_becomes_text_and_redacted_thinking_vanishes(other: dict[str, str]) -> None:
    answer = said(ThinkingContent("hm", "sig"), ThinkingContent("", "enc", redacted=True), "b", **other)  # type: ignore[arg-type]
    assert encoded(user("a"), answer)[1]["content"] == [{"type": "text", "text": "hm"}, {"type": "text", "text": "b"}]


def test_signatures_of_text_and_calls_stay_with_their_model() -> None:
    info = ModelInfo("google", "gemini-2.5-pro", "google-generative-ai")
    content = (TextContent("t", "s1"), ToolCall("c", "look", {}, "s2"))
    for model, expected in (("gemini-2.5-pro", ["s1", "s2"]), ("gemini-2.5-flash", [None, None])):
        answer = AssistantMessage(content, "google-generative-ai", "google", model)
        settled, _ = History(info, GoogleEncoder(2)).render(Transcript([user("a"), answer]))
        parts = json.loads(b"[" + settled + b"]")[1]["parts"]
        assert [part.get("thoughtSignature") for part in parts] == expected


def test_call_ids_are_made_fit_for_the_provider_and_their_results_follow() -> None:
    wire = encoded(user("a"), said(called("fc|1.x"), called("é" * 90)), gave("é" * 90, "two"), gave("fc|1.x", "one"))
    ids = [block["id"] for block in wire[1]["content"]]
    assert ids == ["fc_1_x", "_" * 64]
    assert [block["tool_use_id"] for block in wire[2]["content"]] == ["_" * 64, "fc_1_x"]


def test_ids_that_would_collide_stay_apart() -> None:
    long = "x" * 70
    wire = encoded(
        user("a"),
        said(called("a|b"), called("a.b"), called(long + "1"), called(long + "2")),
        gave("a.b", "second"),
        gave("a|b", "first"),
    )
    ids = [block["id"] for block in wire[1]["content"]]
    assert len(set(ids)) == 4
    assert all(len(one) <= 64 for one in ids)
    assert [block["tool_use_id"] for block in wire[2]["content"]][:2] == [ids[1], ids[0]]


def test_a_host_that_numbers_its_calls_anew_in_every_answer_makes_no_duplicates() -> None:
    turn = (said(called("call_0")), gave("call_0", "r"))
    wire = encoded(user("a"), *turn, *turn, *turn)
    ids = [block["id"] for message in wire for block in message["content"] if block["type"] == "tool_use"]
    results = [
        block["tool_use_id"] for message in wire for block in message["content"] if block["type"] == "tool_result"
    ]
    assert len(set(ids)) == 3
    assert results == ids


@pytest.mark.parametrize("content", [(), ("",), (" \n",)])
def test_an_empty_tool_result_says_that_there_was_nothing(content: tuple[str, ...]) -> None:
    wire = encoded(user("a"), said(called("c1")), gave("c1", *content))
    assert "nothing" in wire[-1]["content"][0]["content"][0]["text"]


def test_an_empty_failed_result_does_not_claim_success() -> None:
    wire = encoded(user("a"), said(called("c1")), gave("c1", "", error=True))
    assert "failed" in wire[-1]["content"][0]["content"][0]["text"]


def test_blank_text_never_reaches_a_provider() -> None:
    wire = encoded(
        user("", "a", " "), said("", ToolCall("c1", "look", {})), gave("c1", "r"), user(""), said(" "), user("b")
    )
    assert all(text.strip() for text in texts(wire))
    assert [message["role"] for message in wire] == ["user", "assistant", "user", "user", "user"]


def test_lone_surrogates_cannot_make_a_request_unreadable() -> None:
    assert json.loads(dumps({"text": "a\udc80b"})) == {"text": "a?b"}


# --------------------------------------------------------------------------------------------- encode once


def test_the_cache_mark_is_on_the_last_block_only_and_moves() -> None:
    transcript = Transcript([user("a", "b")])
    history = History(SEEING, AnthropicEncoder(Compat()))
    first = json.loads(b"[" + b"".join(history.render(transcript)) + b"]")
    assert [block.get("cache_control") for block in first[0]["content"]] == [None, MARK]
    transcript.append(said("c"))
    transcript.append(user("d"))
    second = json.loads(b"[" + b"".join(history.render(transcript)) + b"]")
    marks = [block.get("cache_control") for message in second for block in message["content"]]
    assert marks == [None, None, None, MARK]


def test_a_request_encodes_only_what_is_new() -> None:
    class Counting(AnthropicEncoder):
        count = 0

        def user(self, content: Any) -> list[Any]:
            self.count += 1
            return super().user(content)

        def assistant(self, content: Any) -> bytes:
            self.count += 1
            return super().assistant(content)

        def result(self, result: ToolResultMessage) -> list[Any]:
            self.count += 1
            return super().result(result)

    encoder, transcript = Counting(Compat()), Transcript([user("start")])
    history = History(SEEING, encoder)
    costs = []
    for turn in range(60):
        before = encoder.count
        history.render(transcript)
        costs.append(encoder.count - before)
        transcript.append(said(called(f"c{turn}")))
        transcript.append(gave(f"c{turn}", "r"))
    assert costs == [1] + [2] * 59


def test_settled_bytes_are_a_prefix_of_every_later_request() -> None:
    transcript, history = Transcript([user("a")]), History(SEEING, AnthropicEncoder(Compat()))
    before = b""
    for turn in range(5):
        settled = bytes(history.render(transcript)[0])
        assert settled.startswith(before)
        before = settled
        transcript.append(said(called(f"c{turn}")))
        transcript.append(gave(f"c{turn}", "r"))


def test_each_target_has_its_own_history_in_the_transcript() -> None:
    transcript, encoder = Transcript([user("a")]), AnthropicEncoder(Compat())
    one = history_for(transcript, "one", SEEING, encoder)
    assert history_for(transcript, "one", SEEING, encoder) is one
    assert history_for(transcript, "two", SEEING, encoder) is not one


def test_tools_are_encoded_once_per_set_and_target() -> None:
    tools, encoder = ToolSpecs([ToolSpec("look", "Look.", {})]), AnthropicEncoder(Compat())
    first = encoded_tools(tools, "one", encoder)
    assert encoded_tools(tools, "one", encoder) is first
    assert encoded_tools(tools, "two", encoder) is not first


TEXTS = st.sampled_from(["", " ", "hello", "é", "x" * 50])
IDS = st.sampled_from(["c1", "c2", "a|b", "a.b", "x" * 70, ""])
IMAGES = st.just(ImageContent("AAAA", "image/png"))
USERS = st.lists(st.one_of(TEXTS.map(TextContent), IMAGES), max_size=3).map(lambda blocks: UserMessage(tuple(blocks)))
THOUGHTS = st.builds(ThinkingContent, TEXTS, st.sampled_from([None, "sig"]), st.booleans())
CALLS = IDS.map(called)
ANSWERS = st.builds(
    said,
    *[st.one_of(TEXTS, THOUGHTS, CALLS)] * 3,
    stop=st.sampled_from(["stop", "toolUse", "length", "error", "aborted"]),
    model=st.sampled_from(["claude", "other"]),
)
RESULTS = st.builds(gave, IDS, TEXTS, error=st.booleans())
MESSAGES = st.lists(st.one_of(USERS, ANSWERS, RESULTS, RESULTS), max_size=14)


def _render(history: History[Any], transcript: Transcript) -> bytes:
    return b"[" + b"".join(history.render(transcript)) + b"]"


@given(
    MESSAGES,
    st.sets(st.integers(0, 14)),
    st.sampled_from([AnthropicEncoder(Compat()), GoogleEncoder(2), GoogleEncoder(3)]),
)
def test_encoding_step_by_step_gives_the_same_bytes_as_from_scratch(
    messages: list[Message], stops: set[int], encoder: Any
) -> None:
    transcript, history = Transcript(), History(SEEING, encoder)
    for number, message in enumerate(messages):
        transcript.append(message)
        if number in stops:
            assert _render(history, transcript) == _render(History(SEEING, encoder), Transcript(transcript.messages))
    assert _render(history, transcript) == _render(History(SEEING, encoder), Transcript(messages))


@given(MESSAGES)
def test_whatever_the_history_every_call_has_one_result_right_behind_it(messages: list[Message]) -> None:
    wire = unmarked(encoded(*messages))
    calls: list[str] = []
    seen: set[str] = set()
    for message in wire:
        results = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        assert sorted(results) == sorted(calls)
        calls = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        assert not seen & set(calls)
        assert len(calls) == len(set(calls))
        seen |= set(calls)
        assert message["content"]
        assert all(block["text"].strip() for block in message["content"] if block["type"] == "text")
    assert calls == []

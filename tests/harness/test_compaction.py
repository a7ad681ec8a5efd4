"""Compaction: when it happens, what it keeps, what it never breaks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, count, repeat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flue import OperationError, ProviderError, tool
from flue.events import Compaction, CompactionStart, Log, TurnRequest
from flue.harness.compaction.cut import find_cut
from flue.harness.compaction.sizes import context_tokens, estimate, limits_for
from flue.harness.entries import CompactionEntry
from flue.messages import AssistantMessage, Message, TextContent, ToolCall, ToolResultMessage, Usage, UserMessage
from flue.ports import ModelInfo
from flue.testing import MemoryStore, RecordedRequest, ScriptedModel, call
from tests.harness.scene import Scene, assert_sound, scene

INFO = ModelInfo("scripted", "model", "scripted", context_window=6_000, max_tokens=1_000)
SMALL = {"reserve_tokens": 3_000, "keep_recent_tokens": 300}


def small(answers: Iterable[Any], summaries: Iterable[Any] = ()) -> ScriptedModel:
    """A model with a small window: summaries, which are asked for without tools, come from a script of their own."""
    answering, summarising = iter(answers), chain(summaries, repeat("# Summary"))

    def step(request: RecordedRequest) -> Any:
        return next(answering) if request.tools else next(summarising)

    return ScriptedModel(repeat(step), info=INFO)


def first_text(message: Message) -> str:
    block = message.content[0]
    assert isinstance(block, TextContent)
    return block.text


def summary_first(s: Scene) -> str:
    return first_text(s.messages[0])


def requests_for(s: Scene, purpose: str) -> list[TurnRequest]:
    return [event for event in s.events if isinstance(event, TurnRequest) and event.purpose == purpose]


async def test_a_conversation_past_the_threshold_is_summarised_and_goes_on() -> None:
    model = small(["x" * 8_000, "y" * 4_500, "Later."])
    async with scene(model=model, compaction=SMALL) as s:
        await s.session.prompt("First question.")
        await s.session.prompt("Second question.")
        assert summary_first(s).startswith("[Context Summary]\n\n# Summary")
        await s.session.prompt("Third.")
        assert_sound(s.messages)
        starts = [event for event in s.events if isinstance(event, CompactionStart)]
        [done] = [event for event in s.events if isinstance(event, Compaction)]
        assert [event.reason for event in starts] == ["threshold"]
        assert done.messages_after < done.messages_before


async def test_the_summary_is_asked_of_the_model_without_tools_and_with_the_conversation_as_text() -> None:
    model = small(["x" * 8_000, "y" * 4_500])
    async with scene(model=model, compaction=SMALL) as s:
        await s.session.prompt("Where is the key?")
        await s.session.prompt("And now?")
        request = model.requests[-1]
        assert not request.tools
        [message] = request.messages
        text = first_text(message)
        assert "[User]: Where is the key?" in text
        assert "## Next Steps" in text


async def test_usage_of_the_summary_is_part_of_the_calls_usage() -> None:
    usage = Usage(input=1_500, output=10)
    model = ScriptedModel(["a" * 3_000, "b" * 3_000, "# Summary"], info=INFO, usage=usage)
    async with scene(model=model, compaction={"reserve_tokens": 5_000, "keep_recent_tokens": 300}) as s:
        await s.session.prompt("1")
        reply = await s.session.prompt("2")
        assert reply.usage.input == 3_000
        [entry] = [entry for entry in s.session.history.path if isinstance(entry, CompactionEntry)]
        assert entry.usage == usage


async def test_finish_does_not_escape_the_check() -> None:
    model = small(["x" * 8_000, call("finish", {"result": "y" * 4_500})])
    async with scene(model=model, compaction=SMALL) as s:
        await s.session.prompt("1")
        await s.session.prompt("2", result=str)
        assert summary_first(s).startswith("[Context Summary]")
        assert_sound(s.messages)


async def test_compaction_false_turns_the_threshold_off() -> None:
    async with scene(model=small(["x" * 16_000, "y" * 400]), compaction=False) as s:
        await s.session.prompt("1")
        await s.session.prompt("2")
        assert len(s.messages) == 4


async def test_an_overflow_is_recovered_once_by_compacting() -> None:
    overflow = ProviderError("prompt is too long", status=400, overflow=True)
    model = small(["x" * 2_000, "y" * 2_000, overflow, "Got it."])
    async with scene(model=model, compaction={"keep_recent_tokens": 100}) as s:
        await s.session.prompt("1")
        await s.session.prompt("2")
        assert (await s.session.prompt("3")).text == "Got it."
        assert summary_first(s).startswith("[Context Summary]")
        assert [message.stop_reason for message in s.messages if isinstance(message, AssistantMessage)][-1] == "stop"
        assert_sound(s.messages)


async def test_an_overflow_that_compaction_cannot_cure_is_raised() -> None:
    overflow = ProviderError("prompt is too long", status=400, overflow=True, code="context_overflow")
    async with scene(model=small([overflow])) as s:
        with pytest.raises(OperationError, match="prompt is too long") as raised:
            await s.session.prompt("A question that is too long.")
        assert raised.value.code == "context_overflow"
    again = small(["w" * 2_000, "x" * 2_000, overflow, overflow, "Fine."])
    async with scene(model=again, compaction={"keep_recent_tokens": 10}) as s:
        await s.session.prompt("1")
        await s.session.prompt("2")
        with pytest.raises(OperationError):
            await s.session.prompt("3")
        assert (await s.session.prompt("4")).text == "Fine."
        assert_sound(s.messages)


async def test_a_failed_automatic_compaction_is_logged_and_the_answer_stands() -> None:
    broken = ProviderError("no credit", status=402)
    async with scene(model=small(["x" * 8_000, "y" * 4_500], [broken]), compaction=SMALL) as s:
        await s.session.prompt("1")
        assert (await s.session.prompt("2")).text == "y" * 4_500
        assert any("no credit" in str(event.attributes) for event in s.events if isinstance(event, Log))
        assert len(s.messages) == 4


async def test_a_failed_manual_compaction_is_raised_and_changes_nothing() -> None:
    async with scene(
        model=small(["x" * 2_000, "y" * 2_000], [ProviderError("no credit", status=402)]), compaction=SMALL
    ) as s:
        await s.session.prompt("1")
        await s.session.prompt("2")
        with pytest.raises(OperationError, match="no credit") as raised:
            await s.session.compact()
        assert raised.value.code == "compaction_failed"
        assert len(s.messages) == 4


async def test_manual_compaction_takes_wishes_and_says_when_there_is_nothing_to_do() -> None:
    async with scene(model=small(["x" * 2_000, "y" * 2_000]), compaction=SMALL) as s:
        assert await s.session.compact() is False
        await s.session.prompt("1")
        await s.session.prompt("2")
        assert await s.session.compact("the colour of the door") is True
        assert "the colour of the door" in first_text(requests_for(s, "compaction")[0].messages[0])


async def test_another_model_can_write_the_summary() -> None:
    writer = ScriptedModel(["# From the writer"])
    settings = {**SMALL, "model": writer}
    async with scene(model=small(["x" * 8_000, "y" * 4_500]), compaction=settings) as s:
        await s.session.prompt("1")
        await s.session.prompt("2")
        assert "# From the writer" in summary_first(s)
        assert writer.requests[0].max_tokens == 2_400


async def test_the_second_summary_updates_the_first_and_files_are_listed() -> None:
    steps = [
        call("write", {"path": "/workspace/a.txt", "content": "1"}),
        "x" * 7_000,
        "y" * 5_000,
        call("read", {"path": "/workspace/b.txt"}),
        "z" * 8_000,
        "w" * 5_000,
    ]
    async with scene(model=small(steps, (f"# Summary {number}" for number in count(1))), compaction=SMALL) as s:
        await s.session.fs.write_file("/workspace/b.txt", "2")
        for text in ("1", "2", "3", "4"):
            await s.session.prompt(text)
        first = summary_first(s)
        assert "# Summary 1" not in first
        assert "<read-files>\n/workspace/b.txt\n</read-files>" in first
        assert "<modified-files>\n/workspace/a.txt\n</modified-files>" in first
        update = first_text(requests_for(s, "compaction")[1].messages[0])
        assert "<previous-summary>\n# Summary 1" in update
        assert_sound(s.messages)


async def test_a_turn_cut_in_two_gets_a_summary_of_its_beginning() -> None:
    @tool
    async def look(at: int) -> str:
        """Look at something."""
        return "r" * 2_000

    steps = ["x" * 2_000, *[call("look", {"at": n}) for n in range(8)], "Done."]
    async with scene(model=small(steps), compaction=SMALL, tools=[look]) as s:
        await s.session.prompt("1")
        await s.session.prompt("Look around.")
        assert requests_for(s, "compaction_prefix")
        assert_sound(s.messages)


async def test_a_compacted_session_is_the_same_after_it_is_loaded_again() -> None:
    store = MemoryStore()
    async with scene(model=small(["x" * 8_000, "y" * 4_500, "z"]), compaction=SMALL, store=store) as s:
        for text in ("1", "2", "3"):
            await s.session.prompt(text)
        before, data = s.messages, await s.session.history.export()
    async with scene(store=store) as s:
        assert s.messages == before
        assert await s.session.history.export() == {
            **data,
            "updatedAt": (await s.session.history.export())["updatedAt"],
        }
        assert [entry["type"] for entry in data["entries"]].count("compaction") == 1
        assert len(data["entries"]) == 7


async def test_five_hundred_turns_keep_memory_and_requests_small() -> None:
    async with scene(model=small(repeat("answer " * 40)), compaction=SMALL) as s:
        largest = 0
        for number in range(500):
            await s.session.prompt(f"Question {number}: " + "why " * 40)
            largest = max(largest, len(s.session.history.path))
        compactions = [event for event in s.events if isinstance(event, Compaction)]
        assert len(compactions) > 5
        assert largest < 80
        assert_sound(s.messages)
        data = await s.session.history.export()
        assert len([entry for entry in data["entries"] if entry["type"] == "message"]) == 1_000


@pytest.mark.parametrize(
    ("window", "most", "reserve", "keep"),
    [
        (200_000, 64_000, 20_000, 8_000),
        (200_000, 4_096, 4_096, 8_000),
        (8_192, 8_192, 2_730, 2_048),
        (0, 0, 20_000, 8_000),
    ],
)
def test_limits_come_from_the_model(window: int, most: int, reserve: int, keep: int) -> None:
    limits = limits_for(replace(INFO, context_window=window, max_tokens=most), None)
    assert (limits.reserve, limits.keep_recent) == (reserve, keep)
    assert limits.exceeded_by(10**9) is (window > 0)


def turns() -> st.SearchStrategy[list[Message]]:
    """Conversations: each turn a user message, then answers with tool calls and their results, then a last answer."""
    size = st.integers(0, 400)
    step = st.tuples(size, st.lists(size, min_size=1, max_size=3))
    return st.lists(st.tuples(size, st.lists(step, max_size=4), size), max_size=6).map(_conversation)


def _conversation(shape: list[tuple[int, list[tuple[int, list[int]]], int]]) -> list[Message]:
    messages: list[Message] = []
    for turn, (question, steps, answer) in enumerate(shape):
        messages.append(UserMessage((TextContent("q" * question),)))
        for number, (words, results) in enumerate(steps):
            calls = tuple(ToolCall(f"c{turn}.{number}.{i}", "t", {}) for i in range(len(results)))
            messages.append(AssistantMessage((TextContent("w" * words), *calls), "a", "p", "m"))
            messages += [
                ToolResultMessage(one.id, "t", (TextContent("r" * many),))
                for one, many in zip(calls, results, strict=True)
            ]
        messages.append(AssistantMessage((TextContent("a" * answer),), "a", "p", "m"))
    return messages


@given(turns(), st.integers(0, 500), st.sampled_from([0, 1]))
def test_a_cut_never_separates_a_result_from_its_call(messages: list[Message], keep: int, start: int) -> None:
    cut = find_cut(messages, keep, start=start)
    if cut is None:
        return
    assert start <= cut.turn_start <= cut.kept < len(messages)
    assert cut.kept > start
    assert_sound(messages[cut.kept :])
    assert not isinstance(messages[cut.kept], ToolResultMessage)
    if cut.turn_start < cut.kept:
        assert isinstance(messages[cut.turn_start], UserMessage)


def test_sizes_count_what_the_provider_counted_and_estimate_the_rest() -> None:
    counted = AssistantMessage((TextContent("x"),), "a", "p", "m", Usage(input=100, output=20))
    question = UserMessage((TextContent("q" * 40),))
    assert estimate(question) == 10
    assert context_tokens([question, counted, question]) == 130
    failed = replace(counted, stop_reason="error")
    assert context_tokens([question, failed]) == 10 + estimate(failed)

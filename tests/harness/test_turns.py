"""The turn loop: order of events, parallel calls, failures, aborts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from flue import AbortError, CallHandle, OperationError, PromptResponse, ProviderError, tool
from flue.errors import OperationTimeoutError
from flue.events import Event, TextDelta
from flue.messages import AssistantMessage, TextContent, ToolResultMessage, UserMessage
from flue.testing import VirtualClock, call, hang
from tests.harness.scene import assert_sound, scene, until

PROMPT_WITH_ONE_TOOL = [
    "operation_start", "agent_start", "turn_start", "message_start", "message_end", "turn_request", "message_start",
    "message_end", "tool_execution_start", "tool_start", "tool_execution_end", "tool_call", "message_start",
    "message_end", "turn_end", "turn", "turn_start", "turn_request", "message_start", "message_end", "turn_end",
    "turn", "agent_end", "operation", "idle",
]  # fmt: skip
UPDATES = ("message_update", "text_delta", "thinking_start", "thinking_delta", "thinking_end")


@tool
async def double(number: int) -> str:
    """Double a number."""
    return str(number * 2)


async def test_events_of_a_prompt_with_one_tool_come_in_the_documented_order() -> None:
    async with scene(call("double", {"number": 21}), "It is 42.", tools=[double]) as s:
        reply = await s.session.prompt("What is 21 doubled?")
        assert reply.text == "It is 42."
        assert s.types(without=UPDATES) == PROMPT_WITH_ONE_TOOL
        assert [event.index for event in s.events] == list(range(len(s.events)))


async def test_text_arrives_as_deltas_that_add_up_to_the_answer() -> None:
    async with scene("One two three.") as s:
        reply = await s.session.prompt("Count.")
        assert "".join(event.text for event in s.events if isinstance(event, TextDelta)) == reply.text


async def test_parallel_calls_run_together_and_their_results_stand_in_call_order() -> None:
    gate = asyncio.Event()
    order: list[str] = []

    @tool
    async def first() -> str:
        """Wait for the second."""
        await gate.wait()
        order.append("first")
        return "1"

    @tool
    async def second() -> str:
        """Let the first go on."""
        order.append("second")
        gate.set()
        return "2"

    async with scene([call("first", {}), call("second", {})], "Done.", tools=[first, second]) as s:
        await s.session.prompt("Go.")
        results = [message for message in s.messages if isinstance(message, ToolResultMessage)]
        assert order == ["second", "first"]
        assert [(result.tool_name, result.content) for result in results] == [
            ("first", (TextContent("1"),)),
            ("second", (TextContent("2"),)),
        ]


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("nothing_like_it", {}, "Tool nothing_like_it not found"),
        ("double", {"number": "x"}, 'Validation failed for tool "double"'),
        ("double", {}, 'Validation failed for tool "double"'),
        ("broken", {}, "the database is down"),
    ],
)
async def test_a_call_that_cannot_work_becomes_an_error_result_and_the_loop_goes_on(
    name: str, arguments: dict[str, object], expected: str
) -> None:
    @tool
    async def broken() -> str:
        """Fail."""
        raise RuntimeError("the database is down")

    async with scene(call(name, arguments), "I see.", tools=[double, broken]) as s:
        reply = await s.session.prompt("Go.")
        [result] = [message for message in s.messages if isinstance(message, ToolResultMessage)]
        assert result.is_error
        assert isinstance(result.content[0], TextContent)
        assert result.content[0].text.startswith(expected)
        assert reply.text == "I see."


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (KeyError("order_id"), "KeyError: 'order_id'"),
        (ValueError(), "ValueError"),
        (ExceptionGroup("two calls failed", [ValueError("no stock"), KeyError("sku")]),
         "two calls failed: ValueError: no stock; KeyError: 'sku'"),
        (ExceptionGroup("g", [ExceptionGroup("h", [OSError(f"no {n}") for n in range(4)]), OSError(), OSError(9, "x")]),
         "g: OSError: no 0; OSError: no 1; OSError: no 2; OSError: no 3; OSError; and 1 more"),
    ],
)  # fmt: skip
async def test_the_model_reads_what_a_tool_raised_in_words_that_stand_alone(raised: Exception, expected: str) -> None:
    @tool
    async def broken() -> str:
        """Fail."""
        raise raised

    async with scene(call("broken", {}), "I see.", tools=[broken]) as s:
        await s.session.prompt("Go.")
        [result] = [message for message in s.messages if isinstance(message, ToolResultMessage)]
        assert result.content == (TextContent(expected),)


async def test_what_a_call_would_have_given_is_not_on_the_call_that_was_not_awaited() -> None:
    async with scene("Hello.") as s:
        asked = s.session.prompt("Hi.")
        with pytest.raises(AttributeError, match=r"no attribute 'text'\. It is a call under way: await it first"):
            _ = asked.text  # type: ignore[attr-defined]
        assert (await asked).text == "Hello."


async def test_arguments_are_coerced_to_the_schema() -> None:
    async with scene(call("double", {"number": "21"}), "ok", tools=[double]) as s:
        await s.session.prompt("Go.")
        assert s.messages[2].content == (TextContent("42"),)


async def test_a_tool_that_is_cancelled_from_inside_is_an_error_result_not_an_abort() -> None:
    @tool
    async def cancelled() -> str:
        """Lose its inner task."""
        raise asyncio.CancelledError

    async with scene(call("cancelled", {}), "Fine.", tools=[cancelled]) as s:
        assert (await s.session.prompt("Go.")).text == "Fine."
        assert_sound(s.messages)


async def test_a_transient_failure_is_retried_and_costs_nothing_but_time() -> None:
    busy = ProviderError("overloaded", status=529, retryable=True, retry_after=7)
    async with scene(busy, "Hello.") as s:
        before = s.clock.monotonic()
        assert (await s.session.prompt("Hi.")).text == "Hello."
        assert s.clock.monotonic() - before == 7
        assert len(s.model.requests) == 2
        assert [type(message) for message in s.messages] == [UserMessage, AssistantMessage]


@pytest.mark.parametrize(
    ("error", "requests"),
    [
        (ProviderError("bad key", status=401), 1),
        (ProviderError("down", status=500, retryable=True), 3),
        (ProviderError("come back tomorrow", status=429, retryable=True, retry_after=86_400), 1),
    ],
)
async def test_a_lasting_failure_is_raised_and_the_session_can_go_on(error: ProviderError, requests: int) -> None:
    async with scene(*[error] * requests, "Back again.") as s:
        with pytest.raises(OperationError, match=error.message) as raised:
            await s.session.prompt("Hi.")
        assert raised.value.__cause__ is error
        assert len(s.model.requests) == requests
        assert (await s.session.prompt("Again.")).text == "Back again."
        assert_sound(s.messages)


async def test_a_model_that_breaks_in_its_own_code_fails_the_call_not_the_conversation() -> None:
    async with scene(ZeroDivisionError("division by zero"), "Better.") as s:
        with pytest.raises(OperationError, match="division by zero"):
            await s.session.prompt("Hi.")
        assert (await s.session.prompt("Again.")).text == "Better."


async def test_an_answer_cut_by_the_length_limit_does_not_run_its_calls() -> None:
    ran: list[int] = []

    @tool
    async def act() -> str:
        """Act."""
        ran.append(1)
        return "done"

    cut = AssistantMessage((call("act", {}, id="c1"),), "scripted", "scripted", "model", stop_reason="length")
    async with scene(cut, "I will be brief.", tools=[act]) as s:
        await s.session.prompt("Go.")
        assert not ran
        assert "was not run" in s.messages[2].content[0].text  # type: ignore[union-attr]


def abort_at(position: int, handle: CallHandle[PromptResponse]) -> Callable[[Event], None]:
    def sink(event: Event) -> None:
        if event.index == position:
            handle.abort()

    return sink


async def test_aborting_at_any_event_leaves_a_conversation_that_can_go_on() -> None:
    @tool
    async def slow(number: int) -> str:
        """Take a while."""
        await asyncio.sleep(0)
        return str(number)

    script = ([call("slow", {"number": 1}), call("slow", {"number": 2})], "One.", "Two.", "Three.")
    async with scene(*script, tools=[slow]) as s:
        await s.session.prompt("Go.")
        total = len(s.events)
    aborted = 0
    for position in range(total):
        async with scene(*script, tools=[slow]) as s:
            handle = s.session.prompt("Go.")
            s.context.emitter.sinks.append(abort_at(position, handle))
            try:
                await handle
            except AbortError:
                aborted += 1
            s.context.emitter.sinks.pop()
            assert_sound(s.messages)
            reply = await s.session.prompt("Again.")
            assert reply.text in ("One.", "Two.", "")
            assert_sound(s.messages)
    assert aborted > total // 2


async def test_abort_ends_a_hanging_model_and_keeps_the_reason() -> None:
    async with scene(hang(), "Later.") as s:
        handle = s.session.prompt("Hi.")
        await until(lambda: s.model.requests)
        handle.abort("the user left")
        with pytest.raises(AbortError, match="the user left") as raised:
            await handle
        assert raised.value.reason == "the user left"
        assert (await s.session.prompt("Hi again.")).text == "Later."


async def test_cancelling_the_awaiter_aborts_the_call_and_reraises() -> None:
    async with scene(hang(), "Later.") as s:
        awaiter = asyncio.create_task(_await(s.session.prompt("Hi.")))
        await until(lambda: s.model.requests)
        awaiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaiter
        assert (await s.session.prompt("Hi again.")).text == "Later."
        assert_sound(s.messages)


async def _await(handle: object) -> object:
    return await handle  # type: ignore[misc]


async def test_a_timeout_aborts_with_an_error_that_is_also_a_timeout_error() -> None:
    clock = VirtualClock()
    async with scene(hang(), "Later.", clock=clock) as s:
        handle = s.session.prompt("Hi.", timeout=30)
        await until(lambda: s.model.requests)
        await clock.advance(31)
        with pytest.raises(OperationTimeoutError, match="30 s"):
            await handle
        assert issubclass(OperationTimeoutError, TimeoutError)
        assert (await s.session.prompt("Hi again.")).text == "Later."


async def test_a_partial_answer_is_kept_as_aborted_and_not_sent_again() -> None:
    async with scene(["Half an ", hang()], "Whole.") as s:
        handle = s.session.prompt("Hi.")
        await until(lambda: "text_delta" in s.types())
        handle.abort()
        with pytest.raises(AbortError):
            await handle
        answer = s.messages[-1]
        assert isinstance(answer, AssistantMessage)
        assert answer.stop_reason == "aborted"
        assert answer.text.startswith("Half")

"""Budgets, steering, approvals and resuming: what stops between turns, and how it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flue import (
    AbortError,
    BudgetExceededError,
    DefinitionError,
    DurabilityError,
    OperationError,
    ProviderError,
    SessionError,
    UsageError,
    create_agent,
    open_context,
    tool,
)
from flue.definitions.tool import Approval, Tool, ToolContext
from flue.events import ApprovalEnd, ApprovalRequest
from flue.messages import Message, TextContent, ToolResultMessage
from flue.ports import EntryRow, SessionHead
from flue.testing import MemoryStore, ScriptedModel, SequentialIds, VirtualClock, call, hang
from tests.harness.scene import Scene, assert_sound, scene, until


def first_text(message: Message) -> str:
    block = message.content[0]
    assert isinstance(block, TextContent)
    return block.text


def results(s: Scene) -> list[str]:
    return [first_text(message) for message in s.messages if isinstance(message, ToolResultMessage)]


@tool
async def step() -> str:
    """Take a step."""
    return "stepped"


# ------------------------------------------------------------------------------------------------ budgets


@pytest.mark.parametrize(
    ("budget", "limit"),
    [({"turns": 2}, "turns"), ({"tokens": 1_500}, "tokens"), ({"usd": 0.0012}, "usd")],
)
async def test_a_budget_pauses_between_turns_and_raising_it_goes_on(budget: dict[str, float], limit: str) -> None:
    steps = [call("step", {}), call("step", {}), call("step", {}), "There."]
    async with scene(*steps, tools=[step]) as s:
        with pytest.raises(BudgetExceededError) as raised:
            await s.session.prompt("Walk.", budget=budget)
        assert (raised.value.scope, raised.value.limit_name) == ("call", limit)
        assert raised.value.spent >= raised.value.limit
        assert_sound(s.messages)
        done = len(results(s))
        assert 0 < done < 3
        reply = await s.session.resume()
        assert reply.text == "There."
        assert len(results(s)) == 3


async def test_seconds_count_the_time_of_turns() -> None:
    clock = VirtualClock()

    @tool
    async def wait() -> str:
        """Wait."""
        await clock.sleep(60)
        return "waited"

    async with scene(call("wait", {}), "Late.", tools=[wait], clock=clock) as s:
        handle = s.session.prompt("Go.", budget={"seconds": 30})
        await until(lambda: "tool_start" in s.types())
        await clock.advance(61)
        with pytest.raises(BudgetExceededError, match="60 of 30 seconds"):
            await handle
        assert results(s) == ["waited"]


async def test_the_time_of_a_task_counts_once() -> None:
    clock = VirtualClock()

    @tool
    async def wait() -> str:
        """Wait."""
        await clock.sleep(60)
        return "waited"

    both = [call("task", {"prompt": "wait"}), call("task", {"prompt": "wait"})]
    async with scene(
        both, call("wait", {}), call("wait", {}), "a", "b", "Done.", tools=[wait], clock=clock, task_tool="always"
    ) as s:
        handle = s.session.prompt("Go.", budget={"seconds": 61})
        await until(lambda: s.types().count("tool_start") == 4)
        await clock.advance(60)
        assert (await handle).text == "Done."
        assert s.harness.meter.seconds == 60


async def test_a_call_that_is_done_is_not_stopped_by_its_budget() -> None:
    async with scene("Done.") as s:
        assert (await s.session.prompt("Go.", budget={"turns": 1})).text == "Done."


async def test_a_sessions_budget_covers_all_its_calls_also_after_a_restart() -> None:
    store = MemoryStore()
    async with scene("One.", call("step", {}), tools=[step], store=store) as s:
        session = await s.harness.session(budget={"turns": 2})
        await session.prompt("1")
        with pytest.raises(BudgetExceededError) as raised:
            await session.prompt("2")
        assert raised.value.scope == "session"
    async with scene(call("step", {}), "Two.", tools=[step], store=store) as s:
        session = await s.harness.session(budget={"turns": 2})
        with pytest.raises(BudgetExceededError):
            await session.resume()
        await s.harness.session(budget={"turns": 9})
        assert (await session.resume()).text == "Two."


async def test_a_session_whose_budget_is_used_up_takes_no_further_prompt() -> None:
    async with scene("One.", "Two.") as s:
        session = await s.harness.session(budget={"turns": 1})
        await session.prompt("1")
        with pytest.raises(BudgetExceededError):
            await session.prompt("2")
        assert len(s.model.requests) == 1
        assert [first_text(message) for message in s.messages] == ["1", "One."]
        await s.harness.session(budget={"turns": 2})
        assert (await session.prompt("2")).text == "Two."


async def test_an_agents_budget_covers_its_sessions_and_tasks() -> None:
    steps = [call("task", {"prompt": "step"}), call("step", {}), "Child."]
    async with scene(*steps, tools=[step], task_tool="always", budget={"turns": 2}) as s:
        with pytest.raises(BudgetExceededError) as raised:
            await s.session.prompt("Go.")
        assert raised.value.scope == "agent"
        assert_sound(s.messages)


async def test_usage_of_tasks_is_reported_apart_and_in_total() -> None:
    async with scene(call("task", {"prompt": "think"}), "Thought.", "Done.", task_tool="always") as s:
        reply = await s.session.prompt("Go.")
        own = sum(message.usage.output for message in s.messages if message.role == "assistant")
        assert reply.usage.output == own
        assert reply.total_usage.output == own + 2


@pytest.mark.parametrize("budget", [{"usd": 0}, {"turns": -1}, {"seconds": "x"}, {"euros": 1}, 3])
async def test_a_wrong_budget_is_refused_by_name(budget: Any) -> None:
    with pytest.raises(DefinitionError, match="budget"):
        create_agent(model="a/b", budget=budget)
    async with scene() as s:
        with pytest.raises(DefinitionError, match="budget"):
            s.session.prompt("Go.", budget=budget)


# ----------------------------------------------------------------------------------------------- steering


async def test_a_message_that_steers_joins_at_the_next_turn_boundary_in_order() -> None:
    gate = asyncio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "waited"

    async with scene(call("wait", {}), "As you wish.", tools=[wait]) as s:
        handle = s.session.prompt("Go left.")
        await until(lambda: "tool_start" in s.types())
        assert s.session.steer("No, right.") is handle
        s.session.steer("And hurry.")
        gate.set()
        assert (await handle).text == "As you wish."
        sent = s.model.requests[1].messages
        assert [first_text(message) for message in sent if message.role == "user"] == [
            "Go left.",
            "No, right.",
            "And hurry.",
        ]
        assert_sound(s.messages)


async def test_a_message_that_steers_during_the_last_answer_is_answered_too() -> None:
    async def answer(_request: object) -> str:
        s.session.steer("One more thing.")
        return "Done."

    async with scene(answer, "That, too.") as s:
        assert (await s.session.prompt("Go.")).text == "That, too."
        assert [entry.to_json().get("source") for entry in s.session.history.path] == ["prompt", None, "steer", None]


async def test_steering_an_idle_session_starts_a_prompt() -> None:
    async with scene("Hello.") as s:
        assert (await s.session.steer("Hi.")).text == "Hello."


async def test_a_message_that_comes_after_the_result_starts_a_prompt_of_its_own() -> None:
    def answer(_request: object) -> Any:
        s.session.steer("Thanks!")
        return call("finish", {"result": 1})

    async with scene(answer, "You are welcome.") as s:
        assert (await s.session.prompt("Go.", result=int)).data == 1
        await until(lambda: len(s.messages) == 5)
        assert first_text(s.messages[-1]) == "You are welcome."


# ---------------------------------------------------------------------------------------------- approvals


def pay_tool(paid: list[int], *, approval: Approval) -> Tool:
    @tool(approval=approval)
    async def pay(amount: int) -> str:
        """Pay an amount."""
        paid.append(amount)
        return f"paid {amount}"

    return pay


async def test_a_call_waits_until_it_is_approved() -> None:
    paid: list[int] = []
    async with scene(call("pay", {"amount": "5"}, id="c1"), "Done.", tools=[pay_tool(paid, approval=True)]) as s:
        handle = s.session.prompt("Pay 5.")
        await until(lambda: "approval_request" in s.types())
        [request] = [event for event in s.events if isinstance(event, ApprovalRequest)]
        assert (request.tool_name, request.tool_call_id, request.args) == ("pay", "c1", {"amount": "5"})
        assert not paid
        await s.session.approve("c1")
        assert (await handle).text == "Done."
        assert paid == [5]
        assert [event.approved for event in s.events if isinstance(event, ApprovalEnd)] == [True]
        assert not s.session.approvals.pending
        assert s.session.history.metadata["approvals"] == []


async def test_a_denied_call_is_not_run_and_the_model_reads_why() -> None:
    paid: list[int] = []
    async with scene(call("pay", {"amount": 5}, id="c1"), "Pity.", tools=[pay_tool(paid, approval=True)]) as s:
        handle = s.session.prompt("Pay 5.")
        await until(lambda: s.session.approvals.pending)
        await s.session.deny("c1", "too much")
        await handle
        assert not paid
        assert "denied" in results(s)[0]
        assert "too much" in results(s)[0]


async def test_a_policy_decides_which_calls_need_a_person_and_others_run_meanwhile() -> None:
    paid: list[int] = []

    async def policy(arguments: dict[str, Any], context: ToolContext) -> bool:
        assert context.session == "default"
        return bool(arguments["amount"] > 10)

    both = [call("pay", {"amount": 5}, id="small"), call("pay", {"amount": 50}, id="large")]
    async with scene(both, "Done.", tools=[pay_tool(paid, approval=policy)]) as s:
        handle = s.session.prompt("Pay.")
        await until(lambda: s.session.approvals.pending and paid)
        assert [approval.tool_call_id for approval in s.session.approvals.pending] == ["large"]
        await s.session.approve("large")
        await handle
        assert paid == [5, 50]
        assert results(s) == ["paid 5", "paid 50"]


class SlowStore(MemoryStore):
    """Appends are there at once, and `answer`, once it is set, is what is said of them."""

    answer: asyncio.Future[None] | None = None

    def append_entries(
        self, key: str, head: SessionHead, entries: Sequence[EntryRow], *, expected: int, after: str | None = None
    ) -> Awaitable[None]:
        if self.answer is None:
            return super().append_entries(key, head, entries, expected=expected, after=after)
        answer, self.answer = self.answer, None
        return answer


async def test_a_decision_counts_although_nobody_waits_any_more_until_it_is_on_disk() -> None:
    """As when the browser that sent it leaves: a second one would be refused, and the call wait for ever."""
    paid: list[int] = []
    store = SlowStore()
    steps = (call("pay", {"amount": 5}, id="c1"), "Done.")
    async with scene(*steps, store=store, tools=[pay_tool(paid, approval=True)]) as s:
        handle = s.session.prompt("Pay 5.")
        await until(lambda: s.session.approvals.pending)
        answer = store.answer = asyncio.get_running_loop().create_future()
        approving = asyncio.create_task(s.session.approve("c1"))
        await until(lambda: store.answer is None)
        approving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await approving
        if not answer.done():
            answer.set_result(None)
        async with asyncio.timeout(5):
            assert (await handle).text == "Done."
        assert paid == [5]


async def test_a_decision_that_could_not_be_written_can_be_taken_again() -> None:
    paid: list[int] = []
    store = SlowStore()
    steps = (call("pay", {"amount": 5}, id="c1"), "Done.")
    async with scene(*steps, store=store, tools=[pay_tool(paid, approval=True)]) as s:
        handle = s.session.prompt("Pay 5.")
        await until(lambda: s.session.approvals.pending)
        store.answer = asyncio.get_running_loop().create_future()
        store.answer.set_exception(DurabilityError("The disk is full.", code="store_full"))
        with pytest.raises(DurabilityError, match="full"):
            await s.session.approve("c1")
        assert not paid
        await s.session.approve("c1")
        async with asyncio.timeout(5):
            assert (await handle).text == "Done."
        assert paid == [5]


async def test_decisions_about_calls_that_do_not_wait_are_refused() -> None:
    async with scene(call("pay", {"amount": 5}, id="c1"), hang(), tools=[pay_tool([], approval=True)]) as s:
        with pytest.raises(SessionError, match='No tool call "c9" waits'):
            await s.session.approve("c9")
        handle = s.session.prompt("Pay.")
        await until(lambda: s.session.approvals.pending)
        await asyncio.gather(s.session.approve("c1"), return_exceptions=True)
        with pytest.raises(SessionError):
            await s.session.deny("c1")
        handle.abort()
        await handle.settle()


async def test_aborting_a_call_that_waits_for_approval_leaves_a_sound_conversation() -> None:
    paid: list[int] = []
    async with scene(call("pay", {"amount": 5}), "Fine.", tools=[pay_tool(paid, approval=True)]) as s:
        handle = s.session.prompt("Pay.")
        await until(lambda: s.session.approvals.pending)
        handle.abort()
        with pytest.raises(AbortError):
            await handle
        assert_sound(s.messages)
        assert not s.session.approvals.pending
        assert (await s.session.prompt("Never mind.")).text == "Fine."
        assert not paid


async def test_a_call_that_waits_when_the_process_ends_goes_on_in_the_next_one() -> None:
    store, paid = MemoryStore(), list[int]()
    both = [call("step", {}, id="a"), call("pay", {"amount": 5}, id="b")]
    tools = [step, pay_tool(paid, approval=True)]
    async with scene(both, tools=tools, store=store) as s:
        s.session.prompt("Pay.")
        await until(lambda: s.session.approvals.pending and "tool_call" in s.types())
    async with scene("Paid.", tools=tools, store=store) as s:
        assert [approval.tool_call_id for approval in s.session.approvals.pending] == ["b"]
        await s.session.approve("b")
        assert not paid
        assert (await s.session.resume()).text == "Paid."
        assert paid == [5]
        assert results(s) == ["stepped", "paid 5"]
        assert_sound(s.messages)


# ----------------------------------------------------------------------------------------------- resuming


@asynccontextmanager
async def killed(store: MemoryStore, model: ScriptedModel, **config: Any) -> AsyncIterator[Any]:
    """Open a session whose process dies: nothing it does from then on reaches the store."""

    class Cord(MemoryStore):
        cut = False

        def append_entries(self, *args: Any, **kwargs: Any) -> Any:
            if not self.cut:
                return store.append_entries(*args, **kwargs)
            lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            lost.set_result(None)
            return lost

        async def load_session(self, key: str, **start: Any) -> Any:
            return await store.load_session(key, **start)

    cord = Cord()
    async with open_context(id="i1", env={}, store=cord, clock=VirtualClock(auto=True), ids=SequentialIds()) as context:
        harness = await context.init(create_agent(model=model, **config))
        yield await harness.session()
        cord.cut = True


async def test_a_call_that_had_started_when_the_process_died_is_not_repeated() -> None:
    store, started = MemoryStore(), asyncio.Event()

    @tool
    async def launch() -> str:
        """Launch."""
        started.set()
        await asyncio.Event().wait()
        return "never"

    async with killed(store, ScriptedModel([call("launch", {})]), tools=[launch]) as session:
        session.prompt("Launch.")
        await started.wait()
    started.clear()
    async with scene("I will look first.", tools=[launch], store=store) as s:
        assert (await s.session.resume()).text == "I will look first."
        assert not started.is_set()
        assert "outcome of this call is unknown" in results(s)[0]
        assert_sound(s.messages)


async def test_a_prompt_after_a_crash_in_a_tool_finds_a_sound_conversation() -> None:
    store, started = MemoryStore(), asyncio.Event()

    @tool
    async def launch() -> str:
        """Launch."""
        started.set()
        await asyncio.Event().wait()
        return "never"

    async with killed(store, ScriptedModel([call("launch", {})]), tools=[launch]) as session:
        session.prompt("Launch.")
        await started.wait()
    async with scene("I will look first.", tools=[launch], store=store) as s:
        assert (await s.session.prompt("Did it fly?")).text == "I will look first."
        assert "outcome of this call is unknown" in results(s)[0]
        assert_sound(s.messages)


async def test_a_new_prompt_ends_a_pause_that_outlived_its_process() -> None:
    store, paid = MemoryStore(), list[int]()
    tools = [pay_tool(paid, approval=True)]
    async with scene(call("pay", {"amount": 5}, id="b"), tools=tools, store=store) as s:
        s.session.prompt("Pay.")
        await until(lambda: s.session.approvals.pending)
    async with scene("As you wish.", tools=tools, store=store) as s:
        assert (await s.session.prompt("Never mind.")).text == "As you wish."
        assert "was not run" in results(s)[0]
        assert not s.session.approvals.pending
        assert_sound(s.messages)
        assert not paid


async def test_a_prompt_without_an_answer_is_asked_again() -> None:
    store = MemoryStore()
    model = ScriptedModel([hang()])
    async with killed(store, model) as session:
        session.prompt("Hello?")
        await until(lambda: model.requests)
    async with scene("Hello!", store=store) as s:
        assert (await s.session.resume()).text == "Hello!"
        assert [message.role for message in s.messages] == ["user", "assistant"]


async def test_a_finished_conversation_has_nothing_to_resume() -> None:
    async with scene("Hi.") as s:
        with pytest.raises(SessionError, match="nothing to resume"):
            s.session.resume()
        await s.session.prompt("Hi.")
        with pytest.raises(SessionError, match="nothing to resume"):
            s.session.resume()


async def test_a_typed_call_is_resumed_with_its_type() -> None:
    steps = [call("step", {}), call("finish", {"result": 3})]
    async with scene(*steps, tools=[step]) as s:
        with pytest.raises(BudgetExceededError):
            await s.session.prompt("Count.", result=int, budget={"turns": 1})
        assert (await s.session.resume(result=int)).data == 3


async def test_a_message_that_steers_a_failing_prompt_starts_one_of_its_own() -> None:
    async def fail(_request: object) -> str:
        s.session.steer("One more thing.")
        raise ProviderError("no", retryable=False)

    async with scene(fail, "Sure.") as s:
        with pytest.raises(OperationError, match="prompt failed: no"):
            await s.session.prompt("Go.")
        await until(lambda: s.types().count("operation") == 2)
        assert [entry.to_json().get("source") for entry in s.session.history.path] == ["prompt", None, "steer", None]


async def test_a_message_that_steers_an_aborted_prompt_waits_for_the_next_one() -> None:
    async with scene(hang(), "Sure.") as s:
        handle = s.session.prompt("Go.")
        await until(lambda: s.model.requests)
        s.session.steer("One more thing.")
        handle.abort()
        with pytest.raises(AbortError):
            await handle
        await s.session.prompt("And?")
        sources = [entry.to_json().get("source") for entry in s.session.history.path]
        assert sources == ["prompt", None, "steer", "prompt", None]


async def test_closing_ends_a_prompt_that_a_late_message_started() -> None:
    async def fail(_request: object) -> str:
        s.session.steer("One more thing.")
        raise ProviderError("no", retryable=False)

    async with scene(fail, hang()) as s:
        with pytest.raises(OperationError):
            await s.session.prompt("Go.")
        await until(lambda: len(s.model.requests) == 2)
    assert s.types().count("operation") == 2
    assert s.types()[-1] == "idle"
    assert_sound(s.messages)


async def test_steering_needs_text() -> None:
    async with scene() as s:
        with pytest.raises(UsageError):
            s.session.steer(" ")

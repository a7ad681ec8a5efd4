from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
from typing import Any

import pytest

import flue
from flue.definitions.agent import Agent
from flue.durable.records import Outcome
from flue.engine.admissions import session_lane
from flue.engine.service import Service, Ticket
from flue.errors import FlueError
from flue.messages import AssistantMessage, ToolResultMessage
from flue.stores import MemoryStore
from flue.testing import RecordedRequest, ScriptedModel, VirtualClock, call, hang
from tests.engine.log_scene import settled_tasks
from tests.engine.scenes import MOMENTS, catalog, conversation, crash, serving, settled, texts

LANE = session_lane("chat", "ann", "default")


class Bench:
    """An agent with tools that count their calls, and a model that knows from the conversation what comes next."""

    def __init__(self, **config: Any) -> None:
        self.ran: list[str] = []
        self.model = ScriptedModel(itertools.repeat(self.answer))

        @flue.tool
        async def work(name: str) -> str:
            """Do a piece of work."""
            self.ran.append(name)
            await asyncio.sleep(0)
            return f"{name} done"

        self.agent: Agent = flue.create_agent(model=self.model, tools=[work], **config)

    def answer(self, request: RecordedRequest) -> Any:
        asked = [message for message in request.messages if message.role == "user"]
        results = [message for message in request.messages if message.role == "toolResult"]
        prompts = sum("signal" not in texts([message])[0] for message in asked)
        match len(results) - 3 * (prompts - 1):
            case 0:
                return ["Two at once.", call("work", {"name": "a"}), call("work", {"name": "b"})]
            case 2:
                return [call("work", {"name": "c"})]
            case _:
                return f"All done, {prompts}."


async def ask(service: Service, text: str = "Go.") -> Outcome:
    return await (await service.prompt("chat", "ann", text)).outcome()


async def test_a_prompt_is_answered_and_its_conversation_kept() -> None:
    store, bench = MemoryStore(), Bench()
    async with serving(catalog({"chat": bench.agent}), store) as service:
        outcome = await ask(service)
        assert outcome.kind == "completed"
        assert json.loads(outcome.result or "")["text"] == "All done, 1."
        assert bench.ran == ["a", "b", "c"]
    said = texts(await conversation(store, "chat", "ann"))
    assert [line for line in said if not line.startswith("assistant: ") or "done" in line] == [
        said[0],
        "toolResult: a done",
        "toolResult: b done",
        "toolResult: c done",
        "assistant: All done, 1.",
    ]


# DUR-24
async def test_messages_to_one_session_are_answered_in_order_and_sessions_beside_each_other() -> None:
    gates = {"one": asyncio.Event()}

    async def answer(request: RecordedRequest) -> str:
        text = texts(request.messages[-1:])[0]
        if text.endswith("first"):
            await gates["one"].wait()
        return f"Heard: {text.split()[-1]}"

    agent = flue.create_agent(model=ScriptedModel(itertools.repeat(answer)))
    async with serving(catalog({"chat": agent}), MemoryStore()) as service:
        first = await service.prompt("chat", "ann", "first")
        second = await service.prompt("chat", "ann", "second")
        other = await service.prompt("chat", "ann", "third", session="other")
        assert (first.ahead, second.ahead, other.ahead) == (0, 1, 0)
        assert "third" in ((await other.outcome()).result or "")
        assert (await service.get_submission(second.id)).state == "queued"  # type: ignore[union-attr]
        gates["one"].set()
        assert "second" in ((await second.outcome()).result or "")
        assert "first" in ((await first.outcome()).result or "")


# DUR-27, DUR-28
@pytest.mark.parametrize("done", MOMENTS)
async def test_a_prompt_survives_the_death_of_its_process_at_every_write(done: bool) -> None:
    for at in itertools.count(1):
        store, bench = MemoryStore(), Bench()
        offers = catalog({"chat": bench.agent})
        accepted: list[str] = []

        async def script(service: Service, accepted: list[str] = accepted) -> None:
            ticket = await service.prompt("chat", "ann", "Go.")
            accepted.append(ticket.id)
            await ticket.outcome()

        cut = await crash(offers, store, at, script, done=done)
        async with serving(offers, store) as service:
            await service.start()
            if accepted:
                outcome = await settled(service, accepted[0])
                assert outcome.kind == "completed", (at, cut.names)
            again = await ask(service, "And again.")
        assert again.kind == "completed"
        check_conversation(await conversation(store, "chat", "ann"), bench, accepted=bool(accepted), at=at)
        if cut.at is None:
            assert at > 8
            return


def check_conversation(messages: list[Any], bench: Bench, *, accepted: bool, at: int) -> None:
    """Every call has one result, in place; nothing ran twice in one prompt; what was accepted is there once."""
    asked = [text for text in texts(messages) if text.endswith("Go.")]
    assert len(asked) == 1 if accepted else len(asked) <= 1, at
    open_calls: list[str] = []
    for message in messages:
        if isinstance(message, AssistantMessage):
            assert not open_calls, at
            open_calls = [item.id for item in message.tool_calls]
        elif isinstance(message, ToolResultMessage):
            assert message.tool_call_id == open_calls.pop(0), at
    assert not open_calls, at
    unknown = sum("outcome of this call is unknown" in text for text in texts(messages))
    results = sum(isinstance(message, ToolResultMessage) for message in messages)
    assert results - unknown <= len(bench.ran) <= results, (at, bench.ran, texts(messages))


# DUR-27
async def test_an_answer_that_came_before_the_crash_is_not_asked_for_again() -> None:
    store, bench = MemoryStore(), Bench()
    offers = catalog({"chat": bench.agent})
    whole = await crash(offers, MemoryStore(), 10_000, ask)
    await crash(offers, store, whole.names.index("settle") + 1, ask)
    bench.model.requests.clear()
    async with serving(offers, store) as service:
        await service.start()
        [submission] = await service.store.list_lane(LANE)
        outcome = await settled(service, submission.id)
    assert json.loads(outcome.result or "")["text"] == "All done, 1."
    assert bench.model.requests == []


@pytest.mark.parametrize("at", [9, 13])
async def test_usage_counts_all_attempts(at: int) -> None:
    whole, bench = MemoryStore(), Bench()
    offers = catalog({"chat": bench.agent})
    async with serving(offers, whole) as service:
        expected = json.loads((await ask(service)).result or "")["usage"]["output"]
    store = MemoryStore()
    await crash(offers, store, at, ask)
    async with serving(offers, store) as service:
        await service.start()
        lane = await service.store.list_lane(LANE)
        usage = json.loads((await settled(service, lane[0].id)).result or "")["usage"]["output"]
    assert usage == expected


# DUR-36
async def test_an_abort_ends_a_running_prompt_and_keeps_what_was_said() -> None:
    asked = asyncio.Event()

    def answer(_: RecordedRequest) -> Any:
        asked.set()
        return ["Half an ans", hang()]

    agent = flue.create_agent(model=ScriptedModel([answer, "Whole."]))
    store = MemoryStore()
    async with serving(catalog({"chat": agent}), store) as service:
        ticket = await service.prompt("chat", "ann", "Go.")
        waiting = await service.prompt("chat", "ann", "Next.")
        await asked.wait()
        await service.abort(ticket.id, "Enough.")
        outcome = await ticket.outcome()
        assert (outcome.kind, json.loads(outcome.error or "")["message"]) == ("aborted", "Enough.")
        assert "Whole." in ((await waiting.outcome()).result or "")
    assert any("Half an ans" in text for text in texts(await conversation(store, "chat", "ann")))


# DUR-36
async def test_an_abort_ends_a_prompt_that_has_not_begun() -> None:
    agent = flue.create_agent(model=ScriptedModel([hang()]))
    async with serving(catalog({"chat": agent}), MemoryStore()) as service:
        await service.prompt("chat", "ann", "Go.")
        queued = await service.prompt("chat", "ann", "Next.")
        await service.abort(queued.id, "Never mind.")
        assert (await queued.outcome()).kind == "aborted"
        assert await service.abort("unknown") is None


# DUR-35
async def test_a_deadline_ends_a_model_that_hangs_and_a_tool_that_cannot_be_cancelled() -> None:
    given_up = asyncio.Event()

    @flue.tool
    async def stubborn() -> str:
        """Go on, whatever happens."""
        while not given_up.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await given_up.wait()
        return "At last."

    for model in (ScriptedModel([hang()]), ScriptedModel([call("stubborn")])):
        agent = flue.create_agent(model=model, tools=[stubborn], durability={"timeout": "90s"})
        given_up.clear()
        async with serving(catalog({"chat": agent}), MemoryStore()) as service:
            ticket = await service.prompt("chat", "ann", "Go.")
            outcome = await ticket.outcome()
            given_up.set()
            log = await service.log.read(ticket.id)
        assert [event.type for event in log][-2:] == ["operation", "idle"]
        assert (outcome.kind, json.loads(outcome.error or "")["code"]) == ("failed", "exceeded_timeout")


# DUR-35
async def test_a_deadline_ends_a_prompt_whose_tool_blocks() -> None:
    begun, end = threading.Event(), threading.Event()

    @flue.tool
    def block() -> None:
        """Block, as what is not async may."""
        begun.set()
        end.wait(10)

    agent = flue.create_agent(
        model=ScriptedModel([call("block"), "Here."]), tools=[block], durability={"timeout": "90s"}
    )
    clock = VirtualClock()
    async with serving(catalog({"chat": agent}), MemoryStore(), clock=clock) as service:
        ticket = await service.prompt("chat", "ann", "Go.")
        await asyncio.to_thread(begun.wait, 10)
        await clock.advance(91)
        outcome = await ticket.outcome()
        assert (outcome.kind, json.loads(outcome.error or "")["code"]) == ("failed", "exceeded_timeout")
        assert not end.is_set()
        following = await service.prompt("chat", "ann", "Are you there?")
        assert (await following.outcome()).kind == "completed"
        end.set()


# DUR-35
async def test_work_that_keeps_crashing_is_given_up_and_the_next_message_is_answered() -> None:
    asked, dies = asyncio.Event(), [True, True, False]

    def answer(_: RecordedRequest) -> Any:
        asked.set()
        return hang() if dies.pop(0) else "Here."

    agent = flue.create_agent(
        model=ScriptedModel(itertools.repeat(answer)), durability={"max_attempts": 2, "timeout": None}
    )
    offers, store = catalog({"chat": agent}), MemoryStore()
    accepted: list[str] = []

    async def live(service: Service) -> None:
        asked.clear()
        await service.start()
        accepted.extend([] if accepted else [(await service.prompt("chat", "ann", "Go.")).id])
        await asked.wait()

    await crash(offers, store, 10_000, live)
    await crash(offers, store, 10_000, live)
    async with serving(offers, store) as service:
        outcome = await settled(service, accepted[0])
        assert (outcome.kind, json.loads(outcome.error or "")["code"]) == ("failed", "exhausted_attempts")
        assert "Here." in ((await ask(service, "Hello?")).result or "")
    assert any("submission_interrupted" in text for text in texts(await conversation(store, "chat", "ann")))


# DUR-35
async def test_a_prompt_whose_process_was_killed_yesterday_is_continued_and_the_time_since_does_not_count() -> None:
    asked, answers = asyncio.Event(), [hang(), "Good morning."]

    def answer(_: RecordedRequest) -> Any:
        asked.set()
        return answers.pop(0)

    agent = flue.create_agent(model=ScriptedModel(itertools.repeat(answer)), durability={"timeout": "90s"})
    offers, store, clock, accepted = catalog({"chat": agent}), MemoryStore(), VirtualClock(), ""

    async def live(service: Service) -> None:
        nonlocal accepted
        accepted = (await service.prompt("chat", "ann", "Good night.")).id
        await asked.wait()

    await crash(offers, store, 10_000, live)
    await clock.advance(86_400)
    async with serving(offers, store, clock) as service:
        outcome = await settled(service, accepted)
    assert "Good morning." in (outcome.result or "")


async def test_a_provider_failure_is_the_outcome_of_the_prompt() -> None:
    agent = flue.create_agent(model=ScriptedModel([flue.ProviderError("No.", status=401, code="unauthorized")]))
    async with serving(catalog({"chat": agent}), MemoryStore()) as service:
        outcome = await ask(service)
    assert (outcome.kind, json.loads(outcome.error or "")["code"]) == ("failed", "unauthorized")


async def test_a_computed_agent_that_fails_is_the_outcome_of_the_prompt() -> None:
    def configure(context: flue.AgentContext) -> Any:
        raise flue.DefinitionError(f"Nobody is {context.id}.")

    async with serving(catalog({"chat": flue.create_agent(configure)}), MemoryStore()) as service:
        outcome = await ask(service)
    assert (outcome.kind, json.loads(outcome.error or "")["message"]) == ("failed", "Nobody is ann.")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"agent": "nobody"}, "agent_not_found"),
        ({"instance": " "}, "invalid_id"),
        ({"instance": "a\x00b"}, "invalid_id"),
        ({"instance": "x" * 600}, "invalid_id"),
        ({"instance": "\ud800"}, "invalid_id"),
        ({"session": "task:x"}, "invalid_session_name"),
        ({"message": " "}, "invalid_text"),
    ],
)
async def test_what_cannot_be_accepted_is_refused(given: dict[str, str], code: str) -> None:
    agent = flue.create_agent(model=ScriptedModel())
    asked = {"agent": "chat", "instance": "ann", "message": "Hi.", "session": "default"} | given
    async with serving(catalog({"chat": agent}), MemoryStore()) as service:
        with pytest.raises(FlueError) as refused:
            await service.prompt(asked["agent"], asked["instance"], asked["message"], session=asked["session"])
    assert refused.value.code == code


async def test_a_busy_session_refuses_a_message_that_will_not_wait() -> None:
    agent = flue.create_agent(model=ScriptedModel([hang()]))
    async with serving(catalog({"chat": agent}), MemoryStore()) as service:
        await service.prompt("chat", "ann", "Go.")
        with pytest.raises(flue.SessionError) as refused:
            await service.prompt("chat", "ann", "Now!", busy="reject")
        assert refused.value.code == "session_busy"
        assert (await service.prompt("chat", "ann", "Now!", session="other", busy="reject")).ahead == 0


async def test_of_two_messages_at_once_that_will_not_wait_one_is_refused() -> None:
    """As when a button is pressed twice. The one that was accepted is known again by its key."""
    agent = flue.create_agent(model=ScriptedModel([hang()]))
    async with serving(catalog({"chat": agent}), MemoryStore()) as service:
        sent = [service.prompt("chat", "ann", "Go.", busy="reject", key=key) for key in ("k1", "k2")]
        first, second = await asyncio.gather(*sent, return_exceptions=True)
        assert isinstance(first, Ticket)
        assert isinstance(second, flue.SessionError)
        assert second.code == "session_busy"
        assert (await service.prompt("chat", "ann", "Go.", busy="reject", key="k1")).id == first.id


# DUR-30
async def test_a_key_makes_a_message_count_once() -> None:
    bench = Bench()
    async with serving(catalog({"chat": bench.agent}), MemoryStore()) as service:
        first = await service.prompt("chat", "ann", "Go.", key="k1")
        await first.outcome()
        again = await service.prompt("chat", "ann", "Go.", key="k1")
        assert (again.id, again.created) == (first.id, False)
        assert (await again.outcome()).kind == "completed"
        with pytest.raises(flue.DurabilityError) as refused:
            await service.prompt("chat", "ann", "Something else.", key="k1")
    assert refused.value.code == "idempotency_conflict"
    assert bench.ran == ["a", "b", "c"]


# DUR-36
@pytest.mark.parametrize("place", ["opening", "load_journal", "load_messages"])
async def test_a_prompt_aborted_as_it_is_taken_up_again_leaves_no_call_without_a_result(place: str) -> None:
    asked, opening = asyncio.Event(), asyncio.Event()
    lives = itertools.count()

    @flue.tool
    async def stall() -> None:
        """Take very long."""
        asked.set()
        await asyncio.Event().wait()

    async def configure(_: flue.AgentContext) -> Any:
        if place == "opening" and next(lives) == 1:
            opening.set()
            await asyncio.Event().wait()
        return {"model": ScriptedModel([call("stall")]), "tools": [stall]}

    class SlowStore(MemoryStore):
        async def load_messages(self, address: str) -> Any:
            await self._wait("load_messages")
            return await super().load_messages(address)

        async def load_journal(self, submission_id: str) -> Any:
            await self._wait("load_journal")
            return await super().load_journal(submission_id)

        async def _wait(self, name: str) -> None:
            if place == name and asked.is_set() and not opening.is_set():
                opening.set()
                await asyncio.Event().wait()

    offers, store = catalog({"chat": flue.create_agent(configure)}), SlowStore()
    accepted: list[str] = []

    async def script(service: Service) -> None:
        accepted.append((await service.prompt("chat", "ann", "Go.")).id)
        await asked.wait()

    await crash(offers, store, 10_000, script)
    async with serving(offers, store) as service:
        await service.start()
        await opening.wait()
        await service.abort(accepted[0], "Enough.")
        outcome = await settled(service, accepted[0])
    assert (outcome.kind, json.loads(outcome.error or "")["message"]) == ("aborted", "Enough.")
    said = texts(await conversation(store, "chat", "ann"))
    assert [line.split(":")[0] for line in said] == ["user", "assistant", "toolResult", "user"]
    assert "Enough." in said[-1]


# DUR-27, DUR-28
async def test_a_result_that_was_recorded_is_used_though_another_call_of_the_answer_was_under_way() -> None:
    """Each result is on disk as it comes: what has been done is not unknown because of what has not."""
    ran: list[str] = []
    stalled = asyncio.Event()

    @flue.tool
    async def quick() -> str:
        """Be done at once."""
        ran.append("quick")
        return "quick is done"

    @flue.tool
    async def broken() -> str:
        """Fail at once."""
        raise ValueError("broken")

    @flue.tool
    async def stall() -> None:
        """Take very long."""
        ran.append("stall")
        stalled.set()
        await asyncio.Event().wait()

    async def script(service: Service) -> None:
        await service.prompt("chat", "ann", "Go.")
        await stalled.wait()
        await settled_tasks()

    model = ScriptedModel([[call("quick"), call("broken"), call("stall")], "All done."])
    store, offers = MemoryStore(), catalog({"chat": flue.create_agent(model=model, tools=[quick, broken, stall])})
    await crash(offers, store, 10_000, script)
    [submission] = await store.list_lane(LANE)
    async with serving(offers, store) as service:
        assert (await settled(service, submission.id)).kind == "completed"
    messages = await conversation(store, "chat", "ann")
    results = [message for message in messages if isinstance(message, ToolResultMessage)]
    assert [message.is_error for message in results] == [False, True, True]
    first, second, third = texts(results)
    assert first == "toolResult: quick is done"
    assert "broken" in second
    assert "outcome of this call is unknown" in third
    assert ran == ["quick", "stall"]


# DUR-28
async def test_a_result_is_that_of_its_own_call_also_where_the_model_uses_an_id_again() -> None:
    """As some providers count their ids anew in each answer."""
    stalled = asyncio.Event()

    @flue.tool
    async def work(n: int) -> str:
        """Work; the second time it takes very long."""
        if n == 2:
            stalled.set()
            await asyncio.Event().wait()
        return f"work {n} is done"

    async def script(service: Service) -> None:
        await service.prompt("chat", "ann", "Go.")
        await stalled.wait()
        await settled_tasks()

    both = [call("work", {"n": 1}, id="c"), call("work", {"n": 1}, id="d")]
    model = ScriptedModel([both, call("work", {"n": 2}, id="c"), "All done."])
    store, offers = MemoryStore(), catalog({"chat": flue.create_agent(model=model, tools=[work])})
    await crash(offers, store, 10_000, script)
    [submission] = await store.list_lane(LANE)
    async with serving(offers, store) as service:
        assert (await settled(service, submission.id)).kind == "completed"
    messages = await conversation(store, "chat", "ann")
    *before, last = texts(message for message in messages if isinstance(message, ToolResultMessage))
    assert before == ["toolResult: work 1 is done"] * 2
    assert "outcome of this call is unknown" in last


# DUR-29
async def test_an_answer_that_was_streaming_when_its_process_died_is_gone_on_with() -> None:
    async def script(service: Service) -> None:
        await service.prompt("chat", "ann", "What is it?")
        await service.deployment.runtime.clock.sleep(60)

    model = ScriptedModel([["The answer is ", hang()], "forty-two."])
    store, offers = MemoryStore(), catalog({"chat": flue.create_agent(model=model)})
    await crash(offers, store, 10_000, script)
    [submission] = await store.list_lane(LANE)
    async with serving(offers, store) as service:
        assert json.loads((await settled(service, submission.id)).result or "")["text"] == "The answer is forty-two."
    assert "assistant: The answer is " in texts(model.requests[-1].messages)

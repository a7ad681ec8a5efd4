"""Tasks: child sessions, given by the application and by the model; named ones are continued."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flue import (
    BudgetExceededError,
    DefinitionError,
    DurabilityError,
    SessionError,
    UsageError,
    define_agent_profile,
    tool,
)
from flue.events import Event, OperationStart, TaskEnd, TaskStart, ToolCallEnd
from flue.harness.harness import session_name
from flue.messages import Message, TextContent
from flue.testing import MemoryStore, RecordedRequest, ScriptedModel, call, hang
from tests.harness.scene import Scene, assert_sound, scene, until
from tests.harness.test_pauses import killed


def first_text(message: Message) -> str:
    return next((block.text for block in message.content if isinstance(block, TextContent)), "")


def texts(s: Scene) -> list[str]:
    """Return the first text of every message."""
    return [first_text(message) for message in s.messages]


def asked(request: RecordedRequest) -> list[str]:
    """Return the first text of every message of a request."""
    return [first_text(message) for message in request.messages]


async def task_sessions(store: MemoryStore) -> list[str]:
    """Return the keys of the sessions of tasks."""
    return [key for key in await store.list_sessions() if session_name(key).startswith("task:")]


class Shelf:
    """A user's own session store."""

    def __init__(self, sessions: dict[str, Any] | None = None) -> None:
        self.sessions = {} if sessions is None else sessions

    async def save(self, id: str, data: Any) -> None:
        self.sessions[id] = data

    async def load(self, id: str) -> Any:
        return self.sessions.get(id)

    async def delete(self, id: str) -> None:
        self.sessions.pop(id, None)


class ListingShelf(Shelf):
    """One that can say what it has."""

    async def list(self, prefix: str) -> list[str]:
        return [key for key in self.sessions if key.startswith(prefix)]


async def test_a_task_runs_in_a_child_session_with_the_same_files() -> None:
    triager = define_agent_profile(name="triager", instructions="Cite sources.", description="Triages.")
    async with scene("Reset it there [1].", "Thanks.", subagents=[triager], instructions="Be kind.") as s:
        await s.session.fs.write_file("a.txt", "1")
        reply = await s.session.task("Help me reset my password", agent="triager")
        assert reply.text == "Reset it there [1]."
        request = s.model.requests[0]
        assert "Cite sources." in request.system
        assert "Be kind." not in request.system
        assert "a.txt" in request.system
        assert not s.messages
        assert len(await task_sessions(s.store)) == 1
        assert {"task_start", "task"} <= set(s.types())
        await s.session.delete()
        assert await s.store.list_sessions() == []


async def test_the_model_gives_tasks_to_subagents_by_name() -> None:
    helper_model = ScriptedModel(["Found it."])
    finder = define_agent_profile(name="finder", description="Finds things.", model=helper_model)
    steps = (
        [call("task", {"prompt": "Find it", "agent": "finder"}), call("task", {"prompt": "x", "agent": "nobody"})],
        "Ok.",
    )
    async with scene(*steps, subagents=[finder]) as s:
        await s.session.prompt("Find it for me.")
        assert texts(s)[2] == "Found it."
        assert 'Subagent "nobody" is not declared. Available: finder.' in texts(s)[3]
        child = [event for event in s.events if event.scope.task_id]
        assert child
        assert all(event.scope.parent_session == "default" for event in child)


async def test_task_is_offered_only_with_subagents_or_when_asked_for() -> None:
    async with scene("a") as s:
        await s.session.prompt("Go.")
        assert "task" not in [spec.name for spec in s.model.requests[0].tools]
    async with scene("a", subagents=[define_agent_profile(name="x")], task_tool="never") as s:
        await s.session.prompt("Go.")
        assert "task" not in [spec.name for spec in s.model.requests[0].tools]


async def test_tasks_inside_tasks_end_at_the_fourth_level() -> None:
    deeper = call("task", {"prompt": "deeper"})
    async with scene(deeper, deeper, deeper, deeper, deeper, "5", "4", "3", "2", "1", task_tool="always") as s:
        assert (await s.session.prompt("Go.")).text == "1"
        assert len(s.model.requests) == 10
        errors = [
            message
            for request in s.model.requests
            for message in request.messages
            if message.role == "toolResult" and message.is_error
        ]
        assert "Maximum task depth (4) exceeded." in errors[0].content[0].text  # type: ignore[union-attr]


async def test_aborting_a_call_aborts_its_tasks() -> None:
    async with scene(call("task", {"prompt": "wait"}), hang(), "Fine.", task_tool="always") as s:
        handle = s.session.prompt("Go.")
        await until(lambda: len(s.model.requests) == 2)
        handle.abort()
        await handle.settle()
        assert_sound(s.messages)
        assert (await s.session.prompt("Go on.")).text == "Fine."


# ------------------------------------------------------------------------------------------------ by name


TRIAGER = define_agent_profile(name="triager", description="Triages.", instructions="Triage.")
WRITER = define_agent_profile(name="writer", instructions="Write.")


async def test_a_task_of_the_same_name_goes_on_with_the_conversation() -> None:
    async with scene("A bug.", "Because it crashes.", "New here.", subagents=[TRIAGER]) as s:
        await s.session.task("What is #1?", agent="triager", name="triage")
        reply = await s.session.task("Why?", name="triage")
        await s.session.task("What is #2?", agent="triager")
        assert reply.text == "Because it crashes."
        assert asked(s.model.requests[1]) == ["What is #1?", "A bug.", "Why?"]
        assert "Triage." in s.model.requests[1].system
        assert asked(s.model.requests[2]) == ["What is #2?"]
        assert len(await task_sessions(s.store)) == 2


async def test_a_named_task_is_continued_in_another_process_with_its_agent_and_directory() -> None:
    store = MemoryStore()
    async with scene("A bug.", subagents=[TRIAGER], store=store) as s:
        await s.session.fs.write_file("issues/1.md", "It crashes.")
        await s.session.task("What is #1?", agent="triager", name="triage", cwd="issues")
    async with scene("Because.", subagents=[TRIAGER], store=store) as s:
        reply = await s.session.task("Why?", name="triage")
        assert reply.text == "Because."
        [request] = s.model.requests
        assert asked(request) == ["What is #1?", "A bug.", "Why?"]
        assert "Triage." in request.system
        assert "Working directory: /workspace/issues" in request.system
        assert len(await task_sessions(s.store)) == 1


async def test_a_named_task_that_another_process_went_on_with_is_read_anew() -> None:
    store = MemoryStore()
    async with scene("One.", "Lost.", "Four.", store=store) as s:
        await s.session.task("1", name="triage")
        async with scene("Two.", store=store) as other:
            await other.session.task("2", name="triage")
        with pytest.raises(DurabilityError):
            await s.session.task("3", name="triage")
        await s.session.task("4", name="triage")
        assert asked(s.model.requests[2]) == ["1", "One.", "2", "Two.", "4"]


async def test_a_task_can_be_continued_by_the_id_it_was_given() -> None:
    async with scene("A bug.", "Because.") as s:
        await s.session.task("What is #1?")
        [started] = [event for event in s.events if isinstance(event, TaskStart)]
        await s.session.task("Why?", name=started.scope.task_id)
        assert asked(s.model.requests[1]) == ["What is #1?", "A bug.", "Why?"]


async def test_a_named_task_can_move_to_another_directory() -> None:
    async with scene("1", "2", "3") as s:
        for cwd in ("a", "b", None):
            await s.session.task("Where are you?", name="walker", cwd=cwd)
        found = [request.system.split("Working directory: ")[1].split()[0] for request in s.model.requests]
        assert found == ["/workspace/a", "/workspace/b", "/workspace/b"]
        assert len(s.model.requests[2].messages) == 5


async def test_a_name_belongs_to_the_agent_that_began_it() -> None:
    async with scene("1", "2", subagents=[TRIAGER, WRITER]) as s:
        await s.session.task("a", agent="triager", name="triage")
        with pytest.raises(SessionError, match='begun by "triager", so "writer" cannot go on') as raised:
            await s.session.task("b", agent="writer", name="triage")
        assert raised.value.code == "task_mismatch"
        await s.session.task("a", name="plain")
        with pytest.raises(SessionError, match="begun without a subagent"):
            await s.session.task("b", agent="writer", name="plain")


@pytest.mark.parametrize("name", ["", "a:b", "-a", "a/b", "x" * 65, 3])
async def test_a_name_that_no_task_can_have_is_refused_at_once(name: object) -> None:
    async with scene() as s:
        with pytest.raises(UsageError, match="cannot be named") as raised:
            s.session.task("Go.", name=name)  # type: ignore[call-overload]
        assert raised.value.code == "invalid_task_name"


async def test_sessions_have_named_tasks_of_their_own() -> None:
    async with scene("1", "2") as s:
        other = await s.harness.session("other")
        await s.session.task("a", name="triage")
        await other.task("b", name="triage")
        assert asked(s.model.requests[1]) == ["b"]


async def test_the_model_continues_a_task_by_name_and_two_calls_to_it_wait_for_each_other() -> None:
    def task(prompt: str, **more: str) -> object:
        return call("task", {"prompt": prompt, "name": "triage", **more})

    steps = ([task("first", agent="triager"), task("second")], "One.", "Two.", task("third"), "Three.", "Done.")
    async with scene(*steps, subagents=[TRIAGER]) as s:
        await s.session.prompt("Go.")
        assert texts(s) == ["Go.", "", "One.", "Two.", "", "Three.", "Done."]
        assert asked(s.model.requests[4]) == ["first", "One.", "second", "Two.", "third"]
        assert "Triage." in s.model.requests[4].system
        kinds = [event.type for event in s.events if event.type in ("task_start", "task")]
        assert kinds == ["task_start", "task"] * 3


async def test_every_task_has_an_id_of_its_own_and_its_events_carry_it() -> None:
    async with scene("1", "2") as s:
        await s.session.task("a", name="triage")
        await s.session.task("b", name="triage")
        first, second = [event.scope.task_id for event in s.events if isinstance(event, TaskStart)]
        assert first != second
        inside = [event for event in s.events if isinstance(event, OperationStart) and event.scope.parent_session]
        assert [event.scope.task_id for event in inside] == [first, second]
        assert {event.scope.session for event in inside} == {"task:default:triage"}


async def test_the_result_of_the_task_tool_says_where_the_work_was_done() -> None:
    async with scene(call("task", {"prompt": "a", "name": "triage"}), "One.", "Done.", task_tool="always") as s:
        await s.session.prompt("Go.")
        [ended] = [event for event in s.events if isinstance(event, ToolCallEnd)]
        details = ended.result.details
        assert details["session"] == "task:default:triage"
        assert details["taskId"]
        [known] = await task_sessions(s.store)
        stored = await s.store.load_session(known)
        assert stored is not None
        assert details["messageId"] == stored.entries[-1].id


async def test_deleting_a_session_ends_its_named_tasks_for_good() -> None:
    async with scene("One.", "Nothing.") as s:
        await s.session.task("Remember blue.", name="memory")
        await s.session.delete()
        assert await s.store.list_sessions() == []
        again = await s.harness.session()
        await again.task("Which colour?", name="memory")
        assert asked(s.model.requests[1]) == ["Which colour?"]


@pytest.mark.parametrize("listing", [True, False])
async def test_deleting_a_session_deletes_its_tasks_and_theirs_and_nobody_elses(listing: bool) -> None:
    shelf = Shelf()
    store = ListingShelf(shelf.sessions) if listing else shelf
    inner = call("task", {"prompt": "a"})
    async with scene(persist=store, task_tool="always", model=ScriptedModel([inner, "One.", "Two."] * 3)) as s:
        names = ("a", "a:b", 'b"]')
        for name in names:
            await (await s.harness.session(name)).task("Go.", name="n")
        all_of_it = set(shelf.sessions)
        assert len(all_of_it) == 1 + 3 * len(names)
        await (await s.harness.session("a")).delete()
        gone = {session_name(key) for key in all_of_it - set(shelf.sessions)}
        assert {name for name in gone if not name.startswith("task:task:")} == {"a", "task:a:n"}
        assert len(gone) == 3
        for name in (*names, "default"):
            await s.harness.sessions.delete(name)
        assert not shelf.sessions


async def test_what_a_session_carries_does_not_grow_with_its_tasks() -> None:
    async with scene(*["Done."] * 5) as s:
        for _ in range(5):
            await s.session.task("Go.")
        assert set(s.session.history.metadata) == {"spent"}
        await s.session.delete()
        assert await s.store.list_sessions() == []


async def test_a_named_task_goes_on_after_an_abort() -> None:
    async with scene("One.", hang(), "Three.", task_tool="always") as s:
        await s.session.task("a", name="triage")
        handle = s.session.task("b", name="triage")
        await until(lambda: len(s.model.requests) == 2)
        handle.abort()
        await handle.settle()
        assert (await s.session.task("c", name="triage")).text == "Three."
        assert asked(s.model.requests[2])[-1] == "c"


async def test_a_named_task_goes_on_after_its_process_died_in_a_tool() -> None:
    store, started = MemoryStore(), asyncio.Event()

    @tool
    async def launch() -> str:
        """Launch."""
        started.set()
        await asyncio.Event().wait()
        return "never"

    async with killed(store, ScriptedModel([call("launch", {})]), tools=[launch]) as session:
        session.task("Launch.", name="rocket")
        await started.wait()
    async with scene("I will look first.", tools=[launch], store=store) as s:
        assert (await s.session.task("Did it fly?", name="rocket")).text == "I will look first."
        [request] = s.model.requests
        assert_sound(list(request.messages))
        assert "outcome of this call is unknown" in asked(request)[2]


async def test_a_call_of_a_named_task_that_waited_for_approval_when_its_process_died_was_not_run() -> None:
    store, paid = MemoryStore(), list[int]()

    @tool(approval=True)
    async def pay() -> str:
        """Pay."""
        paid.append(1)
        return "paid"

    events: list[Event] = []
    async with killed(store, ScriptedModel([call("pay", {})]), tools=[pay]) as session:
        session.harness.emitter.sinks.append(events.append)
        session.task("Pay.", name="bank")
        await until(lambda: any(event.type == "approval_request" for event in events))
    async with scene("Shall I try again?", tools=[pay], store=store) as s:
        await s.session.task("Did you pay?", name="bank")
        [request] = s.model.requests
        assert_sound(list(request.messages))
        assert "was not run" in asked(request)[2]
        assert not paid


async def test_calls_of_tasks_inside_tasks_are_approved_on_the_session_that_gave_them() -> None:
    @tool(approval=True)
    async def pay() -> str:
        """Pay."""
        return "paid"

    deeper = call("task", {"prompt": "deeper"})
    async with scene(deeper, deeper, call("pay", {}, id="c1"), "Paid.", "b", "a", tools=[pay], task_tool="always") as s:
        handle = s.session.prompt("Go.")
        await until(lambda: "approval_request" in s.types())
        assert [approval.tool_call_id for approval in s.session.approvals.pending] == ["c1"]
        await s.session.approve("c1")
        await handle
        assert first_text(s.model.requests[3].messages[-1]) == "paid"
        assert s.session.approvals.pending == []
        with pytest.raises(SessionError, match="waits"):
            await s.session.approve("c1")


# ----------------------------------------------------------------------------------- what a child inherits


async def test_a_subagents_own_model_wins_over_that_of_the_prompt_also_when_it_is_continued_by_name() -> None:
    own, other = ScriptedModel(["Own.", "Own again."]), ScriptedModel()
    finder = define_agent_profile(name="finder", model=own, thinking_level="low")
    other.add(
        call("task", {"prompt": "a", "agent": "finder", "name": "find"}),
        call("task", {"prompt": "b", "name": "find"}),
        "Done.",
    )
    async with scene(subagents=[finder]) as s:
        await s.session.prompt("Go.", model=other, thinking_level="high")
        assert [request.thinking for request in own.requests] == ["low", "low"]


async def test_the_model_and_tools_of_a_prompt_reach_the_tasks_that_it_gives() -> None:
    @tool
    async def extra() -> str:
        """Extra."""
        return ""

    other = ScriptedModel([call("task", {"prompt": "a", "agent": "triager"}), "Child.", "Done."])
    async with scene(subagents=[TRIAGER]) as s:
        await s.session.prompt("Go.", model=other, tools=[extra])
        assert asked(other.requests[1]) == ["a"]
        assert "extra" in [spec.name for spec in other.requests[1].tools]


async def test_subagents_are_not_inherited() -> None:
    async with scene(call("task", {"prompt": "a", "agent": "triager"}), "Child.", "Done.", subagents=[TRIAGER]) as s:
        await s.session.prompt("Go.")
        assert "task" in [spec.name for spec in s.model.requests[0].tools]
        assert "task" not in [spec.name for spec in s.model.requests[1].tools]


async def test_a_subagents_budget_limits_each_of_its_tasks() -> None:
    @tool
    async def step() -> str:
        """Take a step."""
        return "stepped"

    walker = define_agent_profile(name="walker", budget={"turns": 1})
    async with scene(call("step", {}), "Home.", call("step", {}), tools=[step], subagents=[walker]) as s:
        with pytest.raises(BudgetExceededError) as raised:
            await s.session.task("Walk.", agent="walker", name="walk")
        assert (raised.value.scope, raised.value.limit_name) == ("call", "turns")
        assert (await s.session.task("Go on.", name="walk", budget={"turns": 5})).text == "Home."
        with pytest.raises(BudgetExceededError):
            await s.session.task("Again.", name="walk")


async def test_a_tasks_usage_is_its_own_and_counts_for_the_session_that_gave_it() -> None:
    async with scene("Child.") as s:
        reply = await s.session.task("Think.")
        assert reply.usage.output == 2
        assert s.session.history.usage.output == 0
        assert s.session.meter.usage.output == 2


async def test_an_unknown_subagent_is_refused_and_nothing_is_kept_of_it() -> None:
    async with scene("Fine.") as s:
        with pytest.raises(DefinitionError, match='Subagent "nobody" is not declared'):
            await s.session.task("Go.", agent="nobody", name="x")
        assert await task_sessions(s.store) == []
        assert (await s.session.task("Go.", name="x")).text == "Fine."
        [ended] = [event for event in s.events if isinstance(event, TaskEnd)]
        assert not ended.is_error

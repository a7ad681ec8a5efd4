"""Sessions: memory, order, persistence, shell, deletion."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import sys
from typing import Any, ClassVar

import pytest

from flue import (
    AbortError,
    DefinitionError,
    DurabilityError,
    ModelSetupError,
    OperationError,
    OperationTimeoutError,
    SessionError,
    UsageError,
    create_agent,
    open_context,
    tool,
)
from flue.messages import ImageContent, TextContent, ToolResultMessage, UserMessage
from flue.testing import MemoryStore, ScriptedModel, call, hang
from tests.harness.scene import Scene, assert_sound, scene, until


def texts(s: Scene) -> list[str]:
    """Return the first text of every message."""
    return [next((block.text for block in m.content if isinstance(block, TextContent)), "") for m in s.messages]


async def test_a_session_remembers_what_was_said() -> None:
    async with scene("Hello Ann.", "Ann.") as s:
        await s.session.prompt("I am Ann.")
        await s.session.prompt("Who am I?")
        assert texts(s) == ["I am Ann.", "Hello Ann.", "Who am I?", "Ann."]
        assert len(s.model.requests[1].messages) == 3


async def test_calls_on_one_session_run_in_the_order_they_were_made() -> None:
    async with scene("1", "2", "3") as s:
        handles = [s.session.prompt(text) for text in ("a", "b", "c")]
        replies = [await handle for handle in reversed(handles)]
        assert [reply.text for reply in reversed(replies)] == ["1", "2", "3"]
        assert texts(s)[::2] == ["a", "b", "c"]


async def test_a_busy_session_can_refuse_instead_of_queueing() -> None:
    async with scene(hang()) as s:
        first = s.session.prompt("a")
        with pytest.raises(SessionError, match="already running") as raised:
            s.session.prompt("b", busy="reject")
        assert raised.value.code == "session_busy"
        first.abort()
        await first.settle()


async def test_two_sessions_of_a_harness_run_at_the_same_time() -> None:
    async with scene(hang(), "Second.") as s:
        first = s.session.prompt("a")
        other = await s.harness.session("other")
        await until(lambda: s.model.requests)
        assert (await other.prompt("b")).text == "Second."
        first.abort()
        await first.settle()


async def test_a_tool_that_prompts_its_own_session_is_told_so_instead_of_deadlocking() -> None:
    async with scene(call("ask", {}), "Too bad.") as s:

        @tool
        async def ask() -> str:
            """Ask the same session."""
            return (await s.session.prompt("Really?")).text

        await s.session.prompt("Go.", tools=[ask])
        assert "already running" in texts(s)[2]


async def test_a_second_context_continues_the_conversation_from_the_store() -> None:
    store = MemoryStore()
    async with scene("Hello Ann.", store=store) as s:
        await s.session.prompt("I am Ann.")
        before = await s.session.history.export()
    async with scene("Ann.", store=store) as s:
        assert (await s.session.history.export())["entries"] == before["entries"]
        await s.session.prompt("Who am I?")
        assert [type(message) for message in s.model.requests[0].messages] == [
            type(message) for message in s.messages[:3]
        ]
        assert texts(s) == ["I am Ann.", "Hello Ann.", "Who am I?", "Ann."]


async def test_instances_and_session_names_do_not_share_a_conversation() -> None:
    store = MemoryStore()
    async with scene("x", store=store, id="one") as s:
        await s.session.prompt("a")
    async with scene("y", store=store, id="two") as s:
        assert not s.messages
        assert not (await s.harness.session("other")).history.transcript.messages
    assert await store.list_sessions() == [
        'agent-session:["one","default","default"]',
        'agent-session:["two","default","default"]',
        'agent-session:["two","default","other"]',
    ]


async def test_a_session_changed_by_another_process_is_refused_not_mixed() -> None:
    store = MemoryStore()
    async with scene("a", "b", store=store) as mine, scene("c", store=store) as theirs:
        await mine.session.prompt("1")
        with pytest.raises(DurabilityError) as raised:
            await theirs.session.prompt("2")
        assert raised.value.code == "session_conflict"


async def test_after_a_conflict_the_session_is_read_anew_and_stays_readable() -> None:
    store = MemoryStore()
    async with scene("a", "b", store=store) as mine, scene("c", "d", "e", store=store) as theirs:
        await mine.session.prompt("1")
        for _ in range(2):
            with pytest.raises(DurabilityError, match="changed by someone else"):
                await theirs.session.prompt("2")
        again = await theirs.harness.session()
        assert again is await theirs.harness.session() is not theirs.session
        await again.prompt("3")
    async with scene(store=store) as later:
        assert texts(later) == ["1", "a", "3", "e"]


async def fails() -> None:
    """Raise."""
    raise ValueError("inside")


async def leave_a_count_behind() -> None:
    """Up to Python 3.12 a TaskGroup that fails leaves its task counted as cancelled."""
    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())


async def test_an_aborted_call_raises_its_own_error_after_a_task_group_failed_in_the_awaiter() -> None:
    async with scene(hang(), hang()) as s:
        await leave_a_count_behind()
        with pytest.raises(OperationTimeoutError):
            await s.session.prompt("a", timeout=1)
        handle = s.session.prompt("b")
        asyncio.get_running_loop().call_soon(handle.abort, "enough")
        with pytest.raises(AbortError, match="enough"):
            await handle


async def test_a_tool_whose_task_group_failed_does_not_make_later_ones_look_aborted() -> None:
    @tool
    async def grouped() -> str:
        """Fail in a group."""
        await leave_a_count_behind()
        return "done"

    @tool
    async def gives_up() -> str:
        """Cancel itself."""
        raise asyncio.CancelledError

    async with scene(call("grouped"), call("gives_up"), "Fine.", tools=[grouped, gives_up]) as s:
        assert (await s.session.prompt("a")).text == "Fine."


@pytest.mark.parametrize("others", [0, 1])
async def test_a_tool_that_ends_the_process_only_ends_its_call(others: int) -> None:
    @tool
    def leave() -> str:
        """Leave."""
        sys.exit(3)

    calls = [call("leave")] * (others + 1)
    async with scene(calls, "Fine.", tools=[leave]) as s:
        assert (await s.session.prompt("a")).text == "Fine."
        assert_sound(s.messages)
        assert "ended with exit status 3" in texts(s)[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": 5}, "call: model must be text"),
        ({"thinking_level": "extreme"}, "call: thinking_level must be one of"),
        ({"tools": [fails]}, "'fails' is a plain function. Decorate it with @tool"),
        ({"tools": 5}, "call: tools must be a list"),
        ({"images": ["cat.png"]}, "images takes ImageContent objects, got str"),
        ({"timeout": "5"}, "timeout must be a positive number of seconds, got '5'"),
        ({"busy": "wait"}, 'busy must be "queue" or "reject", got'),
    ],
)
async def test_wrong_options_of_a_call_are_named_at_the_call(options: dict[str, Any], message: str) -> None:
    async with scene() as s:
        with pytest.raises((DefinitionError, UsageError), match=re.escape(message)):
            s.session.prompt("a", **options)
        assert not s.messages


async def test_a_context_can_be_left_in_another_task_than_it_was_entered_in() -> None:
    block = open_context(models=None, env={})
    context = await asyncio.create_task(block.__aenter__())
    assert context.id
    await asyncio.create_task(block.__aexit__(None, None, None))


async def test_a_turn_beside_another_process_s_turn_leaves_nothing_in_the_conversation() -> None:
    store = MemoryStore()
    asked, released = asyncio.Event(), asyncio.Event()

    async def slowly(_request: object) -> str:
        asked.set()
        await released.wait()
        return "slow"

    async with scene(slowly, store=store) as theirs, scene("mine", store=store) as mine:
        mine.harness.runtime.ids.entry()  # two processes do not make the same ids
        slow = theirs.session.prompt("1")
        await asked.wait()
        # The question is refused. The answer comes as second, after as many entries as are there.
        with pytest.raises(DurabilityError, match="changed by someone else"):
            await mine.session.prompt("2")
        released.set()
        await slow
    async with scene("fine", store=store) as later:
        await later.session.prompt("3")
        assert texts(later) == ["1", "slow", "3", "fine"]


async def test_get_create_and_delete_say_what_exists() -> None:
    async with scene("Hi.") as s:
        sessions = s.harness.sessions
        assert await sessions.get() is s.session
        with pytest.raises(SessionError, match="does not exist"):
            await sessions.get("other")
        with pytest.raises(SessionError, match="already exists"):
            await sessions.create()
        await s.session.prompt("Hello.")
        await s.session.delete()
        await s.session.delete()
        with pytest.raises(SessionError, match="deleted"):
            s.session.prompt("Hello?")
        assert await s.store.list_sessions() == []
        assert not (await s.harness.session()).history.transcript.messages


async def test_opening_one_session_from_two_tasks_gives_one_object() -> None:
    async with scene() as s:
        first, second = await asyncio.gather(s.harness.session("x"), s.harness.session("x"))
        assert first is second


async def test_deleting_a_session_aborts_what_runs_in_it() -> None:
    async with scene(hang()) as s:
        handle = s.session.prompt("a")
        await until(lambda: s.model.requests)
        await s.session.delete()
        assert handle.done
        assert await s.store.list_sessions() == []


async def test_an_unawaited_failure_is_logged_and_kills_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with scene(RuntimeError("boom"), "Fine.") as s:
        handle = s.session.prompt("a")
        await handle.settle()
        del handle
        gc.collect()
        assert [record for record in caplog.records if record.levelno == logging.ERROR and "boom" in record.message]
        assert (await s.session.prompt("b")).text == "Fine."


async def test_an_unawaited_call_still_runs_to_its_end() -> None:
    async with scene("Noted.", "Yes.") as s:
        s.session.prompt("Remember this.")
        gc.collect()
        await s.session.prompt("Did you?")
        assert texts(s) == ["Remember this.", "Noted.", "Did you?", "Yes."]


async def test_closing_the_context_ends_what_runs() -> None:
    async with scene(hang()) as s:
        handle = s.session.prompt("a")
        await until(lambda: s.model.requests)
    assert handle.done


async def test_shell_output_is_part_of_the_conversation_and_env_values_are_not() -> None:
    async with scene("I saw it.") as s:
        result = await s.session.shell("cat; echo $TOKEN", stdin="from stdin\n", env={"TOKEN": "s3cret"})
        assert (result.stdout, result.exit_code) == ("from stdin\ns3cret\n", 0)
        await s.session.prompt("What did it print?")
        sent = s.model.requests[0].messages
        assert isinstance(sent[2], ToolResultMessage)
        assert sent[1].tool_calls[0].arguments["env"] == {"TOKEN": "<redacted>"}  # type: ignore[union-attr]
        assert_sound(s.messages)


async def test_a_failing_command_is_a_result() -> None:
    async with scene() as s:
        assert (await s.session.shell("exit 3")).exit_code == 3
        assert "exited with code 3" in texts(s)[2]


async def test_shell_on_the_harness_leaves_the_conversation_alone() -> None:
    async with scene() as s:
        assert (await s.harness.shell("echo hi")).stdout == "hi\n"
        assert not s.messages
        assert [event.type for event in s.events] == ["tool_start", "tool_call"]


async def test_files_written_through_fs_are_there_for_the_shell_and_the_tools() -> None:
    async with scene(call("read", {"path": "notes/a.txt"}), "Read.") as s:
        await s.session.fs.write_file("notes/a.txt", "hello")
        assert (await s.session.shell("cat notes/a.txt")).stdout == "hello"
        await s.session.prompt("Read it.")
        assert "hello" in texts(s)[-2]


async def test_images_stand_after_the_text() -> None:
    image = ImageContent("aGk=", "image/png")
    async with scene("A cat.") as s:
        await s.session.prompt("What is it?", images=[image])
        assert s.messages[0] == UserMessage((TextContent("What is it?"), image), s.messages[0].timestamp)


async def test_usage_and_cost_cover_every_request_of_the_call() -> None:
    @tool
    async def ping() -> str:
        """Ping."""
        return "pong"

    async with scene(call("ping", {}), "Done.", "Alone.", tools=[ping]) as s:
        twice = await s.session.prompt("Go.")
        once = await s.session.prompt("Go.")
        assert twice.usage.total_tokens > once.usage.output > 0
        assert twice.usage.output == sum(
            message.usage.output for message in s.messages[:4] if message.role == "assistant"
        )
        assert twice.cost == twice.usage.cost.total
        assert twice.to_json().keys() == {"text", "usage", "model"}


async def test_a_call_can_choose_its_model_thinking_level_and_tools() -> None:
    other = ScriptedModel(["From the other."])
    async with scene("Unused.") as s:

        @tool
        async def extra() -> str:
            """Extra."""
            return ""

        reply = await s.session.prompt("Go.", model=other, thinking_level="high", tools=[extra])
        assert reply.text == "From the other."
        assert other.requests[0].thinking == "high"
        assert "extra" in [spec.name for spec in other.requests[0].tools]
        assert not s.model.requests


async def test_model_false_asks_for_a_model_in_the_call() -> None:
    async with scene(model=False) as s:
        with pytest.raises(ModelSetupError, match="No model configured for this prompt"):
            await s.session.prompt("Go.")
        assert (await s.session.prompt("Go.", model=ScriptedModel(["Yes."]))).text == "Yes."


@pytest.mark.parametrize("text", ["", "  \n", None, 3])
async def test_a_prompt_without_text_is_refused_at_once(text: object) -> None:
    async with scene() as s:
        with pytest.raises(UsageError, match="needs text"):
            s.session.prompt(text)  # type: ignore[call-overload]


async def test_tools_of_a_call_must_not_clash() -> None:
    @tool
    async def read() -> str:
        """Clash."""
        return ""

    async with scene() as s:
        with pytest.raises(DefinitionError, match='"read" conflicts with a built-in tool'):
            s.session.prompt("Go.", tools=[read])


async def test_tools_are_offered_in_the_documented_order() -> None:
    @tool
    async def mine() -> str:
        """Mine."""
        return ""

    @tool
    async def extra() -> str:
        """Extra."""
        return ""

    async with scene(call("finish", {"result": 1}), tools=[mine], task_tool="always") as s:
        await s.session.prompt("Go.", tools=[extra], result=int)
        assert [spec.name for spec in s.model.requests[0].tools] == [
            "read", "write", "edit", "bash", "grep", "glob", "task", "mine", "extra", "finish", "give_up",
        ]  # fmt: skip


async def test_init_twice_with_one_name_is_refused_and_a_failed_init_frees_the_name() -> None:
    async with scene() as s:
        with pytest.raises(UsageError, match='init\\(\\) has already been called with name "default"'):
            await s.context.init(create_agent(model=s.model))
        with pytest.raises(ModelSetupError):
            await s.context.init(create_agent(model="nobody/nothing"), name="second")
        await s.context.init(create_agent(model=s.model), name="second")
        with pytest.raises(DefinitionError, match="create_agent"):
            await s.context.init("agent")  # type: ignore[call-overload]


async def test_a_computed_agent_sees_id_env_and_payload() -> None:
    seen: list[object] = []

    @create_agent
    async def agent(ctx: object) -> dict[str, object]:
        seen.append((ctx.id, ctx.env["FROM_ENV"], ctx.payload))  # type: ignore[attr-defined]
        return {"model": ScriptedModel(["Hi."]), "thinkingLevel": "low"}

    async with scene() as s:
        harness = await s.context.init(agent, name="computed")
        assert (await (await harness.session()).prompt("Hi")).text == "Hi."
        assert seen == [("i1", "yes", None)]


async def test_workspace_files_reach_the_system_prompt() -> None:
    from flue.sandboxes import virtual

    files = {"AGENTS.md": "Use tabs.", "src/main.py": "x"}
    async with scene("ok", sandbox=virtual(files=files), instructions="Be brief.") as s:
        await s.session.prompt("Go.")
        system = s.model.requests[0].system
        assert system.index("Be brief.") < system.index("Use tabs.") < system.index("Date: ")
        assert "Working directory: /workspace" in system
        assert "src" in system.split("Directory structure:")[1]


async def test_a_persist_store_of_the_users_own_gets_whole_sessions_in_format_3() -> None:
    class Mine:
        saved: ClassVar[dict[str, dict[str, object]]] = {}

        async def save(self, id: str, data: dict[str, object]) -> None:
            self.saved[id] = data

        async def load(self, id: str) -> dict[str, object] | None:
            return self.saved.get(id)

        async def delete(self, id: str) -> None:
            self.saved.pop(id, None)

    async with scene("Hello.", persist=Mine()) as s:
        await s.session.prompt("Hi.")
        [data] = Mine.saved.values()
        assert data["version"] == 3
        assert [entry["message"]["role"] for entry in data["entries"]] == ["user", "assistant"]  # type: ignore[attr-defined]
        assert data["leafId"] == data["entries"][-1]["id"]  # type: ignore[index]
        assert await s.store.list_sessions() == []


async def test_a_store_that_fails_once_loses_nothing() -> None:
    class Flaky(MemoryStore):
        fail = False

        def append_entries(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            if self.fail:
                self.fail = False

                async def failing() -> None:
                    raise DurabilityError("disk full", code="store_full")

                return failing()
            return super().append_entries(*args, **kwargs)  # type: ignore[arg-type]

    store = Flaky()
    async with scene("One.", "Two.", store=store) as s:
        store.fail = True
        with pytest.raises(DurabilityError, match="disk full"):
            await s.session.prompt("a")
        await s.session.prompt("b")
    async with scene(store=store) as s:
        assert texts(s) == ["a", "One.", "b", "Two."]


async def test_errors_name_the_operation_that_failed() -> None:
    async with scene(RuntimeError("x"), RuntimeError("y")) as s:
        with pytest.raises(OperationError, match=r"^prompt failed: "):
            await s.session.prompt("a")
        with pytest.raises(OperationError, match=r"^task failed: "):
            await s.session.task("a")

"""A conversation that goes on in another sandbox: where its files are not kept, the model is told, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flue import ToolResult, define_agent_profile, tool
from flue.harness.files_note import NEW_SANDBOX
from flue.messages import TextContent, UserMessage
from flue.sandboxes import local, virtual
from flue.testing import MemoryStore, call
from tests.harness.scene import Scene, scene, until

WRITES = call("write", {"path": "plan.txt", "content": "One."})


def asked(s: Scene) -> list[list[str]]:
    """Return the texts of each user message that the model saw last."""
    return [
        [block.text for block in message.content if isinstance(block, TextContent)]
        for message in s.model.requests[-1].messages
        if isinstance(message, UserMessage)
    ]


# DUR-42
async def test_the_first_message_in_another_sandbox_says_so() -> None:
    store = MemoryStore()
    async with scene(WRITES, "Written.", "Still there.", store=store) as s:
        await s.session.prompt("a")
        await s.session.prompt("b")
        assert asked(s) == [["a"], ["b"]]
    async with scene("1", "2", store=store) as s:
        await s.session.prompt("c")
        await s.session.prompt("d")
        assert asked(s) == [["a"], ["b"], [NEW_SANDBOX, "c"], ["d"]]


@pytest.mark.parametrize(("sandbox", "steps"), [(local, [WRITES, "Written."]), (virtual, ["I touch nothing."])])
async def test_nothing_is_said_of_a_sandbox_that_keeps_its_files_and_where_there_were_none(
    sandbox: Any, steps: list[Any], tmp_path: Path
) -> None:
    store, chosen = MemoryStore(), local(cwd=str(tmp_path)) if sandbox is local else virtual()
    async with scene(*steps, store=store, sandbox=chosen) as s:
        await s.session.prompt("a")
    async with scene("1", store=store, sandbox=chosen) as s:
        await s.session.prompt("b")
        assert asked(s) == [["a"], ["b"]]


async def test_an_approval_in_another_process_tells_after_the_results_and_before_the_next_answer() -> None:
    @tool(approval=True)
    def publish() -> str:
        """Publish."""
        return "published"

    store = MemoryStore()
    async with scene(WRITES, call("publish"), store=store, tools=[publish]) as s:
        s.session.prompt("a")
        await until(lambda: s.session.approvals.pending)
    async with scene("Done.", store=store, tools=[publish]) as s:
        [waiting] = s.session.approvals.pending
        await s.session.approve(waiting.tool_call_id)
        await s.session.resume()
        roles = [message.role for message in s.model.requests[-1].messages]
        assert roles == ["user", "assistant", "toolResult", "assistant", "toolResult", "user"]
        assert asked(s)[-1] == [NEW_SANDBOX]


async def test_a_prompt_that_ends_with_the_results_is_not_asked_again_because_of_it() -> None:
    @tool(approval=True)
    def publish() -> ToolResult:
        """Publish, and be done."""
        return ToolResult((TextContent("published"),), terminate=True)

    store = MemoryStore()
    async with scene(WRITES, call("publish"), store=store, tools=[publish]) as s:
        s.session.prompt("a")
        await until(lambda: s.session.approvals.pending)
    async with scene(store=store, tools=[publish]) as s:
        [waiting] = s.session.approvals.pending
        await s.session.approve(waiting.tool_call_id)
        await s.session.resume()
        assert s.model.requests == []


async def test_a_command_of_the_application_comes_after_the_note() -> None:
    store = MemoryStore()
    async with scene(WRITES, "Written.", store=store) as s:
        await s.session.prompt("a")
    async with scene("1", store=store) as s:
        await s.session.shell("echo two > plan.txt")
        await s.session.prompt("b")
        assert asked(s)[1] == [NEW_SANDBOX]
        assert asked(s)[-1] == ["b"]


async def test_a_named_task_is_told_in_another_process_and_not_in_the_same() -> None:
    helper = define_agent_profile(name="helper", instructions="Help.")
    store = MemoryStore()
    config: dict[str, Any] = {"store": store, "subagents": [helper]}
    async with scene(WRITES, "Written.", "Again.", **config) as s:
        await s.session.task("a", agent="helper", name="notes")
        await s.session.task("b", agent="helper", name="notes")
        assert asked(s) == [["a"], ["b"]]
    async with scene("1", **config) as s:
        await s.session.task("c", name="notes")
        assert asked(s)[-1] == [NEW_SANDBOX, "c"]


async def test_a_summary_may_speak_of_files() -> None:
    store = MemoryStore()
    async with scene(WRITES, "Written.", "Summary.", store=store, compaction={"keep_recent_tokens": 1}) as s:
        await s.session.prompt("a")
        assert await s.session.compact()
    async with scene("1", store=store) as s:
        await s.session.prompt("c")
        assert asked(s)[-1] == [NEW_SANDBOX, "c"]

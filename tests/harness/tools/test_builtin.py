from __future__ import annotations

from flue import tool
from flue.events import TurnRequest
from flue.harness.env import SessionEnv
from flue.harness.tools import BUILTIN_TOOL_NAMES, builtin_tools
from tests.harness.memory_sandbox import MemorySandbox
from tests.harness.scene import scene


def test_the_built_in_tools_come_in_the_documented_order_with_the_documented_parameters() -> None:
    tools = builtin_tools(SessionEnv(MemorySandbox(), "/"))
    assert (*(tool.name for tool in tools), "task", "activate_skill") == BUILTIN_TOOL_NAMES
    assert {tool.name: list(tool.parameters["properties"]) for tool in tools} == {
        "read": ["path", "offset", "limit"],
        "write": ["path", "content"],
        "edit": ["path", "oldText", "newText", "replaceAll"],
        "bash": ["command", "timeout"],
        "grep": ["pattern", "path", "include"],
        "glob": ["pattern", "path"],
    }
    assert {tool.name: tool.parameters["required"] for tool in tools} == {
        "read": ["path"],
        "write": ["path", "content"],
        "edit": ["path", "oldText", "newText"],
        "bash": ["command"],
        "grep": ["pattern"],
        "glob": ["pattern"],
    }


async def test_sessions_with_the_same_tools_send_the_same_object_which_is_encoded_once() -> None:
    """Also sessions of different instances, each with a sandbox of its own; a tool more makes a difference."""
    offered = []
    for id, tools in (("ann", [greet]), ("bob", [greet]), ("cid", [])):
        async with scene("Hello.", id=id, tools=tools) as s:
            await s.session.prompt("Hello?")
            offered += [event.tools for event in s.events if isinstance(event, TurnRequest)]
    ann, bob, cid = offered
    assert ann is bob
    assert [spec.name for spec in ann] == [*(spec.name for spec in cid), "greet"]


@tool
async def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello, {name}."

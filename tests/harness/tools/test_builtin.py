from __future__ import annotations

from flue.harness.env import SessionEnv
from flue.harness.tools import BUILTIN_TOOL_NAMES, builtin_tools
from tests.harness.memory_sandbox import MemorySandbox


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

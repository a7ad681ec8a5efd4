"""Call a built-in tool as the turn loop does."""

from __future__ import annotations

from typing import Any

from flue.definitions.tool import ToolContext, ToolResult
from flue.harness.arguments import check_arguments
from flue.harness.env import SessionEnv
from flue.harness.tools import builtin_tools
from flue.messages import TextContent


async def use(env: SessionEnv, name: str, **arguments: Any) -> ToolResult:
    tool = next(tool for tool in builtin_tools(env) if tool.name == name)
    checked = check_arguments(name, tool.parameters, arguments)
    result = await tool.run(checked, ToolContext("call_1", "default", env, {}))
    assert isinstance(result, ToolResult)
    return result


async def text_of(env: SessionEnv, name: str, **arguments: Any) -> str:
    """Return the only text block of a result."""
    (block,) = (await use(env, name, **arguments)).content
    assert isinstance(block, TextContent)
    return block.text

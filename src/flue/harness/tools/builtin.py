"""The tools that every agent with a sandbox has, in the order in which models are offered them."""

from __future__ import annotations

from flue.definitions.tool import Tool
from flue.harness.env import SessionEnv
from flue.harness.tools.bash import bash_tool
from flue.harness.tools.edit import edit_tool
from flue.harness.tools.glob import glob_tool
from flue.harness.tools.grep import grep_tool
from flue.harness.tools.read import read_tool
from flue.harness.tools.write import write_tool

BUILTIN_TOOL_NAMES = ("read", "write", "edit", "bash", "grep", "glob", "task", "activate_skill")
"""Names that an agent's own tools must not have; the last two belong to the session, not to the sandbox."""


def builtin_tools(env: SessionEnv) -> tuple[Tool, ...]:
    """Return read, write, edit, bash, grep and glob for an environment."""
    return (read_tool(env), write_tool(env), edit_tool(env), bash_tool(env), grep_tool(env), glob_tool(env))

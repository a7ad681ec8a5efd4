"""The tools that every agent with a sandbox has, in the order in which models are offered them."""

from __future__ import annotations

from flue.definitions.tool import Tool
from flue.harness.env import SessionEnv
from flue.harness.tools.bash import bash_tool
from flue.harness.tools.edit import EDIT
from flue.harness.tools.glob import GLOB
from flue.harness.tools.grep import GREP
from flue.harness.tools.read import READ
from flue.harness.tools.write import WRITE

BUILTIN_TOOL_NAMES = ("read", "write", "edit", "bash", "grep", "glob", "task", "activate_skill")
"""Names that an agent's own tools must not have; the last two belong to the session, not to the sandbox."""


def builtin_tools(env: SessionEnv) -> tuple[Tool, ...]:
    """Return read, write, edit, bash, grep and glob for an environment.

    They are the same objects for every environment whose sandbox says the same of itself, so that requests of all
    sessions share their encoded form.
    """
    return (READ, WRITE, EDIT, bash_tool(env), GREP, GLOB)

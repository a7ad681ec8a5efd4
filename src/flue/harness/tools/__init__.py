"""The built-in tools: one file each, over a session environment."""

from flue.harness.tools.builtin import BUILTIN_TOOL_NAMES, builtin_tools

__all__ = ["BUILTIN_TOOL_NAMES", "builtin_tools"]

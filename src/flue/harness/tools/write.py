"""The `write` tool: a whole file at once."""

from __future__ import annotations

from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.harness.env import SessionEnv
from flue.messages import Json

_DESCRIPTION = (
    "Write a whole text file. Creates missing directories and replaces what the file held; to change a part of a "
    "file, use edit."
)
_PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "description": "File, absolute or relative to the working directory"},
        "content": {"type": "string", "description": "The complete new text of the file"},
    },
    "required": ["path", "content"],
}


async def _write(arguments: Json, context: ToolContext) -> ToolResult:
    env: SessionEnv = context.sandbox
    path, content = env.resolve_path(arguments["path"]), arguments["content"]
    async with env.lock(path):
        await env.write_file(path, content)
    size = len(content.encode("utf-8"))
    return ToolResult.from_text(f"Successfully wrote {size} bytes to {arguments['path']}", {"path": path, "size": size})


WRITE = Tool(name="write", description=_DESCRIPTION, parameters=_PARAMETERS, execute=_write)
"""The `write` tool, for whatever sandbox it is called in."""

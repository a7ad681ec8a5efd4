"""The `bash` tool: a command in the sandbox's shell."""

from __future__ import annotations

import re

from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.errors import FlueError
from flue.harness.env import SessionEnv
from flue.harness.tools.truncate import MAX_BYTES, MAX_LINES, last_lines
from flue.messages import Json
from flue.ports import ExecResult

OUTPUT_DIRECTORY = "/tmp/flue"  # noqa: S108 - inside the sandbox, where a command's output belongs.
"""Where outputs that are too long to show are kept, inside the sandbox."""

_DESCRIPTION = (
    "Run a shell command in the sandbox and get its output. Every call starts in the working directory: files stay, "
    f"but cd and exported variables do not. Of long output the last {MAX_LINES} lines or {MAX_BYTES // 1024} KiB are "
    "shown, and a note names the file that holds all of it."
)
_PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "command": {"type": "string", "description": "The command, or a script of several lines"},
        "timeout": {"type": "number", "description": "Seconds after which the command is stopped (default: none)"},
    },
    "required": ["command"],
}


def bash_tool(env: SessionEnv) -> Tool:
    """Return `bash` for an environment."""

    async def execute(arguments: Json, context: ToolContext) -> ToolResult:
        command = arguments["command"]
        result = await env.exec(command, timeout=arguments.get("timeout") or None)
        return await bash_result(env, command, result, name=f"{context.session[:60]}-{context.tool_call_id[:80]}")

    return Tool(name="bash", description=_DESCRIPTION, parameters=_PARAMETERS, execute=execute)


async def bash_result(env: SessionEnv, command: str, result: ExecResult, *, name: str) -> ToolResult:
    """Return what a command gave in the form that models are shown.

    When that is too long to show, the whole output is kept in the sandbox as `OUTPUT_DIRECTORY/<name>.log`.
    """
    output = (result.stdout + (f"\n{result.stderr}" if result.stderr else "")).strip()
    text = await _shorten(env, output, name) if output else "(no output)"
    if result.exit_code:
        text += f"\n\nCommand exited with code {result.exit_code}"
    return ToolResult.from_text(text, {"command": command, "exitCode": result.exit_code})


async def _shorten(env: SessionEnv, output: str, name: str) -> str:
    """Return the end of an output with a note that says what is missing and where all of it is."""
    lines = output.split("\n")
    excerpt = last_lines(lines)
    if not excerpt.cut and excerpt.lines == len(lines):
        return output
    total = len(lines)
    if excerpt.cut:
        shown = f"the last {MAX_BYTES} bytes of line {total}, the last one"
    else:
        shown = f"lines {total - excerpt.lines + 1}-{total} of {total}"
    return f"{excerpt.text}\n\n[Output truncated: showing {shown}. {await _keep(env, output, name)}]"


async def _keep(env: SessionEnv, output: str, name: str) -> str:
    path = f"{OUTPUT_DIRECTORY}/{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}.log"
    try:
        await env.write_file(path, output.encode("utf-8", errors="replace"))
    except (OSError, FlueError):
        # A sandbox may be read-only; what is known of the command is still worth telling.
        return "The whole output could not be kept; write it to a file with > to look at the rest."
    return f"All of it is in {path}."

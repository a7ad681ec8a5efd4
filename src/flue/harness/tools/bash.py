"""The `bash` tool: a command in the sandbox's shell."""

from __future__ import annotations

import re

from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.errors import FlueError
from flue.harness.env import SessionEnv
from flue.harness.tools.truncate import MAX_BYTES, MAX_LINES, Excerpt, last_lines
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
        kept = ""
        if _excerpt(_output(result)) is not None:
            kept = await _keep(env, result, name=f"{context.session[:60]}-{context.tool_call_id[:80]}")
        return format_output(command, result, kept)

    return Tool(name="bash", description=_DESCRIPTION, parameters=_PARAMETERS, execute=execute)


def format_output(command: str, result: ExecResult, kept: str = "") -> ToolResult:
    """Return what a command gave in the form that models are shown.

    Of an output that is too long only the end is shown; `kept` is a sentence that says where the rest is.
    """
    output = _output(result)
    excerpt = _excerpt(output)
    text = output or "(no output)"
    if excerpt is not None:
        total = output.count("\n") + 1
        if excerpt.cut:
            shown = f"the last {MAX_BYTES} bytes of line {total}, the last one"
        else:
            shown = f"lines {total - excerpt.lines + 1}-{total} of {total}"
        text = f"{excerpt.text}\n\n[Output truncated: showing {shown}.{kept and ' ' + kept}]"
    if result.exit_code:
        text += f"\n\nCommand exited with code {result.exit_code}"
    return ToolResult.from_text(text, {"command": command, "exitCode": result.exit_code})


def _output(result: ExecResult) -> str:
    return (result.stdout + (f"\n{result.stderr}" if result.stderr else "")).strip()


def _excerpt(output: str) -> Excerpt | None:
    """Return the part of an output that is shown; None when that is all of it."""
    lines = output.split("\n")
    excerpt = last_lines(lines)
    return excerpt if excerpt.cut or excerpt.lines < len(lines) else None


async def _keep(env: SessionEnv, result: ExecResult, *, name: str) -> str:
    path = f"{OUTPUT_DIRECTORY}/{re.sub(r'[^A-Za-z0-9_]+', '-', name)}.log"
    try:
        await env.write_file(path, _output(result).encode("utf-8", errors="replace"))
    except (OSError, FlueError):
        # A sandbox may be read-only; what is known of the command is still worth telling.
        return "The whole output could not be kept; write it to a file with > to look at the rest."
    return f"All of it is in {path}."

"""The `bash` tool: a command in the sandbox's shell."""

from __future__ import annotations

from functools import lru_cache

from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.harness.env import SessionEnv
from flue.harness.tools.kept import KeptOutput
from flue.harness.tools.truncate import MAX_BYTES, MAX_LINES, Excerpt, last_lines
from flue.messages import Json
from flue.ports import ExecResult

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


async def _bash(arguments: Json, context: ToolContext) -> ToolResult:
    env: SessionEnv = context.sandbox
    command = arguments["command"]
    result = await env.exec(command, timeout=arguments.get("timeout") or None)
    kept = ""
    if _excerpt(_output(result)) is not None:
        kept = await _keep(KeptOutput(context), result)
    return format_output(command, result, kept)


def bash_tool(env: SessionEnv) -> Tool:
    """Return `bash` for an environment; what its sandbox says of itself (`description`) stands in the description."""
    about = getattr(env.sandbox, "description", "")
    return _described(f"{_DESCRIPTION} {about}".rstrip() if isinstance(about, str) else _DESCRIPTION)


@lru_cache(maxsize=16)
def _described(description: str) -> Tool:
    return Tool(name="bash", description=description, parameters=_PARAMETERS, execute=_bash)


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


async def _keep(kept: KeptOutput, result: ExecResult) -> str:
    path = await kept.keep(_output(result).encode("utf-8", errors="replace"), ".log")
    if path is None:
        return "The whole output could not be kept; write it to a file with > to look at the rest."
    return f"All of it is in {path}."

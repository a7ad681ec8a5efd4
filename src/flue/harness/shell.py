"""`shell`: a command run by the application; a session's conversation knows of it as if the model had called `bash`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flue.definitions.tool import ToolResult
from flue.events import Scope, ToolCallEnd, ToolStart
from flue.harness.env import SessionEnv
from flue.harness.history import History
from flue.harness.tools.bash import format_output
from flue.messages import AssistantMessage, Json, TextContent, ToolCall, ToolResultMessage, UserMessage
from flue.ports import ExecResult

if TYPE_CHECKING:
    from flue.harness.harness import Harness

REDACTED = "<redacted>"


async def run_shell(
    env: SessionEnv,
    harness: Harness,
    scope: Scope,
    command: str,
    *,
    stdin: str | bytes | None,
    variables: Mapping[str, str] | None,
    cwd: str | None,
    timeout: float | None,
    record_in: History | None = None,
) -> ExecResult:
    """Run a command, announce it, and record it where a history is given. Raises what the sandbox raised."""
    arguments: Json = {"command": command}
    if cwd is not None:
        arguments["cwd"] = cwd
    if variables:
        arguments["env"] = dict.fromkeys(variables, REDACTED)
    call = ToolCall(f"shell_{harness.runtime.ids.entry()}", "bash", arguments)
    clock, emitter = harness.runtime.clock, harness.emitter
    asked, started = clock.now_ms(), clock.monotonic()
    emitter.emit(scope, ToolStart, call.name, call.id, arguments)
    result = _failed(command, "Operation aborted")
    try:
        output = await env.exec(command, stdin=stdin, env=variables, cwd=cwd, timeout=timeout)
        result = format_output(command, output)
        return output
    except Exception as error:
        result = _failed(command, str(error))
        raise
    finally:
        milliseconds = round((clock.monotonic() - started) * 1000)
        emitter.emit(scope, ToolCallEnd, call.name, call.id, result.is_error, result, milliseconds)
        if record_in is not None:
            _record(record_in, call, result, asked, clock.now_ms())


def _record(history: History, call: ToolCall, result: ToolResult, asked: int, answered: int) -> None:
    command = call.arguments["command"]
    history.append(UserMessage((TextContent(f"Run this command:\n\n```bash\n{command}\n```"),), asked), "shell")
    history.append(AssistantMessage((call,), "flue-shell", "flue", "", stop_reason="toolUse", timestamp=asked), "shell")
    history.append(
        ToolResultMessage(call.id, call.name, result.content, result.details, result.is_error, answered), "shell"
    )


def _failed(command: str, text: str) -> ToolResult:
    return ToolResult.from_text(text, {"command": command, "exitCode": -1}, is_error=True)

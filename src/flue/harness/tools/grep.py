"""The `grep` tool: lines that match a regular expression, found by the sandbox's own grep."""

from __future__ import annotations

from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.errors import UsageError
from flue.harness.env import SessionEnv
from flue.harness.tools.shell import quote
from flue.messages import Json
from flue.ports import ExecResult

MAX_MATCHES = 100
"""Matching lines that are shown at most."""

MAX_LINE = 500
"""Characters of a matching line that are shown at most, file name and line number included."""

_DESCRIPTION = (
    "Search the contents of files below a path for a regular expression (POSIX extended syntax, as grep -E takes it). "
    f"Answers with file:line:text, at most {MAX_MATCHES} lines."
)
_PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "pattern": {"type": "string", "description": "The regular expression"},
        "path": {"type": "string", "description": "File or directory to search (default: the working directory)"},
        "include": {"type": "string", "description": 'Only files with such a name, for example "*.md"'},
    },
    "required": ["pattern"],
}


async def _grep(arguments: Json, context: ToolContext) -> ToolResult:
    env: SessionEnv = context.sandbox
    path = arguments.get("path") or "."
    await require_path(env, path)
    result = await env.exec(_command(arguments["pattern"], path, arguments.get("include") or ""))
    lines = result.stdout.removesuffix("\n").split("\n") if result.stdout else []
    if not lines:
        _check_failure(result)
        return ToolResult.from_text("No matches found.", {"matchCount": 0})
    text = "\n".join(_shorten(line) for line in lines[:MAX_MATCHES])
    if len(lines) > MAX_MATCHES:
        text += f"\n\n[Showing {MAX_MATCHES} of {len(lines)} matches. Narrow your search.]"
    if result.exit_code > 1 and result.stderr.strip():
        # Some files could be searched, others not.
        text += f"\n\n[grep reported: {_shorten(result.stderr.strip())}]"
    return ToolResult.from_text(text, {"matchCount": len(lines)})


GREP = Tool(name="grep", description=_DESCRIPTION, parameters=_PARAMETERS, execute=_grep)
"""The `grep` tool, for whatever sandbox it is called in."""


async def require_path(env: SessionEnv, path: str) -> None:
    """Raise `FileNotFoundError` when a path to search is missing: some shells report that as "no match"."""
    if not await env.exists(path):
        raise FileNotFoundError(f"{path} does not exist (working directory: {env.cwd})")


def _command(pattern: str, path: str, include: str) -> str:
    files = f" --include={quote(include)}" if include else ""
    # -e and -- keep a pattern or path that starts with "-" from being an option; -I leaves binary files out.
    return f"grep -rnHIE{files} -e {quote(pattern)} -- {quote(path)}"


def _check_failure(result: ExecResult) -> None:
    reason = result.stderr.strip()
    if result.exit_code > 1 or (result.exit_code and reason):
        raise UsageError(f"grep failed: {reason or f'exit code {result.exit_code}'}", code="search_failed")


def _shorten(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}..."

"""The `glob` tool: files by name, found by the sandbox's own find."""

from __future__ import annotations

import re
from fnmatch import translate

from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.harness.env import SessionEnv
from flue.harness.tools.grep import require_path
from flue.harness.tools.shell import quote
from flue.messages import Json

MAX_FILES = 1_000
"""Files that are listed at most."""

# `find` lets `*` match slashes, so a pattern of directories is looked up broadly and then matched here.
_MAX_CANDIDATES = 20_000

_DESCRIPTION = (
    'Find files below a path by name. A pattern without a slash ("*.py") matches file names in every directory; one '
    'with slashes ("src/**/*.py") matches paths counted from the searched directory. At most '
    f"{MAX_FILES} files are listed."
)
_PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "pattern": {"type": "string", "description": "File name pattern: * ? [...], and ** for any directories"},
        "path": {"type": "string", "description": "Directory to search (default: the working directory)"},
    },
    "required": ["pattern"],
}


async def _glob(arguments: Json, context: ToolContext) -> ToolResult:
    env: SessionEnv = context.sandbox
    path, pattern = arguments.get("path") or ".", arguments["pattern"]
    await require_path(env, path)
    files, complete = await _find(env, path, pattern)
    count = min(len(files), MAX_FILES)
    text = "\n".join(files[:MAX_FILES]) or "No files found matching pattern."
    if count < len(files) or not complete:
        text += f"\n\n[Showing {count} files; there may be more. Narrow your search.]"
    return ToolResult.from_text(text, {"fileCount": count})


GLOB = Tool(name="glob", description=_DESCRIPTION, parameters=_PARAMETERS, execute=_glob)
"""The `glob` tool, for whatever sandbox it is called in."""


async def _find(env: SessionEnv, path: str, pattern: str) -> tuple[list[str], bool]:
    """Return the matching files, sorted, and whether all were looked at."""
    # Without a slash in front find would take a path such as "-x" or "(" for an operator.
    start = f"./{path}" if path[0] in "-(!," else path
    segments = _relative(pattern, env.resolve_path(path)).split("/")
    name = "*" if segments[-1] == "**" else segments[-1]
    limit = MAX_FILES + 1 if len(segments) == 1 else _MAX_CANDIDATES
    result = await env.exec(f"find {quote(start)} -type f -name {quote(name)} 2>/dev/null | head -n {limit}")
    found = sorted(line for line in result.stdout.split("\n") if line)
    complete = len(found) < limit
    if len(segments) > 1:
        prefix = start.rstrip("/") + "/"
        wanted = [None if segment == "**" else re.compile(translate(segment)) for segment in segments]
        found = [file for file in found if _matches(file.removeprefix(prefix).split("/"), wanted)]
    return found, complete


def _relative(pattern: str, root: str) -> str:
    """Return an absolute pattern below the searched directory as one relative to it; others as they are."""
    return pattern.removeprefix(root.rstrip("/") + "/").removeprefix("./")


def _matches(parts: list[str], segments: list[re.Pattern[str] | None]) -> bool:
    """Say whether the parts of a path match the segments of a pattern; None stands for any number of parts."""
    # All positions in the pattern that can be reached, part by part: backtracking could take exponential time.
    reached = _skip_any({0}, segments)
    for part in parts:
        ahead = set()
        for at in reached:
            if at < len(segments):
                segment = segments[at]
                if segment is None:
                    ahead.add(at)
                elif segment.match(part):
                    ahead.add(at + 1)
        reached = _skip_any(ahead, segments)
    return len(segments) in reached


def _skip_any(reached: set[int], segments: list[re.Pattern[str] | None]) -> set[int]:
    """Add the positions behind every reached `**`, which may stand for no part at all."""
    for at in range(min(reached, default=0), len(segments)):
        if at in reached and segments[at] is None:
            reached.add(at + 1)
    return reached

"""The `edit` tool: literal replacement in a text file."""

from __future__ import annotations

import re

from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.errors import UsageError
from flue.harness.env import SessionEnv
from flue.harness.tools.files import load_file
from flue.messages import Json

_DESCRIPTION = (
    "Replace text in a file. oldText must be copied exactly from the file, indentation included, and occur there only "
    "once, unless replaceAll is true. Both texts are taken literally; line endings of the file are kept."
)
_PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "description": "File, absolute or relative to the working directory"},
        "oldText": {"type": "string", "description": "The text to replace"},
        "newText": {"type": "string", "description": "The text to put in its place"},
        "replaceAll": {"type": "boolean", "description": "Replace every occurrence (default: false)"},
    },
    "required": ["path", "oldText", "newText"],
}


async def _edit(arguments: Json, context: ToolContext) -> ToolResult:
    env: SessionEnv = context.sandbox
    given, path = arguments["path"], env.resolve_path(arguments["path"])
    old, new, every = arguments["oldText"], arguments["newText"], bool(arguments.get("replaceAll"))
    _check_texts(given, old, new)
    async with env.lock(path):
        text = _decode(given, await load_file(env, path))
        edited, count = _replace(text, old, new, limit=0 if every else 1)
        _check_count(given, count, every=every)
        await env.write_file(path, edited)
    done = f"Replaced {count} occurrences in {given}" if every else f"Successfully edited {given}"
    return ToolResult.from_text(done, {"path": path, "replacements": count})


EDIT = Tool(name="edit", description=_DESCRIPTION, parameters=_PARAMETERS, execute=_edit)
"""The `edit` tool, for whatever sandbox it is called in."""


def _check_texts(path: str, old: str, new: str) -> None:
    if not old:
        raise UsageError(
            f"oldText is empty, so it marks no place in {path}.",
            code="invalid_edit",
            hint="Use write to create a file or to replace all of it.",
        )
    if old == new:
        raise UsageError(f"oldText and newText are the same: nothing to change in {path}.", code="invalid_edit")


def _decode(path: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(
            f"{path} is not UTF-8 text ({len(data)} bytes), so edit would damage it.",
            code="invalid_edit",
            hint="Change it with a bash command.",
        ) from None


def _check_count(path: str, count: int, *, every: bool) -> None:
    if not count:
        raise UsageError(
            f"Could not find the exact text in {path}.",
            code="invalid_edit",
            hint="Read the file again and copy the text with its whitespace and line breaks.",
        )
    if count > 1 and not every:
        raise UsageError(
            f"Found {count} occurrences of the text in {path}.",
            code="invalid_edit",
            hint="Provide more surrounding context to make it unique, or use replaceAll.",
        )


def _replace(text: str, old: str, new: str, *, limit: int) -> tuple[str, int]:
    """Return the text with `old` replaced, and how often `old` occurs.

    Models write LF whatever a file uses: a line break in `old` matches LF and CRLF, and those in `new` become the kind
    that most lines of the file have. With a `limit` (0: none), more occurrences change nothing.
    """
    pattern = re.compile(r"\r?\n".join(re.escape(line) for line in re.split(r"\r?\n", old)))
    count = sum(1 for _ in pattern.finditer(text))
    if limit and count > limit:
        return text, count
    if "\n" in text:
        mostly_crlf = text.count("\r\n") * 2 > text.count("\n")
        new = re.sub(r"\r?\n", "\r\n" if mostly_crlf else "\n", new)
    return pattern.sub(lambda _match: new, text), count

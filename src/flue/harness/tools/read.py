"""The `read` tool: text files by lines, directories, images."""

from __future__ import annotations

import base64

from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.errors import UsageError
from flue.harness.env import SessionEnv
from flue.harness.tools.files import decode_text, image_type, load_file
from flue.harness.tools.truncate import MAX_BYTES, MAX_LINES, byte_length, first_lines
from flue.messages import ImageContent, Json, TextContent

MAX_IMAGE_BYTES = 3_750_000
"""Bytes of the largest image that is shown: 5 MB as base64, the most that Anthropic's API takes for one."""

_DESCRIPTION = (
    "Read a text file, list a directory, or look at an image (PNG, JPEG, GIF, WebP). Of a text file at most "
    f"{MAX_LINES} lines or {MAX_BYTES // 1024} KiB are shown at a time; a note tells the offset to go on with."
)
_PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "description": "File or directory, absolute or relative to the working directory"},
        "offset": {"type": "number", "description": "First line to show, counting from 1"},
        "limit": {"type": "number", "description": "How many lines to show"},
    },
    "required": ["path"],
}


async def _read(arguments: Json, context: ToolContext) -> ToolResult:
    env: SessionEnv = context.sandbox
    path = env.resolve_path(arguments["path"])
    try:
        data = await load_file(env, path)
    except IsADirectoryError:
        return await _list_directory(env, path)
    return show_file(path, data, arguments)


READ = Tool(name="read", description=_DESCRIPTION, parameters=_PARAMETERS, execute=_read)
"""The `read` tool, for whatever sandbox it is called in."""


def show_file(path: str, data: bytes, arguments: Json) -> ToolResult:
    """Return what a model is shown of a file: an image, or the lines that the arguments of `read` ask for."""
    if mime_type := image_type(data):
        return _show_image(path, data, mime_type)
    text = decode_text(data)
    if text is None:
        return ToolResult.from_text(
            f"{path} is a binary file ({len(data)} bytes) and cannot be shown as text.",
            {"path": path, "binary": True, "size": len(data)},
        )
    return _show_text(path, text, int(arguments.get("offset") or 1), int(arguments.get("limit") or 0))


async def _list_directory(env: SessionEnv, path: str) -> ToolResult:
    entries = await env.readdir(path)
    excerpt = first_lines(entries)
    text = excerpt.text or "(empty directory)"
    if excerpt.lines < len(entries):
        text += f"\n\n[Showing {excerpt.lines} of {len(entries)} entries. Use glob or bash to find others.]"
    return ToolResult.from_text(text, {"path": path, "isDirectory": True, "entries": entries})


def _show_image(path: str, data: bytes, mime_type: str) -> ToolResult:
    details = {"path": path, "mimeType": mime_type, "size": len(data)}
    text = f"{path} is an image ({mime_type}, {len(data)} bytes)"
    if len(data) > MAX_IMAGE_BYTES:
        return ToolResult.from_text(f"{text}, over the {MAX_IMAGE_BYTES} bytes that can be shown.", details)
    image = ImageContent(base64.b64encode(data).decode("ascii"), mime_type)
    return ToolResult((TextContent(f"{text}."), image), details)


def _show_text(path: str, text: str, offset: int, limit: int) -> ToolResult:
    """Show `limit` lines (0 or less: all) from the 1-based line `offset` (less than 1: from the first)."""
    # A newline at the end starts one more line, which is empty: line numbers and totals count it.
    lines = text.split("\n")
    total = len(lines)
    if not text:
        return ToolResult.from_text("(empty file)", {"path": path, "lines": 0})
    first = max(offset, 1)
    if first > total:
        raise UsageError(f"Offset {offset} is beyond end of file ({total} lines total)", code="offset_beyond_end")
    wanted = lines[first - 1 : first - 1 + limit if limit > 0 else None]
    excerpt = first_lines(wanted)
    last = first + excerpt.lines - 1
    shown = excerpt.text or (f"(line {first} is empty)" if last == first else f"(lines {first}-{last} are empty)")
    notes = []
    if excerpt.cut:
        size = byte_length(wanted[0])
        notes.append(f"Line {first} has {size} bytes; only the first {MAX_BYTES} are shown.")
    if excerpt.cut or excerpt.lines < len(wanted):
        notes.append(f"Showing lines {first}-{last} of {total}.")
        notes += [f"Use offset={last + 1} to continue."] if last < total else []
    if "\ufffd" in shown:
        notes.append("Bytes that are not UTF-8 appear as \ufffd.")
    if notes:
        shown += f"\n\n[{' '.join(notes)}]"
    return ToolResult.from_text(shown, {"path": path, "lines": total})

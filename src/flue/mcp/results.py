"""What an MCP tool gave, as content for models."""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flue.definitions.tool import ToolResult
from flue.harness.json_schema import find_issues
from flue.messages import ImageContent, Json, TextContent, UserContent

if TYPE_CHECKING:
    from mcp import types

logger = logging.getLogger("flue.mcp")

MAX_IMAGE = 5 * 1024 * 1024
"""Base64 characters of an image; Anthropic accepts 5 MB (docs.claude.com, "Vision")."""
NOTHING = "(The MCP tool returned no content.)"
_MAGIC = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


def tool_result(result: types.CallToolResult, *, server: str, tool: str, output_schema: Json | None) -> ToolResult:
    """Return the result for the model: structured content as JSON, then texts, images and the rest in their order.

    `details` are `server`, `tool`, and where there are any `structuredContent` and `outputSchema`.
    """
    details: Json = {"server": server, "tool": tool}
    if output_schema is not None:
        details["outputSchema"] = output_schema
    blocks: list[UserContent] = []
    structured = result.structured_content
    if structured is not None:
        details["structuredContent"] = structured
        if not any(_is_wrapped(item, structured) for item in result.content):
            blocks.append(TextContent(json.dumps(structured, ensure_ascii=False)))
        if output_schema is not None and not result.is_error and (issues := find_issues(output_schema, structured)):
            logger.warning("%s: the result of %s does not fit its output schema: %s", server, tool, issues[0][:500])
    for item in result.content:
        if not (structured is not None and _repeats(item, structured)):
            blocks += _blocks(item)
    return ToolResult(tuple(_joined(blocks)), details, is_error=result.is_error)


def _joined(blocks: list[UserContent]) -> Iterator[UserContent]:
    """Yield the blocks with neighbouring texts joined by a blank line; a result is never empty."""
    texts: list[str] = []
    for block in blocks:
        if isinstance(block, TextContent):
            texts += [block.text] if block.text else []
            continue
        if texts:
            yield TextContent("\n\n".join(texts))
            texts = []
        yield block
    if texts or all(isinstance(block, TextContent) for block in blocks):
        yield TextContent("\n\n".join(texts) or NOTHING)


def _repeats(item: types.ContentBlock, structured: Any) -> bool:
    """Say whether a text only repeats the structured content, as servers do for older clients."""
    if item.type != "text":
        return False
    try:
        value = json.loads(item.text)
    except (ValueError, RecursionError):
        value = item.text
    return bool(value == structured)


def _is_wrapped(item: types.ContentBlock, structured: Any) -> bool:
    """Say whether the structured content is only this text under `result`.

    Servers do that with what is not an object, because structured content had to be one until 2026.
    """
    if item.type != "text" or not isinstance(structured, dict) or structured.keys() != {"result"}:
        return False
    return structured["result"] == item.text or _repeats(item, structured["result"])


def _blocks(item: types.ContentBlock) -> list[UserContent]:
    match item.type:
        case "text":
            return [TextContent(item.text)]
        case "image":
            return [_image(item.data, item.mime_type) or TextContent(_placeholder("Image", item.mime_type, item.data))]
        case "audio":
            return [TextContent(_placeholder("Audio", item.mime_type, item.data))]
        case "resource":
            return _resource(item.resource)
        case "resource_link":
            about = [str(item.uri), item.title or item.name, item.mime_type, item.description]
            return [TextContent(f"[Resource link: {', '.join(part for part in about if part)}]")]


def _resource(resource: types.TextResourceContents | types.BlobResourceContents) -> list[UserContent]:
    label = f"[Resource: {resource.uri}]"
    text = getattr(resource, "text", None)
    if isinstance(text, str):
        return [TextContent(f"{label}\n{text}")]
    blob, mime = str(getattr(resource, "blob", "")), resource.mime_type or "unknown type"
    image = _image(blob, mime) if mime.startswith("image/") else None
    if image is not None:
        return [TextContent(label), image]
    return [TextContent(f"[Resource: {resource.uri}, {mime}, {len(blob)} base64 chars]")]


def _placeholder(kind: str, mime: str, data: str) -> str:
    return f"[{kind}: {mime[:100]}, {len(data)} base64 chars]"


def _image(data: str, mime: str) -> ImageContent | None:
    """Return the image when it really is one that models read.

    A provider refuses a request with a broken or mislabelled image, and would refuse every later one of the session.
    """
    if len(data) > MAX_IMAGE:
        return None
    try:
        start = base64.b64decode(data, validate=True)[:12]
    except (binascii.Error, ValueError):
        return None
    if start.startswith(b"RIFF") and start[8:] == b"WEBP":
        return ImageContent(data, "image/webp")
    found = next((kind for magic, kind in _MAGIC if start.startswith(magic)), None)
    return ImageContent(data, found) if found else None

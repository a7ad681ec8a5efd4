"""What tools return, as the model is shown it.

A conversation holds what came back from a tool for good, so nothing gets into it that a provider or a store would
refuse: values without a JSON form, images that are none, texts of any length.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from flue.definitions.tool import ToolContext, ToolResult
from flue.errors import UsageError
from flue.harness.json_values import as_json
from flue.harness.tools.files import image_type
from flue.harness.tools.kept import KeptOutput
from flue.harness.tools.read import MAX_IMAGE_BYTES
from flue.harness.tools.truncate import MAX_BYTES, MAX_LINES, byte_length, first_lines
from flue.messages import ImageContent, TextContent, UserContent

NOTHING = "(no output)"
# The built-in tools keep the limits themselves and add notes; what they give must not be cut a second time.
_NOTE_LINES = 10
_NOTE_BYTES = 2 * 1024
_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp"}


async def to_result(value: Any, context: ToolContext) -> ToolResult:
    """Make a result of whatever a tool returned.

    Text stays text, None and empty text become a note, an image or the bytes of one are shown, other bytes are kept in
    the sandbox and named, a list that holds such blocks becomes several; anything else is shown as JSON. Of a text
    over `MAX_LINES` lines or `MAX_BYTES` bytes the beginning is shown, and a note names the file that holds all of it.

    Raises `UsageError` (`invalid_tool_result`) for what has no JSON form, NaN and infinity included, and for images
    that are no base64.
    """
    kept = KeptOutput(context)
    if not isinstance(value, ToolResult):
        return ToolResult(await _fitting(await _blocks(value, kept), kept))
    content = [block for item in _items(value.content) for block in await _blocks(item, kept)]
    return replace(value, content=await _fitting(content, kept), details=_json(value.details, "`details`"))


def _items(content: Any) -> Iterable[Any]:
    return content if isinstance(content, list | tuple) else (content,)


async def _blocks(value: Any, kept: KeptOutput) -> Sequence[UserContent]:
    if isinstance(value, TextContent):
        return (value,)
    if isinstance(value, str):
        return (TextContent(value),)
    if value is None:
        return ()
    if isinstance(value, ImageContent):
        return (await _image(value, kept),)
    if isinstance(value, bytes | bytearray | memoryview):
        return (await _bytes(bytes(value), kept),)
    if isinstance(value, list | tuple) and any(map(_is_block, value)):
        return [block for item in value for block in await _blocks(item, kept)]
    return (TextContent(json.dumps(_json(value, f"a value of type {type(value).__name__}"), ensure_ascii=False)),)


def _is_block(value: Any) -> bool:
    return isinstance(value, TextContent | ImageContent | bytes | bytearray | memoryview)


def _json(value: Any, what: str) -> Any:
    try:
        return as_json(value)
    except ValueError as error:
        raise UsageError(
            f"The tool ran, but it returned {what} that JSON cannot carry: {error}.", code="invalid_tool_result"
        ) from error


async def _image(image: ImageContent, kept: KeptOutput) -> UserContent:
    try:
        data = base64.b64decode(image.data, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise UsageError(
            f"The tool ran, but it returned an image whose data is not base64: {error}.", code="invalid_tool_result"
        ) from error
    return await _shown_image(image, data, kept)


async def _bytes(data: bytes, kept: KeptOutput) -> UserContent:
    mime_type = image_type(data)
    if mime_type is not None:
        return await _shown_image(ImageContent("", mime_type), data, kept)
    return TextContent(await _elsewhere(f"{len(data)} bytes of binary data", data, ".bin", kept))


async def _shown_image(image: ImageContent, data: bytes, kept: KeptOutput) -> UserContent:
    # Providers refuse an image that is not of the type it is said to be, again in every later request.
    mime_type = image_type(data) or image.mime_type
    if len(data) > MAX_IMAGE_BYTES:
        what = f"An image ({mime_type}, {len(data)} bytes, over the {MAX_IMAGE_BYTES} that can be shown)"
        return TextContent(await _elsewhere(what, data, _SUFFIXES.get(mime_type, ".bin"), kept))
    return ImageContent(image.data or base64.b64encode(data).decode("ascii"), mime_type)


async def _elsewhere(what: str, data: bytes, suffix: str, kept: KeptOutput) -> str:
    path = await kept.keep(data, suffix)
    return f"[{what}, which could not be kept in the sandbox.]" if path is None else f"[{what}, kept in {path}.]"


async def _fitting(content: Sequence[UserContent], kept: KeptOutput) -> tuple[UserContent, ...]:
    """Return the blocks with their text cut where it is too long, and never none."""
    text = "\n".join(block.text for block in content if isinstance(block, TextContent))
    images = [block for block in content if isinstance(block, ImageContent)]
    if not text:
        return tuple(images) or (TextContent(NOTHING),)
    # An empty block beside others is one that Anthropic's API refuses.
    content = [block for block in content if isinstance(block, ImageContent) or block.text]
    lines = text.count("\n") + 1
    size = byte_length(text)
    if lines <= MAX_LINES + _NOTE_LINES and size <= MAX_BYTES + _NOTE_BYTES:
        return tuple(content)
    return (TextContent(await _beginning(text, lines, size, kept)), *images)


async def _beginning(text: str, lines: int, size: int, kept: KeptOutput) -> str:
    excerpt = first_lines(text.split("\n"))
    shown = f"the first {MAX_BYTES} of {size} bytes" if excerpt.cut else f"lines 1-{excerpt.lines} of {lines}"
    path = await kept.keep(text.encode("utf-8", errors="replace"), ".txt")
    rest = "The rest could not be kept." if path is None else f"All of it is in {path}."
    return f"{excerpt.text}\n\n[Result truncated: showing {shown}. {rest}]"

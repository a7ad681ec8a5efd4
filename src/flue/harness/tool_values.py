"""What tools return, as the model is shown it."""

from __future__ import annotations

import json
from typing import Any

from flue.definitions.tool import ToolResult
from flue.messages import ImageContent, TextContent, UserContent


def to_result(value: Any) -> ToolResult:
    """Make a result of whatever a tool returned: text, None, JSON values, pydantic models, images, blocks.

    Raises `TypeError` for values that have no JSON form.
    """
    if isinstance(value, ToolResult):
        return value
    if isinstance(value, TextContent | ImageContent):
        return ToolResult((value,))
    if (
        isinstance(value, list | tuple)
        and value
        and all(isinstance(item, TextContent | ImageContent) for item in value)
    ):
        return ToolResult(tuple(value))
    return ToolResult((_text(value),), details=None)


def _text(value: Any) -> UserContent:
    if value is None:
        return TextContent("")
    if isinstance(value, str):
        return TextContent(value)
    return TextContent(json.dumps(value, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    isoformat = getattr(value, "isoformat", None)
    if callable(isoformat):
        return isoformat()
    raise TypeError(f"A tool returned a {type(value).__name__}, which has no JSON form. Return text or JSON values.")

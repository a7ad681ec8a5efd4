"""An MCP server's tools, as models are offered them."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flue.definitions.schema_check import schema_problem
from flue.errors import UsageError
from flue.messages import Json

if TYPE_CHECKING:
    from mcp import types

logger = logging.getLogger("flue.mcp")

MAX_NAME = 64
"""Characters of a tool's name that OpenAI and Google accept (Anthropic: 128)."""
MAX_SPEC = 128 * 1024
"""Bytes of one tool's description and schema: they are sent with every request of every turn."""
MAX_DEPTH = 64
"""Levels of nesting of a schema."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool to be offered: `original` is the server's name for it."""

    name: str
    original: str
    description: str
    parameters: Json
    output_schema: Json | None


@dataclass(frozen=True, slots=True)
class Listing:
    """What became of a server's list."""

    tools: list[Listed] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)


def listed_tools(server: str, tools: Sequence[types.Tool]) -> Listing:
    """Return the tools to offer; one that no provider would accept is left out with a warning.

    Raises `UsageError` (`duplicate_mcp_tool`) when two tools would have the same name.
    """
    listing = Listing()
    owners: dict[str, str] = {}
    for tool in tools:
        name = tool_name(server, tool.name)
        if name in owners:
            raise UsageError(
                f'The MCP server "{server}" offers two tools that would both be called {name}: '
                f'"{owners[name]}" and "{tool.name}".',
                code="duplicate_mcp_tool",
                hint="Names keep only letters, digits, _ and -; the server must tell its tools apart by those.",
            )
        owners[name] = tool.name
        if problem := _problem(tool):
            listing.rejected[tool.name] = problem
            logger.warning("The tool %r of the MCP server %s is left out: %s", tool.name[:100], server, problem)
        else:
            parameters = {"type": "object", **tool.input_schema}
            listing.tools.append(Listed(name, tool.name, _description(server, tool), parameters, tool.output_schema))
    return listing


def tool_name(server: str, tool: str) -> str:
    """Return `mcp__<server>__<tool>` in the characters and the length that model providers accept."""
    name = f"mcp__{_part(server)}__{_part(tool)}"
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(f"{server}\0{tool}".encode(errors="replace")).hexdigest()[:8]
    return f"{name[: MAX_NAME - 9]}_{digest}"


def _part(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", text).strip("_") or "unnamed"


def _description(server: str, tool: types.Tool) -> str:
    title = tool.title or (tool.annotations.title if tool.annotations else None)
    lines = [f'"{tool.name}", a tool of the MCP server "{server}".']
    lines += [f"Title: {title}"] if title and title != tool.name else []
    lines += [tool.description.strip()] if tool.description and tool.description.strip() else []
    return "\n".join(lines)


def _problem(tool: types.Tool) -> str:
    schema = tool.input_schema
    if _too_deep(schema) or _too_deep(tool.output_schema):
        return f"its schema is nested more than {MAX_DEPTH} levels deep"
    if problem := schema_problem({"type": "object", **schema}):
        return f"its input schema cannot be used: {problem}"
    size = len(json.dumps([tool.description, schema, tool.output_schema]))
    return f"its description and schema take {size} bytes; {MAX_SPEC} is the limit" if size > MAX_SPEC else ""


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True

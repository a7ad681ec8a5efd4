"""A real MCP server, made with the official SDK, whose misbehaviour the tests steer.

As a program (`python office.py`) it speaks over stdio.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp import types
    from mcp.server.lowlevel import Server

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(24)).decode()
ANYTHING: dict[str, Any] = {"type": "object"}


@dataclass
class Office:
    """What the server offers and what has been done to it."""

    pages: list[list[types.Tool]] = field(default_factory=list)
    next_cursors: list[str | None] | None = None
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    cancelled: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    gave_up: asyncio.Event = field(default_factory=asyncio.Event)
    answers: dict[str, Callable[[dict[str, Any]], Awaitable[types.CallToolResult]]] = field(default_factory=dict)

    def offer(self, name: str, *content: Any, **fields: Any) -> None:
        """Offer a tool that answers with these content blocks; result fields and tool fields may be given too."""
        of_tool = {
            key: fields.pop(key) for key in ("description", "title", "output_schema", "input_schema") if key in fields
        }
        self.add(name, **of_tool)

        async def answer(_: dict[str, Any]) -> types.CallToolResult:
            from mcp import types

            return types.CallToolResult(content=list(content), **fields)

        self.answers[name] = answer

    def add(self, name: str, **fields: Any) -> None:
        """List a tool on the last page."""
        from mcp import types

        if not self.pages:
            self.pages.append([])
        self.pages[-1].append(types.Tool(name=name, **{"input_schema": ANYTHING, **fields}))

    def count(self, name: str) -> int:
        """Return how many times the tool was executed."""
        return sum(called == name for called, _ in self.calls)

    def server(self) -> Server[Any]:
        """Return the server."""
        from mcp.server.lowlevel import Server

        return Server("office", instructions="Ask politely.", on_list_tools=self._list, on_call_tool=self._call)

    async def _list(self, _context: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        from mcp import types

        page = int(params.cursor) if params and params.cursor else 0
        last = page + 1 >= len(self.pages)
        following = self.next_cursors[page] if self.next_cursors else None if last else str(page + 1)
        return types.ListToolsResult(tools=self.pages[page] if self.pages else [], next_cursor=following)

    async def _call(self, _context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        from mcp import types

        arguments = params.arguments or {}
        self.calls.append((params.name, arguments))
        match params.name:
            case "echo":
                return types.CallToolResult(content=[types.TextContent(text=str(arguments.get("text")))])
            case "wait":
                return await self._wait()
            case "die":
                os._exit(3)
            case "environment":
                return types.CallToolResult(content=[], structured_content=dict(os.environ))
            case "pid":
                return types.CallToolResult(content=[types.TextContent(text=str(os.getpid()))])
        return await self.answers[params.name](arguments)

    async def _wait(self) -> types.CallToolResult:
        from mcp import types

        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            self.gave_up.set()
            raise
        return types.CallToolResult(content=[types.TextContent(text="waited")])


def usual() -> Office:
    """Return an office with the tools that need no steering."""
    office = Office()
    for name in ("echo", "wait", "die", "environment", "pid"):
        office.add(name, description=f"Does {name}.")
    return office


async def over_stdio() -> None:
    """Serve until stdin ends."""
    from mcp.server.stdio import stdio_server

    server = usual().server()
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(over_stdio())

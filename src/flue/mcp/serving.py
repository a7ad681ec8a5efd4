"""The other way round: callables of ours as the tools of an MCP server, over stdio or HTTP."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flue.definitions.arguments_error import ArgumentsError
from flue.harness.arguments import check_arguments
from flue.mcp.failure import describe
from flue.messages import Json

if TYPE_CHECKING:
    from mcp import types
    from mcp.server import Server, ServerRequestContext
    from starlette.applications import Starlette

logger = logging.getLogger("flue.mcp")

Progress = Callable[[str], None]
"""Takes one line on what is going on; it is sent to clients that asked for progress."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a served tool gives: a text for models, where it is data the same as a JSON object, and facts about it."""

    text: str
    structured: Json | None = None
    meta: Json | None = None

    @classmethod
    def of(cls, value: Any) -> Answer:
        """Return the answer for a JSON value; what is not an object stands under `result`."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return cls(text, value if isinstance(value, dict) else {"result": value})


@dataclass(frozen=True, slots=True)
class ServedTool:
    """A tool to serve. `run(arguments, progress)` gets arguments that fit `parameters`; raising is an error result.

    It is cancelled when the client cancels the call (`cancelled_by_client` says so), and when the server ends.
    """

    name: str
    description: str
    parameters: Json
    run: Callable[[Json, Progress], Awaitable[Answer]]


BY_CLIENT = "the client cancelled the call"
"""What calls are cancelled with because their client wishes so."""


def cancelled_by_client(cancelled: asyncio.CancelledError) -> bool:
    """Say whether a call was cancelled because its client wishes so, and not because the server ends."""
    return cancelled.args == (BY_CLIENT,)


class ToolServer:
    """Serves tools. Each call runs in a task of its own, which is cancelled when the client cancels the call.

    A client that goes away cancels nothing: over stdio, what it has called is done before the server ends. A task of
    its own, because the SDK cancels with anyio's scopes, which interrupt every await again until the task has left: a
    call that puts something in order on the way out could not.
    """

    def __init__(self, name: str, version: str, tools: Iterable[ServedTool]) -> None:
        self._name = name
        self._version = version
        self._tools = {tool.name: tool for tool in tools}
        self._running: set[asyncio.Task[types.CallToolResult]] = set()
        self._ending = False
        """Whether the SDK cancels calls because the client is gone or the server ends."""

    async def over_stdio(self, reading: AsyncIterator[str], writing: int) -> None:
        """Serve one client until `reading`, its lines, ends; answers go to the descriptor `writing`."""
        speaking = asyncio.create_task(self._speak(reading, writing))
        try:
            # In a task of its own: the SDK passes a cancellation on to the calls, and these are to know whose it is.
            await asyncio.shield(speaking)
            while self._running:
                await asyncio.wait(self._running)
        finally:
            self._ending = True
            speaking.cancel()
            await self._finish()
            await asyncio.wait([speaking])

    async def _speak(self, reading: AsyncIterator[str], writing: int) -> None:
        server = self._server()
        from mcp.server.stdio import stdio_server

        lines: Any = self._until_gone(reading)
        output: Any = _Lines(writing)
        async with stdio_server(lines, output) as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    async def _until_gone(self, reading: AsyncIterator[str]) -> AsyncIterator[str]:
        async for line in reading:
            yield line
        self._ending = True

    async def over_http(self, listening: socket.socket) -> None:
        """Serve streamable HTTP at `/mcp` of a bound socket until cancelled; only requests to loopback names."""
        app = self._server().streamable_http_app()
        server = _uvicorn(app)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await asyncio.shield(serving)
        finally:
            self._ending = True
            server.should_exit = True
            await self._finish()
            await serving

    def _server(self) -> Server[Any]:
        # The package before its parts, as another thread may be importing it (`flue.mcp.connect`): else each would wait
        # for what the other has begun, and Python then hands out half a module.
        importlib.import_module("mcp")
        from mcp.server import Server

        return Server(
            self._name, version=self._version, on_list_tools=self._on_list_tools, on_call_tool=self._on_call_tool
        )

    async def _on_list_tools(self, _context: Any, _params: Any) -> types.ListToolsResult:
        from mcp import types

        return types.ListToolsResult(
            tools=[
                types.Tool(name=tool.name, description=tool.description, input_schema=tool.parameters)
                for tool in self._tools.values()
            ]
        )

    async def _on_call_tool(
        self, context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        from mcp import MCPError
        from mcp.types import INVALID_PARAMS

        tool = self._tools.get(params.name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name}")
        try:
            arguments = check_arguments(tool.name, tool.parameters, params.arguments or {})
        except ArgumentsError as error:
            return _failed(str(error))
        call = asyncio.create_task(self._call(tool, arguments, context.session), name=f"mcp call {tool.name}")
        self._running.add(call)
        call.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            if not self._ending:
                call.cancel(BY_CLIENT)
            raise

    async def _call(self, tool: ServedTool, arguments: Json, session: Any) -> types.CallToolResult:
        from mcp import types

        lines: asyncio.Queue[str | None] = asyncio.Queue()
        forwarding = asyncio.create_task(_forward(lines, session))
        try:
            answer = await tool.run(arguments, lines.put_nowait)
            lines.put_nowait(None)
            await forwarding
        except Exception as error:  # noqa: BLE001 - the client gets it as an error result
            return _failed(describe(error))
        finally:
            forwarding.cancel()
        content: list[types.ContentBlock] = [types.TextContent(text=answer.text)]
        if answer.structured is None:
            return types.CallToolResult(content=content, _meta=answer.meta)
        return types.CallToolResult(content=content, structured_content=answer.structured, _meta=answer.meta)

    async def _finish(self) -> None:
        for call in self._running:
            call.cancel()
        if self._running:
            await asyncio.wait(self._running)


async def _forward(lines: asyncio.Queue[str | None], session: Any) -> None:
    sent = 0
    while (line := await lines.get()) is not None:
        sent += 1
        try:
            await session.report_progress(sent, message=line[:500])
        except Exception as error:  # noqa: BLE001 - the client may be gone; the call goes on
            logger.debug("Progress could not be sent: %s", describe(error))


def _failed(text: str) -> types.CallToolResult:
    from mcp import types

    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


class _Lines:
    """Writes lines to a descriptor, in a thread: a client that does not read must not stop the event loop."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def write(self, text: str) -> None:
        await asyncio.to_thread(self._write, text.encode())

    async def flush(self) -> None:
        pass

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]


def _uvicorn(app: Starlette) -> Any:
    import uvicorn

    class Quiet(uvicorn.Server):
        """Leaves signals to the command line."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    # Without a limit uvicorn waits for clients that never hang up.
    return Quiet(uvicorn.Config(app, log_config=None, lifespan="on", ws="none", timeout_graceful_shutdown=2))


def listen_on_loopback(port: int) -> socket.socket:
    """Return a bound socket; port 0 takes a free one. Raises `OSError`."""
    # asyncio switches Nagle's algorithm off only for sockets that name their protocol; with it answers wait 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening

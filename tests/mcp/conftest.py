"""MCP servers on loopback, and agents' tools called as a turn calls them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from flue.definitions.tool import ToolContext, ToolResult
from flue.mcp import McpServer
from tests.mcp.office import Office

_PATIENCE = 5.0


class Uvicorn(uvicorn.Server):
    """Leaves signals to pytest, and ends at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ended = asyncio.Event()

    def capture_signals(self) -> Any:
        return nullcontext()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()


class Site:
    """Serves an office over HTTP; it can go down, come back on the same port, and ask for a token.

    With `sessions` it refuses the protocol of 2026, so that clients open sessions as they did before.
    """

    def __init__(self, office: Office, transport: str, *, sessions: bool) -> None:
        self.office = office
        self.transport = transport
        self.sessions = sessions
        self.token = ""
        self.headers: list[dict[str, str]] = []
        self.asked = asyncio.Event()
        self._socket = _listening(0)
        self.port = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        path = "sse" if self.transport == "sse" else "mcp"
        return f"http://127.0.0.1:{self.port}/{path}"

    async def start(self) -> None:
        if self._socket.fileno() < 0:
            self._socket = _listening(self.port)
        config = uvicorn.Config(
            self._guarded(self._app()), log_config=None, lifespan="on", timeout_graceful_shutdown=0, ws="none"
        )
        self._server = Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            assert not self._task.done()
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Go down at once; what is under way breaks off."""
        self._server.ended.set()
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        await self._task
        if answering := self._server.server_state.tasks:
            await asyncio.wait(answering, timeout=_PATIENCE)
        self._socket.close()

    def _app(self) -> ASGIApp:
        server = self.office.server()
        return _sse_app(server) if self.transport == "sse" else server.streamable_http_app()

    def _guarded(self, app: ASGIApp) -> ASGIApp:
        async def guard(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                headers = dict(Request(scope).headers)
                self.headers.append(headers)
                self.asked.set()
                if self.token and headers.get("authorization") != f"Bearer {self.token}":
                    await Response("no", 401)(scope, receive, send)
                    return
                if self.sessions and headers.get("mcp-protocol-version", "").startswith("2026"):
                    await Response("unknown version", 400)(scope, receive, send)
                    return
            await app(scope, receive, send)

        return guard


def _listening(port: int) -> socket.socket:
    # asyncio switches Nagle's algorithm off only where the protocol is named: without, each answer waits 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen()
    return listening


def _sse_app(server: Any) -> ASGIApp:
    from mcp.server.sse import SseServerTransport

    transport = SseServerTransport("/messages/")

    async def endpoint(request: Request) -> Response:
        async with transport.connect_sse(request.scope, request.receive, request._send) as (read, write):
            await server.run(read, write, server.create_initialization_options())
        return Response()

    return Starlette(routes=[Route("/sse", endpoint), Mount("/messages/", app=transport.handle_post_message)])


@asynccontextmanager
async def served(office: Office, transport: str = "streamable-http", *, sessions: bool = False) -> AsyncIterator[Site]:
    """Serve an office on loopback."""
    site = Site(office, transport, sessions=sessions)
    await site.start()
    try:
        yield site
    finally:
        await site.stop()


def patient(server: McpServer) -> None:
    """Give later calls the time that a busy machine takes: that they work is what is looked for, not how fast."""
    server._timeout = 15.0


Call = Callable[..., Coroutine[Any, Any, ToolResult]]


@pytest.fixture
def call() -> Call:
    """Call a tool of a connected server by the server's own name for it, with these arguments."""

    async def call_tool(server: McpServer, name: str, **arguments: Any) -> ToolResult:
        tool = next(tool for tool in server.tools if tool.name == f"mcp__{server.name}__{name}")
        result = await tool.run(arguments, ToolContext(tool_call_id="call_1", session="default", sandbox=None, env={}))
        assert isinstance(result, ToolResult)
        return result

    return call_tool

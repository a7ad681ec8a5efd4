"""A container's Durable Object in this process: the methods of the Sandbox class over the stand-in control server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from flue.cloudflare.container.stub import StubError
from tests.cloudflare.containers.control_server import NO_SESSION, ControlServer, Failure, event_bytes


class FakeStub:
    """Implements `ObjectStub`. With `sessions_only` it is the class of version 0.9.2, else that of 0.12.10.

    A call that is cancelled goes on over there, as calls across isolates do.
    """

    def __init__(self, server: ControlServer, *, sessions_only: bool = False) -> None:
        self.server = server
        self.called: list[tuple[str, tuple[Any, ...]]] = []
        self._sessions_only = sessions_only

    async def call(self, method: str, *arguments: Any) -> Any:
        self.called.append((method, arguments))
        match method, arguments:
            case "configure", (_,):
                return None
            case "exec", (command, options):
                return await self._ask("/api/execute", {"command": command, "sessionId": "s", **options})
            case "execWithSessionToken", (command, token, options) if not self._sessions_only:
                return await self._ask("/api/execute", {"command": command, "sessionId": token, **options})
            case "readFile", (path, options):
                return await self._ask("/api/read", {"path": path, **self._checked(options)})
            case "writeFile", (path, content, options):
                return await self._ask("/api/write", {"path": path, "content": content, **self._checked(options)})
        raise StubError("TypeError", f'The RPC receiver does not implement the method "{method}".')

    async def stream(self, method: str, *arguments: Any) -> AsyncGenerator[bytes, None]:
        assert method == "execStream"
        command, options = arguments
        events = self.server.stream({"command": command, "sessionId": "s", **options})
        while (event := await asyncio.shield(asyncio.to_thread(next, events, None))) is not None:
            yield event_bytes(event)

    def _checked(self, options: dict[str, Any]) -> dict[str, Any]:
        assert not (self._sessions_only and options.get("sessionId") == NO_SESSION)
        return options

    async def _ask(self, path: str, body: dict[str, Any]) -> Any:
        try:
            return await asyncio.shield(asyncio.to_thread(self.server.ask, path, body))
        except Failure as failure:
            raise StubError("SandboxError", str(failure), failure.code) from None

"""Calls an ASGI application as a server would, in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Exchange:
    """One request or handshake and what came of it."""

    def __init__(
        self,
        app: Any,
        path: str,
        *,
        kind: str = "http",
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self.close_code = 0
        self.close_reason = ""
        self.sent: list[str] = []
        self.begun = asyncio.Event()
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        first = {"type": "websocket.connect"} if kind == "websocket" else {"type": "http.request", "body": body}
        self._incoming.put_nowait(first)
        given = {"host": "localhost:3583", "content-length": str(len(body)), **(headers or {})}
        scope = {
            "type": kind,
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http" if kind == "http" else "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "extensions": {"websocket.http.response": {}},
            "state": {},
        }
        self.task = asyncio.ensure_future(app(scope, self._incoming.get, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        self.sent.append(kind)
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        elif kind in ("http.response.body", "websocket.http.response.body"):
            assert not self.complete
            self.body += message.get("body", b"")
            self.complete = not message.get("more_body", False)
            self.begun.set()
        elif kind == "websocket.accept":
            self.begun.set()
        elif kind == "websocket.close":
            self.close_code, self.close_reason = message["code"], message.get("reason", "")


async def ask(app: Any, path: str, **given: Any) -> Exchange:
    """Return what came of a request."""
    exchange = Exchange(app, path, **given)
    await exchange.task
    return exchange


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks run until a condition holds; the test's time limit is its deadline."""
    while not condition():  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0.001)

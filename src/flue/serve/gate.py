"""The gate in front of an application: it lets requests in, or not any more, and ends those that are under way.

While the process comes to its end, requests are answered with 503 and handshakes refused. At last what is still under
way is cancelled: an answer that has not begun becomes a 503, a stream ends, a WebSocket is closed with 1012.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flue.server.problems import Problem

CLOSE_CODE = 1012
CLOSE_REASON = "The server restarts"
_WORDS_SECONDS = 0.2
"""How long a client that does not read is given to take the last words."""


class Gate:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._ending = False

    def close(self) -> None:
        """Let nothing in any more."""
        self._closed = True

    async def end(self, timeout: float) -> None:
        """Cancel what is under way; wait at most `timeout` seconds for it."""
        self._closed = self._ending = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an ASGI connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        if self._closed:
            await exchange.refuse()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._app(scope, receive, exchange.send)
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
            # Nothing that the client does here is of interest, and it may do nothing.
            try:
                async with asyncio.timeout(_WORDS_SECONDS):
                    await exchange.break_off()
            except TimeoutError:
                await exchange.gone()  # or the server would complain that the answer is not complete
            except Exception:  # noqa: BLE001 - see above
                return
        finally:
            self._tasks.discard(task)


class _Exchange:
    """One request and its answer, or one WebSocket."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started = False
        self._complete = False

    async def send(self, message: Message) -> None:
        """Pass on a message of the application's."""
        kind = message["type"]
        if kind == "http.response.start":
            self._started = True
            if message["status"] == 503 and not any(name.lower() == b"retry-after" for name, _ in message["headers"]):
                message["headers"] = [*message["headers"], (b"retry-after", b"1")]
        elif kind == "http.response.body":
            self._complete = not message.get("more_body", False)
        elif kind == "websocket.accept":
            self._started = True
        elif kind == "websocket.close":
            self._complete = True
        await self._send(message)

    async def refuse(self) -> None:
        """Answer that nothing is accepted any more."""
        if self._scope["type"] == "http":
            await _shutting_down()(self._scope, self._receive, self._send)
        elif "websocket.http.response" in self._scope.get("extensions", {}):
            headers = [(b"content-length", b"0"), (b"retry-after", b"1"), (b"connection", b"close")]
            await self._send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
            await self._send({"type": "websocket.http.response.body", "body": b""})
        else:
            await self._send({"type": "websocket.close", "code": CLOSE_CODE})

    async def gone(self) -> None:
        """Wait until the client has gone, or was cut off."""
        while (await self._receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
            pass

    async def break_off(self) -> None:
        """End what the application did not."""
        if self._complete:
            return
        if not self._started:
            await self.refuse()
        elif self._scope["type"] == "http":
            await self._send({"type": "http.response.body", "body": b""})
        else:
            await self._send({"type": "websocket.close", "code": CLOSE_CODE, "reason": CLOSE_REASON})


def _shutting_down() -> ASGIApp:
    headers = {"Retry-After": "1", "Connection": "close"}
    details = "Send the request again in a moment. What was accepted goes on."
    return Problem(503, "shutting_down", "The server is shutting down.", details, headers=headers).response(local=False)

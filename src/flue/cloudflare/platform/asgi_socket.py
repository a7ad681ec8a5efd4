"""WebSocket handshakes as ASGI connections: accepted here, accepted by an object, or refused with a response."""

from __future__ import annotations

import asyncio

from starlette.types import Message

from flue.cloudflare.platform import js_http
from flue.cloudflare.platform.asgi import NATIVE
from flue.cloudflare.platform.js_http import Native
from flue.cloudflare.platform.js_sockets import ServerSocket


class Handshake:
    """One handshake, and the socket that comes of it when the application serves it itself."""

    def __init__(self) -> None:
        self.response: asyncio.Future[Native] = asyncio.get_running_loop().create_future()
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._messages.put_nowait({"type": "websocket.connect"})
        self._socket: ServerSocket | None = None
        self._refusal: Message = {"status": 403}
        self._said = b""

    async def receive(self) -> Message:
        """Give the next message."""
        return await self._messages.get()

    async def send(self, message: Message) -> None:
        """Take a message of the application's."""
        match message["type"]:
            case "websocket.accept" if NATIVE in message:
                self.response.set_result(message[NATIVE])
                self._messages.put_nowait({"type": "websocket.disconnect", "code": 1005, "reason": ""})
            case "websocket.accept":
                self._accept(message)
            case "websocket.http.response.start":
                self._refusal = message
            case "websocket.http.response.body":
                self._said += message.get("body", b"")
                if not message.get("more_body", False):
                    self._refuse(self._refusal)
            case "websocket.close" if self._socket is None:
                self._refuse(self._refusal)
            case "websocket.close":
                self._close(message.get("code", 1000), message.get("reason") or "")
            case "websocket.send" if self._socket is not None:
                text = message.get("text")
                self._socket.send(message["bytes"] if text is None else text)

    def _accept(self, message: Message) -> None:
        self._socket = ServerSocket(self._on_message, self._on_close)
        headers = _headers(message)
        if message.get("subprotocol"):
            headers.append(("sec-websocket-protocol", message["subprotocol"]))
        self.response.set_result(self._socket.response(headers))

    def _refuse(self, start: Message) -> None:
        if not self.response.done():
            self.response.set_result(js_http.response(start["status"], _headers(start), self._said))

    def _close(self, code: int, reason: str) -> None:
        if self._socket is not None:
            self._socket.close(code, reason)

    def _on_message(self, data: str | bytes) -> None:
        kind = "text" if isinstance(data, str) else "bytes"
        self._messages.put_nowait({"type": "websocket.receive", kind: data})

    def _on_close(self, code: int, reason: str) -> None:
        self._messages.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def end(self) -> None:
        """Take note that the application has returned, or failed."""
        self._said = b""
        self._refuse({"status": 500})
        self._close(1011, "")


def _headers(message: Message) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.get("headers", ())]

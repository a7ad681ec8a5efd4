"""WebSockets of the platform: a Worker's own, and those that it keeps open while an object sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import js
from pyodide.ffi import JsException, create_proxy, to_js

from flue.cloudflare.platform.js_http import Headers, Native, native_headers


class ServerSocket:
    """The Worker's own end of a WebSocket; a message and the end are told as they come."""

    def __init__(self, on_message: Callable[[str | bytes], None], on_close: Callable[[int, str], None]) -> None:
        self._client, self._server = js.WebSocketPair.new().object_values()
        self._open = True
        self._server.accept()
        # Blobs could not be read in a callback.
        self._server.binaryType = "arraybuffer"

        def message(event: Native) -> None:
            on_message(event.data if isinstance(event.data, str) else event.data.to_bytes())

        def closed(event: Native) -> None:
            code, reason = event.code, event.reason
            with suppress(JsException):  # where the platform has done it
                self.close(code, reason)
            on_close(code, reason)
            for proxy in proxies:
                asyncio.get_running_loop().call_soon(proxy.destroy)  # not while it runs

        proxies = self._server.onmessage, self._server.onclose = create_proxy(message), create_proxy(closed)

    def response(self, headers: Headers = ()) -> Native:
        """Return the answer to the handshake."""
        return js.Response.new(None, status=101, webSocket=self._client, headers=native_headers(headers))

    def send(self, data: str | bytes) -> None:
        """Send a message. Raises `ConnectionError` when the socket is closed."""
        try:
            self._server.send(data if isinstance(data, str) else to_js(data))
        except JsException as error:
            raise ConnectionResetError("The socket is closed.") from error

    def close(self, code: int, reason: str) -> None:
        """Close it, once. Codes that must not be sent (RFC 6455, 7.4.1) become 1000."""
        if self._open:
            self._open = False
            self._server.close(1000 if code in _NOT_SENT else code, reason)


_NOT_SENT = frozenset({1005, 1006, 1015})


class HibernatingSocket:
    """An object's end of a WebSocket, as the platform keeps it while the object sleeps.

    See `flue.cloudflare.sockets.HibernatingSocket`.
    """

    def __init__(self, native: Native) -> None:
        self._native = native

    @property
    def buffered(self) -> int:
        """Return the bytes that the platform has not taken on yet."""
        return int(getattr(self._native, "bufferedAmount", 0) or 0)

    def send(self, text: str) -> None:
        """Send a text message. Raises `ConnectionError` when that is not possible any more."""
        _tried(lambda: self._native.send(text))

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Close it, or answer the client's close. Raises `ConnectionError` when that is not possible any more."""
        _tried(self._native.close if code is None else lambda: self._native.close(code, reason))

    def attach(self, text: str) -> None:
        """Keep a text with the socket. Raises `ConnectionError` when that is not possible any more."""
        _tried(lambda: self._native.serializeAttachment(text))

    def attachment(self) -> str | None:
        """Return what was kept, or None."""
        kept = self._native.deserializeAttachment()
        return kept if isinstance(kept, str) else None


def _tried(action: Callable[[], Any]) -> None:
    try:
        action()
    except JsException as error:
        raise ConnectionResetError(f"The socket is closed: {error}") from error

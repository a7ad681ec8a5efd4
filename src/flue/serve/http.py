"""The HTTP server: uvicorn with httptools, on a socket that listens already.

uvicorn sets no limit to the head of a request and waits for it forever; `BoundedProtocol` does neither. Compression of
WebSocket messages is off: it costs every idle connection some 100 KB.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from flue.server.sockets.frames import MAX_MESSAGE_BYTES

MAX_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 20.0
KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep connections (60 s is usual), so that they never send into one that is just being closed."""

_TOO_LARGE = b"The head of the request is too large."


class BoundedProtocol(HttpToolsProtocol):
    """A connection whose requests have heads of at most 64 KB, each complete after 20 s at most."""

    _reading_head = True
    _head_bytes = 0
    _refusal: bytes | None = None
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the connection."""
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client's."""
        if self._reading_head:
            self._head_bytes += len(data)
            if self._deadline is None:
                self._expect_head()
        super().data_received(data)
        if self._reading_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse_head()

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is too large or cannot be passed on."""
        self._head_is_here()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            self._refusal = _TOO_LARGE
            raise ValueError("too large")
        # For an upgrade the parser takes any byte, and what comes after it fails over them.
        self.url.decode("ascii")
        for name, _ in self.headers:
            name.decode("ascii")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_message_complete()
        self._reading_head, self._head_bytes = True, 0

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read."""
        if self._refusal is not None:
            self._refuse_head()
        elif not self.transport.is_closing():
            super().send_400_response(msg)

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _head_is_here(self) -> None:
        self._reading_head = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_is_late(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse_head(self) -> None:
        head = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
        head += b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n\r\n" % len(_TOO_LARGE)
        self.transport.write(head + _TOO_LARGE)
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn without its own handling of signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def served(app: ASGIApp, listening: socket.socket, *, trust_proxy: bool, grace: float) -> AsyncIterator[None]:
    """Serve an application on a listening socket, which is closed at the end.

    At the end requests have `grace` seconds to be completed. `trust_proxy` believes what a proxy on this machine, or
    one that FORWARDED_ALLOW_IPS names, says of the client. The application's lifespan is not run.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of every request that cannot be read
    config = uvicorn.Config(
        app,
        loop="none",
        http=BoundedProtocol,
        ws=WebSocketsSansIOProtocol,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=trust_proxy,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    waiting: Any = grace
    config.timeout_graceful_shutdown = waiting  # declared as whole seconds, used as any number
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    ready = asyncio.create_task(server.ready.wait())
    try:
        await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        yield
    finally:
        ready.cancel()
        server.should_exit = True
        await serving
        listening.close()

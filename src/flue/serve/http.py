"""The HTTP server: uvicorn with httptools, on a socket that listens already.

uvicorn sets no limit to the head of a request and waits for it, for a body and for those who do not read forever;
`BoundedProtocol`, `BoundedSocket` and `end_stalled` do not. Compression of WebSocket messages is off: it costs every
idle connection some 100 KB.
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
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from flue.serve.listening import WAITING_CONNECTIONS, Shared
from flue.serve.socket_protocol import BoundedSocket
from flue.serve.stalled import end_stalled
from flue.server.sockets.frames import MAX_MESSAGE_BYTES

MAX_HEAD_BYTES = 64 * 1024
MAX_WAITING = 32
HEAD_SECONDS = 20.0
BODY_SECONDS = 20.0
LEAST_BODY_BYTES = 1024
KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep connections (60 s is usual), so that they never send into one that is just being closed."""

_AFTER_CUT_SECONDS = 0.2
_DATE_SECONDS = 1.0
_LEFT_SECONDS = 0.01
_TOO_LARGE = b"The head of the request is too large."


class BoundedProtocol(HttpToolsProtocol):
    """A connection whose requests come within bounds.

    A head has at most 64 KB, trailers included, and is complete 20 s after it began. Of a body at least 1 KB comes in
    20 s, while it is read. At most 32 requests wait for the one before them.
    """

    _reading_head = True
    _begun = False
    _head_bytes = 0
    _body_bytes = 0
    _refusal: bytes | None = None
    _deadline: asyncio.TimerHandle | None = None
    _answered: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the connection, and tell what is under way. uvicorn tells only the request that came last."""
        self._wait_no_longer()
        self._unset_keepalive_if_required()
        self.pipeline.clear()
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client's."""
        if self._reading_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if self._reading_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
        elif self._deadline is not None:
            return
        elif not self._reading_head:
            self._expect_body()
        elif self._begun or self._head_bytes:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what follows a body is no header of the request's any more."""
        if self._reading_head:
            super().on_header(name, value)
            return
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refusal = _TOO_LARGE
            raise ValueError("too large")

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is too large or cannot be passed on."""
        self._wait_no_longer()
        self._reading_head = False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            self._refusal = _TOO_LARGE
            raise ValueError("too large")
        if len(self.pipeline) >= MAX_WAITING:
            raise ValueError("too many requests that wait")
        # For an upgrade the parser takes any byte, and what comes after it fails over them.
        self.url.decode("ascii")
        for name, value in self.headers:
            name.decode("ascii")
            if name.startswith(b"sec-websocket-"):
                value.decode("ascii")
        if self.parser.get_http_version() != "1.1" and self.parser.should_upgrade() and self._should_upgrade():
            raise ValueError("a WebSocket needs HTTP/1.1")
        super().on_headers_complete()
        self._head_bytes = self._body_bytes = 0

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to wait for the next request."""
        self._wait_no_longer()
        super().on_message_complete()
        self._reading_head, self._begun, self._head_bytes = True, False, 0

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read, unless that would be taken for the answer to a request before it."""
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle  # None before the first request
        if self.pipeline or (
            cycle is not None and not cycle.response_complete and (self._reading_head or cycle.response_started)
        ):
            self.transport.close()
        elif self._refusal is not None:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def _wait_no_longer(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_is_late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()

    def _expect_body(self) -> None:
        self._body_bytes = 0
        self._deadline = self.loop.call_later(BODY_SECONDS, self._look_at_body)

    def _look_at_body(self) -> None:
        """Go on to wait when enough has come, or when it is the application that does not read."""
        self._deadline = None
        if self.transport.is_closing():
            return
        if self._body_bytes >= LEAST_BODY_BYTES or self.flow.read_paused:
            self._expect_body()
        else:
            self.transport.close()

    def _refuse_head(self) -> None:
        head = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
        head += b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n\r\n" % len(_TOO_LARGE)
        self.transport.write(head + _TOO_LARGE)
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn without its own handling of signals, and without looking ten times a second whether it is to end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Have it end."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # which also sets the date of the answers
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DATE_SECONDS):
                    await self._ending.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's own waits a tenth of a second before it looks whether anybody is left, and between two looks: 100 ms
        # of the end of every server, where this takes 10. And it logs an error for requests that are cut off, as is
        # agreed here. The rest is as there, but for the lifespan, which is off; a test tells when that changes.
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()
        state = self.server_state
        for connection in tuple(state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                left = True
                while left:
                    await asyncio.sleep(_LEFT_SECONDS)  # first of all: somebody may just have been let in
                    left = bool(state.connections or state.tasks)
        for task in tuple(state.tasks):
            task.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def served(app: ASGIApp, listening: socket.socket, *, trust_proxy: bool, grace: float) -> AsyncIterator[None]:
    """Serve an application on a listening socket, which is closed at the end.

    At the end requests have `grace` seconds to be completed; then connections are cut. `trust_proxy` believes what a
    proxy on this machine, or one that FORWARDED_ALLOW_IPS names, says of the client. The application's lifespan is not
    run.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of every request that cannot be read
    config = uvicorn.Config(
        app,
        loop="none",
        http=BoundedProtocol,
        ws=BoundedSocket,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=trust_proxy,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        workers=1,  # or it reads WEB_CONCURRENCY
        backlog=1 if isinstance(listening, Shared) else WAITING_CONNECTIONS,
    )
    waiting: Any = grace + _AFTER_CUT_SECONDS
    config.timeout_graceful_shutdown = waiting  # declared as whole seconds, used as any number
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    ready = asyncio.create_task(server.ready.wait())
    looking = asyncio.create_task(end_stalled(lambda: server.server_state.connections))
    try:
        await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        yield
    finally:
        ready.cancel()
        looking.cancel()
        server.end()
        cutting = asyncio.get_running_loop().call_later(grace, _cut, server)
        await serving
        cutting.cancel()
        listening.close()


def _cut(server: uvicorn.Server) -> None:
    connections: Any = server.server_state.connections
    for connection in tuple(connections):
        connection.transport.abort()

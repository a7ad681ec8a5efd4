"""The platform's requests as ASGI connections, for an app.py, for what it mounts, and in the objects.

Bodies come in when they are read, and go out as they are written. A client that hangs up is a `http.disconnect`; what
it asked for goes on. A response or a socket that an object of the Worker's own has opened already is handed over as it
is, so that its bytes do not pass through Python: see `NATIVE`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.types import ASGIApp, Message, Scope

from flue.cloudflare.platform import js_bindings, js_http
from flue.cloudflare.platform.js_http import Native, Request, Response, Stream

logger = logging.getLogger("flue")

REQUEST = "flue.request"
"""The key of a scope that has the platform's request, a `Request`."""

NATIVE = "flue.native"
"""The key of a message that hands something over.

In `websocket.accept`: the response that accepted the handshake elsewhere. In `http.response.start`: an `Offer`.
"""

_ASGI = {"version": "3.0", "spec_version": "2.4"}


class Offer:
    """A response whose body may go to the client as it is.

    It is `taken` once its `http.response.start` has come through to the platform while it was open. Middleware that
    holds that message back, to change the body, sees a body as usual.
    """

    def __init__(self, response: Response) -> None:
        self.response = response
        self.open = True
        self.taken = False


def scope_of(request: Request, kind: str, *, root_path: str = "") -> Scope:
    """Return the scope of a connection; `root_path` is where the application is mounted."""
    url = urlsplit(request.url)
    secure = url.scheme == "https"
    schemes = ("https", "http") if kind == "http" else ("wss", "ws")
    address = request.header("cf-connecting-ip")
    return {
        "type": kind,
        "asgi": _ASGI,
        "http_version": "1.1",
        "method": request.method,
        "scheme": schemes[0] if secure else schemes[1],
        "path": unquote(url.path) or "/",
        "raw_path": url.path.encode() or b"/",
        "query_string": url.query.encode(),
        "root_path": root_path,
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers],
        "client": (address, 0) if address else None,
        "server": (url.hostname or "", url.port or (443 if secure else 80)),
        "extensions": {} if kind == "http" else {"websocket.http.response": {}},
        REQUEST: request,
    }


async def answer(app: ASGIApp, request: Request, scope: Scope | None = None) -> Native:
    """Return what an application answers to a request. The application may go on after that."""
    if request.is_upgrade:
        from flue.cloudflare.platform.asgi_socket import Handshake

        exchange: _Exchange | Handshake = Handshake()
        scope = scope or scope_of(request, "websocket")
    else:
        exchange = _Exchange(request)
        scope = scope or scope_of(request, "http")
    task = asyncio.ensure_future(_run(app, scope, exchange))
    response = await exchange.response
    if not task.done():
        js_bindings.wait_until(task)
    return response


async def _run(app: ASGIApp, scope: Scope, exchange: Any) -> None:
    try:
        await app(scope, exchange.receive, exchange.send)
    except (Exception, asyncio.CancelledError):  # cancelled by what it awaited: nobody cancels this task
        logger.exception("The application failed.")
    await exchange.end()


class _Exchange:
    """One request and its response."""

    def __init__(self, request: Request) -> None:
        self.response: asyncio.Future[Native] = asyncio.get_running_loop().create_future()
        self._request = request
        self._chunks = request.chunks()
        self._reading = False
        self._received = False
        self._over = asyncio.Event()
        self._start: Message | None = None
        self._stream: Stream | None = None
        self._watching: asyncio.Task[None] | None = None
        self._complete = False

    async def receive(self) -> Message:
        """Give the next piece of the body, then wait for the end."""
        if not self._received:
            return await self._receive_body()
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _receive_body(self) -> Message:
        # Who forwards a request takes its body along.
        self._received = not self._reading and self._request.body_used
        self._reading = True
        if not self._received:
            try:
                return {"type": "http.request", "body": await anext(self._chunks), "more_body": True}
            except StopAsyncIteration:
                self._received = True
            except ConnectionError:
                self._received = True
                return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        """Take a message. Raises `ConnectionError` when the client has gone."""
        if message["type"] == "http.response.start":
            self._start = message
            self._take(message.get(NATIVE))
        elif message["type"] == "http.response.body":
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))

    def _take(self, offer: Offer | None) -> None:
        if offer is None or not offer.open:
            return
        offer.taken = self._complete = True
        self._respond(offer.response)

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        if self._complete:
            return
        if self._stream is None and not more:
            self._respond(body)
        elif self._stream is None:
            self._stream = Stream()
            self._watching = asyncio.create_task(self._watch(self._stream))
            self._respond(self._stream)
        if self._stream is not None and body:
            await self._stream.write(body)
        if not more:
            self._complete = True
            if self._stream is not None:
                await self._stream.close()
            self._over.set()

    def _respond(self, body: bytes | Stream | Response) -> None:
        assert self._start is not None
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._start.get("headers", ())]
        self.response.set_result(js_http.response(self._start["status"], headers, body))

    async def _watch(self, stream: Stream) -> None:
        await stream.ended()
        self._over.set()

    async def end(self) -> None:
        """Take note that the application has returned, or failed."""
        if not self.response.done():
            self.response.set_result(js_http.response(500, [("content-type", "text/plain")], b"Internal Server Error"))
        elif self._stream is not None and not self._complete:
            # Cut off, so that the client does not take it for whole.
            await self._stream.abort()
        self._over.set()
        if self._watching is not None:
            self._watching.cancel()

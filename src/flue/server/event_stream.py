"""Server-sent events (html.spec.whatwg.org/multipage/server-sent-events.html) over a log that somebody else writes.

The client's leaving ends the stream and nothing else. A client that does not read makes the server stop reading from
the log: `send` waits while the connection's buffer is full, so that there is never more than one event in hand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from flue.ports import Clock

HEARTBEAT_SECONDS = 15.0
_HEARTBEAT = b": heartbeat\n\n"
_HEADERS = {"content-type": "text/event-stream", "cache-control": "no-cache", "connection": "keep-alive"}

Failure = Callable[[BaseException], bytes]


def frame(event: str, data: str, id: str | int | None = None) -> bytes:
    """Return one event's bytes; `data` is one line, `id` None leaves the client's last id as it is."""
    numbered = "" if id is None else f"id: {id}\n"
    return f"event: {event}\n{numbered}data: {data}\n\n".encode()


class EventStream(Response):
    """A response that sends `frames` as they come, and a comment after each 15 s of silence.

    When `frames` raises, the last frame is what `failure` makes of the exception.
    """

    def __init__(self, frames: AsyncGenerator[bytes, None], clock: Clock, failure: Failure) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._frames = frames
        self._clock = clock
        self._failure = failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or the client goes away."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        pumping = asyncio.create_task(self._pump(send))
        leaving = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({pumping, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pumping, leaving):
                task.cancel()
            await asyncio.wait({pumping, leaving})
        if not pumping.cancelled() and (error := pumping.exception()) is not None:
            raise error

    async def _pump(self, send: Send) -> None:
        connection = _Connection(send, self._clock)
        beating = asyncio.create_task(connection.beat())
        try:
            async with contextlib.aclosing(self._frames) as frames:
                try:
                    async for data in frames:
                        await connection.write(data)
                except ClientDisconnect:
                    return
                except Exception as error:  # noqa: BLE001 - told to the client, and logged by `failure`
                    await connection.write(self._failure(error))
        finally:
            beating.cancel()
            await asyncio.wait({beating})
        await send({"type": "http.response.body", "body": b""})


class _Connection:
    """Writes whole frames, and heartbeats between them."""

    def __init__(self, send: Send, clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._writing = False
        self._last = clock.monotonic()

    async def write(self, data: bytes) -> None:
        """Send a frame; wait while the client does not read."""
        self._writing = True
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        except OSError as error:
            raise ClientDisconnect from error  # so some servers say that the client has gone
        finally:
            self._writing = False
            self._last = self._clock.monotonic()

    async def beat(self) -> None:
        """Send a comment after each stretch of silence, but nothing to a client that does not read what it got."""
        while True:
            left = self._last + HEARTBEAT_SECONDS - self._clock.monotonic()
            if left <= 0 and not self._writing:
                await self.write(_HEARTBEAT)
                left = HEARTBEAT_SECONDS
            await self._clock.sleep(left if left > 0 else HEARTBEAT_SECONDS)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

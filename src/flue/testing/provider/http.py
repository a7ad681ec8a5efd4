"""The least of HTTP/1.1 that a streaming API needs: keep-alive, bodies of known length, chunked answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from flue.messages import Json

MAX_HEAD = 64 * 1024
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
Headers = tuple[tuple[str, str], ...]
Outcome = Literal["served", "refused", "broken", "disconnected"]


@dataclass(eq=False)
class ProviderRequest:
    """A request as it arrived. Header names are lower case; `path` has no query."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    _outcome: asyncio.Future[Outcome] = field(repr=False)

    @cached_property
    def json(self) -> Json:
        """Return the parsed body. Raises `ValueError` when it is not a JSON object."""
        value = json.loads(self.body)
        if not isinstance(value, dict):
            raise ValueError("the body is not a JSON object")  # noqa: TRY004 -- the type is the sender's mistake
        return value

    async def outcome(self) -> Outcome:
        """Wait until the server is done with this request and return how it ended.

        `refused` is an error response, `broken` an answer that was broken on purpose, `disconnected` a client that
        went away before the end.
        """
        return await asyncio.shield(self._outcome)

    def settle(self, outcome: Outcome) -> None:
        """Note how the request ended; the first note counts."""
        if not self._outcome.done():
            self._outcome.set_result(outcome)


class Connection:
    """One client connection: reads requests one after the other and writes answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def serve(self, answer: Callable[[Connection, ProviderRequest], Awaitable[None]]) -> None:
        """Answer requests until the client or an answer closes the connection."""
        try:
            while not self._writer.is_closing() and (request := await self._read()) is not None:
                try:
                    await answer(self, request)
                finally:
                    request.settle("disconnected")
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client left, or does not speak HTTP
        finally:
            self._writer.close()

    async def _read(self) -> ProviderRequest | None:
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, *_ = (*first.split(" ", 2), "")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        body = await self._reader.readexactly(int(headers.get("content-length") or 0))
        path, _, query = target.partition("?")
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        return ProviderRequest(method, path, query, headers, body, future)

    async def send(self, status: int, body: bytes, content_type: str, headers: Headers = ()) -> None:
        """Send a whole response."""
        head = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", f"content-type: {content_type}"]
        head += [f"{name}: {value}" for name, value in headers]
        head += [f"content-length: {len(body)}", "", ""]
        self._writer.write("\r\n".join(head).encode("latin-1") + body)
        await self._writer.drain()

    def open_stream(self) -> None:
        """Send the head of an event stream."""
        self._writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    async def write_chunks(self, pieces: list[bytes]) -> None:
        """Send pieces of the stream, each a chunk of its own, in one write."""
        self._writer.write(b"".join([b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece]))
        await self._writer.drain()

    async def close_stream(self) -> None:
        """End the stream; the connection stays open."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def cut(self) -> None:
        """Break the connection after what was written has been sent."""
        self._writer.close()

    async def wait_closed(self) -> None:
        """Wait until the client goes away."""
        try:
            while await self._reader.read(1024):
                pass
        except ConnectionError:
            pass
        self._writer.close()

    @property
    def closing(self) -> bool:
        """Say whether the connection is gone."""
        return self._writer.is_closing() or self._reader.at_eof()

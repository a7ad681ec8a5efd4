"""An HTTP server in bytes: it answers what the test says, in the pieces the test says, and breaks off when told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What a client asked. `headers` have lower-case names."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def after(self) -> int:
        """Return the index after which the client goes on."""
        return int(self.headers.get("last-event-id", "-1"))


@dataclass(frozen=True)
class Reply:
    """An answer: its body's pieces; with `cut` the connection breaks after them, with `hang` it stays as it is."""

    status: int = 200
    headers: Json = field(default_factory=dict)
    pieces: Sequence[bytes] = ()
    cut: bool = False
    hang: bool = False


def answer(value: Any, status: int = 200, **headers: str) -> Reply:
    """Return JSON values as an answer."""
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, {"content-type": "application/json", **given}, [json.dumps(value).encode()])


def problem(status: int, type: str) -> Reply:
    """Return an error's envelope."""
    return answer({"error": {"type": type, "message": "It went wrong.", "details": "Try another."}}, status)


def events(pieces: Iterable[bytes], *, cut: bool = False, hang: bool = False, **headers: str) -> Reply:
    """Return a stream of events as an answer."""
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(200, {"content-type": "text/event-stream", **given}, list(pieces), cut, hang)


def sse(event: Json, *, id: object = None, name: str | None = None, end: str = "\n") -> bytes:
    """Return an event as its frame."""
    number = event.get("eventIndex", 0) if id is None else id
    lines = [f"event: {name or event['type']}", f"id: {number}", f"data: {json.dumps(event)}", "", ""]
    return end.join(lines).encode()


Handler = Callable[[Request], Reply | Awaitable[Reply]]


class ScriptedServer:
    """Use it with `async with`; `requests` are those that came, `gone` counts the connections that clients left."""

    def __init__(self, handler: Handler) -> None:
        self.requests: list[Request] = []
        self.gone = 0
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        # Who comes when the queue is full tries again a second later.
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1_000)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._serve(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # the test is over; asyncio would log it
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read(reader)
        self.requests.append(request)
        said = self._handler(request)
        reply = said if isinstance(said, Reply) else await said
        head = {"transfer-encoding": "chunked", **reply.headers}
        lines = [f"HTTP/1.1 {reply.status} Said", *(f"{name}: {value}" for name, value in head.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        for piece in reply.pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        if reply.hang:
            try:
                await reader.read(1)
            finally:
                self.gone += 1
            return False
        if not reply.cut:
            writer.write(b"0\r\n\r\n")
        else:
            writer.close()
            await writer.wait_closed()
        return not reply.cut


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    return Request(method, path, headers, await reader.readexactly(int(headers.get("content-length", "0"))))

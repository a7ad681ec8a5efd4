"""Calls an ASGI application as a server would: any bytes in path and body, streams read as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

Message = dict[str, Any]
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        """Return the envelope's inner object, checking its shape."""
        assert list(self.json) == ["error"]
        error = self.json["error"]
        assert {"type", "message", "details"} <= set(error) <= {"type", "message", "details", "dev", "meta"}
        return error


class Stream:
    """A response while it comes in. `window` messages are taken from the application before it has to wait."""

    def __init__(self, window: int | None) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.taken = bytearray()
        self.ended = False
        self.waiting = 0
        """How many messages the application waits to get rid of."""
        self.left = asyncio.Event()
        self._started = asyncio.Event()
        self._grown = asyncio.Condition()
        self._window = asyncio.Semaphore(10**9 if window is None else window)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {key.decode(): value.decode() for key, value in message["headers"]}
            self._started.set()
            return
        self.waiting += 1
        try:
            await self._window.acquire()
        finally:
            self.waiting -= 1
        async with self._grown:
            self.taken += message.get("body", b"")
            self.ended = not message.get("more_body", False)
            self._grown.notify_all()

    async def until(self, text: str) -> str:
        """Wait until the body so far contains `text` and return it."""
        async with asyncio.timeout(5), self._grown:
            await self._grown.wait_for(lambda: text.encode() in self.taken)
            return self.taken.decode()

    async def end(self) -> str:
        """Wait for the end and return the whole body."""
        async with asyncio.timeout(5), self._grown:
            await self._grown.wait_for(lambda: self.ended)
            return self.taken.decode()

    def leave(self) -> None:
        """Close the connection, as a client that goes away does."""
        self.left.set()

    async def answer(self) -> Answer:
        await self._started.wait()
        return Answer(self.status, self.headers, bytes(self.taken))


class Client:
    def __init__(self, app: Any, *, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.request("GET", path, headers=headers)

    async def post(self, path: str, body: object = None, **headers: str) -> Answer:
        """Post JSON values, or nothing; underscores in the names of headers stand for hyphens."""
        data = b"" if body is None else json.dumps(body).encode()
        return await self.request("POST", path, data, headers={**({} if body is None else JSON), **headers})

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        async with self.stream(method, path, body, headers=headers) as stream:
            await stream.end()
            return await stream.answer()

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        *,
        headers: Mapping[str, str] | None = None,
        window: int | None = None,
    ) -> AsyncIterator[Stream]:
        """Send a request and give its response while it comes; leaving the block closes the connection."""
        stream = Stream(window)
        sent = {key.replace("_", "-"): value for key, value in (headers or {}).items()}
        chunks = [body] if isinstance(body, bytes) else list(body)
        if isinstance(body, bytes) and body and "content-length" not in sent:
            sent["content-length"] = str(len(body))
        task = asyncio.create_task(self._run(stream, method, path, chunks, sent))
        try:
            yield stream
        finally:
            stream.leave()
            async with asyncio.timeout(5):
                await task

    async def _run(
        self, stream: Stream, method: str, path: str, chunks: list[bytes], headers: Mapping[str, str]
    ) -> None:
        target, _, query = path.partition("?")
        raw = target.encode("latin-1")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": self._root_path + unquote(raw.decode("latin-1")),
            "raw_path": self._root_path.encode() + raw,
            "query_string": query.encode("latin-1"),
            "root_path": self._root_path,
            "headers": [(key.lower().encode(), value.encode("latin-1")) for key, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        pending = list(chunks) or [b""]

        async def receive() -> Message:
            if pending:
                return {"type": "http.request", "body": pending.pop(0), "more_body": bool(pending)}
            await stream.left.wait()
            return {"type": "http.disconnect"}

        await self._app(scope, receive, stream.send)
        if not stream.status:
            stream.status = 599
            stream._started.set()
        async with stream._grown:
            stream.ended = True
            stream._grown.notify_all()


def frames(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream: `event`, `id` and `data`, which must stand in this order."""
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        if not block or block.startswith(":"):
            continue
        fields = [line.partition(": ")[::2] for line in block.split("\n")]
        assert [name for name, _ in fields] in (["event", "id", "data"], ["event", "data"]), block
        values: dict[str, Any] = dict(fields)
        values["data"] = json.loads(values["data"])
        found.append(values)
    return found

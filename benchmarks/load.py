"""A client that is cheap: `python -m benchmarks.load WHAT PORT OPTIONS`, options and result being JSON.

    hammer    POSTs over so many connections, one request at a time on each, for some seconds or some requests
    sockets   opens WebSockets to as many agents, says so, and holds them until its input ends
    follow    starts a run, and reads its events from so many clients

It talks HTTP/1.1 by itself: what it costs is taken from the server on the same machine.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

_HEAD = "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{more}\r\n"
_UPGRADE = (
    "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def post(path: str, body: str = "{}") -> bytes:
    """Return a request that carries JSON."""
    more = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return (_HEAD.format(method="POST", path=path, more=more) + body).encode()


def get(path: str, more: str = "") -> bytes:
    """Return a request that carries nothing."""
    return _HEAD.format(method="GET", path=path, more=more).encode()


class _Hammer(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last has come."""

    def __init__(self, request: bytes, answered: list[float], until: float, most: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._answered = answered
        self._until = until
        self._most = most
        self._data = b""

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer."""
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._data[:end].lower()
        assert b" 200 " in head[:20], self._data
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(self._data) < end + 4 + length:
            return
        self._data = b""
        now = time.monotonic()
        self._answered.append(now)
        if now < self._until and len(self._answered) < self._most:
            self._transport.write(self._request)
        elif not self.done.done():
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed the connection"))


async def hammer(port: int, path: str, connections: int, seconds: float, requests: int = sys.maxsize) -> Any:
    """Return how many requests were answered, and in what time."""
    answered: list[float] = []
    began, loop = time.monotonic(), asyncio.get_running_loop()

    def client() -> _Hammer:
        return _Hammer(post(path), answered, began + seconds, requests)

    clients = [await loop.create_connection(client, "127.0.0.1", port) for _ in range(connections)]
    await asyncio.gather(*(one.done for _, one in clients))
    return {"requests": len(answered), "seconds": answered[-1] - began}


async def sockets(port: int, path: str, count: int) -> Any:
    """Open sockets, each to an agent of its own, and wait for their first frame; hold them until the input ends."""
    held = []
    for number in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get(path.format(number), _UPGRADE))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        await reader.readuntil(b"}")  # `ready`
        held.append(writer)
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    return {"sockets": len(held)}


async def follow(port: int, path: str, ticks: int, clients: int) -> Any:
    """Return how long a run took by its own clock, in milliseconds, while so many clients read its events."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(path, json.dumps({"ticks": ticks})))
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    run_id = json.loads(await reader.readexactly(length))["runId"]
    writer.close()

    async def read() -> bytes:
        mine, out = await asyncio.open_connection("127.0.0.1", port)
        out.write(get(f"/runs/{run_id}/stream", "connection: close\r\n"))
        text = await mine.read()
        out.close()
        return text

    texts = await asyncio.gather(*(read() for _ in range(clients)))
    for text in texts:
        assert text.count(b"event: log") == ticks, text[-500:]
    end = texts[0].partition(b"event: run_end")[2].partition(b"data: ")[2].splitlines()[0]
    return {"duration_ms": json.loads(end)["durationMs"]}


WHAT: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {"hammer": hammer, "sockets": sockets, "follow": follow}


def main(what: str, port: str, options: str) -> None:
    """Do it and print the result."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(json.dumps(asyncio.run(WHAT[what](int(port), **json.loads(options)))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

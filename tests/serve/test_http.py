from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from flue.errors import ConfigError
from flue.serve import http
from flue.serve.listening import listen, url_of


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await receive()
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def connected(application: Any = app) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve, and connect once."""
    listening = listen("127.0.0.1", 0)
    async with http.served(application, listening, trust_proxy=False, grace=0.5):
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()


async def status(reader: asyncio.StreamReader) -> int:
    line = await reader.readline()
    await reader.readuntil(b"\r\n\r\n")
    return int(line.split()[1])


async def test_requests_of_one_connection_are_answered() -> None:
    async with connected() as (reader, writer):
        for _ in range(3):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert await status(reader) == 200
            assert await reader.readexactly(2) == b"ok"


@pytest.mark.parametrize("pieces", [1, 40])
async def test_a_head_that_is_too_large_is_refused(pieces: int) -> None:
    async with connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n")
        with contextlib.suppress(ConnectionError):  # it does not wait for the rest
            for number in range(pieces):
                writer.write(b"h%d: " % number + b"x" * (70_000 // pieces) + b"\r\n")
                await writer.drain()
            writer.write(b"\r\n")
        assert await status(reader) == 431


async def test_a_head_that_does_not_come_is_waited_for_no_longer_than_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.05)
    async with connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await status(reader) == 200
        await reader.readexactly(2)
        writer.write(b"GET / HTTP/1.1\r\nhos")
        assert await reader.read() == b""


async def test_a_body_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.02)

    async def patient(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        while message.get("more_body"):
            message = await receive()
        await app(scope, receive, send)

    async with connected(patient) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab")
        await writer.drain()
        other, closing = await asyncio.open_connection(*writer.get_extra_info("peername"))
        assert await other.read() == b""  # its head is late by now, and so would the body be
        closing.close()
        writer.write(b"cd")
        assert await status(reader) == 200


UPGRADE = b"\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
KEY = b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"\x00\xff\xfe\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nhost: x" + UPGRADE + KEY,
        b"GET / HTTP/1.1\r\nhost: x" + UPGRADE + b"x\xe9: y\r\n" + KEY,
        b"GET / HTTP/1.1\r\nhost: x" + UPGRADE + b"sec-websocket-key: !!\r\n\r\n",
    ],
)
async def test_what_is_no_request_gets_a_400_and_no_traceback(
    request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected() as (reader, writer):
        writer.write(request_)
        assert await status(reader) == 400
    assert not caplog.records


async def test_a_websocket_is_opened_without_compression() -> None:
    async with connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x" + UPGRADE + b"sec-websocket-extensions: permessage-deflate\r\n" + KEY)
        line = await reader.readline()
        headers = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in line
    assert b"extensions" not in headers.lower()


def test_what_the_server_does_in_its_own_way_is_all_that_uvicorn_does_there() -> None:
    """If this fails, uvicorn has changed: see what `_Server` lacks, then say here what it does now."""
    ending = {"close", "shutdown", "sleep", "wait_for", "_wait_tasks_to_complete", "cancel", "servers", "server_state"}
    ending |= {"connections", "tasks", "config", "timeout_graceful_shutdown", "lifespan", "force_exit"}
    telling = {"asyncio", "TimeoutError", "list", "len", "logger", "info", "error"}
    assert set(uvicorn.Server.shutdown.__code__.co_names) == ending | telling
    assert set(uvicorn.Server.main_loop.__code__.co_names) == {"asyncio", "sleep", "on_tick"}


def test_a_port_that_is_taken_is_named_with_the_way_out() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="--port") as caught:
        listen("127.0.0.1", taken.getsockname()[1])
    assert caught.value.code == "port_unavailable"


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "localhost"), ("127.0.0.1", "127.0.0.1")])  # noqa: S104
def test_the_address_shown_is_one_to_open(host: str, shown: str) -> None:
    with listen("127.0.0.1", 0) as listening:
        assert url_of(host, listening) == f"http://{shown}:{listening.getsockname()[1]}"


async def test_a_handshake_that_comes_as_the_server_ends_is_refused_once(caplog: pytest.LogCaptureFixture) -> None:
    listening, came = listen("127.0.0.1", 0), asyncio.Event()

    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        came.set()
        while listening.fileno() >= 0:  # noqa: ASYNC110 - it is to be answered right after that
            await asyncio.sleep(0)
        await send({"type": "websocket.http.response.start", "status": 503, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b""})

    async with http.served(refusing, listening, trust_proxy=False, grace=0.5):
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n")
        writer.write(b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        await came.wait()
    assert await status(reader) in (500, 503)
    writer.close()
    assert not caplog.records

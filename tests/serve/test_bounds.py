"""What one connection may cost: bytes that never come, or come too many, or that nobody takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from flue.serve import http, stalled
from flue.serve.listening import listen
from tests.faults.wire import PING, TEXT, Wire, frame, frames, handshake

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
PATIENCE = 10.0


class App:
    """Reads bodies, streams without an end below /stream, and refuses sockets below /no."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.headers: list[tuple[bytes, bytes]] = []
        self.floods = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self.socket(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/stream":
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            writing = asyncio.create_task(self._flood(send)) if self.floods else None
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left.set()
            if writing is not None:
                writing.cancel()
            return
        while (await receive()).get("more_body"):
            pass
        self.headers = list(scope["headers"])
        await send({"type": "http.response.body", "body": b"read"})

    async def _flood(self, send: Any) -> None:
        while True:
            await send({"type": "http.response.body", "body": b"x" * 50_000, "more_body": True})
            await asyncio.sleep(0)

    async def socket(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/no":
            await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b""})
            return
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        self.left.set()


@contextlib.asynccontextmanager
async def wired(app: App, *, narrow: bool = False) -> AsyncIterator[Wire]:
    """Serve, and connect once."""
    listening = listen("127.0.0.1", 0)
    async with http.served(app, listening, trust_proxy=False, grace=0.5):
        wire = await Wire.open(listening.getsockname()[1], narrow=narrow)
        try:
            yield wire
        finally:
            wire.close(reset=True)


@pytest.mark.parametrize("begin", [b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\nab", CHUNKED + b"1;"])
async def test_a_body_that_hardly_comes_is_given_up(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.1)
    async with wired(App()) as wire:
        await wire.send(begin)
        assert await wire.read_to_end(PATIENCE)


async def test_a_body_that_comes_slowly_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.1)
    async with wired(App()) as wire:
        await wire.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n")
        for _ in range(10):
            await wire.send(b"x" * 6000)
            await wire.read(lambda: False, 0.05)  # the pace of the client
        assert await wire.read(lambda: b"read" in wire.received, PATIENCE)


async def test_trailers_are_no_headers_of_the_request() -> None:
    app = App()
    async with wired(app) as wire:
        await wire.send(CHUNKED + b"2\r\nok\r\n0\r\nauthorization: Bearer x\r\n\r\n")
        assert await wire.read(lambda: b"read" in wire.received, PATIENCE)
    assert b"authorization" not in dict(app.headers)


async def test_trailers_have_the_bounds_of_a_head() -> None:
    async with wired(App()) as wire:
        await wire.send(CHUNKED + b"0\r\n" + b"x: " + b"y" * 70_000 + b"\r\n\r\n")
        assert await wire.read_to_end(PATIENCE)
    assert b"read" not in wire.received


async def test_more_requests_than_may_wait_end_the_connection() -> None:
    async with wired(App()) as wire:
        await wire.send(REQUEST * 200)
        assert await wire.read_to_end(PATIENCE)


async def test_as_many_requests_as_may_wait_are_answered_in_order() -> None:
    async with wired(App()) as wire:
        await wire.send(REQUEST * http.MAX_WAITING)
        assert await wire.read(lambda: len(wire.statuses) == http.MAX_WAITING, PATIENCE)


async def test_noise_behind_a_stream_is_not_answered_inside_it() -> None:
    app = App()
    async with wired(app) as wire:
        await wire.send(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await wire.read(lambda: b"begun" in wire.received, PATIENCE)
        await wire.send(b"\x00\x01\r\n\r\n")
        assert await wire.read_to_end(PATIENCE)
        assert wire.statuses == [200]
        await asyncio.wait_for(app.left.wait(), PATIENCE)


async def test_a_stream_hears_that_its_client_has_gone_also_with_requests_behind_it() -> None:
    app = App()
    async with wired(app) as wire:
        await wire.send(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await wire.read(lambda: b"begun" in wire.received, PATIENCE)
        await wire.send(b"\x00")
        await wire.send(REQUEST * 2)
        wire.close(reset=True)
        await asyncio.wait_for(app.left.wait(), PATIENCE)


@pytest.mark.parametrize(
    "request_",
    [
        handshake("/").replace(b"GET", b"POST"),
        handshake("/", b"content-length: 3\r\n") + b"abc",
        handshake("/", b"".join(b"h%d: v\r\n" % number for number in range(200))),
        handshake("/", b"x: " + b"y" * 9000 + b"\r\n"),
        handshake("/").replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["POST", "a body", "200 headers", "9 KB in one", "HTTP/1.0"],
)
async def test_a_handshake_that_cannot_be_read_is_refused(request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with wired(App()) as wire:
        await wire.send(request_)
        assert await wire.read_to_end(PATIENCE)
    assert wire.statuses == [400]
    assert not caplog.records


async def test_a_refused_handshake_is_nothing_to_log(caplog: pytest.LogCaptureFixture) -> None:
    async with wired(App()) as wire:
        await wire.send(handshake("/no"))
        assert await wire.read_to_end(PATIENCE)
    assert wire.statuses == [403]
    assert not caplog.records


async def test_text_that_is_not_utf_8_closes_the_socket_and_is_nothing_to_log(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    async with wired(app) as wire:
        await wire.send(handshake("/"))
        assert await wire.read(lambda: b"\r\n\r\n" in wire.received, PATIENCE)
        await wire.send(frame(TEXT, b"\xff\xfe"))
        assert await wire.read_to_end(PATIENCE)
        await asyncio.wait_for(app.left.wait(), PATIENCE)
    assert [each.code for each in frames(wire.received)] == [1007]
    assert not caplog.records


async def test_pings_of_a_client_that_does_not_read_are_not_taken_for_ever() -> None:
    async with wired(App(), narrow=True) as wire:
        await wire.send(handshake("/"))
        assert await wire.read(lambda: b"\r\n\r\n" in wire.received, PATIENCE)
        flood, sent = frame(PING, b"x" * 125) * 500, 0
        while await wire.send(flood, 0.5):
            sent += len(flood)
            assert sent < 100_000_000
        # What was held back is read once the client reads.
        assert await wire.read(lambda: len(wire.received) > sent // 10, PATIENCE)


async def test_a_client_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalled, "LOOK_SECONDS", 0.05)
    app = App()
    app.floods = True
    async with wired(app, narrow=True) as wire:
        await wire.send(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.wait_for(app.left.wait(), PATIENCE)

"""Server-sent events as bytes: heartbeats, clients that leave, do not read, or outlive the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flue.server.event_stream import EventStream, frame
from flue.testing import VirtualClock
from tests.server.asgi_client import Client, Stream


class Log:
    """Frames that the test writes; `read` counts those taken, `closed` says whether the reader has gone."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.read = 0
        self.closed = asyncio.Event()

    async def frames(self) -> AsyncGenerator[bytes, None]:
        try:
            while (item := await self.queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                self.read += 1
                yield item
        finally:
            self.closed.set()


def failed(error: BaseException) -> bytes:
    return frame("error", '{"error":{}}')


@asynccontextmanager
async def streaming(log: Log, clock: VirtualClock, window: int | None = None) -> AsyncIterator[Stream]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await EventStream(log.frames(), clock, failed)(scope, receive, send)

    async with Client(app).stream("GET", "/", window=window) as stream:
        yield stream


def test_a_frame_is_event_id_data_and_one_blank_line() -> None:
    assert frame("log", '{"a":1}', 7) == b'event: log\nid: 7\ndata: {"a":1}\n\n'
    assert frame("log", '"\u2028\u00e9"') == 'event: log\ndata: "\u2028\u00e9"\n\n'.encode()


async def test_a_comment_is_sent_after_each_15_seconds_of_silence(virtual_clock: VirtualClock) -> None:
    log = Log()
    async with streaming(log, virtual_clock) as stream:
        await virtual_clock.advance(14.9)
        assert stream.taken == b""
        await virtual_clock.advance(0.2)
        assert stream.taken == b": heartbeat\n\n"
        await virtual_clock.advance(10)
        log.queue.put_nowait(b"x\n\n")
        await stream.until("x")
        await virtual_clock.advance(14.9)
        assert stream.taken == b": heartbeat\n\nx\n\n"
        await virtual_clock.advance(0.2)
        assert stream.taken == b": heartbeat\n\nx\n\n: heartbeat\n\n"
        await virtual_clock.advance(30)
        assert stream.taken.count(b"heartbeat") == 4
    assert virtual_clock.sleeping == 0


async def test_the_end_of_the_log_is_the_end_of_the_stream(virtual_clock: VirtualClock) -> None:
    log = Log()
    async with streaming(log, virtual_clock) as stream:
        log.queue.put_nowait(b"x\n\n")
        log.queue.put_nowait(None)
        assert await stream.end() == "x\n\n"
    assert virtual_clock.sleeping == 0


async def test_a_log_that_fails_ends_in_a_frame_that_says_so(virtual_clock: VirtualClock) -> None:
    log = Log()
    async with streaming(log, virtual_clock) as stream:
        log.queue.put_nowait(b"x\n\n")
        log.queue.put_nowait(ValueError("a secret"))
        assert await stream.end() == 'x\n\nevent: error\ndata: {"error":{}}\n\n'


async def test_a_client_that_leaves_closes_the_log_and_nothing_stays(virtual_clock: VirtualClock) -> None:
    log = Log()
    async with streaming(log, virtual_clock) as stream:
        log.queue.put_nowait(b"x\n\n")
        await stream.until("x")
        stream.leave()
        async with asyncio.timeout(5):
            await log.closed.wait()
    assert virtual_clock.sleeping == 0
    assert len(asyncio.all_tasks()) == 1


async def test_a_client_that_does_not_read_is_not_read_for(virtual_clock: VirtualClock) -> None:
    log = Log()
    for _ in range(1000):
        log.queue.put_nowait(b"x" * 1000)
    async with streaming(log, virtual_clock, window=3) as stream:
        await virtual_clock.advance(100)
        assert len(stream.taken) == 3000
        # Three were taken; the fourth waits for the client, and no heartbeat queues up behind it.
        assert (log.read, stream.waiting) == (4, 1)
    assert virtual_clock.sleeping == 0


async def test_a_server_that_says_that_the_client_has_gone_is_believed(virtual_clock: VirtualClock) -> None:
    log = Log()
    log.queue.put_nowait(b"x")

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    async def receive() -> Any:
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        await EventStream(log.frames(), virtual_clock, failed)({"method": "GET"}, receive, send)
    assert log.closed.is_set()


async def test_a_request_that_is_cancelled_leaves_nothing_behind(virtual_clock: VirtualClock) -> None:
    log = Log()
    task = asyncio.create_task(_endless(log, virtual_clock))
    await virtual_clock.advance(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log.closed.is_set()
    assert virtual_clock.sleeping == 0


async def _endless(log: Log, clock: VirtualClock) -> None:
    async def nothing(message: Any = None) -> Any:
        if message is None:
            await asyncio.Event().wait()

    await EventStream(log.frames(), clock, failed)({"method": "GET"}, nothing, nothing)

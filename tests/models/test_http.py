from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import pytest

from flue.errors import ProviderError
from flue.models.http import Httpx2Transport
from flue.ports import HttpTransport
from tests.models.over_http import transport_by

Open = Callable[[], AbstractAsyncContextManager[HttpTransport]]
Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve on the loopback interface; yields the address and the heads of the requests, one list entry each."""
    heads: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length")
                    ),
                    0,
                )
                heads.append(head + await reader.readexactly(length))
                await handle(heads[-1], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    finally:
        server.close()
        for writer in writers:
            writer.close()


@pytest.fixture(params=["httpx2", "fetch"])
def transport(request: pytest.FixtureRequest) -> Open:
    return partial(transport_by, request.param)


def answering(*parts: bytes) -> Handler:
    async def handle(_: bytes, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return handle


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_request_is_sent_as_given_and_its_answer_streamed(transport: Open) -> None:
    async with serving(answering(OK, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")) as (url, seen), transport() as one:
        response = await one.send("POST", f"{url}/v1?x=1", headers={"x-key": "k"}, content=b"body", read_timeout=5)
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert await response.aread() == b"abcde"
        await response.aclose()
    assert seen[0].startswith(b"POST /v1?x=1 HTTP/1.1\r\n")
    assert b"x-key: k\r\n" in seen[0]
    assert seen[0].endswith(b"\r\n\r\nbody")


async def test_a_compressed_answer_is_decoded(transport: Open) -> None:
    import gzip

    data = gzip.compress(b"hello")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data)
    async with serving(answering(head + data)) as (url, _), transport() as one:
        response = await one.send("GET", url, headers={}, content=b"", read_timeout=5)
        assert await response.aread() == b"hello"


async def test_a_redirect_is_not_followed(transport: Open) -> None:
    head = b"HTTP/1.1 307 Temporary\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(head)) as (url, seen), transport() as one:
        response = await one.send("POST", url, headers={"x-api-key": "k"}, content=b"", read_timeout=5)
        assert response.status == 307
        await response.aread()
    assert len(seen) == 1


async def test_connections_are_used_again(transport: Open) -> None:
    addresses = set()

    async def handle(_: bytes, writer: asyncio.StreamWriter) -> None:
        addresses.add(writer.get_extra_info("peername"))
        writer.write(OK + b"0\r\n\r\n")

    async with serving(handle) as (url, _), transport() as one:
        for _ in range(3):
            response = await one.send("POST", url, headers={}, content=b"", read_timeout=5)
            await response.aread()
            await response.aclose()
    assert len(addresses) == 1


async def failed(transport: Open, url: str, timeout: float | None = 5) -> ProviderError:
    async with transport() as one:
        with pytest.raises(ProviderError) as caught:
            response = await one.send("POST", url, headers={}, content=b"", read_timeout=timeout)
            try:
                await response.aread()
            finally:
                await response.aclose()
    return caught.value


async def test_a_server_that_is_not_there_is_a_retryable_error_that_names_only_the_host(transport: Open) -> None:
    async with serving(answering()) as (url, _):
        pass
    error = await failed(transport, f"{url}/path?key=secret")
    assert (error.status, error.retryable, error.code) == (None, True, "provider_unreachable")
    assert url in error.message
    assert "secret" not in str(error)


async def test_a_connection_cut_while_answering_is_a_retryable_error(transport: Open) -> None:
    async def handle(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"3\r\nabc\r\n")
        writer.close()

    async with serving(handle) as (url, _):
        error = await failed(transport, url)
    assert (error.status, error.retryable) == (None, True)


async def test_a_connection_cut_before_answering_is_a_retryable_error(transport: Open) -> None:
    async def handle(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(handle) as (url, _):
        assert (await failed(transport, url)).retryable


async def test_silence_for_longer_than_accepted_is_a_retryable_error(transport: Open) -> None:
    async with serving(answering(OK)) as (url, _):
        error = await failed(transport, url, timeout=0.01)
    assert error.retryable
    assert "silent" in error.message


async def test_an_answer_that_is_not_http_is_a_retryable_error(transport: Open) -> None:
    async with serving(answering(b"SSH-2.0-OpenSSH\r\n\r\n")) as (url, _):
        assert (await failed(transport, url)).retryable


@pytest.mark.parametrize("url", ["ftp://h/x", "nonsense"])
async def test_an_address_that_cannot_be_used_is_not_worth_another_attempt(url: str, transport: Open) -> None:
    error = await failed(transport, url)
    assert not error.retryable
    assert error.code == "invalid_url"


@pytest.mark.parametrize("key", ["sk-secret\n", "sk-secret\u2026"])
async def test_a_key_that_http_cannot_carry_is_not_shown(key: str, transport: Open) -> None:
    async with serving(answering(OK)) as (url, _), transport() as one:
        with pytest.raises(ProviderError) as caught:
            await one.send("POST", url, headers={"x-api-key": key}, content=b"", read_timeout=5)
    error = caught.value
    assert (error.code, error.retryable) == ("invalid_header", False)
    assert "sk-secret" not in "".join(traceback.format_exception(error))
    assert error.__cause__ is None


def test_one_transport_serves_several_event_loops() -> None:
    one = Httpx2Transport()

    async def once() -> bytes:
        async with serving(answering(OK + b"1\r\nx\r\n0\r\n\r\n")) as (url, _):
            response = await one.send("POST", url, headers={}, content=b"", read_timeout=5)
            body = await response.aread()
            await one.aclose()
            return body

    assert [asyncio.run(once()), asyncio.run(once())] == [b"x", b"x"]


async def test_closing_twice_is_fine() -> None:
    one = Httpx2Transport()
    await one.aclose()
    await one.aclose()


async def test_of_many_requests_at_once_some_connections_are_kept_for_later() -> None:
    many, all_there = 100, asyncio.Event()
    connected: list[asyncio.StreamWriter] = []
    ended = 0

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal ended
        connected.append(writer)
        if len(connected) == many:
            all_there.set()
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await all_there.wait()
                writer.write(OK + b"1\r\nx\r\n0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            ended += 1
        finally:
            writer.close()

    async def ask(one: HttpTransport, url: str) -> bytes:
        response = await one.send("POST", url, headers={}, content=b"", read_timeout=5)
        try:
            return await response.aread()
        finally:
            await response.aclose()

    async with await asyncio.start_server(connection, "127.0.0.1", 0) as server, transport_by("httpx2") as one:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(ask(one, url)) for _ in range(many)]
        assert {answer.result() for answer in answers} == {b"x"}
        while many - ended > 64:  # noqa: ASYNC110 - what is waited for is the other side's
            await asyncio.sleep(0)
        assert await ask(one, url) == b"x"
        assert (len(connected), many - ended) == (many, 64)


async def test_what_a_provider_sets_as_a_cookie_is_not_sent_with_requests_of_others() -> None:
    head = b"HTTP/1.1 200 OK\r\nSet-Cookie: who=ann\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(head)) as (url, seen), transport_by("httpx2") as one:
        for _ in range(2):
            response = await one.send("POST", url, headers={}, content=b"", read_timeout=5)
            await response.aread()
            await response.aclose()
    assert len(seen) == 2
    assert b"cookie" not in seen[1].lower()

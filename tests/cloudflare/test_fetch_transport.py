"""What the transport over `fetch` does beyond the behaviours that tests/models/test_http.py asks of every transport."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import pytest

from flue.cloudflare.platform.fetch_transport import FetchedResponse, FetchTransport
from flue.errors import ProviderError
from tests.cloudflare.own_time import OwnTime, in_own_time

URL = "https://models.example/v1/answer?key=s3cret"


class Scripted:
    """A `fetch` and its only exchange, which goes on when the test says so."""

    def __init__(self) -> None:
        self.sent: dict[str, object] = {}
        self.asked = 0
        self.aborted = 0
        self._heard: asyncio.Queue[object] = asyncio.Queue()

    def __call__(self, url: str, *, method: str, headers: Mapping[str, str], body: bytes | None) -> Scripted:
        self.sent = {"url": url, "method": method, "headers": headers, "body": body}
        return self

    def say(self, *news: object) -> None:
        """Let the host do this: a head, a piece, the end (None), or what makes it fail."""
        for item in news:
            self._heard.put_nowait(item)

    async def answer(self) -> tuple[int, Iterable[tuple[str, str]]]:
        status = await self._next()
        assert isinstance(status, int)
        return status, [("Content-Type", "text/event-stream"), ("X-Request-Id", "9")]

    async def read(self) -> bytes | memoryview | None:
        self.asked += 1
        piece = await self._next()
        assert piece is None or isinstance(piece, bytes)
        return None if piece is None else memoryview(piece)

    def abort(self) -> None:
        self.aborted += 1
        self.say(OSError("AbortError: The operation was aborted"))

    async def _next(self) -> object:
        item = await self._heard.get()
        if isinstance(item, OSError):
            raise item
        return item


async def opened(host: Scripted, *, timeout: float | None = 60) -> FetchedResponse:
    host.say(200)
    return await FetchTransport(host).send("POST", URL, headers={"x": "y"}, content=b"{}", read_timeout=timeout)


async def test_header_names_are_lower_case_and_pieces_are_bytes() -> None:
    """The port promises both, and a Worker gives neither."""
    host = Scripted()
    response = await opened(host)
    assert response.headers == {"content-type": "text/event-stream", "x-request-id": "9"}
    host.say(b"a", b"b", None)
    assert [piece async for piece in response.aiter_bytes()] == [b"a", b"b"]
    assert host.sent == {"url": URL, "method": "POST", "headers": {"x": "y"}, "body": b"{}"}


async def test_nothing_is_read_before_it_is_asked_for() -> None:
    """A Worker has 128 MB; a fast provider must not fill them."""
    host = Scripted()
    response = await opened(host)
    host.say(b"1", b"2", b"3", None)
    pieces = response.aiter_bytes()
    await asyncio.sleep(0)
    assert host.asked == 0
    assert await anext(pieces) == b"1"
    assert host.asked == 1


async def test_giving_up_on_the_head_drops_the_connection() -> None:
    """A promise does not notice that nobody awaits it any more."""
    host = Scripted()
    sending = asyncio.ensure_future(FetchTransport(host).send("POST", URL, headers={}, content=b"", read_timeout=60))
    await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert host.aborted == 1


def test_a_silent_host_is_given_up_when_it_is_due_and_not_before() -> None:
    """Silence counts between pieces, not from the beginning."""

    async def scene(loop: OwnTime) -> None:
        host = Scripted()
        response = await opened(host, timeout=60)
        pieces = response.aiter_bytes()
        for piece in (b"a", b"b", b"c"):
            reading = asyncio.ensure_future(anext(pieces))
            await loop.pass_time(59)
            host.say(piece)
            assert await reading == piece
        reading = asyncio.ensure_future(anext(pieces))
        await loop.pass_time(59)
        assert not reading.done()
        await loop.pass_time(2)
        with pytest.raises(ProviderError, match="kept silent for too long") as caught:
            await reading
        assert (caught.value.status, caught.value.retryable) == (None, True)

    in_own_time(scene)


def test_a_reader_that_takes_its_time_is_not_the_hosts_silence() -> None:
    """A tool that runs while an answer streams may take longer than a host may keep silent."""

    async def scene(loop: OwnTime) -> None:
        host = Scripted()
        response = await opened(host, timeout=60)
        pieces = response.aiter_bytes()
        host.say(b"a")
        assert await anext(pieces) == b"a"
        await loop.pass_time(3600)
        host.say(b"b")
        assert await anext(pieces) == b"b"
        assert host.aborted == 0

    in_own_time(scene)


@pytest.mark.parametrize("end", ["whole", "closed", "broken"])
def test_no_timer_is_left_behind(end: str) -> None:
    """A timer that waits keeps a Durable Object from hibernating; one for each piece would also cost time."""

    async def scene(loop: OwnTime) -> None:
        host = Scripted()
        response = await opened(host, timeout=600)
        host.say(*[b"piece"] * 1000, OSError("TypeError: Network connection lost.") if end == "broken" else None)
        pieces = response.aiter_bytes()
        if end == "closed":
            await anext(pieces)
            await response.aclose()
        elif end == "broken":
            with pytest.raises(ProviderError, match="broke the connection: TypeError: Network connection lost"):
                await response.aread()
            await response.aclose()
        else:
            await response.aread()
        assert loop.pending == []
        assert len(loop.timers) == 1

    in_own_time(scene)


@pytest.mark.parametrize("words", [f"TypeError: Failed to parse {URL}", "no way to /v1/answer", "key=s3cret?"])
async def test_an_address_that_the_platform_quotes_is_not_passed_on(words: str) -> None:
    """Paths and queries may hold keys."""
    host = Scripted()
    host.say(OSError(words))
    with pytest.raises(ProviderError) as caught:
        await FetchTransport(host).send("POST", URL, headers={}, content=b"", read_timeout=None)
    assert caught.value.message == "https://models.example cannot be reached."
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("headers", [{"x y": "z"}, {"": "z"}, {"x": "a\r\nb: c"}, {"x": " a"}, {"x": "\x00"}])
async def test_headers_that_the_platform_would_mend_are_refused(headers: dict[str, str]) -> None:
    """`fetch` trims a key with a line break silently; other transports refuse it, and so does this one."""
    host = Scripted()
    with pytest.raises(ProviderError) as caught:
        await FetchTransport(host).send("POST", URL, headers=headers, content=b"", read_timeout=None)
    assert caught.value.code == "invalid_header"
    assert host.sent == {}

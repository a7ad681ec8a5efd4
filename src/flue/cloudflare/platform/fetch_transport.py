"""`HttpTransport` over the platform's `fetch`: the way to model providers inside a Worker.

Nothing is buffered: a piece of the body is read when the caller asks for it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from flue.errors import ProviderError
from flue.models.transport_failures import SILENT, unreachable, unusable_address, unusable_header

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
# `fetch` trims values where it should refuse them, and a Worker sends Latin-1 that other transports do not.
_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")
_T = TypeVar("_T")


class Exchange(Protocol):
    """One request through `fetch`, under way. What JavaScript rejects is raised as `OSError`."""

    async def answer(self) -> tuple[int, Iterable[tuple[str, str]]]:
        """Return the status and the headers once they are there. Redirects are answers: `redirect: "manual"`."""
        ...

    async def read(self) -> bytes | memoryview | None:
        """Return the next piece of the body, decoded from its content encoding, or None at its end."""
        ...

    def abort(self) -> None:
        """Drop the connection: what is awaited fails. Harmless when the exchange is over."""
        ...


class Fetch(Protocol):
    """Begins a request through the platform's `fetch`."""

    def __call__(self, url: str, *, method: str, headers: Mapping[str, str], body: bytes | None) -> Exchange:
        """Return the exchange at once."""
        ...


class FetchTransport:
    """Sends requests with `fetch`. Connections belong to the platform: there is nothing to close."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes, read_timeout: float | None
    ) -> FetchedResponse:
        """Send a request and return once the response headers are there.

        Raises `ProviderError`: retryable (code `provider_unreachable`) when there was no connection or no answer,
        not retryable (codes `invalid_url`, `invalid_header`) when the request cannot be sent.
        """
        _check(url, headers)
        exchange = self._fetch(url, method=method, headers=headers, body=content or None)
        return await opened(exchange, url, read_timeout)

    async def aclose(self) -> None:
        """Do nothing: the platform pools connections."""


async def opened(exchange: Exchange, url: str, read_timeout: float | None) -> FetchedResponse:
    """Return the response of an exchange once its head is there; `url` is what errors call the host by.

    Raises a retryable `ProviderError` (code `provider_unreachable`).
    """
    response = FetchedResponse(exchange, url, read_timeout)
    try:
        await response.open()
    except BaseException:
        await response.aclose()
        raise
    return response


class FetchedResponse:
    """A response whose body is still to be read."""

    def __init__(self, exchange: Exchange, url: str, read_timeout: float | None) -> None:
        self._exchange = exchange
        self._url = url
        self._silence = _Silence(exchange, read_timeout)
        self.status = 0
        self.headers: Mapping[str, str] = {}

    async def open(self) -> None:
        """Wait for the head."""
        self.status, headers = await self._heard(self._exchange.answer())
        self.headers = {name.lower(): value for name, value in headers}

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises a retryable `ProviderError` when the connection breaks."""
        while (piece := await self._heard(self._exchange.read())) is not None:
            yield bytes(piece)
        self._silence.end()

    async def aread(self) -> bytes:
        """Return the rest of the body."""
        return b"".join([piece async for piece in self.aiter_bytes()])

    async def aclose(self) -> None:
        """Drop the connection, unless the body was read to its end."""
        self._silence.end()
        self._exchange.abort()

    async def _heard(self, waiting: Awaitable[_T]) -> _T:
        self._silence.begin()
        try:
            return await waiting
        except OSError as error:
            raise self._failure(error) from None  # some platforms quote the address, with all that is in it
        finally:
            self._silence.heard()

    def _failure(self, error: OSError) -> ProviderError:
        if self._silence.lasted:
            return unreachable(self._url, SILENT)
        reason = str(error).rstrip(".")
        quoted = "://" in reason or any(part and part in reason for part in urlsplit(self._url)[2:4])
        did = "cannot be reached" if not self.status else "broke the connection"
        hint = "" if self.status else "Check the network, and the provider's base URL."
        return unreachable(self._url, did if quoted or not reason else f"{did}: {reason}", hint)


class _Silence:
    """Aborts an exchange that has kept a reader waiting for too long.

    One timer serves all pieces of a body: it looks again when it goes off too early. A timer for each would cost more
    than reading.
    """

    def __init__(self, exchange: Exchange, limit: float | None) -> None:
        self._exchange = exchange
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None  # when the reader began to wait
        self._timer: asyncio.TimerHandle | None = None
        self.lasted = False

    def begin(self) -> None:
        """Count from now on: a reader waits."""
        if self._limit is not None:
            self._since = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._limit, self._look)

    def heard(self) -> None:
        """Count no longer: the reader has what it waited for."""
        self._since = None

    def end(self) -> None:
        """Nothing more is to be heard: leave no timer behind, which would keep a Durable Object awake."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._since is None or self._limit is None:
            return
        left = self._since + self._limit - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.lasted = True
            self._exchange.abort()


def _check(url: str, headers: Mapping[str, str]) -> None:
    """Raise for what `fetch` refuses too, but with an error that looks like that of a broken connection."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError as error:
        raise unusable_address(url, error) from error
    if not usable:
        raise unusable_address(url, "it must start with https:// or http:// and name a host.")
    if not all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in headers.items()):
        raise unusable_header(url)

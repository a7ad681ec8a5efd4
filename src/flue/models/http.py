"""`HttpTransport` over httpx2: the way to model providers outside a Worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from flue.certificates import trusted
from flue.errors import ProviderError
from flue.models.http_clients import PER_CLIENT, Clients
from flue.models.transport_failures import SILENT, unreachable, unusable_address, unusable_header

if TYPE_CHECKING:
    import httpx2

CONNECT_TIMEOUT = 30.0  # seconds; also for sending
KEEPALIVE_EXPIRY = 30.0  # seconds; below what hosts and load balancers close themselves


class Httpx2Transport:
    """Sends requests with httpx2; connections are pooled per running event loop.

    Proxies and certificates come from the environment as usual (`HTTPS_PROXY`, `SSL_CERT_FILE`). Redirects are not
    followed: they would carry the API key elsewhere.
    """

    def __init__(self) -> None:
        self._clients: dict[asyncio.AbstractEventLoop, Clients] = {}

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes, read_timeout: float | None
    ) -> Httpx2Response:
        """Send a request and return once the response headers are there.

        Raises `ProviderError`: retryable (code `provider_unreachable`) when there was no connection or no answer,
        not retryable (code `invalid_url`) when the address cannot be used.
        """
        import httpx2

        clients = self._of_this_loop()
        client = clients.take()
        try:
            with _explained(url):
                # Not `client.build_request`: it parses and merges anew for each request, and adds cookies that came
                # with the answer to somebody else's.
                timeout = {"connect": CONNECT_TIMEOUT, "read": read_timeout, "write": CONNECT_TIMEOUT, "pool": None}
                request = httpx2.Request(
                    method, _parsed(url), headers=dict(headers), content=content, extensions={"timeout": timeout}
                )
                response = await client.http.send(request, stream=True)
        except BaseException:
            await clients.give_back(client)
            raise
        return Httpx2Response(response, url, partial(clients.give_back, client))

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        clients = self._clients.pop(asyncio.get_running_loop(), None)
        if clients is not None:
            await clients.aclose()

    def _of_this_loop(self) -> Clients:
        loop = asyncio.get_running_loop()
        clients = self._clients.get(loop)
        if clients is None:
            for closed in [one for one in self._clients if one.is_closed()]:  # ended without `aclose`
                del self._clients[closed]
            clients = self._clients[loop] = Clients(self._make)
        return clients

    def _make(self) -> httpx2.AsyncClient:
        import httpx2

        limits = httpx2.Limits(
            max_connections=None, max_keepalive_connections=PER_CLIENT, keepalive_expiry=KEEPALIVE_EXPIRY
        )
        return httpx2.AsyncClient(verify=trusted(), follow_redirects=False, limits=limits)


class Httpx2Response:
    """A response whose body is still to be read."""

    def __init__(self, response: httpx2.Response, url: str, over: Callable[[], Awaitable[None]]) -> None:
        self._response = response
        self._url = url
        self._over: Callable[[], Awaitable[None]] | None = over
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises a retryable `ProviderError` when the connection breaks."""
        import httpx2

        # An event stream is rarely compressed; then the raw bytes spare httpx2's decoding layer, per chunk.
        response = self._response
        chunks = response.aiter_bytes() if "content-encoding" in self.headers else response.aiter_raw()
        try:
            async for chunk in chunks:
                yield chunk
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise _failure(self._url, error) from error

    async def aread(self) -> bytes:
        """Return the rest of the body."""
        return b"".join([chunk async for chunk in self.aiter_bytes()])

    async def aclose(self) -> None:
        """Drop the connection, or give it back when the body was read to its end."""
        over, self._over = self._over, None
        try:
            await self._response.aclose()
        finally:
            if over is not None:
                await over()


@lru_cache(maxsize=256)
def _parsed(url: str) -> httpx2.URL:
    """Return an address that many requests go to."""
    import httpx2

    return httpx2.URL(url)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    import httpx2

    try:
        yield
    except (httpx2.LocalProtocolError, UnicodeEncodeError):
        raise unusable_header(url) from None  # these errors hold the header's value
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise unusable_address(url, error) from error
    except httpx2.TransportError as error:
        raise _failure(url, error) from error


def _failure(url: str, error: Exception) -> ProviderError:
    import httpx2

    reason = str(error).rstrip(".") or type(error).__name__
    if isinstance(error, httpx2.ReadTimeout):
        return unreachable(url, SILENT)
    if isinstance(error, httpx2.ConnectTimeout | httpx2.ConnectError):
        return unreachable(url, f"cannot be reached: {reason}", "Check the network, and the provider's base URL.")
    return unreachable(url, f"broke the connection: {reason}")

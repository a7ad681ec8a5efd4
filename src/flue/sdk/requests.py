"""HTTP requests to one server: addresses, headers, and what failures mean."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from flue.errors import UsageError
from flue.sdk.errors import FlueApiError, FlueTransportError, not_the_protocol
from flue.sdk.urls import BaseUrl

if TYPE_CHECKING:
    import httpx2

CONNECT_TIMEOUT = 10.0
# Servers say at least every 15 s that they are there; a connection that is silent for so long is dead.
STREAM_SILENCE = 60.0

T = TypeVar("T")
Headers = Mapping[str, str] | Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said: its status, headers, and a JSON object."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]

    def field(self, name: str, kind: type[T]) -> T:
        """Return a field of the answer. Raises `FlueTransportError` when it is not there."""
        value = self.body.get(name)
        if not isinstance(value, kind):
            raise not_the_protocol(f"The answer has no `{name}`.")
        return value


class Requests:
    """Sends requests. Belongs to the event loop that it is first used in."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        headers: Headers | None = None,
        timeout: float | None = None,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        self.base_url = BaseUrl(base_url)
        self._token = token
        self._headers = headers
        self._timeout = timeout
        self._client = http_client
        self._owned = http_client is None

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        from_origin: bool = False,
    ) -> Answer:
        """Send a request and return its answer; a `body` of None is none; `from_origin` is `BaseUrl.http`'s.

        Raises `FlueApiError` for any answer but a success, `FlueTransportError` for none, and one that is no JSON
        object.
        """
        url = self.base_url.http(path, query, from_origin=from_origin)
        async with self._sent(method, url, body=body, headers=headers or {}, silence=self._timeout) as response:
            data = await _read(response)
        if not response.is_success:
            raise FlueApiError(response.status_code, _values_or_text(data))
        values = _values_or_text(data)
        if not isinstance(values, dict):
            raise not_the_protocol(f"{method} {path} was not answered with a JSON object.")
        return Answer(response.status_code, response.headers, values)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        failure: str = "Flue API error {status}.",
    ) -> AsyncIterator[Stream]:
        """Open a stream of server-sent events. Raises as `send`; `failure` is how a refusal is told."""
        asked = {"Accept": "text/event-stream", **(headers or {})}
        url = self.base_url.http(path, query)
        async with self._sent(method, url, body=body, headers=asked, silence=STREAM_SILENCE) as response:
            if not response.is_success:
                values = _values_or_text(await _read(response))
                message = failure.format(status=response.status_code)
                raise FlueApiError(response.status_code, values, message=message)
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise not_the_protocol(f"{method} {path} was not answered with a stream of events.")
            yield Stream(response)

    async def close(self) -> None:
        """Close the connections; a client that was given stays open."""
        if self._client is not None and self._owned:
            await self._client.aclose()

    @asynccontextmanager
    async def _sent(
        self,
        method: str,
        url: str,
        *,
        body: Any,
        headers: Mapping[str, str],
        silence: float | None,
    ) -> AsyncIterator[httpx2.Response]:
        import httpx2

        if self._client is None:
            # Redirects are not followed: they would carry the token elsewhere.
            # Reading the certificates takes longer than a request on this machine: only where a server shows one.
            verify, limits = self.base_url.encrypted, httpx2.Limits(max_connections=None)
            self._client = httpx2.AsyncClient(follow_redirects=False, verify=verify, limits=limits)
        given, content = await self._complete(headers, body)
        timeout = httpx2.Timeout(CONNECT_TIMEOUT, read=silence, pool=None)
        try:
            request = self._client.build_request(method, url, headers=given, content=content, timeout=timeout)
            response = await self._client.send(request, stream=True)
        except httpx2.LocalProtocolError:
            # Not chained and not quoted: the error holds the header's value, which may be the token.
            raise UsageError(
                "A header has characters that HTTP does not allow.",
                code="invalid_header",
                hint="Look for line breaks in the token and in the headers.",
            ) from None
        except httpx2.TransportError as error:
            raise _unreachable(url, error) from error
        try:
            yield response
        finally:
            await response.aclose()

    async def _complete(self, headers: Mapping[str, str], body: Any) -> tuple[dict[str, str], bytes | None]:
        """Return what to send: the caller's own headers win."""
        content = None if body is None else encode(body)
        complete = dict(headers)
        if content is not None:
            complete["Content-Type"] = "application/json"
        if self._token is not None:
            complete["Authorization"] = f"Bearer {self._token}"
        own = self._headers() if callable(self._headers) else self._headers or {}
        given = await own if inspect.isawaitable(own) else own
        replaced = {name.lower() for name in given}
        return {name: value for name, value in complete.items() if name.lower() not in replaced} | dict(given), content


class Stream:
    """An open stream: its headers, and its bytes as they come."""

    def __init__(self, response: httpx2.Response) -> None:
        self.headers: Mapping[str, str] = response.headers
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes. Raises `FlueTransportError` when the connection breaks, or is silent for too long."""
        import httpx2

        encoded = "content-encoding" in self.headers
        try:
            async for chunk in self._response.aiter_bytes() if encoded else self._response.aiter_raw():
                yield chunk
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise _unreachable(str(self._response.url), error) from error


def encode(value: Any) -> bytes:
    """Return JSON values as bytes. Raises `UsageError` for what has no JSON form."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"What is to be sent has no JSON form: {error}",
            code="invalid_input",
            hint="Pass dictionaries, lists, texts, numbers, booleans and None.",
        ) from error


async def _read(response: httpx2.Response) -> bytes:
    import httpx2

    try:
        return await response.aread()
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        raise _unreachable(str(response.url), error) from error


def _values_or_text(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data.decode(errors="replace")


def _unreachable(url: str, error: Exception) -> FlueTransportError:
    import httpx2

    # Neither path nor query: they may hold what is secret.
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if isinstance(error, httpx2.ReadTimeout):
        return FlueTransportError(f"{where} kept silent for too long.", code="timeout")
    reason = str(error).rstrip(".") or type(error).__name__
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return FlueTransportError(f"{where} cannot be reached: {reason}.", hint="Check the base URL, and the network.")
    return FlueTransportError(f"{where} broke the connection: {reason}.", code="connection_broken")

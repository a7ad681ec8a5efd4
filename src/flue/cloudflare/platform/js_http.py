"""Requests and responses of the platform.

What goes in and out of the functions of `js_…` modules is plain Python, or a `Native`: an object of the platform's that
is only handed on. Beside the entry of a build no other module knows the platform's objects. `js` and `pyodide.ffi` come
with Pyodide, `workers` with `workers-runtime-sdk` (developers.cloudflare.com/workers/languages/python).
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any, TypeAlias

import js
from pyodide.ffi import JsException, to_js

Native: TypeAlias = Any
Headers = Iterable[tuple[str, str]]

# Statuses whose responses have no body, not even an empty one (fetch.spec.whatwg.org/#null-body-status).
_NO_BODY = frozenset({101, 204, 205, 304})


def unwrapped(given: Native, attribute: str) -> Native:
    """Return what the SDK's wrapper holds, or what is no wrapper itself."""
    return getattr(given, attribute, given)


class Request:
    """A request that came in, or one that is sent to an object. `url` is absolute."""

    def __init__(self, given: Native) -> None:
        # The runtime wraps it before it calls a handler.
        self.native = unwrapped(given, "js_object")
        self.method: str = self.native.method
        self.url: str = self.native.url

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Return names, in lower case, and values."""
        return [(name, value) for name, value in self.native.headers]

    def header(self, name: str) -> str:
        """Return the value of a header, empty when there is none."""
        return str(self.native.headers.get(name) or "")

    @property
    def is_upgrade(self) -> bool:
        """Say whether it is the handshake of a WebSocket."""
        return self.header("upgrade").lower() == "websocket"

    @property
    def body_used(self) -> bool:
        """Say whether somebody has begun to read the body."""
        return bool(self.native.bodyUsed)

    async def json(self) -> Any:
        """Return the JSON values of the whole body."""
        return json.loads(await self.native.text())

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives. Raises `ConnectionError` when the client breaks off."""
        async for chunk in read_chunks(self.native.body):
            yield chunk

    def forwarded(self, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Request:
        """Return it for another address with headers set; with `body` in place of its own, else its own moves there."""
        if body is None:
            native = js.Request.new(url, self.native)
        else:
            content = to_js(body) if self.method not in ("GET", "HEAD") else None
            native = js.Request.new(url, method=self.method, headers=self.native.headers, body=content)
            native.headers.delete("content-length")
        for name, value in headers.items():
            native.headers.set(name, value)
        return Request(native)


def request(method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None) -> Request:
    """Return a request of one's own."""
    content = None if body is None else to_js(body)
    return Request(js.Request.new(url, method=method, headers=native_headers(headers.items()), body=content))


class Response:
    """The answer to a request that was sent."""

    def __init__(self, native: Native) -> None:
        self.native = native
        self.status: int = native.status

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Return names, in lower case, and values; `set-cookie` once for each."""
        return [(name, value) for name, value in self.native.headers]

    @property
    def content_type(self) -> str:
        """Return the type of its body, empty when there is none."""
        return str(self.native.headers.get("content-type") or "")

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives. Raises `ConnectionError` when it breaks off."""
        async for chunk in read_chunks(self.native.body):
            yield chunk

    async def read(self) -> bytes:
        """Return the whole body."""
        return b"".join([chunk async for chunk in self.chunks()])


async def read_chunks(body: Native) -> AsyncGenerator[bytes, None]:
    """Yield what a stream brings. Raises `ConnectionError` when it breaks off."""
    if not body:
        return
    reader = body.getReader()
    try:
        while not (part := await reader.read()).done:
            yield part.value.to_bytes()
    except JsException as error:
        raise ConnectionResetError(str(error)) from error
    except GeneratorExit:
        reader.cancel()
        raise


class Stream:
    """The body of a response that is written piece by piece; a write waits until the client takes it."""

    def __init__(self) -> None:
        transform = js.TransformStream.new()
        self.readable: Native = transform.readable
        self._writer = transform.writable.getWriter()

    async def write(self, data: bytes) -> None:
        """Write a piece. Raises `ConnectionError` once the client has gone."""
        try:
            await self._writer.write(to_js(data))
        except JsException as error:
            raise ConnectionResetError("The client has gone.") from error

    async def close(self) -> None:
        """End it; nothing happens when the client has gone."""
        try:
            await self._writer.close()
        except JsException:
            return

    async def abort(self) -> None:
        """Break it off, so that nobody takes it for whole."""
        try:
            await self._writer.abort("The response broke off.")
        except JsException:
            return

    async def ended(self) -> None:
        """Wait until it has been closed, or the client has gone."""
        try:
            await self._writer.closed
        except JsException:
            return


def response(status: int, headers: Headers, body: bytes | Stream | Response = b"") -> Native:
    """Return a response, with bytes as its body, a stream that is written to, or what another response still brings."""
    content: Native
    match body:
        case Stream():
            content = body.readable
        case Response():
            content = body.native.body or None
        case _:
            content = None if status in _NO_BODY else to_js(body)
    return js.Response.new(content, status=status, headers=native_headers(headers))


def native_headers(pairs: Headers) -> Native:
    """Return headers as the platform has them."""
    return js.Headers.new(to_js([[name, value] for name, value in pairs]))

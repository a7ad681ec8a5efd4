"""The door to JavaScript: beside the entry of a build only `js_…` modules know the platform's objects.

What goes in and out of its functions is plain Python, or a `Native`: an object of the platform's that is only handed
on. `js` and `pyodide.ffi` come with Pyodide, `workers` with `workers-runtime-sdk`
(developers.cloudflare.com/workers/languages/python).
"""

from __future__ import annotations

import json
from asyncio import Future, ensure_future
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

import js
from pyodide.ffi import JsException, JsProxy, create_proxy, jsnull, to_js
from workers import DurableObject, WorkerEntrypoint, import_from_javascript

from flue.cloudflare.js_timers import clear_cancelled_timers

Native: TypeAlias = Any
Headers = Iterable[tuple[str, str]]

# Statuses whose responses have no body, not even an empty one (fetch.spec.whatwg.org/#null-body-status).
_NO_BODY = frozenset({101, 204, 205, 304})


def _inside(wrapper: Native, attribute: str) -> Native:
    """Return what the SDK's wrapper holds, or what is no wrapper itself."""
    return getattr(wrapper, attribute, wrapper)


class Request:
    """A request that came in, or one that is sent to an object. `url` is absolute."""

    def __init__(self, given: Native) -> None:
        # The runtime wraps it before it calls a handler.
        self.native = _inside(given, "js_object")
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
    return Request(js.Request.new(url, method=method, headers=_headers(headers.items()), body=content))


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
    return js.Response.new(content, status=status, headers=_headers(headers))


def _headers(pairs: Headers) -> Native:
    return js.Headers.new(to_js([[name, value] for name, value in pairs]))


class ServerSocket:
    """The Worker's own end of a WebSocket; a message and the end are told as they come."""

    def __init__(self, on_message: Callable[[str | bytes], None], on_close: Callable[[int, str], None]) -> None:
        self._client, self._server = js.WebSocketPair.new().object_values()
        self._open = True
        self._server.accept()
        # Blobs could not be read in a callback.
        self._server.binaryType = "arraybuffer"

        def message(event: Native) -> None:
            on_message(event.data if isinstance(event.data, str) else event.data.to_bytes())

        def closed(event: Native) -> None:
            self._open = False
            on_close(event.code, event.reason)

        self._server.onmessage = create_proxy(message)
        self._server.onclose = create_proxy(closed)

    def response(self, headers: Headers = ()) -> Native:
        """Return the answer to the handshake."""
        return js.Response.new(None, status=101, webSocket=self._client, headers=_headers(headers))

    def send(self, data: str | bytes) -> None:
        """Send a message. Raises `ConnectionError` when the socket is closed."""
        try:
            self._server.send(data if isinstance(data, str) else to_js(data))
        except JsException as error:
            raise ConnectionResetError("The socket is closed.") from error

    def close(self, code: int, reason: str) -> None:
        """Close it, once. Codes that must not be sent (RFC 6455, 7.4.1) become 1000."""
        if self._open:
            self._open = False
            self._server.close(1000 if code in _NOT_SENT else code, reason)


_NOT_SENT = frozenset({1005, 1006, 1015})


class HibernatingSocket:
    """An object's end of a WebSocket, as the platform keeps it while the object sleeps.

    See `flue.cloudflare.sockets.HibernatingSocket`.
    """

    def __init__(self, native: Native) -> None:
        self._native = native

    @property
    def buffered(self) -> int:
        """Return the bytes that the platform has not taken on yet."""
        return int(getattr(self._native, "bufferedAmount", 0) or 0)

    def send(self, text: str) -> None:
        """Send a text message. Raises `ConnectionError` when that is not possible any more."""
        _tried(lambda: self._native.send(text))

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Close it, or answer the client's close. Raises `ConnectionError` when that is not possible any more."""
        _tried(self._native.close if code is None else lambda: self._native.close(code, reason))

    def attach(self, text: str) -> None:
        """Keep a text with the socket. Raises `ConnectionError` when that is not possible any more."""
        _tried(lambda: self._native.serializeAttachment(text))

    def attachment(self) -> str | None:
        """Return what was kept, or None."""
        kept = self._native.deserializeAttachment()
        return kept if isinstance(kept, str) else None


def _tried(action: Callable[[], Any]) -> None:
    try:
        action()
    except JsException as error:
        raise ConnectionResetError(f"The socket is closed: {error}") from error


# ------------------------------------------------------------------------------------------------------ bindings


def bindings() -> Native:
    """Return the environment as the platform has it."""
    return import_from_javascript("cloudflare:workers").env


def environment(env: Native) -> dict[str, Any]:
    """Return the environment, as a handler is given it, by name.

    Variables are text or JSON values, bindings the SDK's objects.
    """
    return {name: _variable(getattr(env, name)) for name in js.Object.keys(bindings())}


def _variable(value: Native) -> Any:
    plain = isinstance(value, JsProxy) and value.constructor.name in ("Object", "Array")
    return _without_jsnull(value.to_py() if plain else value)


def _without_jsnull(value: Any) -> Any:
    """Return a JSON value with None for each null; `to_py` leaves them what they are (Pyodide 314.0.6)."""
    match value:
        case list():
            return [_without_jsnull(item) for item in value]
        case dict():
            return {name: _without_jsnull(item) for name, item in value.items()}
        case _:
            return None if value is jsnull else value


async def ask(binding: str, name: str, request: Request) -> Response:
    """Send a request to the object of a name. Raises `ConnectionError` when it cannot be reached, `KeyError`."""
    namespace = getattr(bindings(), binding, None)
    if namespace is None:
        raise KeyError(binding)
    try:
        return Response(await namespace.get(namespace.idFromName(name)).fetch(request.native))
    except JsException as error:
        raise ConnectionError(str(error)) from error


def has_binding(name: str) -> bool:
    """Say whether the environment binds something to a name."""
    return getattr(bindings(), name, None) is not None


def wait_until(work: Awaitable[Any]) -> Future[Any]:
    """Do something that may outlive the answer to the request at hand."""
    task = ensure_future(work)
    proxy = create_proxy(task)
    task.add_done_callback(lambda _: proxy.destroy())
    import_from_javascript("cloudflare:workers").waitUntil(proxy)
    return task


class _Exchange:
    """A response that is awaited, and what drops it; see `flue.cloudflare.fetch_transport.Exchange`."""

    def __init__(self, begin: Callable[[Native], Native]) -> None:
        self._controller = js.AbortController.new()
        self._promise = begin(self._controller.signal)
        self._reader: Native = None

    async def answer(self) -> tuple[int, list[tuple[str, str]]]:
        """Return status and headers."""
        try:
            response = await self._promise
        except JsException as error:
            raise OSError(str(error)) from None
        self._reader = response.body and response.body.getReader()
        return response.status, [(name, value) for name, value in response.headers]

    async def read(self) -> bytes | None:
        """Return the next piece of the body, None at its end."""
        if not self._reader:
            return None
        try:
            result = await self._reader.read()
        except JsException as error:
            raise OSError(str(error)) from None
        return None if result.done else result.value.to_bytes()

    def abort(self) -> None:
        """Drop the connection."""
        self._controller.abort()


class Exchange(_Exchange):
    """One request through `fetch`, under way."""

    def __init__(self, url: str, *, method: str, headers: Mapping[str, str], body: bytes | None) -> None:
        options: dict[str, Any] = {"method": method, "headers": dict(headers), "redirect": "manual"}
        if body is not None:
            options["body"] = body
        super().__init__(lambda signal: js.fetch(url, _object({**options, "signal": signal})))


class Inference(_Exchange):
    """One question to Workers AI through a binding, under way; `inputs` is JSON."""

    def __init__(self, binding: str, model: str, inputs: bytes, options: Mapping[str, Any]) -> None:
        ai, asked = getattr(bindings(), binding), js.JSON.parse(inputs.decode())
        given = {**options, "returnRawResponse": True}
        super().__init__(lambda signal: ai.run(model, asked, _object({**given, "signal": signal})))


def _object(value: Mapping[str, Any]) -> Native:
    return to_js(dict(value), dict_converter=js.Object.fromEntries)


# ------------------------------------------------------------------------------------------------------- classes


class WorkerHandlers(Protocol):
    """What handles the events of the Worker; `env` is what the platform gives to handlers."""

    async def fetch(self, request: Request, env: Native) -> Native:
        """Answer a request."""
        ...

    async def handle(self, name: str, env: Native, *arguments: Native) -> Any:
        """Handle an event that is no request, with what the platform gives to the handler of its name."""
        ...


class ObjectHandlers(Protocol):
    """What handles the events of one object, as long as it lives."""

    async def fetch(self, request: Request) -> Native:
        """Answer a request."""
        ...

    async def alarm(self) -> None:
        """Look for what is due; must not raise."""
        ...

    async def socket_message(self, socket: HibernatingSocket, message: str | bytes) -> None:
        """Take a message from a socket that the object accepted."""
        ...

    async def socket_closed(self, socket: HibernatingSocket, code: int, reason: str) -> None:
        """Take note that a socket was closed by its client."""
        ...

    async def socket_failed(self, socket: HibernatingSocket) -> None:
        """Take note that a socket's connection failed."""
        ...


class State:
    """What one object has: its `id`, its name (None where the platform does not tell), its storage."""

    def __init__(self, ctx: Native) -> None:
        self.ctx = ctx
        # The SDK's wrapper converts every value that goes through it.
        self.native = _inside(ctx, "_ctx")
        self.storage: Native = self.native.storage

    @property
    def id(self) -> str:
        """Return the object's id: 64 hexadecimal digits."""
        return str(self.native.id.toString())

    def accept(self) -> tuple[HibernatingSocket, Native]:
        """Accept the handshake of a WebSocket; return the object's end, and the answer to the handshake."""
        client, server = js.WebSocketPair.new().object_values()
        self.native.acceptWebSocket(server)
        return HibernatingSocket(server), js.Response.new(None, status=101, webSocket=client)

    def sockets(self) -> list[HibernatingSocket]:
        """Return the sockets that the object has accepted and that are open."""
        return [HibernatingSocket(native) for native in self.native.getWebSockets()]

    @property
    def name(self) -> str | None:
        """Return the name that its id was made of."""
        name = getattr(self.native.id, "name", None)
        return name if isinstance(name, str) else None


def worker_class(handlers: WorkerHandlers, names: Iterable[str] = ()) -> type:
    """Return the class that handles what comes to the Worker; `names` are its events that are no requests."""

    async def fetch(self: Any, request: Native) -> Native:
        clear_cancelled_timers()
        return await handlers.fetch(Request(request), self.env)

    def handler(name: str) -> Callable[..., Any]:
        async def handle(self: Any, *arguments: Any) -> Any:
            clear_cancelled_timers()
            return await handlers.handle(name, self.env, *arguments)

        return handle

    # All there when the class is made: the SDK wraps some of them then.
    return type("Default", (WorkerEntrypoint,), {"fetch": fetch, **{name: handler(name) for name in names}})


def object_class(name: str, make: Callable[[State, Native], ObjectHandlers]) -> type:
    """Return a Durable Object class of a name; `make` is called at the beginning of an object's life."""

    class Object(DurableObject):  # type: ignore[misc]  # the SDK has no types
        def __init__(self, ctx: Native, env: Native) -> None:
            super().__init__(ctx, env)
            self._made = make(State(self.ctx), self.env)

        @property
        def _handlers(self) -> ObjectHandlers:
            # With each event: an object is not always made in the event loop.
            clear_cancelled_timers()
            return self._made

        async def fetch(self, request: Native) -> Native:
            return await self._handlers.fetch(Request(request))

        async def alarm(self, info: Native = None) -> None:
            await self._handlers.alarm()

        async def webSocketMessage(self, socket: Native, message: Native) -> None:  # noqa: N802 - the platform's name
            data = message if isinstance(message, str) else bytes(message)
            await self._handlers.socket_message(HibernatingSocket(socket), data)

        async def webSocketClose(  # noqa: N802 - the platform's name
            self, socket: Native, code: int, reason: str, clean: bool
        ) -> None:
            await self._handlers.socket_closed(HibernatingSocket(socket), code, reason)

        async def webSocketError(self, socket: Native, error: Native) -> None:  # noqa: N802 - the platform's name
            await self._handlers.socket_failed(HibernatingSocket(socket))

    Object.__name__ = Object.__qualname__ = name
    return Object

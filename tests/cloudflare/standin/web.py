"""Headers, requests, responses and sockets of the Web platform."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.cloudflare.standin.owners import Owner, current_owner, running_for
from tests.cloudflare.standin.streams import ReadableStream, read_all
from tests.cloudflare.standin.values import (
    ArrayBuffer,
    JsArray,
    JsException,
    JsObject,
    JsProxy,
    Promise,
    Uint8Array,
    crossing,
    jsnull,
    type_error,
)

NULL_BODY = (101, 204, 205, 304)


class Headers(JsProxy):
    """Names are lower case; those of an incoming request and of a fetched response cannot be changed."""

    js_name = "Headers"

    def __init__(self, init: Any = None) -> None:
        self._pairs: list[tuple[str, str]] = []
        self._frozen = False
        if isinstance(init, JsObject):
            init = vars(init).items()
        for name, value in init or ():
            self.append(name, value)

    def append(self, name: str, value: str) -> None:
        self._check(name, value)
        self._pairs.append((name.lower(), value.strip(" \t")))

    def set(self, name: str, value: str) -> None:
        self._check(name, value)
        self.delete(name)
        self._pairs.append((name.lower(), value))

    def delete(self, name: str) -> None:
        self._check(name, "")
        self._pairs = [pair for pair in self._pairs if pair[0] != name.lower()]

    def get(self, name: str) -> Any:
        found = [value for key, value in self._pairs if key == name.lower()]
        return ", ".join(found) if found else jsnull

    def has(self, name: str) -> bool:
        return any(key == name.lower() for key, _ in self._pairs)

    def getSetCookie(self) -> JsArray:  # noqa: N802
        return JsArray(value for key, value in self._pairs if key == "set-cookie")

    def __iter__(self) -> Iterator[JsArray]:
        joined: dict[str, str] = {}
        for key, value in sorted(self._pairs):
            if key == "set-cookie":
                yield JsArray((key, value))
            else:
                joined[key] = f"{joined[key]}, {value}" if key in joined else value
        yield from (JsArray(pair) for pair in joined.items())

    def frozen(self) -> Headers:
        copy = Headers(self)
        copy._frozen = True
        return copy

    def _check(self, name: str, value: str) -> None:
        if self._frozen:
            raise type_error("Can't modify immutable headers.")
        if not name or any(character in f"{name}{value}" for character in "\r\n\0"):
            raise type_error(f"Invalid header: {name}")
        if any(ord(character) > 255 for character in value):
            raise type_error("Invalid header value: it cannot be a ByteString.")


class Body(JsProxy):
    """What requests and responses share."""

    body: Any = jsnull

    def _set_body(self, body: Any) -> str | None:
        """Take a body and return the content type that it brings along."""
        if body is None or body is jsnull:
            self.body = jsnull
        elif isinstance(body, str):
            self.body = ReadableStream.of(body.encode())
            return "text/plain;charset=UTF-8"
        elif isinstance(body, Uint8Array):
            self.body = ReadableStream.of(*([body.data] if body.data else []))
        elif isinstance(body, ReadableStream):
            if body.disturbed or body.locked:
                raise type_error("This ReadableStream is disturbed (has already been read from).")
            self.body = body
        else:
            raise AssertionError(f"not a body: {body!r}")
        return None

    @property
    def bodyUsed(self) -> bool:  # noqa: N802
        return self.body is not jsnull and self.body.disturbed

    def arrayBuffer(self) -> Promise:  # noqa: N802
        async def read() -> ArrayBuffer:
            return ArrayBuffer(b"" if self.body is jsnull else await read_all(self.body))

        return Promise.of(read())

    def text(self) -> Promise:
        async def read() -> str:
            return b"".decode() if self.body is jsnull else (await read_all(self.body)).decode()

        return Promise.of(read())


class AbortSignal(JsProxy):
    """What tells a request that nobody waits for it."""

    js_name = "AbortSignal"

    def __init__(self) -> None:
        self.on_abort: list[Callable[[], object]] = []


class AbortController(JsProxy):
    """Breaks off the request that has its signal, as long as that is not answered."""

    js_name = "AbortController"

    def __init__(self) -> None:
        self.signal = AbortSignal()

    def abort(self) -> None:
        for break_off in self.signal.on_abort:
            break_off()


class Request(Body):
    """A request. Making one of another takes the other's body over."""

    js_name = "Request"
    url: str
    method: str
    headers: Headers

    def __init__(self, input: Any, init: Any = None, **named: Any) -> None:
        # Another request may stand for what is asked, or for how: `new Request(url, request)`.
        source = init if isinstance(init, Request) else input if isinstance(input, Request) else None
        options = {**(vars(init) if isinstance(init, JsObject) else {}), **named}
        self.url = input.url if isinstance(input, Request) else str(input)
        if not urlsplit(self.url).netloc:
            raise type_error(f"Invalid URL: {input}")
        self.method = options.get("method", source.method if source else "GET")
        self.headers = Headers(options.get("headers", source.headers if source else None))
        body = options.get("body", source.body if source else None)
        if source is not None and "body" not in options and source.bodyUsed:
            raise type_error("Cannot construct a Request with a Request object that has already been used.")
        if self.method in ("GET", "HEAD") and options.get("body") is not None:
            raise type_error("Request with a GET or HEAD method cannot have a body.")
        kind = self._set_body(body)
        if kind and not self.headers.has("content-type"):
            self.headers.set("content-type", kind)
        if source is not None and source.body is not jsnull and self.body is source.body:
            source.body = ReadableStream()
            source.body.disturbed = True
        self.cf = jsnull
        self.signal = options.get("signal") or AbortSignal()

    def clone(self) -> Request:
        raise AssertionError("a clone keeps the whole body in memory")


class Response(Body):
    """A response; one with status 101 hands a socket over."""

    js_name = "Response"
    url = ""

    def __init__(self, body: Any = None, init: Any = None, **named: Any) -> None:
        options = {**(vars(init) if isinstance(init, JsObject) else {}), **named}
        self.status = options.get("status", 200)
        self.headers = Headers(options.get("headers"))
        self.webSocket = options.get("webSocket", jsnull)
        if not 200 <= self.status <= 599 and self.status != 101:
            raise JsException("The status provided is outside the range [200, 599].", "RangeError")
        if (self.status == 101) != (self.webSocket is not jsnull):
            raise JsException("Responses with a WebSocket must have status 101, and only they.", "RangeError")
        if self.status in NULL_BODY and body is not None and body is not jsnull:
            raise type_error("Response with null body status cannot have a body.")
        kind = self._set_body(body)
        if kind and not self.headers.has("content-type"):
            self.headers.set("content-type", kind)

    def json(self) -> Promise:
        async def read() -> Any:
            return json.loads(await self.text())

        return Promise.of(read())


class MessageEvent(JsObject):
    """What a listener is given."""


class WebSocket(JsProxy):
    """One end of a connection. Messages are kept until that end is accepted."""

    js_name = "WebSocket"

    def __init__(self) -> None:
        self.other: WebSocket = self
        self.accepted = False
        self.owner: Owner | None = None
        self.hibernating: Any = None
        """The object that accepted it with `ctx.acceptWebSocket`: its handlers are called."""
        self.tags: tuple[str, ...] = ()
        self.closed: tuple[int, str] | None = None
        self.close_received: tuple[int, str] | None = None
        self.attachment: bytes | None = None
        self.kept: list[tuple[str, Any]] = []
        self.binaryType = "blob"

    @property
    def readyState(self) -> int:  # noqa: N802
        if self.closed is not None:
            return 3 if self.close_received is not None else 2
        return 1

    def accept(self) -> None:
        self.accepted = True
        self.owner = current_owner()
        self._flush()

    def send(self, data: Any) -> None:
        crossing([data])
        if not self.accepted:
            raise type_error("You must call accept() on this WebSocket before sending messages.")
        if self.closed is not None:
            raise type_error("Can't call WebSocket send() after close().")
        self.other._deliver("message", data if isinstance(data, str) else ArrayBuffer(data.data))

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        if code is not None and code != 1000 and not 3000 <= code <= 4999 and code not in _SENDABLE:
            raise JsException(f"Invalid WebSocket close code: {code}.", "InvalidAccessError")
        if len((reason or "").encode()) > 123:
            raise JsException("The close reason is too long.", "SyntaxError")
        if self.closed is None:
            self.closed = (1005 if code is None else code, reason or "")
            self.other._deliver("close", self.closed)

    def serializeAttachment(self, value: Any) -> None:  # noqa: N802
        crossing([value])
        data = json.dumps(value if isinstance(value, str) else value.to_py()).encode()
        if len(data) > 16 * 1024:
            raise JsException("A WebSocket 'attachment' cannot be larger than 16384 bytes.")
        self.attachment = data

    def deserializeAttachment(self) -> Any:  # noqa: N802
        from tests.cloudflare.standin.values import Object, to_js

        if self.attachment is None:
            return jsnull
        return to_js(json.loads(self.attachment), dict_converter=Object.fromEntries)

    def _deliver(self, kind: str, data: Any) -> None:
        if kind == "close":
            self.close_received = data
        self.kept.append((kind, data))
        self._flush()

    def _flush(self) -> None:
        while self.kept and self.accepted:
            kind, data = self.kept[0]
            if self.hibernating is not None:
                self.hibernating.socket_event(self, kind, data)
            elif (listener := getattr(self, f"on{kind}", None)) is not None:
                told = {"code": data[0], "reason": data[1]} if kind == "close" else {"data": data}
                with running_for(self.owner):
                    listener(MessageEvent(told))
            else:
                return
            self.kept.pop(0)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name.startswith("on"):
            self._flush()


_SENDABLE = frozenset({1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class WebSocketPair(JsProxy):
    """Two ends that are connected."""

    js_name = "WebSocketPair"

    def __init__(self) -> None:
        self._ends = (WebSocket(), WebSocket())
        self._ends[0].other, self._ends[1].other = self._ends[1], self._ends[0]

    def object_values(self) -> Iterable[WebSocket]:
        return JsArray(self._ends)

    def __getitem__(self, index: int) -> WebSocket:
        return self._ends[index]

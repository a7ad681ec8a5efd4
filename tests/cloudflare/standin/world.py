"""A Worker's world: its isolate, its bindings, its Durable Objects, their eviction and their alarms.

world = World(clock)
world.deploy(entry)                      the module of classes that a build generates
answer = await world.call("POST", "/agents/chat/ann", json={"message": "Hello"})
world.evict("Chat", "ann")         its code is gone in the middle of what it did; its storage stays
"""

from __future__ import annotations

import asyncio
import json as json_module
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from flue.ports import Clock
from tests.cloudflare.standin.owners import OwnClock, Owner, bury, current_owner, on_behalf, running_for, unless_wrong
from tests.cloudflare.standin.storage import Disk, Evicted, Storage
from tests.cloudflare.standin.streams import ReadableStream
from tests.cloudflare.standin.values import ArrayBuffer, JsArray, JsException, JsObject, JsProxy, Promise, type_error
from tests.cloudflare.standin.web import Request, Response, WebSocket

RESET = "Durable Object reset because its code was updated."
_RETRIES = 6


# ------------------------------------------------------------------------------------------------------- objects


class ObjectId(JsProxy):
    """What `idFromName` gives."""

    js_name = "DurableObjectId"

    def __init__(self, name: str) -> None:
        self.name = name

    def toString(self) -> str:  # noqa: N802
        return f"{abs(hash(self.name)):064x}"


class State(JsProxy):
    """The `ctx` of one life of an object."""

    js_name = "DurableObjectState"

    def __init__(self, place: Place, life: Life) -> None:
        self._place = place
        self._life = life
        self.id = place.id
        self.storage = Storage(place.disk, now=place.world.clock.now_ms, before=self._before)

    def _before(self, statement: str) -> None:
        self._life.touch(self)
        self._place.before(statement)

    def acceptWebSocket(self, socket: WebSocket, tags: Any = None) -> None:  # noqa: N802
        if socket.accepted:
            raise type_error("Cannot call acceptWebSocket() after accept().")
        socket.tags = tuple(tags or ())
        socket.hibernating = self._place
        self._place.sockets.append(socket)
        socket.accept()

    def getWebSockets(self, tag: Any = None) -> JsArray:  # noqa: N802
        return JsArray(socket for socket in self._place.sockets if tag is None or tag in socket.tags)

    def waitUntil(self, promise: Any) -> None:  # noqa: N802
        self._life.start(_quietly(promise))

    def blockConcurrencyWhile(self, callback: Any) -> Promise:  # noqa: N802
        return Promise.of(callback())


class Life(Owner):
    """One life of an object: from its construction to its eviction."""

    def __init__(self, place: Place, kind: type, env: Any) -> None:
        super().__init__(f"{place.class_name} {place.id.name!r}")
        self.state = State(place, self)
        with running_for(self):
            self.instance = kind(self.state, env)

    def call(self, name: str, *arguments: Any) -> Promise:
        """Call a method as the runtime does; the promise is rejected when the object is evicted."""
        promise = Promise()
        self.at_end.append(lambda: promise.reject(JsException(RESET)))

        async def run() -> None:
            try:
                promise.resolve(_to_rpc(await getattr(self.instance, name)(*arguments)))
            except JsException as error:
                promise.reject(error)
            except Evicted:
                promise.reject(JsException(RESET))
            except Exception as error:  # noqa: BLE001 - so the runtime reports it
                promise.reject(JsException(f"{type(error).__name__}: {error}", "PythonError"))

        self.start(run())
        return promise


class Place:
    """An object, living or not: its id, what it has stored, its alarm, its sockets."""

    def __init__(self, world: World, class_name: str, name: str) -> None:
        self.world = world
        self.class_name = class_name
        self.id = ObjectId(name)
        self.disk = Disk()
        self.disk.watch = self._set_alarm
        self.sockets: list[WebSocket] = []
        self.alarms = 0
        """How often its alarm has rung."""
        self.statements = 0
        """How often its storage was asked for something."""
        self._cut_at, world.cut_next = world.cut_next, None
        self.life: Life | None = None
        self.lives = 0
        self._waiting: asyncio.Task[None] | None = None

    def live(self) -> Life:
        """Return its life, which begins if there is none."""
        if self.life is None:
            self.lives += 1
            self.life = Life(self, self.world.classes[self.class_name], self.world.env)
        return self.life

    def cut(self) -> bool:
        """Say whether its life has ended where it was to; from now on it does not."""
        cut_at, self._cut_at = self._cut_at, None
        return cut_at is not None and self.statements >= cut_at

    def peek(self) -> Storage:
        """Return its storage for who looks into it from outside."""
        return Storage(self.disk, now=self.world.clock.now_ms)

    def before(self, statement: str) -> None:
        """Take note of what the storage is asked; at the place that a test chose, end the object's life."""
        if not statement:
            return
        self.statements += 1
        if self.statements == self._cut_at:
            self.evict()
            raise Evicted

    def evict(self) -> None:
        """End its life in the middle of whatever it does. Sockets that it accepted stay open."""
        life, self.life = self.life, None
        if life is not None:
            life.state.storage.end()
            life.end()

    def socket_event(self, socket: WebSocket, kind: str, data: Any) -> None:
        """Hand an event of a hibernating socket over."""
        if kind == "close":
            if socket in self.sockets:
                self.sockets.remove(socket)
            self.live().call("webSocketClose", socket, data[0], data[1], data[0] != 1006)
        else:
            self.live().call("webSocketMessage", socket, data.to_py() if isinstance(data, ArrayBuffer) else data)

    # ---------------------------------------------------------------------------------------------- alarms

    def _set_alarm(self, time: int | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if time is not None:
            self._waiting = self.world.start(self._wait(time))

    async def _wait(self, time: int) -> None:
        await self.world.clock.sleep(max(time - self.world.clock.now_ms(), 1) / 1000)
        self._waiting = None
        await self.ring()

    async def ring(self) -> None:
        """Fire the alarm now; a handler that raises is called again, later and later."""
        for attempt in range(_RETRIES + 1):
            self.alarms += 1
            life = self.live()
            with suppress(JsException), life.state.storage.handling():
                await life.call("alarm", JsObject({"isRetry": attempt > 0, "retryCount": attempt}))
                return
            await self.world.clock.sleep(2.0**attempt * 2)


class Namespace(JsProxy):
    """The binding of a class of objects."""

    js_name = "DurableObjectNamespace"

    def __init__(self, world: World, class_name: str) -> None:
        self._world = world
        self._class_name = class_name
        self.places: dict[str, Place] = {}

    def idFromName(self, name: str) -> ObjectId:  # noqa: N802
        if not isinstance(name, str):
            raise type_error("idFromName() takes a string")
        return ObjectId(name)

    def get(self, id: ObjectId, options: Any = None) -> Stub:
        if id.name not in self.places:
            self.places[id.name] = Place(self._world, self._class_name, id.name)
        return Stub(self.places[id.name])

    def getByName(self, name: str, options: Any = None) -> Stub:  # noqa: N802
        return self.get(self.idFromName(name), options)


class Stub(JsProxy):
    """How others talk to an object."""

    js_name = "DurableObject"

    def __init__(self, place: Place) -> None:
        self._place = place
        self._owner = current_owner()
        self.name = place.id.name

    def fetch(self, input: Any, init: Any = None) -> Promise:
        if self._owner is not None:
            self._owner.touch(self)
        request = Request(input, init)
        request.headers = request.headers.frozen()
        failure = self._place.world.unreachable.get(self._place.class_name)
        if failure is not None:
            promise = Promise()
            promise.reject(JsException(failure))
            return promise
        life = self._place.live()
        if request.body:
            request.body.give(life)
        return Promise.of(self._fetch(life, request))

    async def _fetch(self, life: Life, request: Request) -> Response:
        from tests.cloudflare.standin import workers

        response = await life.call("fetch", workers.Request(request))
        if not isinstance(response, Response):
            raise type_error("Incorrect type for the result of fetch(): it is no Response.")
        response.headers = response.headers.frozen()
        if response.body:
            response.body.give(self._owner)
        return response


# -------------------------------------------------------------------------------------------------------- worker


class Event(Owner):
    """One event of the Worker, its request for example: over when it is answered and nothing is waited for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.waits: list[asyncio.Future[Any]] = []


class ExecutionContext(JsProxy):
    """The `ctx` of the Worker."""

    js_name = "ExecutionContext"

    def __init__(self, event: Event) -> None:
        self._event = event

    def waitUntil(self, promise: Any) -> None:  # noqa: N802
        self._event.waits.append(asyncio.ensure_future(_quietly(promise)))


@dataclass
class Answer:
    """A response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    socket: WebSocket | None = None

    @property
    def json(self) -> Any:
        return json_module.loads(self.body)


@dataclass
class Incoming:
    """A response while it comes in."""

    status: int
    headers: dict[str, str]
    reader: Any
    socket: Any = None
    writer: Owner | None = None
    """Whose code writes the body."""
    seen: bytearray = field(default_factory=bytearray)

    async def chunk(self) -> bytes | None:
        """Return what comes next, None at the end."""
        if self.reader is None:
            return None
        result = await self.reader.read()
        if result.done:
            return None
        data: bytes = result.value.to_bytes()
        self.seen += data
        return data

    async def read(self) -> bytes:
        """Return the rest."""
        rest = bytearray()
        while (data := await self.chunk()) is not None:
            rest += data
        return bytes(rest)

    async def until(self, text: str) -> None:
        """Read until something has been seen."""
        while text.encode() not in self.seen:
            assert await self.chunk() is not None, (text, bytes(self.seen))


class World:
    """What a deployed Worker lives in."""

    def __init__(self, clock: Clock, *, variables: Mapping[str, Any] | None = None) -> None:
        self.clock = OwnClock(clock)
        self.variables = dict(variables or {})
        self.classes: dict[str, type] = {}
        self.env = JsObject()
        self.default: Any = None
        self.unreachable: dict[str, str] = {}
        """Classes whose objects cannot be reached, with what is said then."""
        self.cut_next: int | None = None
        """The statement at which the first life of the next new object ends."""
        self.internet: Callable[[Request], Awaitable[Response]] = _nobody
        self._own = Owner("the world")

    def deploy(self, *, default: type, classes: Mapping[str, type], bindings: Mapping[str, str]) -> None:
        """Bind classes (`bindings` maps names to them) and serve with `default`; what objects keep stays."""
        self.default = default
        self.classes = dict(classes)
        kept = vars(self.env)
        namespaces = {name: kept.get(name) or Namespace(self, class_name) for name, class_name in bindings.items()}
        kept.clear()
        kept.update(self.variables, **namespaces)

    def place(self, binding: str, name: str) -> Place:
        """Return an object that was there before."""
        found: Place = getattr(self.env, binding).places[name]
        return found

    def names(self, binding: str) -> list[str]:
        """Return the names of all objects of a class."""
        return sorted(getattr(self.env, binding).places)

    def evict(self, binding: str, name: str) -> None:
        """End the life of an object."""
        self.place(binding, name).evict()

    def evict_all(self) -> None:
        """End the lives of all objects, as a deployment does."""
        for value in tuple(vars(self.env).values()):
            if isinstance(value, Namespace):
                for place in tuple(value.places.values()):
                    place.evict()

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something of the world's own."""
        return self._own.start(work)

    async def aclose(self) -> None:
        """End everything."""
        self.evict_all()
        self._own.end()
        self.clock.stopped = True
        await bury()

    # ------------------------------------------------------------------------------------------- requests

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes | ReadableStream | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Incoming]:
        """Send a request from outside; leaving the block hangs up."""
        from tests.cloudflare.standin import workers
        from tests.cloudflare.standin.values import to_js

        sent = dict(headers or {})
        if json is not None:
            sent.setdefault("content-type", "application/json")
            body = json_module.dumps(json).encode()
        if isinstance(body, bytes):
            sent.setdefault("content-length", str(len(body)))
        url = path if "://" in path else f"https://flue.example{path}"
        request = Request(url, method=method, headers=list(sent.items()), body=to_js(body))
        request.headers = request.headers.frozen()
        event = Event(f"{method} {path}")
        if request.body:
            request.body.give(event)
        task = event.start(self._answered(event, workers.Request(request)))
        self.start(self._over(event, task))
        response = await on_behalf(unless_wrong(task))
        if response.body:
            response.body.give(None)
        reader = response.body.getReader() if response.body else None
        shown = dict(response.headers)
        writer = response.body.writer if response.body else None
        incoming = Incoming(response.status, shown, reader, response.webSocket or None, writer)
        try:
            yield incoming
        finally:
            if reader is not None:
                await reader.cancel("the client has gone")

    async def call(self, method: str, path: str, **more: Any) -> Answer:
        """Send a request from outside and read the answer."""
        async with self.open(method, path, **more) as incoming:
            if incoming.socket is not None:
                incoming.socket.accept()
            return Answer(incoming.status, incoming.headers, await incoming.read(), incoming.socket)

    async def event(self, name: str, *arguments: Any) -> Any:
        """Have the Worker handle an event that is no request: `scheduled`, `queue`, …"""
        event = Event(name)
        task = event.start(getattr(self.default(ExecutionContext(event), self.env), name)(*arguments))
        self.start(self._over(event, task))
        return await on_behalf(unless_wrong(task))

    async def _answered(self, event: Event, request: Any) -> Response:
        handler = self.default(ExecutionContext(event), self.env)
        response = _to_rpc(await handler.fetch(request))
        if not isinstance(response, Response):
            raise AssertionError(f"the Worker answered {response!r}")  # noqa: TRY004
        return response

    async def _over(self, event: Event, task: asyncio.Task[Any]) -> None:
        """End what an event has left running once it is over."""
        with suppress(Exception):
            response = await asyncio.shield(task)
            body = getattr(response, "body", None)
            if isinstance(body, ReadableStream):
                ended = Promise()
                body.on_cancel.append(ended)
                if not body.ended and body.failure is None:
                    with suppress(JsException):
                        await ended
        while event.waits:
            await event.waits.pop()
        # Those who wait for its end hear of it first.
        for _ in range(4):
            await asyncio.sleep(0)
        event.end()


def wait_until(promise: Any) -> None:
    """Be `cloudflare:workers`' waitUntil."""
    event = current_owner()
    if isinstance(event, Event):
        event.waits.append(asyncio.ensure_future(_quietly(promise)))


async def _quietly(promise: Any) -> None:
    with suppress(Exception):
        await promise


async def _nobody(request: Request) -> Response:
    raise JsException(f"Network connection lost: {request.url}", "TypeError")


def _to_rpc(value: Any) -> Any:
    return getattr(value, "js_object", value)


def _done(value: Any = None) -> Promise:
    promise = Promise()
    promise.resolve(value)
    return promise

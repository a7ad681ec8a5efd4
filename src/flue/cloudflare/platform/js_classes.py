"""The classes that the platform calls: of the Worker, and of Durable Objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import js
from workers import DurableObject, WorkerEntrypoint

from flue.cloudflare.platform.js_http import Native, Request, unwrapped
from flue.cloudflare.platform.js_sockets import HibernatingSocket
from flue.cloudflare.platform.js_timers import clear_cancelled_timers


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
        self.native = unwrapped(ctx, "_ctx")
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

"""A Durable Object with sockets that outlive it, over a service that the test plays."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

from flue.cloudflare.sockets import Sockets
from flue.engine.service import Service
from flue.server.sockets.agent import AgentSocket
from flue.server.sockets.workflow import WorkflowSocket
from flue.testing.clock import VirtualClock
from flue.testing.ids import SequentialIds
from tests.server.socket_service import SocketService

# As workerd counts: what V8 writes for a text, and its own five bytes.
ATTACHMENT_LIMIT = 16_384


class PlatformSocket:
    """What the platform keeps of a socket: what was sent, and how it was closed."""

    def __init__(self) -> None:
        self.frames: list[str] = []
        self.closes: list[tuple[int | None, str]] = []
        self.attachment: str | None = None
        self.gone = False
        self.buffered = 0

    @property
    def heard(self) -> list[Any]:
        """Return the frames as JSON, and each close as `(code, reason)` behind them."""
        return [*map(json.loads, self.frames), *self.closes]


class End:
    """The object's end of a socket, as one isolate and one event sees it."""

    def __init__(self, platform: PlatformSocket, isolate: Isolate) -> None:
        self._platform = platform
        self._isolate = isolate

    @property
    def buffered(self) -> int:
        return self._platform.buffered

    def send(self, text: str) -> None:
        assert self._isolate.alive, "an isolate that was evicted does nothing"
        if self._platform.closes or self._platform.gone:
            raise OSError("TypeError: Can't call WebSocket send() after close().")
        self._platform.frames.append(text)
        self._isolate.acts()

    def close(self, code: int | None = None, reason: str = "") -> None:
        assert self._isolate.alive
        valid = {None, *range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
        if code not in valid or len(reason.encode()) > 123:
            raise OSError(f"InvalidAccessError: Invalid WebSocket close code: {code}.")
        if not self._platform.closes:
            self._platform.closes.append((code, reason))

    def attach(self, text: str) -> None:
        assert self._isolate.alive
        size = 5 + (len(text) if text.isascii() else 2 * len(text))
        if size > ATTACHMENT_LIMIT:
            raise ValueError(f"A WebSocket 'attachment' cannot be larger than 16384 bytes. 'attachment' was {size}.")
        self._platform.attachment = text

    def attachment(self) -> str | None:
        return self._platform.attachment


class Isolate:
    """One life of the object. `frames_left` are those it may still send before it is evicted."""

    def __init__(self, object: HibernatingObject) -> None:
        self.alive = True
        self.frames_left: int | None = None
        self._object = object
        self.sockets = Sockets(object.service_started, clock=object.clock, ids=object.ids)

    def acts(self) -> None:
        """Count a frame."""
        if self.frames_left is not None:
            self.frames_left -= 1
            if not self.frames_left:
                self._object.evict_soon()

    def dies(self) -> None:
        """Stop everything at once, without letting it clean up."""
        self.alive = False
        for connection in self.sockets._awake.values():
            for task in connection._tasks:
                task.cancel()
        self.sockets._awake.clear()


class HibernatingObject:
    """The object: its service outlives isolates, as its storage does."""

    def __init__(self) -> None:
        self.service = SocketService()
        self.clock = VirtualClock()
        self.ids = SequentialIds()
        self.open_sockets: list[PlatformSocket] = []
        self.evictions = 0
        self.frames_each: int | None = None
        self.isolate = Isolate(self)

    async def service_started(self) -> Service:
        await asyncio.sleep(0)
        return cast("Service", self.service)

    async def agent(self, name: str = "chat", id: str = "ann") -> PlatformSocket:
        """Accept the handshake of an agent's socket."""
        return await self._accept(AgentSocket(name, id))

    async def workflow(self, name: str = "slow") -> PlatformSocket:
        """Accept the handshake of a workflow's socket."""
        return await self._accept(WorkflowSocket(name))

    async def message(self, socket: PlatformSocket, data: str | bytes) -> None:
        """Deliver a message; without waiting for what it starts."""
        sockets = await self._awake()
        await sockets.message(End(socket, self.isolate), data)

    async def closed(self, socket: PlatformSocket, code: int = 1000, reason: str = "") -> None:
        """Let the client close."""
        sockets = await self._awake()
        await sockets.closed(End(socket, self.isolate), code, reason)

    async def failed(self, socket: PlatformSocket) -> None:
        """Let the connection break."""
        sockets = await self._awake()
        socket.gone = True
        await sockets.failed(End(socket, self.isolate))

    def evict(self) -> None:
        """Drop the isolate; the next event makes another."""
        self.isolate.dies()
        self.evictions += 1

    def evict_soon(self) -> None:
        """Drop the isolate as soon as the event loop gets its turn."""
        asyncio.get_running_loop().call_soon(self.evict)

    async def wake(self) -> None:
        """Deliver an alarm."""
        await self._awake()

    async def _accept(self, machine: AgentSocket | WorkflowSocket) -> PlatformSocket:
        sockets = await self._awake()
        socket = PlatformSocket()
        self.open_sockets.append(socket)
        await sockets.open(End(socket, self.isolate), machine)
        return socket

    async def _awake(self) -> Sockets:
        if not self.isolate.alive:
            self.isolate = Isolate(self)
            self.isolate.frames_left = self.frames_each
            live = [socket for socket in self.open_sockets if not socket.gone]
            await self.isolate.sockets.resume(End(socket, self.isolate) for socket in live)
        return self.isolate.sockets


async def settle() -> None:
    """Let everything come to rest."""
    for _ in range(40):
        await asyncio.sleep(0)

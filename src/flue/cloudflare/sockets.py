"""The sockets of one Durable Object: the platform keeps them open while the object sleeps, and wakes it by events.

What is needed to go on stands in each socket's attachment, written with the frame that it tells of and nothing between
them: an object that was evicted follows the work of every request from the event after the last one sent. It holds
names, ids and numbers, and nothing of the handshake's query or headers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Protocol

from flue.engine.service import Service, Ticket
from flue.ports import Clock, Ids
from flue.server.problems import Problem
from flue.server.sockets.agent import AgentSocket
from flue.server.sockets.connection import Connection, Start, start_of
from flue.server.sockets.frames import StartPrompt, StartWorkflow
from flue.server.sockets.restore import restore
from flue.server.sockets.workflow import WorkflowSocket

MAX_ATTACHMENT_BYTES = 16_379
"""Characters of an attachment that is ASCII: the platform takes 16,384 bytes, five of which it needs itself.

Measured with workerd 1.20261117.1.
"""

MAX_WAITING = 256
"""Messages that may wait on one socket while those before them are taken; an object cannot stop a client's sending."""

BURST_BYTES = 256 * 1024  # sent before others get their turn
FULL_BYTES = 1024 * 1024  # with so much waiting at the platform, events wait, too
STALL_SECONDS = 30.0
_POLL_SECONDS = 0.1

Machine = AgentSocket | WorkflowSocket


class HibernatingSocket(Protocol):
    """The object's end of a socket, after `ctx.acceptWebSocket`. What it cannot do any more raises `OSError`.

    It may be another Python object at each event: what makes it one socket is its attachment.
    """

    @property
    def buffered(self) -> int:
        """Return the bytes that the platform has not taken on yet (`bufferedAmount`)."""
        ...

    def send(self, text: str) -> None:
        """Send a text message."""
        ...

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Close it, or answer the client's close; without a code for one that came without."""
        ...

    def attach(self, text: str) -> None:
        """Keep a text with the socket (`serializeAttachment`)."""
        ...

    def attachment(self) -> str | None:
        """Return what was kept, or None (`deserializeAttachment`)."""
        ...


def admit(machine: Machine, service: Service) -> Start:
    """Return what admits the requests of a socket."""
    return start_of(machine, service, path=f"/workflows/{machine.name}")


class Sockets:
    """The sockets of one object, from when it is made until it is evicted.

    `service` gives the object's service, started; `admits` what admits a socket's requests. `local` lets errors tell
    more, as on a developer's machine.
    """

    def __init__(
        self,
        service: Callable[[], Awaitable[Service]],
        *,
        clock: Clock,
        ids: Ids,
        admits: Callable[[Machine, Service], Start] = admit,
        local: bool = False,
    ) -> None:
        self.service = service
        self.clock = clock
        self.admits = admits
        self.local = local
        self._ids = ids
        self._awake: dict[str, _Hibernating] = {}

    async def open(self, socket: HibernatingSocket, machine: Machine) -> None:
        """Greet a client whose handshake was accepted."""
        connection = self._hold(socket, self._ids.ulid(), machine)
        await connection.perform(machine.open())

    async def resume(self, sockets: Iterable[HibernatingSocket]) -> None:
        """Go on with all sockets (`ctx.getWebSockets()`): to be called when the object has been made anew."""
        for socket in sockets:
            await self._wake(socket)

    async def message(self, socket: HibernatingSocket, data: str | bytes) -> None:
        """Take a message. Returns when it has been done what it asks, but for the work that it starts."""
        connection = await self._wake(socket)
        if connection is not None:
            await connection.receive(data)

    async def closed(self, socket: HibernatingSocket, code: int, reason: str) -> None:
        """Take note that the client closed, and answer its close as the platform asks. The work goes on."""
        await self._forget(socket)
        # No code was sent, and none may be (RFC 6455, 7.4.1); else the client would wait for an answer.
        if code == 1005:
            _close(socket)
        elif code not in {1006, 1015}:  # the connection has gone
            _close(socket, code, reason)

    async def failed(self, socket: HibernatingSocket) -> None:
        """Take note that the connection failed. The work goes on."""
        await self._forget(socket)
        _close(socket, 1011, "WebSocket error")

    def drop(self, key: str) -> None:
        """Know a socket no more."""
        self._awake.pop(key, None)

    def _hold(self, socket: HibernatingSocket, key: str, machine: Machine) -> _Hibernating:
        connection = self._awake[key] = _Hibernating(self, socket, key, machine)
        return connection

    async def _wake(self, socket: HibernatingSocket) -> _Hibernating | None:
        """Return the connection of a socket, made anew after an eviction; None once it has been closed from here."""
        kept = socket.attachment()
        if not kept:
            return None
        try:
            state = json.loads(kept)
            key = state["key"]
            if key in self._awake:
                return self._awake[key]
            connection = self._hold(socket, key, restore(state))
        except (ValueError, KeyError, TypeError):  # of another version
            _close(socket, 1012, "The server restarts")
            return None
        await connection.go_on()
        return connection

    async def _forget(self, socket: HibernatingSocket) -> None:
        with suppress(ValueError, KeyError, TypeError):  # closed from here already, or of another version
            connection = self._awake[json.loads(socket.attachment() or "")["key"]]
            await connection.let_go()


class _Hibernating(Connection):
    """A socket while the object is awake."""

    def __init__(self, sockets: Sockets, socket: HibernatingSocket, key: str, machine: Machine) -> None:
        super().__init__(machine, self._start_here, local=sockets.local)
        self._sockets = sockets
        self._socket = socket
        self._key = key
        self._of_target = machine
        self._taking = asyncio.Lock()  # fair
        self._waiting = 0
        self._burst = 0
        self._kept: str | None = None

    async def receive(self, data: str | bytes) -> None:
        """Take a message, after those before it: the prompts of a session are admitted in the order they came."""
        if self._waiting >= MAX_WAITING:
            await self.perform(self.machine.close(1013, "Too many messages at once"))
            return
        self._waiting += 1
        try:
            async with self._taking:
                await self.perform(self.machine.message(data))
        finally:
            self._waiting -= 1

    async def go_on(self) -> None:
        """Follow what the requests in flight wait for, from where an eviction broke it off."""
        for request_id, waiting in tuple(self.machine.pending.items()):
            if waiting.work_id:
                self.spawn(self._take_up(request_id, waiting.work_id, waiting.after))
            else:
                await self.fail(request_id, _lost())

    async def send(self, text: str) -> None:
        """Send a message, and keep what it changed."""
        try:
            self._socket.send(text)
        except OSError:
            await self.let_go()
            return
        self._burst += len(text)
        self._keep()

    async def hang_up(self, code: int, reason: str) -> None:
        """Close the connection. Messages that still come find nothing kept, also when another isolate gets them."""
        self._keep()
        _close(self._socket, code, reason)
        await self.let_go()

    async def let_go(self) -> None:
        """Follow nothing any more, and know the socket no more."""
        self._sockets.drop(self._key)
        await super().let_go()

    async def has_room(self) -> None:
        """Let others have their turn between bursts; wait for a client that lets what was sent pile up."""
        if self._burst >= BURST_BYTES:
            self._burst = 0
            await asyncio.sleep(0)
        patience = STALL_SECONDS
        while self.machine.is_open and self._socket.buffered > FULL_BYTES:
            if patience <= 0:
                await self.perform(self.machine.close(1013, "The client does not read; resume over HTTP"))
                return
            patience -= _POLL_SECONDS
            await self._sockets.clock.sleep(_POLL_SECONDS)

    async def _start_here(self, action: StartPrompt | StartWorkflow) -> Ticket:
        self._keep()  # if it is lost from here on, the client will be told
        service = await self._sockets.service()
        return await self._sockets.admits(self._of_target, service)(action)

    async def _take_up(self, request_id: str, work_id: str, after: int) -> None:
        try:
            ticket = await (await self._sockets.service()).ticket(work_id)
        except Exception as error:  # noqa: BLE001 - told to the client, and logged when nobody expected it
            await self.fail(request_id, error)
        else:
            await self.follow(request_id, ticket, after=after)

    def _keep(self) -> None:
        state = {**self.machine.attachment(), "key": self._key} if self.machine.is_open else None
        text = json.dumps(state, separators=(",", ":")) if state else ""
        if text != self._kept:
            self._kept = text
            with suppress(OSError):
                self._socket.attach(text)


def _close(socket: HibernatingSocket, code: int | None = None, reason: str = "") -> None:
    with suppress(OSError):
        socket.close(code, reason)


def _lost() -> Problem:
    return Problem(
        503,
        "admission_lost",
        "The server was restarted while it took this request.",
        "It may or may not have been accepted: look at the conversation, or at the runs, before you ask again.",
    )

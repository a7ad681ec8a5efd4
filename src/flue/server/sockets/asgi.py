"""Sockets in a server: reads and sends what their machines say, and follows the work.

The log of the work is read no faster than the client reads: the server waits in `send` while the connection's buffer is
full, so that a client in no hurry costs one event of memory for each prompt that it waits for, and nobody else has to
wait. A client that takes nothing at all for `STALL_SECONDS` is given up with code 1013. Whatever ends a connection, the
work goes on, and its events can be had over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from weakref import WeakKeyDictionary

from starlette.websockets import WebSocket, WebSocketDisconnect

from flue.engine.service import Service
from flue.server.sockets.agent import AgentSocket
from flue.server.sockets.connection import Connection, Start, start_of
from flue.server.sockets.machine import SocketMachine
from flue.server.sockets.workflow import WorkflowSocket

STALL_SECONDS = 30.0
CLOSE_SECONDS = 1.0


async def serve_agent_socket(
    ws: WebSocket,
    service: Service,
    agent: str,
    instance: str,
    *,
    local: bool = False,
    stall_seconds: float = STALL_SECONDS,
) -> None:
    """Accept a handshake and serve an agent's instance until the connection ends.

    `local` lets errors tell more, as on a developer's machine.
    """
    await _serve(ws, service, AgentSocket(agent, instance), local, stall_seconds)


async def serve_workflow_socket(
    ws: WebSocket, service: Service, workflow: str, *, local: bool = False, stall_seconds: float = STALL_SECONDS
) -> None:
    """Accept a handshake and serve one invocation of a workflow; see `serve_agent_socket`."""
    await _serve(ws, service, WorkflowSocket(workflow), local, stall_seconds)


_open: WeakKeyDictionary[Service, set[_Held]] = WeakKeyDictionary()


async def close_sockets(service: Service, *, code: int = 1012, reason: str = "The server restarts") -> None:
    """Close every socket that a service serves, at most `CLOSE_SECONDS` after; the work is the service's to finish."""
    await asyncio.gather(*[connection.close(code, reason) for connection in _open.get(service, ())])


async def _serve(
    ws: WebSocket, service: Service, machine: AgentSocket | WorkflowSocket, local: bool, stall_seconds: float
) -> None:
    await ws.accept()
    held = _Held(ws, machine, start_of(machine, service, path=ws.url.path), local, stall_seconds)
    sockets = _open.setdefault(service, set())
    sockets.add(held)
    try:
        await held.serve()
    finally:
        sockets.discard(held)


class _Held(Connection):
    """A socket that a task of the server holds."""

    def __init__(self, ws: WebSocket, machine: SocketMachine, start: Start, local: bool, stall_seconds: float) -> None:
        super().__init__(machine, start, local=local)
        self._ws = ws
        self._stall_seconds = stall_seconds
        # Fair, so that frames leave in the order of the machine's decisions.
        self._sending = asyncio.Lock()
        self._given_up = False
        self._ended = asyncio.Event()

    async def serve(self) -> None:
        """Serve until the client leaves or the machine has said the last word."""
        reading = asyncio.create_task(self._read())
        ending = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            ending.cancel()
            await self.let_go()
            await asyncio.wait({reading, ending})
        if not reading.cancelled() and (error := reading.exception()) is not None:
            raise error

    async def close(self, code: int, reason: str) -> None:
        """End the connection from this side."""
        await self.perform(self.machine.close(code, reason))
        self._ended.set()

    async def _read(self) -> None:
        await self.perform(self.machine.open())
        while True:
            message = await self._ws.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            # One after the other: the prompts of a session are admitted in the order they came.
            await self.perform(self.machine.message(message["bytes"] if text is None else text))

    async def has_room(self) -> None:
        """Return at once: sending waits."""

    async def send(self, text: str) -> None:
        """Send a message; a client that takes nothing for too long is given up."""
        try:
            async with self._sending:
                if not self._given_up:
                    async with asyncio.timeout(self._stall_seconds):
                        await self._ws.send_text(text)
        except TimeoutError:
            self._given_up = True
            await self.perform(self.machine.close(1013, "The client does not read; resume over HTTP"))
        except (WebSocketDisconnect, RuntimeError):
            # Gone, or closed by the server below: it says so by an error of its choice.
            self._ended.set()

    async def hang_up(self, code: int, reason: str) -> None:
        """Close the connection, or leave that to the server when the client does not take it."""
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(CLOSE_SECONDS), self._sending:
                await self._ws.close(code, reason)
        self._ended.set()

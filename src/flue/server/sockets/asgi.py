"""Sockets in a server: reads and sends what their machines say, and follows the work.

The log of the work is read no faster than the client reads: the server waits in `send` while the connection's buffer is
full, so that a client in no hurry costs one event of memory for each prompt that it waits for, and nobody else has to
wait. A client that takes nothing at all for `STALL_SECONDS` is given up with code 1013. Whatever ends a connection, the
work goes on, and its events can be had over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from weakref import WeakKeyDictionary

from starlette.websockets import WebSocket, WebSocketDisconnect

from flue.engine.service import Service, Ticket
from flue.server.problems import problem_of
from flue.server.sockets.agent import AgentSocket
from flue.server.sockets.frames import Action, Close, Send, StartPrompt, StartWorkflow
from flue.server.sockets.machine import SocketMachine
from flue.server.sockets.workflow import WorkflowSocket
from flue.server.workflows import result_of

STALL_SECONDS = 30.0
CLOSE_SECONDS = 1.0

Start = Callable[[StartPrompt | StartWorkflow], Awaitable[Ticket]]


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

    async def start(action: StartPrompt | StartWorkflow) -> Ticket:
        assert isinstance(action, StartPrompt)
        return await service.prompt(agent, instance, action.message, session=action.session, busy=action.busy)

    await _serve(_Connection(ws, AgentSocket(agent, instance), start, local, stall_seconds), service)


async def serve_workflow_socket(
    ws: WebSocket, service: Service, workflow: str, *, local: bool = False, stall_seconds: float = STALL_SECONDS
) -> None:
    """Accept a handshake and serve one invocation of a workflow; see `serve_agent_socket`."""
    request = {"method": "GET", "path": ws.url.path}

    async def start(action: StartPrompt | StartWorkflow) -> Ticket:
        assert isinstance(action, StartWorkflow)
        return await service.start_workflow(workflow, action.payload, request=request)

    await _serve(_Connection(ws, WorkflowSocket(workflow), start, local, stall_seconds), service)


_open: WeakKeyDictionary[Service, set[_Connection]] = WeakKeyDictionary()


async def close_sockets(service: Service, *, code: int = 1012, reason: str = "The server restarts") -> None:
    """Close every socket that a service serves, at most `CLOSE_SECONDS` after; the work is the service's to finish."""
    await asyncio.gather(*[connection.close(code, reason) for connection in _open.get(service, ())])


async def _serve(connection: _Connection, service: Service) -> None:
    await connection.accept()
    connections = _open.setdefault(service, set())
    connections.add(connection)
    try:
        await connection.serve()
    finally:
        connections.discard(connection)


class _Connection:
    """One socket: a machine, and the tasks that do what it says."""

    def __init__(self, ws: WebSocket, machine: SocketMachine, start: Start, local: bool, stall_seconds: float) -> None:
        self._ws = ws
        self._machine = machine
        self._start = start
        self._local = local
        self._stall_seconds = stall_seconds
        self._sending = asyncio.Lock()
        self._followers: set[asyncio.Task[None]] = set()
        self._given_up = False
        self._ended = asyncio.Event()

    async def accept(self) -> None:
        """Finish the handshake."""
        await self._ws.accept()

    async def serve(self) -> None:
        """Serve until the client leaves or the machine has said the last word."""
        reading = asyncio.create_task(self._read())
        ending = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._machine.closed()
            tasks = {reading, ending, *self._followers}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not reading.cancelled() and (error := reading.exception()) is not None:
            raise error

    async def close(self, code: int, reason: str) -> None:
        """End the connection from this side."""
        await self._perform(self._machine.close(code, reason))
        self._ended.set()

    async def _read(self) -> None:
        await self._perform(self._machine.open())
        while True:
            message = await self._ws.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            # One after the other: the prompts of a session are admitted in the order they came.
            await self._perform(self._machine.message(message["bytes"] if text is None else text))

    async def _perform(self, actions: list[Action]) -> None:
        """Do what the machine says. The lock is fair, so that frames leave in the order of the machine's decisions."""
        for action in actions:
            match action:
                case Send(text):
                    await self._send(text)
                case Close(code, reason):
                    await self._close(code, reason)
                case StartPrompt() | StartWorkflow():
                    await self._admit(action)

    async def _send(self, text: str) -> None:
        try:
            async with self._sending:
                if not self._given_up:
                    async with asyncio.timeout(self._stall_seconds):
                        await self._ws.send_text(text)
        except TimeoutError:
            self._given_up = True
            await self._perform(self._machine.close(1013, "The client does not read; resume over HTTP"))
        except (WebSocketDisconnect, RuntimeError):
            # Gone, or closed by the server below: it says so by an error of its choice.
            self._ended.set()

    async def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(CLOSE_SECONDS), self._sending:
                await self._ws.close(code, reason)
        self._ended.set()

    async def _admit(self, action: StartPrompt | StartWorkflow) -> None:
        try:
            ticket = await self._start(action)
        except Exception as error:  # noqa: BLE001 - told to the client, and logged when nobody expected it
            await self._perform(self._machine.failed(action.request_id, self._told(error)))
            return
        await self._perform(self._machine.accepted(action.request_id, ticket.id))
        follower = asyncio.create_task(self._follow(action.request_id, ticket))
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)

    async def _follow(self, request_id: str, ticket: Ticket) -> None:
        try:
            async with contextlib.aclosing(ticket.events()) as events:
                async for event in events:
                    await self._perform(self._machine.event(request_id, event.index, event.data))
            result = result_of(await ticket.outcome())
        except Exception as error:  # noqa: BLE001 - told to the client, and logged when nobody expected it
            await self._perform(self._machine.failed(request_id, self._told(error)))
        else:
            await self._perform(self._machine.completed(request_id, result))

    def _told(self, error: Exception) -> dict[str, object]:
        told: dict[str, object] = problem_of(error).to_json(local=self._local)["error"]
        return told

"""What holding a socket means, wherever it is held: doing what its machine says, and following the work."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from flue.engine.service import Service, Ticket
from flue.server.problems import problem_of
from flue.server.sockets.agent import AgentSocket
from flue.server.sockets.frames import Action, Close, Send, StartPrompt, StartWorkflow
from flue.server.sockets.machine import SocketMachine
from flue.server.sockets.workflow import WorkflowSocket
from flue.server.workflows import result_of

Start = Callable[[StartPrompt | StartWorkflow], Awaitable[Ticket]]


def start_of(machine: AgentSocket | WorkflowSocket, service: Service, *, path: str, run_id: str | None = None) -> Start:
    """Return what admits a socket's requests.

    `path` is that of the handshake: a workflow finds it in `ctx.req`. `run_id` is for `Service.start_workflow`.
    """

    async def prompt(action: StartPrompt | StartWorkflow) -> Ticket:
        assert isinstance(action, StartPrompt)
        assert isinstance(machine, AgentSocket)
        return await service.prompt(
            machine.name, machine.instance_id, action.message, session=action.session, busy=action.busy
        )

    async def run(action: StartPrompt | StartWorkflow) -> Ticket:
        assert isinstance(action, StartWorkflow)
        request = {"method": "GET", "path": path}
        return await service.start_workflow(machine.name, action.payload, request=request, run_id=run_id)

    return prompt if isinstance(machine, AgentSocket) else run


class Connection(ABC):
    """One socket: a machine, and the tasks that follow the work of its requests.

    `local` lets errors tell more, as on a developer's machine.
    """

    def __init__(self, machine: SocketMachine, start: Start, *, local: bool) -> None:
        self.machine = machine
        self._start = start
        self._local = local
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def send(self, text: str) -> None:
        """Send a message. That the connection has gone is not raised."""

    @abstractmethod
    async def hang_up(self, code: int, reason: str) -> None:
        """Close the connection."""

    @abstractmethod
    async def has_room(self) -> None:
        """Wait until the connection takes another event."""

    async def perform(self, actions: list[Action]) -> None:
        """Do what the machine says."""
        for action in actions:
            match action:
                case Send(text):
                    await self.send(text)
                case Close(code, reason):
                    await self.hang_up(code, reason)
                case StartPrompt() | StartWorkflow():
                    await self._admit(action)

    async def follow(self, request_id: str, ticket: Ticket, *, after: int = -1) -> None:
        """Pass on the events of a request's work after an index, and its end."""
        try:
            async with contextlib.aclosing(ticket.events(after)) as events:
                async for event in events:
                    await self.has_room()
                    await self.perform(self.machine.event(request_id, event.index, event.data))
            result = result_of(await ticket.outcome())
        except Exception as error:  # noqa: BLE001 - told to the client, and logged when nobody expected it
            await self.fail(request_id, error)
        else:
            await self.perform(self.machine.completed(request_id, result))

    async def fail(self, request_id: str, error: Exception) -> None:
        """Answer a request with an error."""
        told: dict[str, Any] = problem_of(error).to_json(local=self._local)["error"]
        await self.perform(self.machine.failed(request_id, told))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something for a request beside everything else, until `let_go`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def let_go(self) -> None:
        """Follow nothing any more. The work goes on."""
        self.machine.closed()
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _admit(self, action: StartPrompt | StartWorkflow) -> None:
        try:
            ticket = await self._start(action)
        except Exception as error:  # noqa: BLE001 - told to the client, and logged when nobody expected it
            await self.fail(action.request_id, error)
            return
        await self.perform(self.machine.accepted(action.request_id, ticket.id))
        self.spawn(self.follow(action.request_id, ticket))

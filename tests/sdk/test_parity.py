"""The client without `await` is the async one, method by method: the same parameters, results and errors."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flue.errors import FlueError, UsageError
from flue.sdk import AsyncClient, Client, FlueSocketError, create_flue_client
from flue.sdk.admin import AdminAgents, AdminRuns
from flue.sdk.agents import Agents
from flue.sdk.blocking import (
    SyncAdminAgents,
    SyncAdminRuns,
    SyncAgents,
    SyncAgentSocket,
    SyncRuns,
    SyncWorkflows,
    SyncWorkflowSocket,
)
from flue.sdk.runs import Runs
from flue.sdk.sockets import AgentSocket, WorkflowSocket
from flue.sdk.workflows import Workflows
from tests.sdk.scripted_server import Json, Reply, Request, ScriptedServer, answer, events, problem, sse

FACES: dict[type, type] = {
    Agents: SyncAgents,
    Workflows: SyncWorkflows,
    Runs: SyncRuns,
    AdminAgents: SyncAdminAgents,
    AdminRuns: SyncAdminRuns,
    AgentSocket: SyncAgentSocket,
    WorkflowSocket: SyncWorkflowSocket,
}
# What other modules of the client call.
INSIDE = {("Runs", "log")}


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_") and callable(getattr(cls, name))}


PAIRS = [(cls, name) for cls in FACES for name in sorted(public(cls)) if (cls.__name__, name) not in INSIDE]


def parameters(function: Any) -> list[tuple[str, Any, Any, str]]:
    return [
        (parameter.name, parameter.kind, parameter.default, str(parameter.annotation))
        for parameter in inspect.signature(function).parameters.values()
    ]


def blocking(annotation: str) -> str:
    """Return the type that a blocking call gives in the place of an async one."""
    if annotation.startswith("AsyncGenerator["):
        return annotation.removeprefix("Async").replace("Generator", "Iterator").replace(", None]", "]")
    return f"Sync{annotation}" if annotation.endswith("Socket") else annotation


@pytest.mark.parametrize(("cls", "name"), PAIRS, ids=lambda value: getattr(value, "__name__", value))
def test_a_method_has_a_blocking_face_of_the_same_signature(cls: type, name: str) -> None:
    ours, theirs = getattr(cls, name), getattr(FACES[cls], name)
    assert parameters(theirs) == parameters(ours)
    assert str(inspect.signature(theirs).return_annotation) == blocking(str(inspect.signature(ours).return_annotation))
    assert not inspect.iscoroutinefunction(theirs)


@pytest.mark.parametrize("cls", FACES)
def test_a_face_has_nothing_beside(cls: type) -> None:
    assert public(FACES[cls]) == {name for one, name in PAIRS if one is cls}


def test_all_three_ways_to_a_client_take_the_same() -> None:
    assert parameters(Client.__init__) == parameters(AsyncClient.__init__)
    assert parameters(create_flue_client) == parameters(AsyncClient.__init__)[1:]


def test_a_client_has_the_same_parts() -> None:
    with Client(base_url="http://x") as client:
        parts = {name for name in vars(client) if not name.startswith("_")}
    assert parts == {name for name in vars(AsyncClient(base_url="http://x")) if not name.startswith("_")}


# ------------------------------------------------------------------------------------------------ behaviour

RUN: list[Json] = [{"type": "run_start", "runId": "r1", "eventIndex": 0}, {"type": "run_end", "eventIndex": 1}]


def handler(request: Request) -> Reply:
    if "nothing" in request.path:
        return problem(404, "run_not_found")
    if request.path.endswith("/stream") or "text/event-stream" in request.headers.get("accept", ""):
        return events(map(sse, RUN[request.after + 1 :][:1]), cut=True, x_flue_run_id="r1")
    result = {"result": {"text": "Hi"}, "items": [], "events": [], "dispatchId": "d", "acceptedAt": "now"}
    return answer({**result, "runId": "r1", "status": "active"}, x_flue_run_id="r1")


@contextmanager
def served() -> Iterator[ScriptedServer]:
    """Run the server in a thread of its own: the client blocks this one."""
    server = ScriptedServer(handler)
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with server:
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(5)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


# A script yields each call, or stream, and is sent what it gives.
Script = Callable[[Any], Generator[Any, Any, Any]]


def calls(client: Any) -> Generator[Any, Any, Any]:
    return [
        (yield client.agents.invoke("chat", "ann", "Hi", session="s")),
        (yield client.agents.dispatch("chat", "ann", 1)),
        (yield client.agents.submission("chat", "ann", "s1")),
        (yield client.agents.abort("chat", "ann", "s1")),
        (yield client.agents.approve("chat", "ann", "c1")),
        (yield client.agents.deny("chat", "ann", "c1", reason="no")),
        (yield client.agents.raise_budget("chat", "ann", {"usd": 1})),
        (yield client.workflows.invoke("slow", [1])),
        (yield client.runs.get("r1")),
        (yield client.runs.events("r1", limit=1)),
        (yield client.runs.abort("r1")),
        (yield client.runs.send_event("r1", "go")),
        (yield client.admin.agents.list()),
        (yield client.admin.runs.list(limit=1)),
        (yield client.admin.runs.get("r1")),
    ]


def streams(client: Any) -> Generator[Any, Any, Any]:
    one = yield client.runs.stream("r1", initial_retry_ms=1)
    two = yield client.workflows.stream("slow", initial_retry_ms=1)
    return one, two, (yield client.agents.stream("report", "ann", payload={}, initial_retry_ms=1))


def follow(client: Any) -> Generator[Any, Any, Any]:
    return (yield client.agents.follow("chat", "ann", max_retries=1, initial_retry_ms=1))


def refused(client: Any) -> Generator[Any, Any, Any]:
    return (yield client.runs.get("nothing"))


def stream_refused(client: Any) -> Generator[Any, Any, Any]:
    return (yield client.runs.stream("nothing"))


def socket_refused(client: Any) -> Generator[Any, Any, Any]:
    return (yield client.agents.connect("chat", "ann").prompt("x"))


async def in_async(script: Script, url: str) -> Any:
    async with AsyncClient(base_url=url) as client:
        running = script(client)
        given = None
        try:
            while True:
                step = running.send(given)
                given = [event async for event in step] if hasattr(step, "__aiter__") else await step
        except StopIteration as end:
            return end.value


def in_blocking(script: Script, url: str) -> Any:
    with Client(base_url=url) as client:
        running = script(client)
        given = None
        try:
            while True:
                step = running.send(given)
                given = list(step) if inspect.isgenerator(step) else step
        except StopIteration as end:
            return end.value


def outcome(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except FlueError as error:
        return type(error), error.code, str(error)


@pytest.mark.parametrize("script", [calls, streams, follow, refused, stream_refused])
def test_a_script_has_the_same_outcome_and_asks_the_same_in_both(script: Script) -> None:
    with served() as server:
        one = outcome(lambda: asyncio.run(in_async(script, server.url)))
        asked = [(request.method, request.path, request.body) for request in server.requests]
        server.requests.clear()
        two = outcome(lambda: in_blocking(script, server.url))
        assert two == one
        assert [(request.method, request.path, request.body) for request in server.requests] == asked


def test_a_refused_socket_is_the_same_error_in_both() -> None:
    assert outcome(lambda: in_blocking(socket_refused, "http://127.0.0.1:1")) == outcome(
        lambda: asyncio.run(in_async(socket_refused, "http://127.0.0.1:1"))
    )


def test_leaving_a_blocking_stream_lets_its_connection_go() -> None:
    with served() as server, Client(base_url=server.url) as client:
        server._handler = lambda _: events(map(sse, RUN[:1]), hang=True)
        stream = client.runs.stream("r1")
        assert next(stream) == RUN[0]
        stream.close()  # type: ignore[attr-defined]
        deadline = threading.Event()
        for _ in range(500):
            if server.gone:
                break
            deadline.wait(0.01)
        assert server.gone == 1


def test_a_closed_client_says_so() -> None:
    client = Client(base_url="http://127.0.0.1:1")
    client.close()
    client.close()
    with pytest.raises(UsageError, match=r"^The client was closed\.") as caught:
        client.runs.get("r1")
    assert caught.value.code == "context_closed"


def test_closing_a_client_ends_what_waits_on_its_sockets() -> None:
    class Pipe:
        async def send(self, message: str, /) -> None: ...

        async def recv(self) -> str:
            if self.greeted:
                await asyncio.Event().wait()
            self.greeted = True
            return '{"version":1,"type":"ready","target":"agent","name":"chat","instanceId":"ann"}'

        async def close(self, code: int = 1000, reason: str = "", /) -> None: ...

        greeted = False

    client = Client(base_url="http://x", websocket=lambda url: Pipe())
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            with client.agents.connect("chat", "ann") as chat:
                asked.set()
                chat.prompt("x")
        except FlueSocketError as error:
            failures.append(error)
        except UsageError:
            pass  # the block's end: the client is closed

    asked = threading.Event()
    thread = threading.Thread(target=ask)
    thread.start()
    assert asked.wait(5)
    client.close()
    thread.join(5)
    assert not thread.is_alive()

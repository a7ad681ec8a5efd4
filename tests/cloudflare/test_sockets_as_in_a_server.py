"""The same script over the server's driver and over the one that hibernates: a client cannot tell them apart."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.websockets import WebSocket

from flue.engine.service import Service
from flue.server.sockets.asgi import serve_agent_socket, serve_workflow_socket
from tests.cloudflare.hibernating import HibernatingObject, PlatformSocket, settle
from tests.server.socket_frames import invoke, prompt
from tests.server.socket_service import SocketService, Work
from tests.server.test_sockets_fuzz import TEXTS

Step = tuple[str, Any]

SAID = st.one_of(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["one", "two"]), st.sampled_from(["queue", "reject"])).map(
        lambda p: prompt(p[0], session=p[1], busy=p[2])
    ),
    st.sampled_from("abcd").map(lambda name: invoke(name, payload={"n": 1})),
    st.just('{"version":1,"type":"ping","requestId":"p"}'),
    TEXTS,
    st.binary(max_size=3),
)
STEPS = st.one_of(
    st.tuples(st.just("say"), SAID),
    st.tuples(st.sampled_from(["emit", "complete", "fail", "abort"]), st.integers(0, 5)),
    st.tuples(st.just("break"), st.booleans()),
    st.tuples(st.just("evict"), st.none()),
)


class Line(Protocol):
    """A socket to play a script on."""

    service: SocketService

    async def open(self, *, workflow: bool) -> None: ...
    async def say(self, data: str | bytes) -> None: ...
    async def evict(self) -> None: ...
    def heard(self) -> list[Any]: ...
    async def end(self) -> None: ...


class OnServer:
    """The server's driver; it is never evicted."""

    def __init__(self) -> None:
        self.service = SocketService()
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._heard: list[Any] = []
        self._serving: asyncio.Task[None] | None = None

    async def open(self, *, workflow: bool) -> None:
        ws = WebSocket({"type": "websocket", "path": "/workflows/slow", "headers": []}, self._incoming.get, self._send)
        service = cast("Service", self.service)
        self._incoming.put_nowait({"type": "websocket.connect"})
        serve = serve_workflow_socket(ws, service, "slow") if workflow else serve_agent_socket(ws, service, "chat", "a")
        self._serving = asyncio.ensure_future(serve)

    async def say(self, data: str | bytes) -> None:
        kind = "text" if isinstance(data, str) else "bytes"
        self._incoming.put_nowait({"type": "websocket.receive", kind: data})

    async def evict(self) -> None:
        """Do nothing."""

    def heard(self) -> list[Any]:
        return list(self._heard)

    async def end(self) -> None:
        assert self._serving is not None
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await self._serving

    async def _send(self, message: Any) -> None:
        if message["type"] == "websocket.send":
            self._heard.append(json.loads(message["text"]))
        elif message["type"] == "websocket.close":
            self._heard.append((message["code"], message["reason"]))


class InObject:
    """The hibernating driver."""

    def __init__(self) -> None:
        self._object = HibernatingObject()
        self.service = self._object.service
        self._socket: PlatformSocket | None = None

    async def open(self, *, workflow: bool) -> None:
        self._socket = await (self._object.workflow() if workflow else self._object.agent(id="a"))

    async def say(self, data: str | bytes) -> None:
        assert self._socket is not None
        await self._object.message(self._socket, data)

    async def evict(self) -> None:
        self._object.evict()
        await self._object.wake()

    def heard(self) -> list[Any]:
        assert self._socket is not None
        return self._socket.heard

    async def end(self) -> None:
        assert self._socket is not None
        await self._object.closed(self._socket, 1001)


async def played(line: Line, script: list[Step], *, workflow: bool) -> list[list[Any]]:
    """Return what a client had heard after each step."""
    await line.open(workflow=workflow)
    await settle()
    story = [line.heard()]
    for kind, value in script:
        await _play(line, kind, value)
        await settle()
        story.append(line.heard())
    await line.end()
    return story


async def _play(line: Line, kind: str, value: Any) -> None:
    work = [one for one in line.service.work if not one.settled]
    match kind:
        case "say":
            await line.say(value)
        case "evict":
            await line.evict()
        case "break":
            line.service.failure = RuntimeError("broken") if value else None
        case _ if work:
            await _happens(work[value % len(work)], kind)


def _happens(work: Work, kind: str) -> Awaitable[None]:
    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "emit": lambda: work.emit(type="log", of=work.id),
        "complete": lambda: work.complete(work.id),
        "fail": work.fail,
        "abort": work.abort,
    }
    return ways[kind]()


def without_references(story: list[list[Any]]) -> Any:
    """Leave out what differs between any two failures: the name under which the log has them."""
    return json.loads(json.dumps(story), object_hook=lambda item: {k: v for k, v in item.items() if k != "reference"})


@pytest.mark.faults
@given(script=st.lists(STEPS, max_size=25), workflow=st.booleans())
def test_a_client_hears_the_same_after_every_step(script: list[Step], workflow: bool) -> None:
    """Whatever it says, whatever becomes of its work, however often the object is evicted."""
    logging.disable(logging.CRITICAL)  # failures that nobody expected are logged with their traceback

    async def both() -> None:
        on_server = await played(OnServer(), script, workflow=workflow)
        in_object = await played(InObject(), script, workflow=workflow)
        assert without_references(in_object) == without_references(on_server)

    try:
        asyncio.run(both())
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("workflow", [False, True])
def test_a_script_with_everything_in_it_is_heard_the_same(workflow: bool) -> None:
    """What the test above finds by chance, once for certain."""
    ask = invoke("a") if workflow else prompt("a")
    script: list[Step] = [
        ("say", ask),
        ("emit", 0),
        ("evict", None),
        ("say", "{"),
        ("emit", 0),
        ("say", prompt("b", session="two")),
        ("evict", None),
        ("emit", 1),
        ("fail", 1),
        ("evict", None),
        ("complete", 0),
        ("say", b"x"),
        ("say", ask),
    ]

    async def both() -> None:
        on_server = await played(OnServer(), script, workflow=workflow)
        in_object = await played(InObject(), script, workflow=workflow)
        assert without_references(in_object) == without_references(on_server)
        assert len(on_server[-1]) >= 6

    asyncio.run(both())

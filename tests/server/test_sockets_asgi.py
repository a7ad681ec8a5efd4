"""Sockets over a real server and a client that knows nothing of Flue."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from flue.engine.service import Service
from flue.server.sockets.asgi import close_sockets, serve_agent_socket, serve_workflow_socket
from tests.server.loopback import served
from tests.server.socket_frames import Json, invoke, prompt
from tests.server.socket_service import SocketService, Work


class Office:
    """The server under test: `/agents/<name>/<id>` and `/workflows/<name>` over a service that the test plays."""

    def __init__(self) -> None:
        self.service = SocketService()
        self.address = ""
        self.stall_seconds = 30.0
        self.left: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        ws, service = WebSocket(scope, receive, send), cast("Service", self.service)
        _, kind, name, *rest = scope["path"].split("/")
        try:
            if kind == "agents":
                await serve_agent_socket(ws, service, name, rest[0], stall_seconds=self.stall_seconds)
            else:
                await serve_workflow_socket(ws, service, name)
        finally:
            self.left.append(scope["path"])

    async def agent(self, id: str = "ann", **options: Any) -> ClientConnection:
        """Connect to an agent and read its greeting."""
        return await self._connect(f"/agents/chat/{id}", **options)

    async def workflow(self) -> ClientConnection:
        """Connect to a workflow and read its greeting."""
        return await self._connect("/workflows/slow")

    async def _connect(self, path: str, **options: Any) -> ClientConnection:
        ws = await connect(f"ws://{self.address}{path}", **options)
        assert (await heard(ws))["type"] == "ready"
        return ws


async def heard(ws: Connection) -> Json:
    """Return the next frame."""
    frame: Json = json.loads(await asyncio.wait_for(ws.recv(), 10))
    return frame


async def end(ws: Connection) -> tuple[int, str]:
    """Return how the server closes; nothing may come before."""
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(ws.recv(), 10)
    return ws.close_code or 0, ws.close_reason or ""


async def until(condition: Any) -> None:
    """Let others run until something is the case."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is the server's, which tells nobody
            await asyncio.sleep(0.001)


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    office = Office()
    async with served(office, ws_max_size=4 * 1024 * 1024) as office.address:
        yield office


async def test_a_prompt_is_answered_with_started_events_and_result(office: Office) -> None:
    async with await office.agent() as ws:
        await ws.send(prompt("r1", session="support"))
        work = await office.service.nth(1)
        assert office.service.asked == [{"agent": "chat", "instance": "ann", "message": "Hello", "session": "support"}]
        await work.emit(type="operation_start")
        await work.emit(type="text_delta", text="a\u2028b")
        await work.complete({"text": "Echo"})
        frames = [await heard(ws) for _ in range(4)]
        assert [frame["type"] for frame in frames] == ["started", "event", "event", "result"]
        assert frames[2]["event"] == {"type": "text_delta", "text": "a\u2028b", "eventIndex": 1}
        assert frames[3]["result"] == {"text": "Echo"}


async def test_prompts_of_several_sessions_are_answered_as_they_end(office: Office) -> None:
    async with await office.agent() as ws:
        await ws.send(prompt("slow", session="one"))
        await ws.send(prompt("fast", session="two"))
        await (await office.service.nth(2)).complete("fast")
        assert [(await heard(ws))["type"] for _ in range(2)] == ["started", "started"]
        assert (await heard(ws))["requestId"] == "fast"
        await (await office.service.nth(1)).complete("slow")
        assert (await heard(ws))["requestId"] == "slow"


async def test_prompts_are_admitted_in_the_order_they_were_sent(office: Office) -> None:
    async with await office.agent() as ws:
        for number in range(20):
            await ws.send(prompt(f"r{number}", str(number)))
        assert [(await heard(ws))["requestId"] for _ in range(20)] == [f"r{number}" for number in range(20)]
        assert [asked["message"] for asked in office.service.asked] == [str(number) for number in range(20)]


async def test_a_busy_session_refuses_only_those_who_ask_for_it(office: Office) -> None:
    async with await office.agent() as ws:
        await ws.send(prompt("first"))
        await ws.send(prompt("queued"))
        await ws.send(prompt("refused", busy="reject"))
        frames = [await heard(ws) for _ in range(3)]
        assert [(frame["type"], frame["requestId"]) for frame in frames] == [
            ("started", "first"),
            ("started", "queued"),
            ("error", "refused"),
        ]
        assert frames[2]["error"]["type"] == "invalid_request"


async def test_what_fails_inside_is_told_without_its_words(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    async with await office.agent() as ws:
        await ws.send(prompt("r1"))
        await (await office.service.nth(1)).fail("the password is swordfish")
        assert (await heard(ws))["type"] == "started"
        error = await heard(ws)
        assert error["error"]["type"] == "internal_error"
        office.service.failure = RuntimeError("the password is swordfish")
        with caplog.at_level(logging.CRITICAL, "flue"):
            await ws.send(prompt("r2"))
            refused = await heard(ws)
        assert (refused["requestId"], refused["error"]["type"]) == ("r2", "internal_error")
        assert "swordfish" not in json.dumps([error, refused])


async def test_an_aborted_prompt_says_so(office: Office) -> None:
    async with await office.agent() as ws:
        await ws.send(prompt("r1"))
        await (await office.service.nth(1)).abort()
        assert [(await heard(ws))["type"] for _ in range(2)] == ["started", "error"]


async def test_a_workflow_is_invoked_once_and_closes(office: Office) -> None:
    ws = await office.workflow()
    await ws.send(invoke("r1", payload=[1]))
    work = await office.service.nth(1)
    assert office.service.asked == [{"name": "slow", "payload": [1]}]
    await work.emit(type="run_start")
    await work.complete("done")
    frames = [await heard(ws) for _ in range(3)]
    assert [(frame["type"], frame["runId"]) for frame in frames] == [
        ("started", work.id),
        ("event", work.id),
        ("result", work.id),
    ]
    assert await end(ws) == (1000, "Workflow completed")
    await until(lambda: office.left)


async def test_a_failing_workflow_closes_with_1011(office: Office) -> None:
    ws = await office.workflow()
    await ws.send(invoke("r1"))
    await (await office.service.nth(1)).fail()
    assert [(await heard(ws))["type"] for _ in range(2)] == ["started", "error"]
    assert await end(ws) == (1011, "Workflow failed")


async def test_a_second_invocation_closes_with_1008_and_the_first_run_goes_on(office: Office) -> None:
    ws = await office.workflow()
    await ws.send(invoke("r1"))
    await ws.send(invoke("r2"))
    frames = [await heard(ws) for _ in range(2)]
    assert [(frame["type"], frame["requestId"]) for frame in frames] == [("started", "r1"), ("error", "r2")]
    assert await end(ws) == (1008, "Workflow accepts one invocation only")
    assert not (await office.service.nth(1)).settled


async def test_binary_closes_with_1003_and_too_much_with_1009(office: Office) -> None:
    ws = await office.agent()
    await ws.send(b"{}")
    assert (await heard(ws))["type"] == "error"
    assert await end(ws) == (1003, "Binary messages are not supported")
    ws = await office.agent()
    await ws.send("x" * (1024 * 1024 + 1))
    assert await end(ws) == (1009, "Message too large")


async def test_a_client_that_leaves_leaves_the_work_alone(office: Office) -> None:
    ws = await office.agent()
    await ws.send(prompt("r1"))
    work = await office.service.nth(1)
    ws.transport.abort()
    await until(lambda: office.left)
    assert not work.settled
    await work.emit(type="idle")
    await work.complete("nobody hears")
    async with await office.agent() as other:
        await other.send(prompt("r2"))
        assert (await heard(other))["type"] == "started"


async def test_the_server_closes_all_sockets_of_a_service_and_their_work_goes_on(office: Office) -> None:
    sockets = [await office.agent("ann"), await office.agent("bob"), await office.workflow()]
    await sockets[0].send(prompt("r1"))
    work = await office.service.nth(1)
    assert (await heard(sockets[0]))["type"] == "started"
    await close_sockets(cast("Service", SocketService()))
    await close_sockets(cast("Service", office.service), code=1001, reason="The server goes away")
    assert [await end(ws) for ws in sockets] == [(1001, "The server goes away")] * 3
    await until(lambda: len(office.left) == 3)
    assert not work.settled


# ------------------------------------------------------------------------------------- clients that do not read


@contextlib.asynccontextmanager
async def silent(office: Office) -> AsyncIterator[asyncio.StreamWriter]:
    """Shake hands with an agent and never read again; gives the way to write frames."""
    host, _, port = office.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(
        f"GET /agents/chat/silent HTTP/1.1\r\nHost: {office.address}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    try:
        yield writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def text_frame(text: str) -> bytes:
    """Return a client's frame of 126 to 65,535 bytes, masked with zeros."""
    data = text.encode()
    return bytes([0x81, 0xFE]) + len(data).to_bytes(2, "big") + bytes(4) + data


async def flood(work: Work) -> None:
    """Write more into a log than the buffers between two sockets take."""
    for _ in range(400):
        await work.emit(type="text_delta", text="x" * 65_536)


async def test_a_client_that_does_not_read_holds_up_its_own_log_and_nobody_else(office: Office) -> None:
    async with silent(office) as writer:
        writer.write(text_frame(prompt("r1", " " * 100, session="one")))
        work = await office.service.nth(1)
        await flood(work)
        async with await office.agent("loud") as ws:
            await ws.send(prompt("r2", session="two"))
            other = await office.service.nth(2)
            for _ in range(100):
                await other.emit(type="text_delta", text="y")
            await other.complete("done")
            assert [(await heard(ws))["type"] for _ in range(102)][-1] == "result"
        # What the buffers of the kernel took, and not one event more: the rest was not read from the log.
        stopped_at = work.read
        assert stopped_at < 200
        await work.emit(type="idle")
        assert work.read == stopped_at
    await until(lambda: "/agents/chat/silent" in office.left)
    assert not work.settled


async def test_a_client_that_only_asks_and_never_reads_is_not_read_either(office: Office) -> None:
    ping = text_frame(json.dumps({"version": 1, "type": "ping", "requestId": "p" * 65_000}))
    async with silent(office) as writer:
        with pytest.raises(TimeoutError):
            for _ in range(1000):
                writer.write(ping)
                await asyncio.wait_for(writer.drain(), 0.2)
    await until(lambda: office.left)


async def test_a_client_that_takes_nothing_for_too_long_is_given_up_and_its_work_is_not(office: Office) -> None:
    office.stall_seconds = 0.05
    async with silent(office) as writer:
        writer.write(text_frame(prompt("r1", " " * 100)))
        work = await office.service.nth(1)
        await flood(work)
        await until(lambda: office.left)
        assert not work.settled

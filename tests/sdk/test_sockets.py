"""Conversations over WebSockets: with the real server's sockets, and with servers that do not keep to the protocol."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from flue.errors import UsageError
from flue.sdk import AsyncClient, FlueSocketError, SocketTarget
from flue.sdk import connections as sdk_connections
from flue.sdk import sockets as sdk_sockets
from flue.server.sockets.asgi import close_sockets, serve_agent_socket, serve_workflow_socket
from tests.server.loopback import served
from tests.server.socket_service import SocketService

CLOSED = r"^Flue WebSocket connection closed\."


class Office:
    """A server with an agent `chat` and a workflow `slow`, whose work the test plays."""

    def __init__(self) -> None:
        self.service = SocketService()
        self.url = ""
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        ws, service = WebSocket(scope, receive, send), cast("Any", self.service)
        self.asked.append(f"{scope['path']}?{scope['query_string'].decode()}")
        _, kind, name, *id = scope["path"].split("/", 3)
        if kind == "workflows":
            await serve_workflow_socket(ws, service, name)
        elif name == "chat":
            await serve_agent_socket(ws, service, name, id[0])
        else:
            await ws.close()

    def client(self, **options: Any) -> AsyncClient:
        return AsyncClient(base_url=self.url, **options)


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    office = Office()
    async with served(office) as address:
        office.url = f"http://{address}"
        yield office


async def test_a_prompt_is_answered_and_its_events_are_heard(office: Office) -> None:
    heard: list[Any] = []
    async with office.client() as client, client.agents.connect("chat", "ann") as chat:
        stop = chat.on_event(lambda event, request: heard.append((event["type"], request)))
        asking = asyncio.create_task(chat.prompt("Hello", session="support"))
        work = await office.service.nth(1)
        assert office.service.asked == [{"agent": "chat", "instance": "ann", "message": "Hello", "session": "support"}]
        await work.emit(type="operation_start")
        await work.emit(type="idle")
        await work.complete({"text": "Hi"})
        assert (await asking).text == "Hi"
        assert [type for type, _ in heard] == ["operation_start", "idle"]
        (request,) = {request for _, request in heard}
        assert request.request_id.startswith("req_")
        assert request.run_id is None
        stop()
        stop()
        again = asyncio.create_task(chat.prompt("Continue"))
        await (await office.service.nth(2)).emit(type="idle")
        await office.service.work[1].complete({"text": "More"})
        assert (await again).text == "More"
        assert len(heard) == 2


async def test_prompts_under_way_are_told_apart(office: Office) -> None:
    async with office.client() as client, client.agents.connect("chat", "ann") as chat:
        asking = [asyncio.create_task(chat.prompt(str(n), session=str(n))) for n in range(5)]
        await office.service.nth(5)
        for asked, work in reversed(list(zip(office.service.asked, office.service.work, strict=True))):
            await work.complete({"text": asked["message"]})
        assert [(await task).text for task in asking] == ["0", "1", "2", "3", "4"]


async def test_a_busy_session_refuses_who_asks_for_that(office: Office) -> None:
    async with office.client() as client, client.agents.connect("chat", "ann") as chat:
        first = asyncio.create_task(chat.prompt("one"))
        await office.service.nth(1)
        with pytest.raises(FlueSocketError) as caught:
            await chat.prompt("two", busy="reject")
        assert caught.value.code == "invalid_request"
        assert caught.value.error is not None
        assert caught.value.error["type"] == "invalid_request"
        assert caught.value.request_id is not None
        await office.service.work[0].complete({"text": "done"})
        assert (await first).text == "done"


async def test_a_failing_prompt_raises_and_the_next_is_answered(office: Office) -> None:
    async with office.client() as client, client.agents.connect("chat", "ann") as chat:
        asking = asyncio.create_task(chat.prompt("one"))
        await (await office.service.nth(1)).fail()
        with pytest.raises(FlueSocketError) as caught:
            await asking
        assert caught.value.code == "internal_error"
        asking = asyncio.create_task(chat.prompt("two"))
        await (await office.service.nth(2)).complete(1)
        assert (await asking).result == 1


async def test_a_ping_is_answered(office: Office) -> None:
    async with office.client() as client, client.agents.connect("chat", "ann") as chat:
        await asyncio.gather(chat.ping(), chat.ping())


async def test_a_socket_opens_with_its_first_use_or_when_it_is_awaited(office: Office) -> None:
    async with office.client() as client:
        chat = client.agents.connect("chat", "ann")
        assert not office.asked
        await asyncio.gather(chat.ready(), chat.ping(), chat.ready())
        other = await client.agents.connect("chat", "a/b ä")
        await other.ping()
        assert [path.partition("?")[0] for path in office.asked] == ["/agents/chat/ann", "/agents/chat/a/b ä"]


async def test_a_prompt_given_up_goes_on_and_its_answer_disturbs_nobody(office: Office) -> None:
    async with office.client() as client, client.agents.connect("chat", "ann") as chat:
        given_up = asyncio.create_task(chat.prompt("one", session="one"))
        work = await office.service.nth(1)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        asking = asyncio.create_task(chat.prompt("two", session="two"))
        await (await office.service.nth(2)).emit(type="idle")
        await work.emit(type="idle")
        await work.complete("late")
        await chat.ping()
        await office.service.work[1].complete("second")
        assert (await asking).result == "second"


async def test_closing_ends_the_wait_of_all_and_not_their_work(office: Office) -> None:
    async with office.client() as client:
        chat = await client.agents.connect("chat", "ann")
        asking = [asyncio.create_task(chat.prompt("x", session=name)) for name in "ab"]
        await office.service.nth(2)
        await chat.close()
        for task in asking:
            with pytest.raises(FlueSocketError, match=CLOSED) as caught:
                await task
            assert caught.value.code == "socket_closed"
        with pytest.raises(FlueSocketError, match=CLOSED):
            await chat.prompt("y")
        await chat.close()
        assert not any(work.settled for work in office.service.work)


async def test_a_client_closes_its_sockets(office: Office) -> None:
    async with office.client() as client:
        chat = await client.agents.connect("chat", "ann")
        asking = asyncio.create_task(chat.prompt("x"))
        await office.service.nth(1)
    with pytest.raises(FlueSocketError, match=CLOSED):
        await asking


async def test_a_server_that_closes_says_why(office: Office) -> None:
    async with office.client() as client, client.agents.connect("chat", "ann") as chat:
        asking = asyncio.create_task(chat.prompt("x"))
        await office.service.nth(1)
        await close_sockets(cast("Any", office.service))
        with pytest.raises(FlueSocketError, match="1012: The server restarts"):
            await asking


async def test_too_long_a_message_closes_the_socket(office: Office) -> None:
    async with office.client() as client, client.agents.connect("chat", "ann") as chat:
        with pytest.raises(FlueSocketError, match="1009"):
            await chat.prompt("x" * (1024 * 1024))


async def test_a_workflow_gives_its_result_and_run(office: Office) -> None:
    heard: list[Any] = []
    async with office.client() as client, client.workflows.connect("slow") as slow:
        slow.on_event(lambda event, request: heard.append(request.run_id))
        asking = asyncio.create_task(slow.invoke({"n": 2}))
        work = await office.service.nth(1)
        await work.emit(type="run_start")
        await work.complete("done")
        answer = await asking
        assert (answer.result, answer.run_id, heard) == ("done", work.id, [work.id])
        assert office.service.asked == [{"name": "slow", "payload": {"n": 2}}]


async def test_a_second_invocation_is_refused_before_it_is_sent(office: Office) -> None:
    async with office.client() as client, client.workflows.connect("slow") as slow:
        asking = asyncio.create_task(slow.invoke())
        work = await office.service.nth(1)
        with pytest.raises(UsageError) as caught:
            await slow.invoke()
        assert caught.value.code == "invocation_repeated"
        await work.complete(1)
        assert (await asking).result == 1


async def test_a_failing_workflow_names_its_run(office: Office) -> None:
    async with office.client() as client, client.workflows.connect("slow") as slow:
        asking = asyncio.create_task(slow.invoke())
        work = await office.service.nth(1)
        await work.fail()
        with pytest.raises(FlueSocketError) as caught:
            await asking
        assert (caught.value.code, caught.value.run_id) == ("internal_error", work.id)


async def test_a_refused_handshake_says_so(office: Office) -> None:
    async with office.client() as client:
        chat = client.agents.connect("nobody", "ann")
        for _ in range(2):
            with pytest.raises(FlueSocketError, match="HTTP 403") as caught:
                await chat.prompt("x")
            assert caught.value.code == "socket_refused"


async def test_a_server_that_is_not_there_is_a_refusal() -> None:
    async with AsyncClient(base_url="http://127.0.0.1:1") as client:
        with pytest.raises(FlueSocketError) as caught:
            await client.agents.connect("chat", "ann").ready()
        assert caught.value.code == "socket_refused"


async def test_a_listener_that_fails_is_logged_and_harms_nobody(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []
    async with office.client() as client, client.agents.connect("chat", "ann") as chat:
        chat.on_event(lambda event, request: cast("None", 1 / 0))
        chat.on_event(lambda event, request: heard.append(event["type"]))
        asking = asyncio.create_task(chat.prompt("x"))
        work = await office.service.nth(1)
        with caplog.at_level(logging.CRITICAL, "flue"):
            await work.emit(type="idle")
            await work.complete(1)
            assert (await asking).result == 1
    assert heard == ["idle"]


# ------------------------------------------------------------------------------------------------ addresses


class Seen(Exception):  # noqa: N818 - ends the opening
    """The address that was asked for."""


@pytest.mark.parametrize(
    ("base_url", "base_path", "url"),
    [
        ("http://x", "", "ws://x/agents/chat/a%2Fb"),
        ("https://x:8443/", "", "wss://x:8443/agents/chat/a%2Fb"),
        ("https://x/api/", "", "wss://x/api/agents/chat/a%2Fb"),
        ("https://x", "/api", "wss://x/api/agents/chat/a%2Fb"),
        ("https://x", "api/v1/", "wss://x/api/v1/agents/chat/a%2Fb"),
        ("https://x/http", "/sockets", "wss://x/sockets/agents/chat/a%2Fb"),
        ("https://x/http", "/", "wss://x/http/agents/chat/a%2Fb"),
    ],
)
async def test_where_a_socket_is(base_url: str, base_path: str, url: str) -> None:
    seen = []

    def open_socket(address: str) -> Any:
        seen.append(address)
        raise Seen(address)

    async with AsyncClient(base_url=base_url, websocket_base_path=base_path, websocket=open_socket) as client:
        with pytest.raises(FlueSocketError):
            await client.agents.connect("chat", "a/b").ready()
    assert seen == [url]


async def signed(url: str, target: SocketTarget) -> str:
    return f"{url}?token=t0&for={target.target}-{target.name}-{target.instance_id}"


@pytest.mark.parametrize("later", [True, False])
async def test_the_address_may_be_rewritten(office: Office, later: bool) -> None:
    def at_once(url: str, target: SocketTarget) -> str:
        return f"{url}?token=t0&for={target.target}-{target.name}-{target.instance_id}"

    async with office.client(token="never", websocket_url=signed if later else at_once) as client:
        await client.agents.connect("chat", "ann").ready()
        await client.workflows.connect("slow").ready()
    assert office.asked == [
        "/agents/chat/ann?token=t0&for=agent-chat-ann",
        "/workflows/slow?token=t0&for=workflow-slow-None",
    ]


async def test_the_connection_may_be_opened_by_the_caller(office: Office) -> None:
    async with office.client(websocket=lambda url: connect(f"{url}?own=1", max_size=None)) as client:
        await client.agents.connect("chat", "ann").ready()
    assert office.asked == ["/agents/chat/ann?own=1"]


async def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "websockets.asyncio.client", None)
    async with AsyncClient(base_url="http://127.0.0.1:1") as client:
        with pytest.raises(UsageError, match=r"flue-agents\[sdk\]") as caught:
            await client.agents.connect("chat", "ann").ready()
    assert caught.value.code == "missing_package"


# ----------------------------------------------------------------------------------------- hostile servers


class Pipe:
    """A connection whose other end is the test: `say` what the server says, look at `sent` and `closed`."""

    def __init__(self, *frames: Any) -> None:
        self.sent: list[dict[str, Any]] = []
        self.closed: list[tuple[int, str]] = []
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._sent = asyncio.Event()
        for frame in frames:
            self.say(frame)

    def say(self, frame: Any) -> None:
        self._incoming.put_nowait(frame)

    async def asked(self, number: int) -> str:
        """Wait for so many requests and return the last one's id."""
        async with asyncio.timeout(5):
            while len(self.sent) < number:
                self._sent.clear()
                await self._sent.wait()
        request_id: str = self.sent[number - 1]["requestId"]
        return request_id

    async def send(self, message: str, /) -> None:
        if self.closed:
            raise ConnectionError("closed")
        self.sent.append(json.loads(message))
        self._sent.set()

    async def recv(self) -> str | bytes:
        frame = await self._incoming.get()
        if isinstance(frame, Exception):
            raise frame
        return frame if isinstance(frame, str | bytes) else json.dumps(frame)

    async def close(self, code: int = 1000, reason: str = "", /) -> None:
        self.closed.append((code, reason))
        self.say(ConnectionError("closed"))


READY = {"version": 1, "type": "ready", "target": "agent", "name": "chat", "instanceId": "ann"}
WORKFLOW_READY = {"version": 1, "type": "ready", "target": "workflow", "name": "slow"}


def piped(pipe: Pipe) -> AsyncClient:
    async def open_socket(url: str) -> Pipe:
        return pipe

    return AsyncClient(base_url="http://x", websocket=open_socket)


Say = Callable[[str], Any]
WRONG: dict[str, Say] = {
    "no JSON": lambda asked: "{",
    "no object": lambda asked: "[]",
    "deep": lambda asked: "[" * 100_000,
    "bytes": lambda asked: b"{}",
    "no version": lambda asked: {"type": "result", "requestId": asked, "result": 1},
    "another version": lambda asked: {"version": 2, "type": "result", "requestId": asked, "result": 1},
    "version true": lambda asked: {"version": True, "type": "result", "requestId": asked, "result": 1},
    "no type": lambda asked: {"version": 1},
    "unknown type": lambda asked: {"version": 1, "type": "hello"},
    "type of another kind": lambda asked: {"version": 1, "type": ["result"]},
    "greeting twice": lambda asked: READY,
    "no request": lambda asked: {"version": 1, "type": "result", "result": 1},
    "another request": lambda asked: {"version": 1, "type": "result", "requestId": "req_x", "result": 1},
    "request of another kind": lambda asked: {"version": 1, "type": "result", "requestId": [asked], "result": 1},
    "no result": lambda asked: {"version": 1, "type": "result", "requestId": asked},
    "no event": lambda asked: {"version": 1, "type": "event", "requestId": asked},
    "event without type": lambda asked: {"version": 1, "type": "event", "requestId": asked, "event": {}},
    "error without words": lambda asked: {"version": 1, "type": "error", "requestId": asked, "error": "x"},
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_server_that_breaks_the_protocol_is_left_with_1008(wrong: str) -> None:
    pipe = Pipe(READY)
    async with piped(pipe) as client, client.agents.connect("chat", "ann") as chat:
        asking = asyncio.create_task(chat.prompt("x"))
        pipe.say(WRONG[wrong](await pipe.asked(1)))
        with pytest.raises(FlueSocketError, match="does not speak the protocol") as caught:
            await asyncio.wait_for(asking, 5)
        assert caught.value.code == "socket_protocol"
        await asyncio.sleep(0)
        assert pipe.closed == [(1008, "Protocol violation")]
        with pytest.raises(FlueSocketError):
            await chat.ping()


@pytest.mark.parametrize("run_id", [None, 5, "other"])
async def test_a_workflows_frames_name_its_run(run_id: Any) -> None:
    pipe = Pipe(WORKFLOW_READY)
    async with piped(pipe) as client, client.workflows.connect("slow") as slow:
        asking = asyncio.create_task(slow.invoke())
        id = await pipe.asked(1)
        pipe.say({"version": 1, "type": "started", "requestId": id, "runId": "r1"})
        pipe.say({"version": 1, "type": "result", "requestId": id, "runId": run_id, "result": 1})
        with pytest.raises(FlueSocketError, match="does not name its run") as caught:
            await asking
        assert caught.value.run_id == "r1"


@pytest.mark.parametrize(
    "greeting",
    [
        READY | {"instanceId": "bob"},
        READY | {"name": "other"},
        WORKFLOW_READY,
        READY | {"version": 2},
        READY | {"type": "pong"},
        "hello",
    ],
)
async def test_a_greeting_from_something_else_is_refused(greeting: Any) -> None:
    pipe = Pipe(greeting)
    async with piped(pipe) as client:
        with pytest.raises(FlueSocketError) as caught:
            await client.agents.connect("chat", "ann").ready()
    assert caught.value.code == "socket_protocol"
    assert pipe.closed[0][0] == 1008


async def test_a_server_that_does_not_greet_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk_sockets, "READY_SECONDS", 0.02)
    pipe = Pipe()
    async with piped(pipe) as client:
        with pytest.raises(FlueSocketError, match=r"did not greet within 0\.02 s"):
            await client.agents.connect("chat", "ann").ready()
    assert pipe.closed


async def test_who_is_cancelled_while_it_opens_takes_it_from_nobody() -> None:
    pipe = Pipe()
    async with piped(pipe) as client:
        chat = client.agents.connect("chat", "ann")
        first, second = asyncio.create_task(chat.ready()), asyncio.create_task(chat.ready())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait({first})
        pipe.say(READY)
        await second


async def test_closing_while_it_opens_ends_the_wait() -> None:
    pipe = Pipe()
    async with piped(pipe) as client:
        chat = client.agents.connect("chat", "ann")
        waiting = asyncio.create_task(chat.prompt("x"))
        await asyncio.sleep(0)
        await chat.close()
        with pytest.raises(FlueSocketError, match=CLOSED):
            await waiting
        with pytest.raises(FlueSocketError, match=CLOSED):
            await chat.ready()


async def test_an_error_without_an_id_is_for_what_has_not_begun() -> None:
    pipe = Pipe(READY)
    async with piped(pipe) as client, client.agents.connect("chat", "ann") as chat:
        begun = asyncio.create_task(chat.prompt("one"))
        pipe.say({"version": 1, "type": "started", "requestId": await pipe.asked(1)})
        refused = asyncio.create_task(chat.prompt("two"))
        await pipe.asked(2)
        error = {"type": "invalid_request", "message": "The request is not in order.", "details": "No."}
        pipe.say({"version": 1, "type": "error", "error": error})
        with pytest.raises(FlueSocketError, match="not in order"):
            await refused
        pipe.say({"version": 1, "type": "result", "requestId": await pipe.asked(1), "result": 1})
        assert (await begun).result == 1


async def test_events_of_types_that_nobody_knows_are_passed_on() -> None:
    pipe = Pipe(READY)
    heard: list[Any] = []
    async with piped(pipe) as client, client.agents.connect("chat", "ann") as chat:
        chat.on_event(lambda event, request: heard.append(event))
        asking = asyncio.create_task(chat.prompt("x"))
        id = await pipe.asked(1)
        pipe.say({"version": 1, "type": "event", "requestId": id, "event": {"type": "brand_new", "x": 1}})
        pipe.say({"version": 1, "type": "result", "requestId": id, "result": None})
        assert (await asking).result is None
    assert heard == [{"type": "brand_new", "x": 1}]


async def test_a_connection_that_breaks_while_something_is_sent_ends_the_wait() -> None:
    pipe = Pipe(READY)
    async with piped(pipe) as client, client.agents.connect("chat", "ann") as chat:
        pipe.closed.append((1006, ""))
        with pytest.raises(FlueSocketError, match=CLOSED):
            await chat.prompt("x")


async def test_a_blank_session_is_refused_before_it_is_sent() -> None:
    pipe = Pipe(READY)
    async with piped(pipe) as client, client.agents.connect("chat", "ann") as chat:
        with pytest.raises(UsageError):
            await chat.prompt("x", session=" ")
        assert not pipe.sent


async def test_the_frames_are_those_of_the_original() -> None:
    pipe = Pipe(READY)
    async with piped(pipe) as client, client.agents.connect("chat", "ann") as chat:
        tasks: list[Awaitable[Any]] = [
            asyncio.create_task(chat.prompt("Hello")),
            asyncio.create_task(chat.prompt("Hello", session="s", busy="reject")),
            asyncio.create_task(chat.ping()),
        ]
        await pipe.asked(3)
        for frame in pipe.sent:
            assert frame.pop("requestId")
    assert pipe.sent == [
        {"version": 1, "type": "prompt", "message": "Hello"},
        {"version": 1, "type": "prompt", "message": "Hello", "session": "s", "busy": "reject"},
        {"version": 1, "type": "ping"},
    ]
    for task in tasks:
        with pytest.raises(FlueSocketError):
            await task


def test_frames_may_be_larger_than_the_largest_event() -> None:
    assert sdk_connections.MAX_FRAME_BYTES > 1024 * 1024

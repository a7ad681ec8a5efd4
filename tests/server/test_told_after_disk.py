"""Whatever a client is told is on disk before; only pieces of an answer that is being written may come earlier."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flue import create_agent, tool
from flue.server.app import asgi
from flue.stores import MemoryStore
from flue.testing import ScriptedModel, call
from tests.engine.scenes import CHANGES
from tests.server.asgi_client import Answer, Client


class SlowDisk:
    """A store that works on transitions in their order, and from one of a certain name on not before it may."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self._queue: list[Callable[[], None]] = []
        self._held = ""
        self.stuck = asyncio.Event()

    def hold(self, name: str) -> None:
        """Work on no more transitions from the next of that name on."""
        self._held = name

    def go_on(self) -> None:
        """Work on everything that waits, and on what comes."""
        self._held = ""
        while self._queue:
            self._queue.pop(0)()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in CHANGES:
            return method

        def transition(*arguments: Any, **options: Any) -> asyncio.Future[Any]:
            done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

            def work() -> None:
                result = method(*arguments, **options)
                result.add_done_callback(lambda found: _copy(found, done))

            if name == self._held:
                self.stuck.set()
            if self.stuck.is_set() and self._held:
                self._queue.append(work)
            else:
                work()
            return done

        return transition


def _copy(found: asyncio.Future[Any], into: asyncio.Future[Any]) -> None:
    if into.cancelled():
        return
    if (error := found.exception()) is not None:
        into.set_exception(error)
    else:
        into.set_result(found.result())


class Shop:
    """A server over a slow disk."""

    def __init__(self) -> None:
        @tool(approval=True)
        def refund() -> str:
            """Refund."""
            return "refunded"

        self.disk = SlowDisk()
        self.model = ScriptedModel(["Hello."])
        agents = {"chat": create_agent(model=self.model, tools=[refund])}
        self.app = asgi(agents=agents, workflows={"echo": echo, "wait": wait}, store=self.disk)
        self.client = Client(self.app)

    @asynccontextmanager
    async def socket(self, path: str) -> AsyncIterator[Socket]:
        """Open a socket, and leave in the end."""
        socket = Socket()
        scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": []}
        served = asyncio.create_task(self.app(scope, socket.incoming.get, socket.send))
        yield socket
        socket.incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(served, 10)


class Socket:
    """A client's end of a WebSocket."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[Any] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.told: list[str] = []

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.send":
            self.told.append(json.loads(message["text"])["type"])

    def ask(self, **frame: Any) -> None:
        text = json.dumps({"version": 1, "requestId": "r", **frame})
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    async def until(self, type: str) -> None:
        async with asyncio.timeout(10):
            while type not in self.told:  # noqa: ASYNC110 - whoever tells knows nothing of tests
                await asyncio.sleep(0)


async def echo(ctx: Any) -> Any:
    return ctx.payload


async def wait(ctx: Any) -> Any:
    return await ctx.wait_for_event("paid")


async def idle() -> None:
    """Let everything that is ready run."""
    for _ in range(100):
        await asyncio.sleep(0)


@pytest.fixture
async def shop(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    monkeypatch.setenv("FLUE_DISPATCH_TOKEN", "t0ken")
    shop = Shop()
    yield shop
    shop.disk.go_on()
    await shop.app.application.drain()


Ask = Callable[[Shop], Awaitable[Coroutine[Any, Any, Answer]]]
"""Makes things ready, and returns the request."""


async def run(shop: Shop) -> Coroutine[Any, Any, Answer]:
    return shop.client.post("/workflows/echo", {"a": 1})


async def run_to_its_end(shop: Shop) -> Coroutine[Any, Any, Answer]:
    return shop.client.post("/workflows/echo?wait=result", {"a": 1})


async def prompt(shop: Shop) -> Coroutine[Any, Any, Answer]:
    return shop.client.post("/agents/chat/ann", {"message": "Hi."})


async def prompt_for_approval(shop: Shop) -> Coroutine[Any, Any, Answer]:
    await (await prompt(shop))
    shop.model.add([call("refund", id="c1")], "Done.")
    return shop.client.post("/agents/chat/ann", {"message": "My money, please."})


async def dispatch(shop: Shop) -> Coroutine[Any, Any, Answer]:
    return shop.client.post("/agents/chat/ann/dispatch", {"input": 1}, authorization="Bearer t0ken")


async def event(shop: Shop) -> Coroutine[Any, Any, Answer]:
    run_id = (await shop.client.post("/workflows/wait")).json["runId"]
    return shop.client.post(f"/runs/{run_id}/events/paid", {"a": 1})


async def abort(shop: Shop) -> Coroutine[Any, Any, Answer]:
    run_id = (await shop.client.post("/workflows/wait")).json["runId"]
    return shop.client.post(f"/runs/{run_id}/abort")


async def approval(shop: Shop) -> Coroutine[Any, Any, Answer]:
    assert (await (await prompt_for_approval(shop))).status == 202
    return shop.client.post("/agents/chat/ann/approvals/c1", {"approved": True})


# DUR-23
@pytest.mark.parametrize(
    ("ask", "transition", "status"),
    [
        (run, "admit", 202),
        (dispatch, "admit", 202),
        (run_to_its_end, "settle", 200),
        (prompt, "settle", 200),
        (prompt_for_approval, "park", 202),
        (event, "deliver", 202),
        (approval, "deliver", 202),
        (abort, "cancel", 202),
    ],
)
async def test_an_answer_waits_for_the_disk(shop: Shop, ask: Ask, transition: str, status: int) -> None:
    request = await ask(shop)
    shop.disk.hold(transition)
    answer = asyncio.create_task(request)
    await asyncio.wait_for(shop.disk.stuck.wait(), 10)
    await idle()
    assert not answer.done(), f"it was told before its {transition} was on disk"
    shop.disk.go_on()
    assert (await asyncio.wait_for(answer, 10)).status == status


# DUR-23
@pytest.mark.parametrize(
    ("path", "frame"),
    [
        ("/agents/chat/ann", {"type": "prompt", "message": "Hi."}),
        ("/workflows/echo", {"type": "invoke", "payload": 1}),
    ],
)
@pytest.mark.parametrize(("transition", "frame_type"), [("admit", "started"), ("settle", "result")])
async def test_a_frame_waits_for_the_disk(shop: Shop, path: str, frame: Any, transition: str, frame_type: str) -> None:
    async with shop.socket(path) as socket:
        await socket.until("ready")
        shop.disk.hold(transition)
        socket.ask(**frame)
        await asyncio.wait_for(shop.disk.stuck.wait(), 10)
        await idle()
        assert frame_type not in socket.told
        assert socket.told[1:2] != ["event"], "events came before it was said that it started"
        shop.disk.go_on()
        await socket.until("result")
        assert frame_type in socket.told

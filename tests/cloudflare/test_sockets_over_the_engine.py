"""Sockets that sleep, over the engine and an object's own store, evicted in the middle of work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import flue
from flue.cloudflare.sockets import Sockets
from flue.cloudflare.storage.store import DurableObjectStore
from flue.engine.service import Service
from flue.host import open_service
from flue.server.sockets.agent import AgentSocket
from flue.server.sockets.workflow import WorkflowSocket
from flue.testing import ScriptedModel, VirtualClock, call, hang
from flue.testing.ids import SequentialIds
from tests.cloudflare.hibernating import PlatformSocket
from tests.cloudflare.standin.storage import Disk, Storage
from tests.engine.scenes import catalog, kill
from tests.server.socket_frames import invoke, prompt


@flue.tool(approval=True)
def refund(order: str) -> str:
    """Refund an order."""
    return f"{order} is refunded"


@flue.tool
async def look_up(order: str) -> str:
    """Look an order up."""
    return f"{order} is on its way"


class LiveEnd:
    """The object's end of a socket in one isolate; what one that was evicted still tries does nothing."""

    def __init__(self, platform: PlatformSocket, storage: Storage) -> None:
        self._platform = platform
        self._storage = storage
        self.buffered = 0

    def send(self, text: str) -> None:
        self._storage.meet("")
        self._platform.frames.append(text)

    def close(self, code: int | None = None, reason: str = "") -> None:
        self._storage.meet("")
        self._platform.closes.append((code, reason))

    def attach(self, text: str) -> None:
        self._storage.meet("")
        self._platform.attachment = text

    def attachment(self) -> str | None:
        return self._platform.attachment


class LiveObject:
    """An object with the engine in it."""

    def __init__(self) -> None:
        self.model = ScriptedModel()
        self.runs = 0
        self.clock = VirtualClock()
        self.socket = PlatformSocket()
        self._ids = SequentialIds()
        self._disk = Disk()
        self._service: asyncio.Future[Service] | None = None
        self._storage = Storage(self._disk, now=self.clock.now_ms)
        self._begin()

    async def agent(self) -> None:
        """Accept an agent's socket."""
        await self._sockets.open(self._end(), AgentSocket("chat", "ann"))

    async def workflow(self) -> None:
        """Accept a workflow's socket."""
        await self._sockets.open(self._end(), WorkflowSocket("slow"))

    async def say(self, text: str) -> None:
        """Deliver a message."""
        await self._sockets.message(self._end(), text)

    async def evict(self) -> None:
        """Drop the isolate, whatever it is doing."""
        self._storage = self._storage.evict()
        await kill(self._before)
        self._begin()

    async def wake(self) -> None:
        """Deliver an alarm: the engine starts, the sockets go on."""
        await self.service()
        await self._sockets.resume([self._end()])

    async def service(self) -> Service:
        if self._service is None:
            self._service = asyncio.get_running_loop().create_future()
            self._living = asyncio.ensure_future(self._live(self._service))
        service = await asyncio.shield(self._service)
        await service.start()
        return service

    async def until(self, happened: Callable[[], bool]) -> None:
        """Let others run until something is the case."""
        async with asyncio.timeout(10):
            while not happened():  # noqa: ASYNC110 - what is waited for is the engine's, which tells nobody
                await asyncio.sleep(0)

    def heard(self, kind: str) -> list[Any]:
        """Return the frames of a type."""
        return [frame for frame in map(json.loads, self.socket.frames) if frame["type"] == kind]

    async def hears(self, kind: str) -> list[Any]:
        """Wait for a frame of a type, and return all of that type."""
        await self.until(lambda: bool(self.heard(kind)))
        return self.heard(kind)

    def _begin(self) -> None:
        self._before = asyncio.all_tasks()
        self._service = None
        self._sockets = Sockets(self.service, clock=self.clock, ids=self._ids)

    def _end(self) -> LiveEnd:
        return LiveEnd(self.socket, self._storage)

    async def _live(self, ready: asyncio.Future[Service]) -> None:
        async def slow(ctx: flue.FlueContext) -> Any:
            self.runs += 1
            if self.runs == 1:
                await asyncio.Event().wait()
            return ctx.payload

        agent = flue.create_agent(model=self.model, tools=[look_up, refund])
        store = DurableObjectStore(self._storage, self.clock)
        offers = catalog({"chat": agent}, {"slow": slow})
        async with open_service(offers, store=store, clock=self.clock, env={}, announced=False) as service:
            ready.set_result(service)
            await asyncio.Event().wait()


@pytest.fixture
async def object() -> AsyncIterator[LiveObject]:
    object = LiveObject()
    yield object
    await object.evict()


async def check_events(object: LiveObject, request_id: str, work_id: str) -> None:
    """Compare what the client heard of a request with the log: all of it, in order, each once."""
    service = await object.service()
    stored = [event.index for event in await service.log.read(work_id, limit=1000)]
    frames = [frame for frame in object.heard("event") if frame["requestId"] == request_id]
    heard = [frame["event"]["eventIndex"] for frame in frames]
    assert sorted(set(heard)) == heard
    assert set(stored) <= set(heard)


def work_id(object: LiveObject, request_id: str) -> str:
    """Return the id by which an attachment knows the work of a request."""
    found: str = json.loads(object.socket.attachment or "")["requests"][request_id][0]
    return found


async def test_a_prompt_that_was_interrupted_mid_answer_is_answered_on_the_same_socket(object: LiveObject) -> None:
    """Its object is evicted twice; the client hears each event once, and one result."""
    object.model.add([call("look_up", {"order": "A1"})], ["It is", hang()], ["It is on", hang()], "It is on its way.")
    await object.agent()
    await object.say(prompt("r1", "Where is A1?"))
    id = work_id(object, "r1")
    await object.until(lambda: len(object.model.requests) == 2)
    await object.evict()
    await object.wake()
    await object.until(lambda: len(object.model.requests) == 3)
    await object.evict()
    await object.say('{"version":1,"type":"ping"}')
    (result,) = await object.hears("result")
    assert result["result"]["text"].endswith("It is on its way.")
    assert len(object.heard("started")) == 1
    await check_events(object, "r1", id)


async def test_a_prompt_that_waits_for_a_person_is_answered_after_the_object_slept(object: LiveObject) -> None:
    """The decision comes over HTTP to an object that knew nothing of the socket."""
    object.model.add([call("refund", {"order": "A1"})], "Refunded.")
    await object.agent()
    await object.say(prompt("r1", "Refund A1."))
    id = work_id(object, "r1")
    await (await (await object.service()).ticket(id)).rest()
    asked = [frame["event"]["type"] for frame in object.heard("event")]
    await object.evict()
    await object.wake()
    await (await object.service()).decide("chat", "ann", "call_1", approved=True)
    (result,) = await object.hears("result")
    assert result["result"]["text"] == "Refunded."
    assert len(object.heard("event")) > len(asked)
    await check_events(object, "r1", id)


async def test_a_run_that_was_interrupted_ends_its_socket_and_is_replaced(object: LiveObject) -> None:
    """The client hears that its run failed; the linked run goes on by itself."""
    await object.workflow()
    await object.say(invoke("r1", payload={"n": 1}))
    (started,) = await object.hears("started")
    await object.until(lambda: object.runs == 1)
    await object.evict()
    await object.wake()
    await object.hears("error")
    assert object.socket.closes == [(1011, "Workflow failed")]
    service = await object.service()
    old = await service.get_run(started["runId"])
    assert old is not None
    assert old.restarted_as is not None
    outcome = await (await service.ticket(old.restarted_as)).outcome()
    assert outcome.kind == "completed"
    assert json.loads(outcome.result or "") == {"n": 1}

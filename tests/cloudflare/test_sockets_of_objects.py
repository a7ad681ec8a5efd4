from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.cloudflare.site import CHAT, Site, model
from tests.cloudflare.standin.world import Answer

UPGRADE = {"upgrade": "websocket", "connection": "Upgrade"}


class Client:
    """The client's end of a socket."""

    def __init__(self, answer: Answer) -> None:
        assert answer.status == 101
        assert answer.socket is not None
        self.socket = answer.socket
        self.closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._frames: asyncio.Queue[Any] = asyncio.Queue()
        self.socket.onmessage = lambda event: self._frames.put_nowait(json.loads(event.data))
        self.socket.onclose = lambda event: self.closed.set_result((event.code, event.reason))

    def send(self, **frame: Any) -> None:
        self.socket.send(json.dumps({"version": 1, **frame}))

    async def next(self, type: str = "") -> Any:
        """Return the next frame, of a type if one is given."""
        while True:
            frame = await asyncio.wait_for(self._frames.get(), 10)
            if not type or frame["type"] == type:
                return frame


async def test_a_socket_is_accepted_by_the_object_and_answers_prompts(cloud: Site) -> None:
    model().add("Good morning.", "Good evening.")
    await cloud.deploy_project({"agents/chat.py": CHAT})
    client = Client(await cloud.call("GET", "/agents/chat/ann", headers=UPGRADE))
    assert await client.next() == {
        "version": 1,
        "type": "ready",
        "target": "agent",
        "name": "chat",
        "instanceId": "ann",
    }
    client.send(type="prompt", requestId="1", message="Hello")
    assert (await client.next("result"))["result"]["text"] == "Good morning."
    client.send(type="prompt", requestId="2", message="Hello again")
    assert (await client.next("result"))["result"]["text"] == "Good evening."
    client.socket.close(1000, "")
    assert await client.closed == (1000, "")


async def test_a_socket_survives_the_eviction_of_its_object(cloud: Site) -> None:
    model().add("Good morning.", "Good evening.")
    await cloud.deploy_project({"agents/chat.py": CHAT})
    client = Client(await cloud.call("GET", "/agents/chat/ann", headers=UPGRADE))
    client.send(type="prompt", requestId="1", message="Hello")
    await client.next("result")
    cloud.evict("Chat", "ann")
    client.send(type="prompt", requestId="2", message="Hello again")
    assert (await client.next("result"))["result"]["text"] == "Good evening."


async def test_the_socket_of_a_workflow_starts_the_run_that_its_object_is_named_by(cloud: Site) -> None:
    run = """
        route = websocket = True

        async def run(ctx):
            return ctx.payload
    """
    await cloud.deploy_project({"workflows/echo.py": run})
    client = Client(await cloud.call("GET", "/workflows/echo", headers=UPGRADE))
    client.send(type="invoke", requestId="1", payload={"a": 1})
    result = await client.next("result")
    assert (result["result"], cloud.names("FLUE_WORKFLOW_ECHO")) == ({"a": 1}, [result["runId"]])
    assert await client.closed == (1000, "Workflow completed")
    assert (await cloud.call("GET", f"/runs/{result['runId']}")).json["status"] == "completed"

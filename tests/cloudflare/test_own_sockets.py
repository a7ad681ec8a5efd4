"""WebSockets that a project's own application serves: they live in the Worker, and no object has to do with them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.cloudflare.office import happened, until
from tests.cloudflare.site import CHAT, Site
from tests.cloudflare.standin.values import to_js
from tests.cloudflare.standin.world import Answer
from tests.cloudflare.test_sockets_of_objects import UPGRADE

APP = """
    import flue
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Mount, WebSocketRoute
    from starlette.websockets import WebSocketDisconnect
    from tests.cloudflare.office import happened

    async def echo(socket):
        await socket.accept("chat", headers=[(b"x-greeting", b"hello")])
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message["code"], message["reason"])
                if message.get("text") == "leave":
                    return await socket.close(4001, "as you wish")
                if message.get("text") == "fail":
                    raise ValueError("canary-31")
                if (text := message.get("text")) is not None:
                    await socket.send_text(f"{socket.query_params['who']}: {text}")
                else:
                    await socket.send_bytes(message["bytes"][::-1])
        except WebSocketDisconnect as error:
            happened.append(f"{error.code} {error.reason}")

    async def denied(socket):
        await socket.send_denial_response(JSONResponse({"why": "no key"}, 401, {"x-hint": "key"}))

    async def closed(socket):
        await socket.close()

    async def fails(socket):
        raise ValueError("canary-32")

    async def forgets(socket):
        pass

    async def lingers(socket):
        await socket.accept()
        await socket.receive()
        try:
            await socket.send_text("Are you there?")
        except Exception as error:
            happened.append(type(error).__name__)

    routes = [WebSocketRoute(f"/{one.__name__}", one) for one in (echo, denied, closed, fails, forgets, lingers)]
    app = Starlette(routes=[*routes, Mount("/", flue.asgi())])
"""


class Client:
    """The client's end of a socket."""

    def __init__(self, answer: Answer) -> None:
        assert (answer.status, answer.socket is None) == (101, False)
        assert answer.socket is not None
        self.headers = answer.headers
        self.socket = answer.socket
        self.closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._messages: asyncio.Queue[Any] = asyncio.Queue()
        self.socket.onmessage = lambda event: self._messages.put_nowait(event.data)
        self.socket.onclose = lambda event: self.closed.set_result((event.code, event.reason))

    async def next(self) -> Any:
        message = await asyncio.wait_for(self._messages.get(), 10)
        return message if isinstance(message, str) else message.to_bytes()

    async def end(self) -> tuple[int, str]:
        return await asyncio.wait_for(self.closed, 10)


async def connect(cloud: Site, path: str) -> Client:
    await cloud.deploy_project({"agents/chat.py": CHAT, "app.py": APP})
    return Client(await cloud.call("GET", path, headers=UPGRADE))


async def test_text_and_bytes_go_both_ways_until_the_client_closes(cloud: Site) -> None:
    happened.clear()
    client = await connect(cloud, "/echo?who=ann")
    assert (client.headers["sec-websocket-protocol"], client.headers["x-greeting"]) == ("chat", "hello")
    client.socket.send("Hello")
    client.socket.send(to_js(b"\x00\x01\xff"))
    assert [await client.next(), await client.next()] == ["ann: Hello", b"\xff\x01\x00"]
    client.socket.close(4000, "enough")
    assert await client.end() == (4000, "enough")
    await until(lambda: happened == ["4000 enough"])
    assert cloud.names("Chat") == []


async def test_a_client_that_closes_without_a_code_is_answered_with_one_that_may_be_sent(cloud: Site) -> None:
    happened.clear()
    client = await connect(cloud, "/echo?who=ann")
    client.socket.close()
    assert await client.end() == (1000, "")
    await until(lambda: happened == ["1005 "])


async def test_the_application_closes_with_a_code_and_a_reason(cloud: Site) -> None:
    client = await connect(cloud, "/echo?who=ann")
    client.socket.send("leave")
    assert await client.end() == (4001, "as you wish")


async def test_an_application_that_fails_closes_the_socket_and_tells_the_client_nothing(
    cloud: Site, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect(cloud, "/echo?who=ann")
    client.socket.send("fail")
    assert await client.end() == (1011, "")
    assert "canary-31" in caplog.text


async def test_what_is_sent_to_a_client_that_has_gone_raises_in_the_application(cloud: Site) -> None:
    happened.clear()
    client = await connect(cloud, "/lingers")
    client.socket.close(1000, "")
    await until(lambda: happened)
    assert happened == ["WebSocketDisconnect"]


@pytest.mark.parametrize(("path", "status"), [("/closed", 403), ("/fails", 500), ("/forgets", 500), ("/nowhere", 404)])
async def test_a_handshake_that_is_not_accepted_has_a_status(cloud: Site, path: str, status: int) -> None:
    await cloud.deploy_project({"agents/chat.py": CHAT, "app.py": APP})
    answer = await cloud.call("GET", path, headers=UPGRADE)
    assert (answer.status, answer.socket) == (status, None)
    assert b"canary" not in answer.body


async def test_a_refusal_reaches_the_client_whole(cloud: Site) -> None:
    await cloud.deploy_project({"agents/chat.py": CHAT, "app.py": APP})
    answer = await cloud.call("GET", "/denied", headers=UPGRADE)
    assert (answer.status, answer.json, answer.headers["x-hint"]) == (401, {"why": "no key"}, "key")

"""Handshakes of WebSockets: spec 5.3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from flue import create_agent
from tests.server.conftest import Site, module, noop

Serve = Callable[..., Site]


async def refuse(request: Any, call_next: Any) -> Any:
    if request.headers.get("authorization") == "Bearer me" and request.query_params.get("x") == "1":
        return await call_next(request)
    return PlainTextResponse("who are you?", 401, {"x-mine": "1"})


async def broken(request: Any, call_next: Any) -> Any:
    raise ValueError("a secret")


@pytest.fixture
def client(serve: Serve) -> TestClient:
    """Serve sockets: open, guarded, broken and none."""
    agent = create_agent(model=False)
    site = serve(
        {
            "chat": agent,
            "guarded": module(agent=create_agent(model=False), websocket=refuse),
            "broken": module(agent=create_agent(model=False), websocket=broken),
            "http-only": module(agent=create_agent(model=False), route=True),
            "reporter": noop,
        },
        {"noop": noop, "guarded": module(run=noop, websocket=refuse), "http-only": module(run=noop, route=True)},
    )
    return TestClient(site.app())


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/agents/nope/a", 404),
        ("/agents/http-only/a", 404),
        ("/agents/reporter/a", 404),
        ("/agents/chat", 404),
        ("/agents/chat/a/stream", 404),
        ("/agents/chat/%20", 400),
        ("/agents/chat/%00", 400),
        ("/agents/guarded/a", 401),
        ("/agents/broken/a", 500),
        ("/workflows/nope", 404),
        ("/workflows/http-only", 404),
        ("/workflows/guarded", 401),
        ("/runs/r", 404),
        ("/", 404),
    ],
)
def test_a_refused_handshake_is_a_plain_status_without_a_body(client: TestClient, path: str, status: int) -> None:
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(path):
        pass
    assert refused.value.status_code == status
    assert refused.value.content == b""
    assert refused.value.headers["content-length"] == "0"
    assert refused.value.headers["connection"] == "close"


@pytest.mark.parametrize(
    "path", ["/agents/chat/a", "/agents/guarded/a?x=1", "/workflows/noop", "/workflows/guarded?x=1"]
)
def test_a_handshake_that_passes_is_served(client: TestClient, path: str) -> None:
    with client.websocket_connect(path, headers={"authorization": "Bearer me"}) as socket:
        assert socket.receive_json()["type"] == "ready"


async def test_where_a_server_cannot_send_a_status_the_socket_is_closed(site: Site) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/agents/nope/a", "headers": [], "query_string": b"", "root_path": ""}
    await site.app()(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_the_admin_app_has_no_sockets(serve: Serve) -> None:
    site = serve(workflows={"noop": noop})
    client = TestClient(site.admin._app)
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/workflows/noop"):
        pass

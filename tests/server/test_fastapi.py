"""Mounted in FastAPI, which is what most people do."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from starlette.requests import Request

import flue
from flue import create_agent
from flue.testing import ScriptedModel
from tests.server.conftest import module, noop


async def signed_in(request: Request, call_next: Any) -> Any:
    if request.headers.get("authorization") != "Bearer me":
        raise HTTPException(401, "Sign in first.")
    return await call_next(request)


def application(**options: Any) -> FastAPI:
    app = FastAPI(**options)

    @app.get("/")
    async def home() -> str:
        return "home"

    agent = create_agent(model=ScriptedModel(["Hello."]))
    app.mount("/api", flue.asgi(agents={"chat": agent}, workflows={"noop": module(run=noop, route=signed_in)}))
    return app


def test_a_mount_needs_no_lifespan() -> None:
    client = TestClient(application())
    assert client.get("/").json() == "home"
    assert client.post("/api/agents/chat/a", json={"message": "hi"}).json()["result"]["text"] == "Hello."
    with client.websocket_connect("/api/agents/chat/a") as socket:
        assert socket.receive_json()["type"] == "ready"


def test_a_lifespan_is_given_as_it_is() -> None:
    with TestClient(application(lifespan=flue.lifespan)) as client:
        assert client.post("/api/agents/chat/a", json={"message": "hi"}).status_code == 200


def test_what_middleware_raises_and_what_is_not_there_is_answered_by_fastapi() -> None:
    client = TestClient(application())
    refused = client.post("/api/workflows/noop")
    assert (refused.status_code, refused.json()) == (401, {"detail": "Sign in first."})
    assert client.post("/api/workflows/noop", headers={"authorization": "Bearer me"}).status_code == 202
    missing = client.get("/api/nothing")
    assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
    assert client.get("/api/workflows/noop").headers["allow"] == "POST"

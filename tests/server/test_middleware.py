"""`route` of a module: spec 1.4."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flue import create_agent
from tests.server.asgi_client import JSON, Answer, Client
from tests.server.conftest import Site, module, noop

Serve = Callable[..., Site]


async def ask(serve: Serve, route: Any, *, body: bytes = b"{}", **options: Any) -> tuple[Answer, Site]:
    """Ask a workflow whose module has this middleware."""
    site = serve(workflows={"noop": module(run=noop, route=route)})
    answer = await Client(site.app(**options)).request("POST", "/workflows/noop", body, headers=JSON)
    await site.application.drain()
    return answer, site


def started(site: Site) -> bool:
    return any(asked[0] == "start_workflow" for asked in site.service.asked)


async def test_a_response_without_call_next_is_the_answer_and_nothing_runs(serve: Serve) -> None:
    async def refuse(request: Request, call_next: Any) -> Response:
        return JSONResponse({"no": 1}, 401, {"x-mine": "1"})

    # The body is not even read: a wrong one would be 400.
    answer, site = await ask(serve, refuse, body=b"{bad")
    assert (answer.status, answer.json, answer.headers["x-mine"]) == (401, {"no": 1}, "1")
    assert not started(site)


async def test_middleware_may_change_the_response(serve: Serve) -> None:
    async def stamp(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-mine"] = "1"
        return response

    answer, _ = await ask(serve, stamp)
    assert (answer.status, answer.headers["x-mine"]) == (202, "1")
    answer, _ = await ask(serve, stamp, body=b"{bad")
    assert (answer.status, answer.headers["x-mine"]) == (400, "1")
    assert answer.headers["x-flue-run-id"].startswith("workflow:noop:")


async def test_middleware_may_read_the_body_in_any_way(serve: Serve) -> None:
    async def by_json(request: Request, call_next: Any) -> Response:
        assert await request.json() == {"a": 1}
        return await call_next(request)  # type: ignore[no-any-return]

    async def by_stream(request: Request, call_next: Any) -> Any:
        assert b"".join([chunk async for chunk in request.stream()]) == b'{"a":1}'
        await call_next()

    for route in (by_json, by_stream):
        answer, site = await ask(serve, route, body=b'{"a":1}')
        assert answer.status == 202
        assert site.service.asked[1][2] == {"a": 1}


async def test_middleware_cannot_be_made_to_read_more_than_the_limit(serve: Serve) -> None:
    async def read(request: Request, call_next: Any) -> Response:
        await request.body()
        return await call_next(request)  # type: ignore[no-any-return]

    answer, _ = await ask(serve, read, body=b"x" * 101, body_limit=100)
    assert (answer.status, answer.error["type"]) == (413, "payload_too_large")


async def test_no_answer_at_all_is_500_and_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def nothing(request: Request, call_next: Any) -> None:
        pass

    async def wrong(request: Request, call_next: Any) -> str:
        return "hello"

    async def twice(request: Request, call_next: Any) -> Any:
        await call_next(request)
        return await call_next(request)

    async def broken(request: Request, call_next: Any) -> Any:
        raise ValueError("a secret")

    for route in (nothing, wrong, twice, broken):
        caplog.clear()
        with caplog.at_level(logging.ERROR, "flue"):
            answer, _ = await ask(serve, route)
        assert (answer.status, answer.error["type"]) == (500, "internal_error")
        assert b"secret" not in answer.body
        reference = answer.error["meta"]["reference"]
        assert reference in caplog.text
        assert "Traceback" in caplog.text


async def test_starlettes_exceptions_are_understood(serve: Serve) -> None:
    async def refuse(request: Request, call_next: Any) -> Response:
        raise HTTPException(403, "Not you.", {"x-mine": "1"})

    answer, site = await ask(serve, refuse)
    assert (answer.status, answer.body, answer.headers["x-mine"]) == (403, b"Not you.", "1")
    assert not started(site)


async def test_addresses_are_checked_before_the_middleware(serve: Serve) -> None:
    asked: list[str] = []

    async def note(request: Request, call_next: Any) -> Response:
        asked.append(request.url.path)
        return await call_next(request)  # type: ignore[no-any-return]

    site = serve({"chat": module(agent=create_agent(model=False), route=note)}, {"noop": module(run=noop, route=note)})
    for method, path in [("GET", "/workflows/noop"), ("POST", "/workflows/noop?wait=x"), ("POST", "/agents/chat/%20")]:
        assert (await site.client.request(method, path)).status in {400, 405}
    assert asked == []
    await site.client.post("/agents/chat/a", [])
    assert asked == ["/agents/chat/a"]
    await site.application.drain()


async def test_the_middleware_of_an_agent_guards_all_below_it(serve: Serve) -> None:
    async def refuse(request: Request, call_next: Any) -> Response:
        return Response(status_code=401)

    site = serve({"chat": module(agent=create_agent(model=False), route=refuse)})
    for method, path in [
        ("POST", ""),
        ("GET", "/stream"),
        ("GET", "/submissions/s"),
        ("GET", "/submissions/s/events"),
        ("GET", "/submissions/s/stream"),
        ("POST", "/submissions/s/abort"),
        ("POST", "/approvals/c"),
    ]:
        assert (await site.client.request(method, f"/agents/chat/a{path}")).status == 401
    await site.application.drain()

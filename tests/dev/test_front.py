from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from flue.dev.front import Front
from flue.dev.live import Trouble
from tests.serve.exchange import ask


async def echo(request: Any) -> Any:
    return PlainTextResponse(f"project {request.url.path}")


async def page(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse(f"page {scope['root_path']} {scope['path']}")(scope, receive, send)


def front(*, home: bool = False, allowed: tuple[str, ...] = (), loaded: bool = True, trouble: Any = None) -> Front:
    routes = [Route("/known", echo, methods=["GET", "POST"]), *([Route("/", echo)] if home else [])]
    site: Any = Starlette(routes=routes)
    site.version = object() if loaded else None
    live: Any = SimpleNamespace(site=site, trouble=trouble)
    return Front(live, 3583, page, allowed=allowed)


async def test_the_project_answers_and_the_page_has_its_place() -> None:
    assert (await ask(front(), "/known")).body == b"project /known"
    assert (await ask(front(), "/_flue/app.js")).body == b"page /_flue /_flue/app.js"
    assert (await ask(front(), "/_flue")).headers["location"] == "/_flue/"
    assert (await ask(front(), "/_fluent")).status == 404


async def test_the_root_leads_to_the_page_when_the_project_has_nothing_there() -> None:
    answer = await ask(front(), "/")
    assert (answer.status, answer.headers["location"]) == (307, "/_flue/")
    assert (await ask(front(home=True), "/")).body == b"project /"


HOSTS = ["localhost:3583", "127.0.0.1:3583", "[::1]:3583", "flue.localhost:3583", "LOCALHOST:3583"]
ELSEWHERE = ["evil.example", "localhost.evil.example:3583", "", "x@localhost:3583", "localhost:3583/x", "[::1", "a b"]


@pytest.mark.parametrize("host", HOSTS)
async def test_names_of_this_machine_are_let_in(host: str) -> None:
    assert (await ask(front(), "/known", headers={"host": host})).status == 200
    assert (await ask(front(), "/_flue/", headers={"host": host})).status == 200


@pytest.mark.parametrize("path", ["/known", "/_flue/", "/"])
@pytest.mark.parametrize("host", ELSEWHERE)
async def test_other_names_are_refused(host: str, path: str) -> None:
    answer = await ask(front(), path, headers={"host": host})
    assert answer.status == 403
    assert b"host_not_allowed" in answer.body


@pytest.mark.parametrize("host", ["192.168.1.7:3583", "tunnel.example", "localhost:8080", "localhost"])
async def test_addresses_and_allowed_names_reach_the_project_and_not_the_page(host: str) -> None:
    allowing = front(allowed=("tunnel.example",))
    assert (await ask(allowing, "/known", headers={"host": host})).status == 200
    assert (await ask(allowing, "/_flue/", headers={"host": host})).status == 403


@pytest.mark.parametrize(
    ("origin", "project", "page_"),
    [
        ("http://localhost:3583", 200, 200),
        ("http://localhost:5173", 200, 403),
        ("https://evil.example", 403, 403),
        ("null", 403, 403),
        ("http://localhost.evil.example", 403, 403),
        ("file://", 403, 403),
    ],
)
async def test_pages_of_other_sites_may_not_use_the_server(origin: str, project: int, page_: int) -> None:
    headers = {"origin": origin}
    assert (await ask(front(), "/known", method="POST", headers=headers)).status == project
    assert (await ask(front(), "/_flue/api", method="POST", headers=headers)).status == page_


async def test_handshakes_from_other_sites_are_refused() -> None:
    handshake = await ask(front(), "/known", kind="websocket", headers={"origin": "https://evil.example"})
    assert handshake.status == 403


async def test_a_project_that_cannot_be_loaded_answers_with_its_error() -> None:
    trouble = Trouble(".flue/app.py:3: NameError: x.", "Define it.", "module_failed")
    answer = await ask(front(loaded=False, trouble=trouble), "/known")
    assert answer.status == 503
    assert b".flue/app.py:3: NameError: x." in answer.body
    assert (await ask(front(loaded=False, trouble=trouble), "/_flue/")).status == 200

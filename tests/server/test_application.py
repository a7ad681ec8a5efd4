"""How apps find their project and their engine: loops, lifespans, mounts, test clients."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, Router
from starlette.testclient import TestClient

import flue
from flue import create_agent
from flue.errors import ConfigError, UsageError
from flue.project.loader import load_project
from flue.registrations import PROCESS
from flue.server.app import FlueApp, admin, asgi, default_app, lifespan
from flue.server.application import Application, application_of
from flue.server.served import of_objects
from flue.testing import ScriptedModel
from tests.server.asgi_client import Client
from tests.server.conftest import Site, noop
from tests.server.fake_service import FakeService

WORKFLOW = "async def run(ctx):\n    return ctx.payload\n"
FILES = {".flue/workflows/echo.py": f"route = True\n{WORKFLOW}", ".flue/workflows/hidden.py": WORKFLOW}
Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files below a folder that becomes the working directory."""

    def write_files(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return write_files


def over_fake(service: FakeService) -> Application:
    opening: Any = service.opening
    return Application(lambda: of_objects({}, {"noop": noop}, PROCESS, None), opening=opening)


# --------------------------------------------------------------------------------------------- one engine a loop


async def test_the_engine_starts_with_the_first_request_that_needs_it_and_once(site: Site) -> None:
    await site.client.get("/openapi.json")
    await site.client.post("/workflows/nope")
    assert site.service.asked == []
    await asyncio.gather(*(site.client.post("/workflows/noop") for _ in range(10)))
    assert [asked for asked in site.service.asked if asked == ("start",)] == [("start",)]


async def test_a_drained_application_starts_again_when_it_is_asked(site: Site) -> None:
    await site.application.drain()
    await site.client.post("/workflows/noop")
    await site.application.drain()
    await site.application.drain()
    await site.client.post("/workflows/noop")
    assert [asked[0] for asked in site.service.asked] == ["start", "start_workflow", "drain", "start", "start_workflow"]


def test_each_event_loop_has_an_engine_of_its_own_which_ends_with_it() -> None:
    service = FakeService()
    application = over_fake(service)

    async def use() -> None:
        await application.service()

    asyncio.run(use())
    asyncio.run(use())
    assert service.asked == [("start",), ("drain",), ("start",), ("drain",)]
    asyncio.run(use())
    # Engines of loops that are gone are forgotten.
    assert len(application._engines) == 1


async def test_an_engine_that_cannot_start_says_so_to_all_who_wait_and_is_tried_again() -> None:
    attempts: list[int] = []

    @asynccontextmanager
    async def opening(application: Application) -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            await asyncio.sleep(0)
            raise ConfigError("no disk")
        yield FakeService()

    application = Application(lambda: of_objects({}, {}, PROCESS, None), opening=opening)
    results = await asyncio.gather(application.service(), application.service(), return_exceptions=True)
    assert [type(result) for result in results] == [ConfigError, ConfigError]
    assert isinstance(await application.service(), FakeService)
    assert len(attempts) == 2
    await application.drain()


async def test_a_request_that_is_given_up_leaves_the_engine_to_the_others() -> None:
    go_on = asyncio.Event()

    @asynccontextmanager
    async def opening(application: Application) -> Any:
        await go_on.wait()
        yield FakeService()

    application = Application(lambda: of_objects({}, {}, PROCESS, None), opening=opening)
    first, second = (asyncio.create_task(application.service()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    go_on.set()
    assert isinstance(await second, FakeService)
    await application.drain()


# ------------------------------------------------------------------------------------------------- test clients


def test_a_test_client_without_a_with_block_needs_no_lifespan() -> None:
    model = ScriptedModel(["one", "two"])
    app = asgi(agents={"chat": create_agent(model=model)}, workflows={"noop": noop})
    client = TestClient(app)
    assert client.post("/workflows/noop?wait=result").json()["result"] is None
    assert client.post("/agents/chat/a", json={"message": "hi"}).json()["result"]["text"] == "one"
    # The next request has a loop and an engine of its own, and the same conversations.
    assert client.post("/agents/chat/a", json={"message": "again"}).json()["result"]["text"] == "two"
    assert [len(request.messages) for request in model.requests] == [1, 3]


def test_a_test_client_with_a_with_block_keeps_one_engine() -> None:
    app = asgi(workflows={"noop": noop})
    with TestClient(app) as client:
        run_id = client.post("/workflows/noop").json()["runId"]
        with client.stream("GET", f"/runs/{run_id}/stream") as stream:
            assert "run_end" in "".join(stream.iter_text())
        assert client.get(f"/runs/{run_id}").json()["status"] == "completed"
        assert len(app.application._engines) == 1


# ------------------------------------------------------------------------------------------------------- mounts


async def test_an_app_is_mounted_with_its_admin_and_they_share_the_engine() -> None:
    service = FakeService()
    api = FlueApp(over_fake(service))
    outer = Starlette(routes=[Mount("/api", api), Mount("/admin", admin(api)), Route("/", PlainTextResponse("home"))])
    client = Client(outer)
    assert (await client.post("/api/workflows/noop")).status == 202
    assert len((await client.get("/admin/runs")).json["items"]) == 1
    assert service.asked.count(("start",)) == 1
    await api.application.drain()


async def test_what_is_not_served_below_a_mount_is_the_outer_applications_404() -> None:
    async def mine(request: Any, error: Exception) -> Any:
        return PlainTextResponse("mine", 404)

    api = asgi(workflows={"noop": noop})
    client = Client(Starlette(routes=[Mount("/api", api)], exception_handlers={404: mine}))
    assert (await client.get("/api/nothing")).body == b"mine"
    # Errors of our own are envelopes all the same.
    assert (await client.get("/api/runs/nope")).error["type"] == "run_not_found"
    assert (await client.get("/api/workflows/noop")).error["type"] == "method_not_allowed"
    await api.application.drain()


async def test_the_outermost_application_answers_with_an_envelope() -> None:
    answer = await Client(asgi(workflows={})).get("/nothing")
    assert (answer.status, answer.error["type"]) == (404, "route_not_found")


# ----------------------------------------------------------------------------------------------------- lifespan


async def test_a_lifespan_starts_and_drains_whatever_is_mounted_however_deep() -> None:
    service, other = FakeService(), FakeService()
    deep = FlueApp(over_fake(service))
    wrapped = FlueApp(over_fake(other))
    outer = Starlette(
        routes=[
            Mount(
                "/a", Router(routes=[Mount("/b", Starlette(routes=[Mount("/c", deep), Mount("/admin", admin(deep))]))])
            ),
            Mount("/w", wrapped, middleware=[Middleware(GZipMiddleware)]),
        ]
    )
    async with lifespan(outer):
        assert (service.asked, other.asked) == ([("start",)], [("start",)])
    assert (service.asked[-1], other.asked[-1]) == (("drain",), ("drain",))
    async with lifespan(deep):
        assert service.asked[-1] == ("start",)


async def test_a_lifespan_without_anything_of_ours_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"flue.asgi\(\)") as caught:
        async with lifespan(Starlette()):
            pass
    assert caught.value.code == "nothing_mounted"


def test_a_lifespan_is_given_to_starlette_as_it_is() -> None:
    service = FakeService()
    api = FlueApp(over_fake(service))
    with TestClient(Starlette(routes=[Mount("/api", api)], lifespan=flue.lifespan)) as client:
        assert service.asked == [("start",)]
        assert client.post("/api/workflows/noop").status_code == 202
    assert service.asked[-1] == ("drain",)


async def test_a_start_that_fails_is_told_to_the_server() -> None:
    def broken() -> Any:
        raise ConfigError("no project here")

    api = FlueApp(Application(broken))
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(ConfigError):
        await api({"type": "lifespan"}, receive, send)
    assert sent == [{"type": "lifespan.startup.failed", "message": "no project here"}]


# ----------------------------------------------------------------------------------------------------- projects


async def test_a_folder_is_served_without_being_told_of(write: Write) -> None:
    root = write(FILES)
    api = asgi()
    client = Client(api)
    assert (await client.post("/workflows/echo?wait=result", [1])).json["result"] == [1]
    assert (await client.post("/workflows/hidden")).error["type"] == "workflow_not_http"
    assert asgi(root).application is asgi().application is admin().application is api.application
    assert (root / ".flue-data" / "flue.db").exists()
    await api.application.drain()


async def test_a_loaded_project_is_not_loaded_again_by_its_own_app(write: Write) -> None:
    app = """
        import flue
        from starlette.applications import Starlette
        from starlette.routing import Mount
        api = flue.asgi()
        app = Starlette(routes=[Mount("/api", api), Mount("/admin", flue.admin())])
    """
    project = load_project(write({**FILES, ".flue/app.py": app}))
    served: Any = default_app(project)
    assert served is project.app
    client = Client(served)
    assert (await client.post("/api/workflows/echo?wait=result", 7)).json["result"] == 7
    assert (await client.get("/admin/agents")).status == 200
    api, admin_api = (route.app for route in served.routes)
    assert api.application is application_of(project) is admin_api.application
    assert api.application.served.workflows is project.workflows
    await api.application.drain()
    project.unload()


async def test_two_loads_of_a_project_have_two_applications(write: Write) -> None:
    root = write(FILES)
    first, second = load_project(root), load_project(root)
    assert application_of(first) is not application_of(second)
    first.unload()
    second.unload()


async def test_without_app_py_the_default_app_serves_at_the_root(write: Write) -> None:
    project = load_project(write(FILES))
    client = Client(default_app(project))
    assert (await client.post("/workflows/echo")).status == 202
    assert (await client.get("/nothing")).error["type"] == "route_not_found"
    await application_of(project).drain()
    project.unload()


async def test_a_folder_without_a_project_is_500_at_each_request_until_it_has_one(write: Write) -> None:
    root = write({})
    client = Client(asgi(root))
    answer = await client.post("/workflows/echo")
    assert (answer.status, answer.error["type"]) == (500, "internal_error")
    assert str(root).encode() not in answer.body
    write(FILES)
    assert (await client.post("/workflows/echo")).status == 202
    await asgi(root).application.drain()


async def test_dispatch_finds_the_engine_of_an_app_before_its_first_request() -> None:
    model = ScriptedModel(["noted"])
    api = asgi(agents={"chat": create_agent(model=model)})
    from flue.engine.dispatching import dispatch

    receipt = await dispatch("chat", id="ann", input={"text": "hi"})
    assert receipt.dispatch_id
    await api.application.drain()


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a:b", "-a", "\u00e9"])
def test_names_that_cannot_stand_in_an_address_are_refused_at_once(name: str) -> None:
    for agents, workflows in (({name: noop}, None), (None, {name: noop})):
        with pytest.raises(UsageError) as caught:
            asgi(agents=agents, workflows=workflows)
        assert caught.value.code == "invalid_name"


def test_what_cannot_be_served_is_refused_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        asgi(workflows={"x": 1})
    assert caught.value.code == "invalid_module"

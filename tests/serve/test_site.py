from __future__ import annotations

import asyncio
import gc
import json
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from flue.errors import ConfigError
from flue.project.loader import Project, load_project
from flue.serve.site import Site
from tests.serve.conftest import Write
from tests.serve.exchange import Exchange, ask, until

WORKFLOW = """
    import asyncio

    route = True
    gate = asyncio.Event()

    async def run(ctx):
        if ctx.payload.get("wait"):
            await gate.wait()
            from late import SUFFIX
            return "{version}" + SUFFIX
        return "{version}"
"""
APP = """
    from contextlib import asynccontextmanager
    from starlette.applications import Starlette
    import flue

    happened = []

    @asynccontextmanager
    async def around(app):
        async with flue.lifespan(app):
            happened.append("up")
            yield {{"version": "{version}"}}
            happened.append("down")

    app = Starlette(lifespan=around)
    app.mount("/api", flue.asgi())
"""


def version(name: str, *, app: bool = False) -> dict[str, str]:
    files = {"workflows/which.py": WORKFLOW.format(version=name), "late.py": f"SUFFIX = ' of {name}'"}
    if app:
        files["app.py"] = APP.format(version=name)
    return files


async def run(site: Site, payload: dict[str, Any] | None = None, *, prefix: str = "") -> Exchange:
    body = json.dumps(payload or {}).encode()
    path = f"{prefix}/workflows/which"
    exchange = Exchange(_waiting(site), path, method="POST", headers={"content-type": "application/json"}, body=body)
    await exchange.task
    return exchange


def _waiting(site: Site) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await site({**scope, "query_string": b"wait=result"}, receive, send)

    return app


def result(exchange: Exchange) -> Any:
    return json.loads(exchange.body)["result"]


def loaded(root: Path) -> Project:
    return load_project(root)


def module(project: Project) -> Any:
    return project.workflows["which"].module


async def test_a_new_version_answers_from_the_moment_it_is_there(write: Write) -> None:
    async with Site() as site:
        await site.deploy(loaded(write(version("one"))), {})
        assert result(await run(site)) == "one"
        await site.deploy(loaded(write(version("two"))), {})
        assert result(await run(site)) == "two"


async def test_what_is_under_way_ends_with_the_code_it_began_with_which_then_is_unloaded(write: Write) -> None:
    async with Site() as site:
        first = loaded(write(version("one")))
        await site.deploy(first, {})
        running = asyncio.create_task(run(site, {"wait": True}))
        service = site.service
        assert service is not None
        await until(lambda: service.engine.running)
        await site.deploy(loaded(write(version("two"))), {})
        assert result(await run(site)) == "two"
        # Only now it imports from the files; a version keeps its modules, and what it has not imported is the newest.
        module(first).gate.set()
        assert result(await running) == "one of two"
        await until(lambda: not any(name.startswith(f"{first.package.name}.") for name in sys.modules))


async def test_a_version_is_kept_for_a_run_that_nobody_waits_for(write: Write) -> None:
    async with Site() as site:
        first = loaded(write(version("one")))
        await site.deploy(first, {})
        headers = {"content-type": "application/json"}
        accepted = await ask(site, "/workflows/which", method="POST", headers=headers, body=b'{"wait": true}')
        service = site.service
        assert service is not None
        await until(lambda: service.engine.running)
        await site.deploy(loaded(write(version("two"))), {})
        for _ in range(50):
            await asyncio.sleep(0)
        module(first).gate.set()
        outcome = await (await service.ticket(accepted.headers["x-flue-run-id"])).outcome()
        assert outcome.result == '"one of two"'


async def test_a_version_is_kept_for_a_request_that_starts_no_work(write: Write) -> None:
    app = """
        import asyncio
        gate, begun = asyncio.Event(), asyncio.Event()

        async def app(scope, receive, send):
            assert scope["type"] == "http"
            begun.set()
            await gate.wait()
            from late import SUFFIX
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": SUFFIX.encode()})
    """
    async with Site() as site:
        first = loaded(write({**version("one"), "app.py": app}))
        await site.deploy(first, {})
        own = sys.modules[f"{first.package.name}.app"]
        asked = Exchange(site, "/")
        await own.begun.wait()
        await site.deploy(loaded(write(version("two"))), {})
        for _ in range(50):
            await asyncio.sleep(0)
        own.gate.set()
        await asked.task
        assert asked.body == b" of two"


async def test_an_application_of_the_projects_own_is_swapped_with_its_lifespan_and_keeps_the_engine(
    write: Write,
) -> None:
    async with Site() as site:
        first = loaded(write(version("one", app=True)))
        before = await site.deploy(first, {})
        engine = site.service
        assert result(await run(site, prefix="/api")) == "one"
        happened = sys.modules[f"{first.package.name}.app"].happened
        after = await site.deploy(loaded(write(version("two", app=True))), {})
        assert result(await run(site, prefix="/api")) == "two"
        await until(lambda: happened == ["up", "down"])
        assert (before.lifespan.state, after.lifespan.state) == ({"version": "one"}, {"version": "two"})
        assert site.service is engine
        assert result(await run(site, prefix="/api")) == "two"


async def test_a_version_whose_application_cannot_start_leaves_the_one_before(write: Write) -> None:
    broken = version("two", app=True)
    broken["app.py"] = broken["app.py"].replace('happened.append("up")', "raise ValueError('no database')")
    async with Site() as site:
        await site.deploy(loaded(write(version("one"))), {})
        with pytest.raises(ConfigError, match="no database"):
            await site.deploy(loaded(write(broken)), {})
        assert result(await run(site)) == "one"
        (Path(write({})) / "app.py").unlink()


async def test_a_first_version_that_cannot_start_leaves_nothing_and_the_next_can(write: Write) -> None:
    broken = version("one", app=True)
    broken["app.py"] = broken["app.py"].replace('happened.append("up")', "raise ValueError('no database')")
    async with Site() as site:
        with pytest.raises(ConfigError, match="no database"):
            await site.deploy(loaded(write(broken)), {})
        assert site.service is None
        await site.deploy(loaded(write(version("two", app=True))), {})
        assert result(await run(site, prefix="/api")) == "two"


async def test_conversations_are_kept_over_versions(write: Write) -> None:
    agent = {
        "agents/clerk.py": "from flue import create_agent\nroute = True\nagent = create_agent(model='demo/librarian')"
    }

    async def say(message: str) -> str:
        body = json.dumps({"message": message}).encode()
        headers = {"content-type": "application/json"}
        answer = await ask(site, "/agents/clerk/ann", method="POST", headers=headers, body=body)
        return str(json.loads(answer.body)["result"]["text"])

    async with Site() as site:
        await site.deploy(loaded(write(agent)), {})
        await say("My name is Ann.")
        await site.deploy(loaded(write(agent)), {})
        assert "Ann" in await say("What is my name?")


async def test_the_environment_is_that_of_the_version(write: Write) -> None:
    files = {"workflows/which.py": "route = True\nasync def run(ctx):\n    return ctx.env.get('KEY', '')"}
    async with Site() as site:
        await site.deploy(loaded(write(files)), {"KEY": "one"})
        assert result(await run(site)) == "one"
        await site.deploy(loaded(write(files)), {})
        assert result(await run(site)) == ""


async def test_code_of_an_older_version_can_still_give_its_agents_work(write: Write) -> None:
    files = {
        "agents/clerk.py": "from flue import create_agent\nagent = create_agent(model='demo/librarian')",
        "workflows/which.py": """
            import asyncio, flue
            from agents.clerk import agent
            route = True
            gate = asyncio.Event()

            async def run(ctx):
                await gate.wait()
                return (await flue.dispatch(agent, id="ann", input={"text": "Hello."})).dispatch_id
        """,
    }
    async with Site() as site:
        first = loaded(write(files))
        await site.deploy(first, {})
        running = asyncio.create_task(run(site))
        service = site.service
        assert service is not None
        await until(lambda: service.engine.running)
        await site.deploy(loaded(write(files)), {})
        module(first).gate.set()
        assert result(await running)


async def test_versions_that_are_gone_leave_nothing_in_memory(write: Write) -> None:
    modules = []
    async with Site() as site:
        for number in range(6):
            project = loaded(write(version(f"v{number}")))
            modules.append(weakref.ref(module(project)))
            await site.deploy(project, {})
            await run(site)
            del project
        await until(lambda: not site._retiring)
        gc.collect()
        # The engine keeps what it was opened with, and the newest answers.
        assert [each() is None for each in modules] == [False, True, True, True, True, False]

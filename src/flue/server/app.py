"""The ASGI applications: `asgi()` for agents, workflows and runs, `admin()` for those who run them, `lifespan`."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from flue.durable.port import DurableStore
from flue.engine.dispatching import ServiceSource, announce
from flue.errors import UsageError
from flue.project.loader import Project
from flue.project.modules import Exposure
from flue.registrations import current_registrations
from flue.server import admin as admin_routes
from flue.server import agents, openapi, runs, submissions, trusted, workflows
from flue.server.application import Application, Reference, application_of
from flue.server.body import DEFAULT_LIMIT, Body
from flue.server.call import Call
from flue.server.problems import problem_of, route_not_found
from flue.server.routing import Routes, Tables
from flue.server.served import of_objects
from flue.server.upgrades import SOCKETS, Handshake, upgrade

Handler = Callable[..., Awaitable[Response]]
_AGENT = "/agents/{name}/{id}"
_SUBMISSION = f"{_AGENT}/submissions/{{submissionId}}"

PUBLIC: Routes[Handler] = Routes(
    [
        ("/workflows/{name}", {"POST": workflows.start}),
        (_AGENT, {"POST": agents.post}),
        (f"{_AGENT}/stream", {"GET": submissions.follow}),
        (_SUBMISSION, {"GET": submissions.get}),
        (f"{_SUBMISSION}/events", {"GET": submissions.events}),
        (f"{_SUBMISSION}/stream", {"GET": submissions.stream}),
        (f"{_SUBMISSION}/abort", {"POST": submissions.abort}),
        (f"{_AGENT}/approvals/{{toolCallId}}", {"POST": submissions.decide}),
        (f"{_AGENT}/budget", {"POST": trusted.raise_budget}),
        (f"{_AGENT}/dispatch", {"POST": trusted.dispatch}),
        ("/runs/{runId}", {"GET": runs.get}),
        ("/runs/{runId}/events", {"GET": runs.events}),
        ("/runs/{runId}/events/{name}", {"POST": runs.send_event}),
        ("/runs/{runId}/stream", {"GET": runs.stream}),
        ("/runs/{runId}/abort", {"POST": runs.abort}),
        ("/openapi.json", {"GET": openapi.public}),
    ]
)
ADMIN: Routes[Handler] = Routes(
    [
        ("/agents", {"GET": admin_routes.agents}),
        ("/runs", {"GET": admin_routes.runs}),
        ("/runs/{runId}", {"GET": admin_routes.run}),
        ("/openapi.json", {"GET": openapi.admin}),
    ]
)
TABLES = Tables(PUBLIC, SOCKETS, ADMIN)
NO_SOCKETS: Routes[Handshake] = Routes([])


class Source(ServiceSource, Protocol):
    """Where an app's application comes from."""

    def resolve(self) -> Application:
        """Return the application; it may be loaded when it is first used."""
        ...


class FlueApp:
    """An ASGI application: mount it in another at any prefix, or serve it as it is.

    The engine starts with the first request that needs it. `flue.lifespan`, or the server's own lifespan when this
    is the outermost application, starts it at boot, which takes up work that was left, and drains it at the end.
    """

    def __init__(
        self,
        source: Source,
        face: Literal["public", "admin"] = "public",
        *,
        body_limit: int = DEFAULT_LIMIT,
        runs: Exposure = True,
    ) -> None:
        self.source = source
        self._face = face
        self._body_limit = body_limit
        self._runs = runs
        # `dispatch()` finds the engine before the first request has come, and as long as the app is there.
        weakref.finalize(self, announce(source))

    @property
    def application(self) -> Application:
        """Return what is served, and its engines; shared with the other apps of its project."""
        return self.source.resolve()

    @property
    def _tables(self) -> Tables:
        return self.application.tables or TABLES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an ASGI connection."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            sockets = self._tables.sockets if self._face == "public" else NO_SOCKETS
            await upgrade(self.application, sockets, WebSocket(scope, receive, send))
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            raise UsageError(f"flue.asgi() cannot answer {scope['type']!r} connections.")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(scope, receive)
        except ClientDisconnect:
            return
        if scope["method"] == "HEAD":
            # The length stays that of a GET.
            response.body = b""
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        application = self.application
        try:
            routes: Routes[Handler] = self._tables.public if self._face == "public" else self._tables.admin
            match = routes.find(scope)
            if match is None:
                return _unmatched(scope, local=application.local)
            body = Body(Headers(scope=scope), receive, self._body_limit)
            call = Call(application, Request(scope, body.receive), body, self._runs)
            return await match.handler(call, *match.parameters)
        except HTTPException as refusal:
            # Middleware may speak Starlette's and FastAPI's language; the outer application knows how to say it.
            if "app" in scope:
                raise
            return PlainTextResponse(refusal.detail, refusal.status_code, refusal.headers)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - logged where it is not the client's own
            return problem_of(error).response(local=application.local)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.application.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.application.drain()
        await send({"type": "lifespan.shutdown.complete"})


def _unmatched(scope: Scope, *, local: bool) -> Response:
    if "app" in scope:
        raise HTTPException(404)
    return route_not_found(scope["method"], scope["path"]).response(local=local)


def asgi(
    root: str | Path | None = None,
    agents: Mapping[str, Any] | None = None,
    workflows: Mapping[str, Any] | None = None,
    *,
    store: DurableStore | str | Path | None = None,
    body_limit: int = DEFAULT_LIMIT,
    runs: Exposure = True,
) -> FlueApp:
    """Return an ASGI application that serves agents, workflows and runs.

    Without arguments it is for the project whose app.py calls it, else for the one in the working directory; `root`
    names another. `agents` and `workflows` are served instead of a folder: agents made by `create_agent` and functions
    by name, open to everybody who gets past the application they are mounted in, or modules with a `route` of their
    own; `store` is then where work and conversations are kept (`flue.stores.open_store`): by default what
    `FLUE_DATABASE_URL` names, else `.flue-data/flue.db` in `root`, else memory. `body_limit` is in bytes. `runs` is
    how the routes below `/runs` are reached: True, not at all (None), or middleware as a module's `route`.

    Nothing is loaded before the first request or the lifespan. Raises `UsageError` and `ConfigError` for `agents` and
    `workflows` that cannot be served; on Cloudflare none can (`needs_modules`).
    """
    source: Source
    if agents is None and workflows is None:
        source = Reference(root)
    elif current_registrations().target == "cloudflare":
        raise UsageError(
            "On Cloudflare flue.asgi() serves the project's modules, not agents= or workflows=.",
            code="needs_modules",
            hint="Put them into modules in agents/ and workflows/, which get Durable Objects, and call flue.asgi().",
        )
    else:
        folder = None if root is None else Path(root).resolve()
        served = of_objects(agents or {}, workflows or {}, current_registrations(), folder)
        source = Application(lambda: served, store=store, registrations=served.registrations)
    return FlueApp(source, body_limit=body_limit, runs=runs)


def admin(of: FlueApp | str | Path | None = None) -> FlueApp:
    """Return an ASGI application that lists agents and runs. It asks nobody who they are: mount it behind a login.

    `of` is an app made by `asgi()`, or a project's root; without it the project is found as `asgi()` finds it.
    """
    return FlueApp(of.source if isinstance(of, FlueApp) else Reference(of), "admin")


def default_app(project: Project) -> ASGIApp:
    """Return what to serve for a loaded project: its own `app`, else `asgi()` at `/`.

    Every `flue.asgi()` and `flue.admin()` in the project then uses the project as it was loaded.
    """
    application = application_of(project)
    if project.app is not None:
        app: ASGIApp = project.app
        return app
    return FlueApp(application)


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Start the engines of an application at boot and drain them at the end.

    Use it as the `lifespan=` of Starlette or FastAPI, or in one of your own: `async with flue.lifespan(app): …`. `app`
    is the application that `flue.asgi()` is mounted in, however deep, or a `flue.asgi()` itself. Work that was left by
    a crash is taken up at once instead of with the first request. Raises `UsageError` (`nothing_mounted`), and what
    loading the project raises.
    """
    applications = list(dict.fromkeys(found.application for found in _apps_in(app)))
    if not applications:
        raise UsageError(
            "flue.lifespan found no flue.asgi() in the application.",
            code="nothing_mounted",
            hint="Mount it before the application starts, or pass flue.lifespan what flue.asgi() returned.",
        )
    try:
        for application in applications:
            await application.start()
        yield
    finally:
        await asyncio.gather(*(application.drain() for application in applications))


def _apps_in(app: Any) -> Iterator[FlueApp]:
    """Yield the apps of ours below a Starlette application, its mounts, and what wraps them."""
    seen: set[int] = set()
    left = [app]
    while left:
        found = left.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, FlueApp):
            yield found
            continue
        # Starlette: `routes` of applications and routers, `app` of mounts and middleware.
        left += getattr(found, "routes", None) or []
        left.append(getattr(found, "app", None))

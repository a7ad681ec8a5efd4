"""What answers the outside: the project's app.py, or the default app, and the handlers of its cloudflare.py."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp

from flue.cloudflare.asking import ask_object
from flue.cloudflare.context import CloudflareContext, Environment, using_cloudflare
from flue.cloudflare.forwarding import Forwarding
from flue.cloudflare.isolate import Isolate
from flue.cloudflare.names import REGISTRY
from flue.cloudflare.platform import js_http
from flue.cloudflare.platform.asgi import answer, scope_of
from flue.cloudflare.platform.js_bindings import wait_until
from flue.cloudflare.platform.js_http import Native, Request
from flue.cloudflare.relay import Relay
from flue.engine.dispatching import Dispatcher
from flue.engine.service import Service
from flue.errors import DurabilityError, FlueError, UsageError
from flue.registrations import Registrations, using_registrations
from flue.server.app import default_app
from flue.server.application import Application, register_application
from flue.server.lifespan import Lifespan
from flue.server.problems import Problem
from flue.server.routing import Tables

logger = logging.getLogger("flue")
_LOOK_AGAIN = 0.01


class Front:
    """The Worker of one isolate."""

    def __init__(self, isolate: Isolate) -> None:
        self._isolate = isolate
        self._app: ASGIApp | None = None
        self._lifespan: Lifespan | None = None
        self._state: dict[str, Any] | None = None
        self._awake = False

    async def fetch(self, request: Request, env: Native) -> Native:
        """Answer a request."""
        env = self._isolate.environment(env)
        with using_cloudflare(CloudflareContext(env, wait_until)):
            try:
                app = self._loaded(env)
                state = await self._started(app)
            except FlueError as error:
                return _unusable(error, env)
            self._wake_schedules()
            scope = scope_of(request, "websocket" if request.is_upgrade else "http")
            if state:
                scope["state"] = dict(state)
            return await answer(app, request, scope)

    async def handle(self, name: str, env: Native, *arguments: Native) -> Any:
        """Have a function of the user's cloudflare.py handle another event; it is given as much as it takes."""
        env = self._isolate.environment(env)
        self._loaded(env)
        function: Callable[..., Any] = getattr(self._isolate.own_module, name)
        project = self._isolate.project
        with (
            using_cloudflare(CloudflareContext(env, wait_until)),
            using_registrations(project.registrations),
        ):
            result = function(*arguments[: _positional(function)])
            return await result if inspect.isawaitable(result) else result

    def _loaded(self, env: Environment) -> ASGIApp:
        if self._app is None:
            project = self._isolate.project
            register_application(project, _FrontApplication(self._isolate, env))
            self._app = default_app(project)
        return self._app

    async def _started(self, app: ASGIApp) -> dict[str, Any]:
        """Start what the application starts before its first request; the isolate's end ends it."""
        if self._lifespan is None:
            self._lifespan = lifespan = Lifespan(app)
            try:
                await lifespan.start()
            except FlueError:
                self._lifespan = None
                raise
            self._state = lifespan.state
        while self._state is None and self._lifespan is not None:
            # A timer of this request's own: what another request wakes would run as a part of that.
            await self._isolate.clock.sleep(_LOOK_AGAIN)
        return self._state or {}

    def _wake_schedules(self) -> None:
        """Have the registry take up the schedules of this version of the project, once for each isolate."""
        if not self._awake and self._isolate.project.registrations.schedules:
            self._awake = True
            wait_until(self._wake())

    async def _wake(self) -> None:
        try:
            await ask_object(REGISTRY, REGISTRY.name, "wake", None)
        except DurabilityError as error:
            self._awake = False
            logger.warning("The schedules could not be taken up; the next request tries again: %s", error)


class _FrontApplication(Application):
    """What the Worker serves: the project, by way of its objects."""

    def __init__(self, isolate: Isolate, env: Environment) -> None:
        super().__init__(lambda: isolate.served, env=env, clock=isolate.clock, ids=isolate.ids)
        self._isolate = isolate
        self._tables = Forwarding(isolate).tables

    @property
    def tables(self) -> Tables:
        """Return what answers at which path."""
        return self._tables

    @property
    def registrations(self) -> Registrations:
        """Return the project's registrations."""
        return self._isolate.project.registrations

    async def start(self) -> None:
        """Do nothing: engines are the objects'."""

    async def service(self) -> Service:
        """Refuse: engines are the objects'."""
        raise UsageError("The Worker has no engine of its own.", code="needs_object")

    async def dispatcher(self) -> Dispatcher:
        """Return the way to the agents' objects."""
        return Relay(self._isolate)


def _positional(function: Callable[..., Any]) -> int | None:
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    return sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)


def _unusable(error: FlueError, env: Environment) -> Native:
    logger.error("The project cannot be served: %s", error)
    problem = Problem(500, "internal_error", "The project cannot be served.", "The log says why.", dev=str(error))
    body = json.dumps(problem.to_json(local=env.get("FLUE_MODE") == "local"))
    return js_http.response(500, [("content-type", "application/json")], body.encode())

"""A project as it is served: one engine, and the version of its code that answers.

`deploy` swaps the version. Connections stay; what is under way, requests and accepted work, goes on with the version
that it began with, which is unloaded when the last of it has ended. Conversations and runs are in the store, which all
versions share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Self

from starlette.types import ASGIApp, Receive, Scope, Send

from flue.engine.catalog import Deployment
from flue.engine.service import Service
from flue.harness.observe import settle_subscribers
from flue.project.loader import Project
from flue.server.app import default_app
from flue.server.application import Application, application_of, forget_application, open_engine
from flue.server.lifespan import Lifespan

_SETTLE_SECONDS = 1.0


class Version:
    """One loaded version of the project, what answers for it, and how many requests it has under way."""

    def __init__(self, project: Project, application: Application, app: ASGIApp, number: int) -> None:
        self.project = project
        self.application = application
        self.app = app
        self.number = number
        self.lifespan = Lifespan(app)
        self.deployment: Deployment | None = None
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an ASGI connection."""
        self._requests += 1
        self._idle.clear()
        scope["state"] = {**scope.get("state", {}), **self.lifespan.state}
        try:
            await self.app(scope, receive, send)
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    async def idle(self) -> None:
        """Wait until no request is under way."""
        await self._idle.wait()


class Site:
    """Serves the newest version of a project. Use it as an async context manager; leaving it ends the engine.

    `version` and `service` are None until the first `deploy`.
    """

    def __init__(self) -> None:
        self.version: Version | None = None
        self.service: Service | None = None
        self._stack = AsyncExitStack()
        self._retiring: dict[Version, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        """Return the site."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End the engine and the application, and forget the project."""
        for task in self._retiring.values():
            task.cancel()
        versions = [*self._retiring, *([] if self.version is None else [self.version])]
        for version in versions:
            await version.lifespan.end()
        await self._end_engine()
        for version in versions:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SETTLE_SECONDS):
                    await settle_subscribers(version.project.registrations)
            _unload(version.project)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an ASGI connection."""
        assert self.version is not None
        await self.version(scope, receive, send)

    async def deploy(self, project: Project, env: Mapping[str, str]) -> Version:
        """Serve a loaded project from now on.

        Raises what its application raises when it starts, and what opening the store raises; then the version before
        goes on to be served, and `project` is unloaded.
        """
        application = application_of(project, env=env)
        number = 1 if self.version is None else self.version.number + 1
        version = Version(project, application, default_app(project), number)
        first = self.service is None
        try:
            if self.service is None:
                self.service = await self._stack.enter_async_context(open_engine(application))
                version.deployment = self.service.deployment
            application.borrow(self.service)
            await version.lifespan.start()
        except BaseException:
            await version.lifespan.end()
            if first:
                await self._end_engine()
            _unload(project)
            raise
        await self._swap(version, self.service, env)
        return version

    async def _swap(self, version: Version, service: Service, env: Mapping[str, str]) -> None:
        before, self.version = self.version, version
        if before is None:
            return
        served = version.application.served
        runtime = replace(
            service.deployment.runtime,
            registrations=served.registrations,
            roles={role.name: role for role in served.roles.values()},
        )
        version.deployment = replace(service.deployment, catalog=version.application.catalog, runtime=runtime, env=env)
        self._retiring[before] = asyncio.create_task(self._retire(before, service))
        await service.deploy(version.deployment)

    async def _retire(self, version: Version, service: Service) -> None:
        """Let go of a version when nothing of it is under way any more."""
        assert version.deployment is not None
        await service.at_rest(version.deployment)
        await version.idle()
        await version.lifespan.end()
        await settle_subscribers(version.project.registrations)
        _unload(version.project)
        del self._retiring[version]

    async def _end_engine(self) -> None:
        self.service = None
        await self._stack.aclose()


def _unload(project: Project) -> None:
    project.unload()
    forget_application(project)

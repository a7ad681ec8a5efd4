"""How an application comes to the engine that does its work: one engine for each project and event loop.

The engine is started by whoever needs it first, a lifespan or a request, and ends with `drain()` or with its loop. A
test client without `with` runs each request in a loop of its own: each gets an engine of its own, which goes on from
the store where the one before was stopped.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from os import PathLike
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from flue.durable.port import DurableStore
from flue.engine.catalog import Catalog
from flue.engine.dispatching import Dispatcher
from flue.engine.engine import EngineSettings
from flue.engine.service import Service
from flue.host import SystemClock, SystemIds, open_service
from flue.ports import Clock, Ids
from flue.project.config import load_config
from flue.project.data import data_file
from flue.project.loader import Project, build_schemas, load_project
from flue.registrations import PROCESS, Registrations, current_registrations
from flue.server.routing import Tables
from flue.server.served import Served, of_project
from flue.stores import open_store, store_from_env
from flue.stores.location import DATABASE_URL

logger = logging.getLogger("flue")

Opening = Callable[["Application"], AbstractAsyncContextManager[Service]]
"""Starts an engine in the running event loop; leaving the block brings to rest what runs, and ends it."""


class Application:
    """One project, or one set of agents and workflows, and its engines.

    `load` gives what is served; it is called once, when first needed. `opening` starts an engine. `env` is where
    settings and keys are looked up. `store` is where work and conversations are kept: a path, an address, or a store;
    by default `FLUE_DATABASE_URL` says it, else it is `.flue-data/flue.db` in the project's root, else memory.
    `registrations` are those of what will be loaded, as far as they are known.
    """

    def __init__(
        self,
        load: Callable[[], Served],
        *,
        opening: Opening | None = None,
        env: Mapping[str, Any] | None = None,
        store: DurableStore | str | PathLike[str] | None = None,
        registrations: Registrations = PROCESS,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        self._load = load
        self._registrations = registrations
        self._opening = opening or open_engine
        self._served: Served | None = None
        self._catalog: Catalog | None = None
        self._lock = threading.RLock()
        self._engines: dict[asyncio.AbstractEventLoop, _Engine] = {}
        self._lent: dict[asyncio.AbstractEventLoop, Service] = {}
        self._memory: DurableStore | None = None
        self.env: Mapping[str, Any] = os.environ if env is None else env
        self.store = store
        self.clock = clock or SystemClock()
        self.ids = ids or SystemIds()

    @property
    def tables(self) -> Tables | None:
        """Return what answers at which path, None for what a server answers with."""
        return None

    @property
    def run_id(self) -> str | None:
        """Return the id of the run that a workflow is started with, None for a new one each time."""
        return None

    def resolve(self) -> Application:
        """Return this application."""
        return self

    @property
    def served(self) -> Served:
        """Return what is served. Loading it may raise `ConfigError`; the next use tries again."""
        if self._served is None:
            with self._lock:
                if self._served is None:
                    self._served = self._load()
        return self._served

    @property
    def catalog(self) -> Catalog:
        """Return what is served as the engine takes it. Raises as `served`."""
        if self._catalog is None:
            self._catalog = self.served.catalog()
        return self._catalog

    @property
    def registrations(self) -> Registrations:
        """Return the registrations by which the project's own code finds it; loads nothing."""
        return self._registrations if self._served is None else self._served.registrations

    @property
    def local(self) -> bool:
        """Say whether this is a developer's machine (FLUE_MODE=local): errors tell more, webhooks are open."""
        return self.env.get("FLUE_MODE") == "local"

    def open_store(self) -> tuple[DurableStore, bool]:
        """Return the store, and whether it is to be closed with the engine that uses it."""
        if self.store is not None and not isinstance(self.store, str | PathLike):
            return self.store, False
        if self.store is not None:
            return open_store(self.store), True
        if self.env.get(DATABASE_URL, "").strip():
            return store_from_env(self.env, None), True
        root = self.served.root
        if root is None:
            # The next event loop's engine must find it again.
            self._memory = self._memory or open_store(None)
            return self._memory, False
        return open_store(data_file(root)), True

    async def service(self) -> Service:
        """Return the running event loop's engine; the first call starts it. Raises what starting it raises."""
        loop = asyncio.get_running_loop()
        if loop in self._lent:
            return self._lent[loop]
        engine = self._engines.get(loop)
        if engine is None or engine.task.done():
            with self._lock:
                for each in [each for each in self._engines if each.is_closed()]:
                    del self._engines[each]
                engine = self._engines[loop] = _Engine(self._opening, self)
        # Shielded: a request that is given up must not take the engine from the others.
        return engine.ready.result() if engine.ready.done() else await asyncio.shield(engine.ready)

    async def start(self) -> None:
        """Start the running event loop's engine, which takes up what was left."""
        await self.service()

    async def dispatcher(self) -> Dispatcher:
        """Return what takes work for the project's agents."""
        return await self.service()

    def borrow(self, service: Service) -> None:
        """Use an engine that somebody else started in the running event loop, and will end: `drain` does not."""
        self._lent[asyncio.get_running_loop()] = service

    async def drain(self) -> None:
        """End the running event loop's engine in good order, if there is one; a later request starts a new one."""
        with self._lock:
            engine = self._engines.pop(asyncio.get_running_loop(), None)
        if engine is None:
            return
        if engine.ready.done() and not engine.task.done():
            from flue.server.sockets.asgi import close_sockets

            await close_sockets(engine.ready.result())
        engine.stop.set()
        await asyncio.wait({engine.task})


class _Engine:
    """One engine in one event loop, held open by a task of its own."""

    def __init__(self, opening: Opening, application: Application) -> None:
        self.ready: asyncio.Future[Service] = asyncio.get_running_loop().create_future()
        self.stop = asyncio.Event()
        # An empty context: the engine belongs to no request.
        self.task = asyncio.create_task(self._keep(opening, application), context=contextvars.Context())

    async def _keep(self, opening: Opening, application: Application) -> None:
        try:
            async with opening(application) as service:
                self.ready.set_result(service)
                # Cancelled when the loop ends (`asyncio.run` does that), which also leaves the block in good order.
                await self.stop.wait()
        except Exception as error:
            if self.ready.done():
                logger.exception("The engine did not end in good order.")
            else:
                self.ready.set_exception(error)
                self.ready.exception()  # whoever waits gets it; if nobody does any more, that is no news
        finally:
            self.ready.cancel()


@asynccontextmanager
async def open_engine(application: Application) -> AsyncIterator[Service]:
    """Start an engine over the application's store, with the default ports; see `Opening`."""
    from flue.sandboxes import WorkerPool

    served = application.served
    async with AsyncExitStack() as stack:
        store, owned = application.open_store()
        if owned:
            stack.push_async_callback(store.aclose)
        # What models write as commands must not be able to bring the server down. The processes start with the first
        # sandbox: they take 20 MB, not every project has commands, and no model asks for one before they are there.
        pool = WorkerPool()
        stack.push_async_callback(pool.close)
        pool.make_default()
        service = await stack.enter_async_context(
            open_service(
                application.catalog,
                store=store,
                env=application.env,
                roles=served.roles.values(),
                registrations=served.registrations,
                clock=application.clock,
                ids=application.ids,
                project=served.name,
                settings=EngineSettings(log_failures=True, keep=served.keep),
                log=served.log,
                announced=False,  # the applications themselves are, and know the engine of each event loop
            )
        )
        await service.start()
        yield service


# What was loaded by whoever starts the server: `flue.asgi()` in its app.py belongs to it.
_of_projects: WeakKeyDictionary[Registrations, Application] = WeakKeyDictionary()
# Applications of folders that nobody has loaded, for `flue.asgi()` in a program of the user's own.
_of_folders: dict[Path, Application] = {}
_registry_lock = threading.Lock()


def register_application(project: Project, application: Application) -> None:
    """Make an application that of a loaded project, which every `flue.asgi()` in it uses."""
    with _registry_lock:
        _of_projects[project.registrations] = application


def application_of(
    project: Project, *, opening: Opening | None = None, env: Mapping[str, str] | None = None
) -> Application:
    """Return the application of a loaded project: always the same one, which every `flue.asgi()` in it uses.

    What it is made of counts at the first call only.
    """
    with _registry_lock:
        application = _of_projects.get(project.registrations)
        if application is None:
            application = Application(
                lambda: of_project(project), opening=opening, env=env, registrations=project.registrations
            )
            _of_projects[project.registrations] = application
    return application


def forget_application(project: Project) -> None:
    """Let go of a project's application, which would live as long as its registrations: for one that is unloaded."""
    with _registry_lock:
        _of_projects.pop(project.registrations, None)


class Reference:
    """Names an application before it exists: a project's app.py is imported while the project is being loaded."""

    def __init__(self, root: str | PathLike[str] | None) -> None:
        self.registrations = current_registrations()
        being_loaded = self.registrations is not PROCESS
        self._root = None if being_loaded and root is None else Path(root or Path.cwd()).resolve()

    def resolve(self) -> Application:
        """Return the application; all references to one project give the same."""
        with _registry_lock:
            if self._root is None and self.registrations in _of_projects:
                return _of_projects[self.registrations]
            root = self._root or Path(self.registrations.root)
            if root not in _of_folders:
                _of_folders[root] = Application(lambda: _load(root))
            return _of_folders[root]

    @property
    def catalog(self) -> Catalog:
        """Return the application's catalogue; loads the project if nobody has."""
        return self.resolve().catalog

    async def dispatcher(self) -> Dispatcher:
        """Return what takes work for the application's agents."""
        return await self.resolve().dispatcher()


def _load(root: Path) -> Served:
    project = load_project(config=load_config(root))
    build_schemas(project)
    return of_project(project)

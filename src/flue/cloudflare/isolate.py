"""What all that runs in one isolate shares: the project, loaded once, and the environment.

An isolate holds the Worker and any number of objects, of all classes. Nothing here waits for anything, and nothing of
one request is kept: what the platform opened for one must not be used by another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

from flue.cloudflare.bundle import Bundle
from flue.cloudflare.context import Environment
from flue.cloudflare.names import DurableClass, agent_class, workflow_class
from flue.cloudflare.platform import js_bindings
from flue.cloudflare.platform.js_classes import State
from flue.cloudflare.platform.js_http import Native
from flue.cloudflare.platform.workers_ai import offer_workers_ai
from flue.cloudflare.storage.store import DurableObjectStore
from flue.engine.pruning import KeepFor
from flue.harness.sandbox import SandboxFactory
from flue.host import SystemClock, SystemIds
from flue.ports import Clock, Ids, ModelSource
from flue.project.config import Config
from flue.project.layout import source_root_of
from flue.project.loader import Project, load_project
from flue.project.package import PrivatePackage
from flue.server.served import Served, of_project


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What is different in tests: how a Worker's ports are made. `folder` is where projects are unpacked."""

    store: Callable[[State, Clock, KeepFor], DurableObjectStore]
    models: Callable[[], ModelSource]
    clock: Callable[[], Clock] = SystemClock
    ids: Callable[[], Ids] = SystemIds
    sandbox: Callable[[], SandboxFactory] | None = None
    folder: Path = Path("/tmp/flue")  # noqa: S108 - in memory, and the isolate's own


class Isolate:
    """The project of a bundle, and what it runs with."""

    def __init__(self, bundle: Bundle, platform: Platform) -> None:
        self.bundle = bundle
        self.platform = platform
        self._env: Environment | None = None

    @cached_property
    def clock(self) -> Clock:
        """Return the time."""
        return self.platform.clock()

    @cached_property
    def ids(self) -> Ids:
        """Return what makes identifiers. Not before the first event: randomness is forbidden until then."""
        return self.platform.ids()

    @cached_property
    def project(self) -> Project:
        """Return the project; it is loaded when it is first used. Raises `ConfigError`."""
        root, bundle = self._root, self.bundle
        config = Config("cloudflare", root, root / "dist", log=bundle.log, keep=bundle.keep)
        project = load_project(config=config, package=self._package)
        offer_workers_ai(project.registrations)
        return project

    @cached_property
    def own_module(self) -> ModuleType:
        """Return the user's cloudflare.py, imported without the rest of the project. Raises what it raises."""
        return self._package.load("cloudflare")

    @cached_property
    def _root(self) -> Path:
        root = (self.platform.folder / self.bundle.project).resolve()
        self.bundle.unpack(root)
        return root

    @cached_property
    def _package(self) -> PrivatePackage:
        package = PrivatePackage(source_root_of(self._root))
        package.install()
        return package

    @cached_property
    def served(self) -> Served:
        """Return what the project serves. Raises `ConfigError`."""
        return of_project(self.project)

    def store(self, state: State) -> DurableObjectStore:
        """Return the store of an object."""
        return self.platform.store(state, self.clock, self.bundle.keep)

    def environment(self, env: Native) -> Environment:
        """Return the environment that a handler was given: the same for all."""
        if self._env is None:
            self._env = Environment(js_bindings.environment(env))
        return self._env

    def agent(self, name: str) -> DurableClass | None:
        """Return the class of an agent's objects, None when nothing is bound to it."""
        return _bound(agent_class, name, self.bundle.agents)

    def workflow(self, name: str) -> DurableClass | None:
        """Return the class of a workflow's objects, None when nothing is bound to it."""
        return _bound(workflow_class, name, self.bundle.workflows)


def _bound(make: Callable[[str], DurableClass], name: str, known: Iterable[str]) -> DurableClass | None:
    if name not in known:
        return None
    found = make(name)
    return found if js_bindings.has_binding(found.binding) else None

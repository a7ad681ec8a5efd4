"""A project deployed to the stand-in of the platform."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

from flue.cloudflare.bundle import Bundle
from flue.cloudflare.names import REGISTRY, agent_class, workflow_class
from flue.cloudflare.storage.store import DurableObjectStore
from flue.engine.log_settings import LogSettings
from flue.engine.pruning import KeepFor
from flue.messages import Message
from flue.ports import Clock
from flue.project.layout import name_of
from flue.testing import ScriptedModel, SequentialIds, VirtualClock
from tests.cloudflare.objects import FOREVER
from tests.cloudflare.standin.owners import owned_loop
from tests.cloudflare.standin.workers import installed
from tests.cloudflare.standin.world import Place, World
from tests.engine.scenes import conversation

_models: dict[str, ScriptedModel] = {}
_versions = count(1)


def model(name: str = "model") -> ScriptedModel:
    """Return a model: projects use it, tests fill it with steps."""
    return _models.setdefault(name, ScriptedModel())


CHAT = """
    from flue import create_agent
    from tests.cloudflare.site import model

    route = True
    websocket = True
    agent = create_agent(model=model())
"""


class Site(World):
    """A world, and the project in it: deploying again replaces the code and evicts every object."""

    def __init__(self, folder: Path, clock: Clock, variables: Mapping[str, Any] | None = None) -> None:
        super().__init__(clock, variables=variables)
        self._folder = folder
        self._ids = SequentialIds()

    async def deploy_project(
        self,
        files: Mapping[str, str],
        *,
        handlers: Iterable[str] = (),
        own: Iterable[str] = (),
        log: LogSettings | None = None,
        keep: KeepFor = FOREVER,
    ) -> None:
        """Deploy a project; paths are relative to its source root. `own` are classes of its cloudflare.py."""
        from flue.cloudflare.isolate import Platform
        from flue.cloudflare.worker import worker

        self.evict_all()
        version = f"v{next(_versions)}"
        agents = tuple(name_of(Path(file)) for file in files if file.startswith("agents/"))
        workflows = tuple(name_of(Path(file)) for file in files if file.startswith("workflows/"))
        bundle = Bundle(
            {f".flue/{file}": dedent(text).encode() for file, text in files.items()},
            agents=agents,
            workflows=workflows,
            handlers=tuple(handlers),
            project=version,
            version=version,
            log=log or LogSettings(),
            keep=keep,
        )
        made = worker(
            bundle,
            Platform(
                store=lambda state, clock, keep: DurableObjectStore(state.storage, clock, keep=keep),
                models=_NoModels,
                clock=lambda: self.clock,
                ids=lambda: self._ids,
                folder=self._folder,
            ),
        )
        classes = {agent_class(name): made.agent(name) for name in agents}
        classes |= {workflow_class(name): made.workflow(name) for name in workflows}
        classes[REGISTRY] = made.registry
        own_classes = {name: made.own(name) for name in own}
        self.deploy(
            default=made.default,
            classes={owned.class_name: made_class for owned, made_class in classes.items()} | own_classes,
            bindings={owned.binding: owned.class_name for owned in classes} | {name: name for name in own_classes},
        )

    def agent(self, name: str, instance: str) -> Place:
        """Return the object of an agent's instance."""
        return self.place(agent_class(name).binding, instance)

    def workflow(self, name: str, run_id: str) -> Place:
        """Return the object of a run."""
        return self.place(workflow_class(name).binding, run_id)

    def store(self, place: Place) -> DurableObjectStore:
        """Return a store that looks into an object's storage from outside."""
        return DurableObjectStore(place.peek(), self.clock, keep=FOREVER)

    async def said(self, name: str, instance: str, session: str = "default") -> list[Message]:
        """Return a conversation as an agent's object keeps it."""
        return await conversation(self.store(self.agent(name, instance)), name, instance, session)


class _NoModels:
    """Knows no models by name: projects of tests bring theirs along."""

    def resolve(self, specifier: str, env: Mapping[str, Any]) -> Any:
        raise AssertionError(f"there is no model {specifier}")


@asynccontextmanager
async def site(folder: Path, *, variables: Mapping[str, Any] | None = None, auto: bool = True) -> AsyncIterator[Site]:
    """Have a world; time in it jumps by itself unless `auto` is False."""
    _models.clear()
    made = Site(folder, VirtualClock(auto=auto), variables)
    with owned_loop(asyncio.get_running_loop()), installed(made):
        yield made
        await made.aclose()

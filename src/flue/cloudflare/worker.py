"""A Worker made of a project: the classes that the module which a build generates gives to the platform.

    from flue_bundle import BUNDLE                       # a `Bundle`
    from flue.cloudflare.worker import worker

    _worker = worker(BUNDLE)
    Default = _worker.default                            # answers requests, and other events of the user's
    Assistant = _worker.agent("assistant")               # the class of an agent's instances
    DailyReportWorkflow = _worker.workflow("daily-report")
    FlueRegistry = _worker.registry
    Counter = _worker.own("Counter")                     # a Durable Object class of the user's cloudflare.py

The project is loaded with the first event; `own` loads `cloudflare.py` at once, as the platform wants to see the class.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from flue.cloudflare.bundle import Bundle
from flue.cloudflare.front import Front
from flue.cloudflare.isolate import Isolate, Platform
from flue.cloudflare.names import REGISTRY, DurableClass, agent_class, workflow_class
from flue.cloudflare.objects import FlueObject
from flue.cloudflare.platform import js_classes
from flue.cloudflare.platform.js_classes import State
from flue.cloudflare.platform.js_exchanges import Exchange
from flue.cloudflare.registry.object import Registry
from flue.cloudflare.storage.store import DurableObjectStore
from flue.engine.pruning import KeepFor
from flue.ports import Clock, ModelSource


class Worker:
    """The classes of one Worker."""

    def __init__(self, isolate: Isolate) -> None:
        self._isolate = isolate

    @cached_property
    def default(self) -> type:
        """Return the class that handles what comes from outside."""
        return js_classes.worker_class(Front(self._isolate), self._isolate.bundle.handlers)

    def agent(self, name: str) -> type:
        """Return the class of an agent's instances."""
        return self._object(agent_class(name))

    def workflow(self, name: str) -> type:
        """Return the class of a workflow's runs."""
        return self._object(workflow_class(name))

    @cached_property
    def registry(self) -> type:
        """Return the class of the registry."""
        isolate = self._isolate
        return js_classes.object_class(REGISTRY.class_name, lambda state, _: Registry(isolate, state))

    def own(self, name: str) -> Any:
        """Return what the user's cloudflare.py calls by a name."""
        return getattr(self._isolate.own_module, name)

    def _object(self, owned: DurableClass) -> type:
        isolate = self._isolate
        return js_classes.object_class(
            owned.class_name, lambda state, env: FlueObject(isolate, owned, state, isolate.environment(env))
        )


def worker(bundle: Bundle, platform: Platform | None = None) -> Worker:
    """Return the Worker of a bundle; `platform` is for tests."""
    return Worker(Isolate(bundle, platform or Platform(store=_store, models=_models)))


def _store(state: State, clock: Clock, keep: KeepFor) -> DurableObjectStore:
    return DurableObjectStore(state.storage, clock, keep=keep)


def _models() -> ModelSource:
    from flue.cloudflare.platform.fetch_transport import FetchTransport
    from flue.models.source import Models

    return Models(FetchTransport(Exchange))

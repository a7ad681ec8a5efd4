"""The runtime: the ports that one process, or one Worker, puts together for its harnesses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flue.definitions.role import Role
from flue.harness.retry import Retry
from flue.harness.sandbox import SandboxFactory
from flue.ports import Clock, Ids, ModelSource, OffLoop, SessionStore, Store, here
from flue.registrations import Registrations


@dataclass(frozen=True, slots=True)
class Runtime:
    """Everything a context needs from its host.

    `sandbox` is what agents without one of their own get; `persist` makes a store of an agent's own session store;
    `roles` are those that can be asked for by name. `adapt_sandbox` makes a factory of what a platform has for a
    sandbox, None of anything else; it is asked first, as such things may answer to every name. `off_loop` is where
    tools run that are not async.
    """

    models: ModelSource
    store: Store
    clock: Clock
    ids: Ids
    sandbox: SandboxFactory
    persist: Callable[[SessionStore], Store]
    registrations: Registrations
    retry: Retry = field(default_factory=Retry)
    roles: Mapping[str, Role] = field(default_factory=dict)
    off_loop: OffLoop = here
    adapt_sandbox: Callable[[Any], SandboxFactory | None] = lambda value: None

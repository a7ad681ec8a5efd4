"""`dispatch`: from anywhere in an application, give an agent work to do; and how it finds the service to ask."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from flue.definitions.agent import Agent
from flue.engine.catalog import Catalog
from flue.engine.service import DispatchReceipt
from flue.errors import UsageError
from flue.registrations import Registrations, current_registrations


class Dispatcher(Protocol):
    """What takes work for agents."""

    async def dispatch(
        self, agent: str, instance: str, input: Any, *, session: str = "default", dispatch_id: str | None = None
    ) -> DispatchReceipt:
        """Accept input for a session of an agent's instance; see `Service.dispatch`."""
        ...


class ServiceSource(Protocol):
    """Where a project's service comes from; it may be started when it is first asked for."""

    @property
    def catalog(self) -> Catalog:
        """Return the project's agents and workflows."""
        ...

    @property
    def registrations(self) -> Registrations:
        """Return the project's registrations, by which its own code finds it."""
        ...

    async def dispatcher(self) -> Dispatcher:
        """Return what takes the work: the service of this event loop, started, or the way to another."""
        ...


_sources: list[ServiceSource] = []


def announce(source: ServiceSource) -> Callable[[], None]:
    """Let `dispatch` find a service; return what ends that."""
    _sources.append(source)

    def withdraw() -> None:
        with suppress(ValueError):
            _sources.remove(source)

    return withdraw


async def dispatch(
    agent: Agent | str,
    *,
    id: str,
    input: Any,
    session: str = "default",
    dispatch_id: str | None = None,
) -> DispatchReceipt:
    """Give an agent's instance input to work on, and return at once: the answer comes in its session.

    `agent` is an agent of the running project, or its name; `id` names the instance; `input` is any JSON value. When
    this returns the input is on disk and will be worked on, whatever ends the process, after what was sent to the
    session before. The same `dispatch_id` (default: a new one) with the same input is accepted once.

    Raises `UsageError`: `needs_server` where no project is being served, `agent_not_found`, `invalid_id`,
    `invalid_input`; `SessionError` (`invalid_session_name`); `DurabilityError` (`idempotency_conflict`).
    """
    source = _find(agent)
    # By name: meanwhile the service may have gone on to another version of the project, with other objects.
    name = source.catalog.name_of(agent)
    dispatcher = await source.dispatcher()
    return await dispatcher.dispatch(name, id, input, session=session, dispatch_id=dispatch_id)


def _find(agent: Agent | str) -> ServiceSource:
    """Return the source of the project whose code is running, else the one that has the agent."""
    nodes = list(current_registrations().chain())
    for source in reversed(_sources):
        if source.registrations in nodes and source.registrations.root:
            return source
    for source in reversed(_sources):
        with suppress(UsageError):
            source.catalog.name_of(agent)
            return source
    if _sources:
        return _sources[-1]  # it says in its own words that it does not know the agent
    raise UsageError(
        "dispatch() needs a project that is being served.",
        code="needs_server",
        hint="Call it from a tool, a workflow, or an application that mounts flue.asgi().",
    )

"""What a project offers: its agents and workflows by name, and what they run with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from flue.definitions.agent import Agent
from flue.definitions.durability import Durability
from flue.errors import UsageError
from flue.harness.runs import Run
from flue.harness.runtime import Runtime
from flue.ports import SessionStore, Store

E = TypeVar("E", "AgentEntry", "WorkflowEntry")
OnInterrupt = Literal["restart", "fail"]


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """An agent by its name: one that answers prompts (`agent`), or a function agent (`run`)."""

    name: str
    agent: Agent | None = None
    run: Run | None = None
    durability: Durability = field(default_factory=Durability)


@dataclass(frozen=True, slots=True)
class WorkflowEntry:
    """A workflow by its name. `on_interrupt` says what becomes of a run whose process died."""

    name: str
    run: Run
    on_interrupt: OnInterrupt = "restart"
    durability: Durability = field(default_factory=lambda: Durability(timeout=None))


@dataclass(frozen=True, slots=True)
class Catalog:
    """The agents and workflows of a project."""

    agents: Mapping[str, AgentEntry] = field(default_factory=dict)
    workflows: Mapping[str, WorkflowEntry] = field(default_factory=dict)

    @classmethod
    def of(cls, agents: Iterable[AgentEntry] = (), workflows: Iterable[WorkflowEntry] = ()) -> Catalog:
        """Return a catalogue of entries."""
        return cls({entry.name: entry for entry in agents}, {entry.name: entry for entry in workflows})

    def agent(self, name: str) -> AgentEntry:
        """Return an agent. Raises `UsageError` (`agent_not_found`)."""
        return _find(self.agents, name, "agent")

    def workflow(self, name: str) -> WorkflowEntry:
        """Return a workflow. Raises `UsageError` (`workflow_not_found`)."""
        return _find(self.workflows, name, "workflow")

    def name_of(self, agent: Agent | str) -> str:
        """Return the name under which an agent is known. Raises `UsageError` (`agent_not_found`)."""
        if isinstance(agent, str):
            return self.agent(agent).name
        for entry in self.agents.values():
            if entry.agent is agent:
                return entry.name
        raise UsageError(
            f"{agent!r} is not an agent of this project.",
            code="agent_not_found",
            hint=f"Export it as `agent` from a file in agents/. There are: {_names(self.agents)}.",
        )


def _find(entries: Mapping[str, E], name: str, noun: str) -> E:
    entry = entries.get(name)
    if entry is None:
        raise UsageError(
            f'{noun.capitalize()} "{name}" is not registered.',
            code=f"{noun}_not_found",
            hint=f"There are: {_names(entries)}.",
        )
    return entry


def _names(entries: Mapping[str, object]) -> str:
    return ", ".join(sorted(entries)) or "none"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One loaded version of a project: its catalogue and what its contexts are made with.

    The store of `runtime` is not used: each claim has one of its own. `persist` makes a store of an agent's own
    session store. A reload makes another deployment; work that is under way stays with its own.
    """

    catalog: Catalog
    runtime: Runtime
    env: Mapping[str, Any]
    persist: Callable[[SessionStore], Store]

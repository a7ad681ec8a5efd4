"""Modules of a project as the engine sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from flue.engine.catalog import AgentEntry, Catalog, WorkflowEntry
from flue.project.modules import AgentModule, WorkflowModule


class Modules(Protocol):
    """A project, or whatever else has agents and workflows by name."""

    @property
    def agents(self) -> Mapping[str, AgentModule]:
        """Return the agents."""
        ...

    @property
    def workflows(self) -> Mapping[str, WorkflowModule]:
        """Return the workflows."""
        ...


def catalog_of(modules: Modules) -> Catalog:
    """Return the agents and workflows of a project."""
    return Catalog.of(
        (AgentEntry(module.name, module.agent, module.run, module.durability) for module in modules.agents.values()),
        (
            WorkflowEntry(module.name, module.run, module.on_interrupt, module.durability)
            for module in modules.workflows.values()
        ),
    )

"""A project as the engine sees it."""

from __future__ import annotations

from flue.engine.catalog import AgentEntry, Catalog, WorkflowEntry
from flue.project.loader import Project


def catalog_of(project: Project) -> Catalog:
    """Return the agents and workflows of a project."""
    return Catalog.of(
        (AgentEntry(module.name, module.agent, module.run, module.durability) for module in project.agents.values()),
        (
            WorkflowEntry(module.name, module.run, module.on_interrupt, module.durability)
            for module in project.workflows.values()
        ),
    )

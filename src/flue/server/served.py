"""What an application serves: a project's modules, or agents and workflows given as objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from flue.definitions.agent import Agent
from flue.definitions.role import Role
from flue.engine.catalog import Catalog
from flue.engine.log_settings import LogSettings
from flue.engine.pruning import KeepFor
from flue.errors import UsageError
from flue.project.catalog import catalog_of
from flue.project.loader import Project
from flue.project.modules import AgentModule, WorkflowModule, read_agent, read_workflow
from flue.registrations import Registrations

_NAME = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*\Z")


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """Agents and workflows by name, with how they are reached; `root` is None without a project's folder.

    `log` and `keep` are what the project's configuration says of its events.
    """

    agents: Mapping[str, AgentModule]
    workflows: Mapping[str, WorkflowModule]
    registrations: Registrations
    roles: Mapping[str, Role] = field(default_factory=dict)
    root: Path | None = None
    log: LogSettings = field(default_factory=LogSettings)
    keep: KeepFor = field(default_factory=KeepFor)

    @property
    def name(self) -> str:
        """Return what the project is called among those that share a store: its folder's name."""
        return "" if self.root is None else self.root.name

    def catalog(self) -> Catalog:
        """Return it as the engine takes it."""
        return catalog_of(self)


def of_project(project: Project) -> Served:
    """Return what a loaded project serves."""
    config = project.config
    return Served(
        project.agents,
        project.workflows,
        project.registrations,
        project.roles,
        project.root,
        log=config.log,
        keep=config.keep,
    )


def of_objects(
    agents: Mapping[str, Any], workflows: Mapping[str, Any], registrations: Registrations, root: Path | None
) -> Served:
    """Return what is served of agents and workflows given by name.

    An agent is made by `create_agent`, or is an async function; a workflow is a function. They are open to everybody.
    A module with `agent` or `run`, and with `route` and `websocket` of its own, is taken as a file of a project is.
    Raises `UsageError` (`invalid_name`) and `ConfigError` (`invalid_module`).
    """
    agent_modules = {}
    for name, given in agents.items():
        module = _module(name, given, "agent" if isinstance(given, Agent) else "run", triggers={"webhook": True})
        agent_modules[name] = read_agent(name, Path(f"{name}.py"), f'agents["{name}"]', module)
    workflow_modules = {}
    for name, given in workflows.items():
        module = _module(name, given, "run")
        workflow_modules[name] = read_workflow(name, Path(f"{name}.py"), f'workflows["{name}"]', module)
    return Served(agent_modules, workflow_modules, registrations, root=root)


def _module(name: str, given: Any, attribute: str, *, triggers: Mapping[str, bool] | None = None) -> ModuleType:
    if not _NAME.match(name):
        raise UsageError(
            f'"{name}" cannot be the name of an agent or a workflow.',
            code="invalid_name",
            hint="Use letters and digits, with single hyphens between them.",
        )
    if isinstance(given, ModuleType):
        return given
    module = ModuleType(name)
    vars(module).update({attribute: given, "route": True, "websocket": True})
    if attribute == "run" and triggers:
        vars(module)["triggers"] = triggers
    return module

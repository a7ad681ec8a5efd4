"""Loads a project: imports its agents, workflows and app, and checks what they export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

from flue.definitions.profile import AgentProfile
from flue.definitions.role import Role
from flue.definitions.tool import Tool
from flue.errors import ConfigError, FlueError
from flue.project.config import Config, load_config
from flue.project.failures import module_failure
from flue.project.layout import Kind, Layout, find_layout
from flue.project.modules import AgentModule, WorkflowModule, check_distinct, read_agent, read_workflow
from flue.project.package import PrivatePackage
from flue.project.roles import read_roles
from flue.registrations import PROCESS, Registrations, using_registrations

M = TypeVar("M", AgentModule, WorkflowModule)


@dataclass(frozen=True, slots=True, eq=False)
class Project:
    """A loaded project. `agents` and `workflows` map names to modules; `app` is what `app.py` exports, or None.

    `registrations` are those its modules made while they were imported; pass them, and the values of `roles`, to the
    context that runs it.
    """

    layout: Layout
    config: Config
    agents: Mapping[str, AgentModule]
    workflows: Mapping[str, WorkflowModule]
    roles: Mapping[str, Role]
    app: Any
    registrations: Registrations
    package: PrivatePackage = field(repr=False)

    @property
    def root(self) -> Path:
        """Return the project's root."""
        return self.layout.root

    @property
    def source_root(self) -> Path:
        """Return the directory that holds `agents/` and `workflows/`."""
        return self.layout.source_root

    def agent(self, name: str) -> AgentModule:
        """Return an agent by its name. Raises `ConfigError` (`agent_not_found`) with the names there are."""
        if name not in self.agents and name in self.workflows:
            raise ConfigError(
                f'"{name}" is a workflow, not an agent.', code="agent_not_found", hint=f"Run it: flue run {name}."
            )
        return _pick(self.agents, name, "agent")

    def workflow(self, name: str) -> WorkflowModule:
        """Return a workflow by its name. Raises `ConfigError` (`workflow_not_found`) with the names there are."""
        if name not in self.workflows and (agent := self.agents.get(name)) is not None:
            what, hint = "answers prompts", f"Talk to it: flue connect {name} <instance-id>."
            if agent.run is not None:
                what, hint = "runs for an instance", f"Name one: flue run {name} --id <instance-id>."
            raise ConfigError(f'"{name}" is an agent, which {what}.', code="workflow_not_found", hint=hint)
        return _pick(self.workflows, name, "workflow")

    def unload(self) -> None:
        """Forget the project's modules and registrations; do it when none of its runs is under way.

        Code that is still running keeps its objects but can import nothing more from the project.
        """
        self.package.remove()
        self.registrations.providers.clear()
        self.registrations.overrides.clear()
        self.registrations.observers.clear()
        self.registrations.schedules.clear()


def load_project(
    root: str | Path | None = None, *, config: Config | None = None, package: PrivatePackage | None = None
) -> Project:
    """Import a project's modules and return what they define; `root` defaults to the working directory.

    `config` spares looking for the configuration file. `package` is one that is installed, with modules of the project
    that had to be imported earlier. Every load is independent: loading again gives new modules
    and leaves the earlier `Project` working until it is unloaded. Nothing stays behind when loading fails.

    Raises `ConfigError` for everything that is wrong with the project, with the file, the line where there is one, and
    the next step.
    """
    if config is None:
        config = load_config(Path.cwd(), root=root)
    layout = find_layout(config.root, target=config.target)
    roles = read_roles(layout)
    if package is None:
        package = PrivatePackage(layout.source_root)
        package.install()
    registrations = Registrations(parent=PROCESS, root=str(layout.root), target=config.target)
    try:
        with using_registrations(registrations):
            agents = {
                name: read_agent(name, path, layout.shown(path), _import(package, layout, path, "agents"))
                for name, path in layout.agents.items()
            }
            workflows = {
                name: read_workflow(name, path, layout.shown(path), _import(package, layout, path, "workflows"))
                for name, path in layout.workflows.items()
            }
            app = _app(package, layout)
        check_distinct(agents, layout.shown)
    except BaseException:
        package.remove()
        raise
    return Project(layout, config, agents, workflows, roles, app, registrations, package)


def build_schemas(project: Project) -> None:
    """Build the schema of every tool that the project defines, so that a wrong one is found before a model needs it.

    Tools that only a computed agent makes are beyond its reach. Raises `ConfigError` with the file.
    """
    seen: set[int] = set()
    with using_registrations(project.registrations):
        for file, tool in _tools(project):
            if id(tool) in seen:
                continue
            seen.add(id(tool))
            try:
                _ = tool.spec
            except FlueError as error:
                raise module_failure(error, file, project.root, project.package) from error
            except Exception as error:
                raise ConfigError(
                    f'{project.layout.shown(file)}: the schema of tool "{tool.name}" cannot be built: '
                    f"{type(error).__name__}: {' '.join(str(error).split())}.",
                    code="invalid_definition",
                    hint="Check the types of its parameters.",
                ) from error


def _tools(project: Project) -> Iterator[tuple[Path, Tool]]:
    for module in project.package.modules():
        if module.__file__ is not None:
            for value in list(vars(module).values()):
                if isinstance(value, Tool):
                    yield Path(module.__file__), value
    for entry in project.agents.values():
        if entry.agent is not None and entry.agent.fixed is not None:
            for tool in _profile_tools(entry.agent.fixed.profile):
                yield entry.path, tool


def _profile_tools(profile: AgentProfile) -> Iterator[Tool]:
    yield from profile.tools
    for subagent in profile.subagents:
        yield from _profile_tools(subagent)


def _import(package: PrivatePackage, layout: Layout, path: Path, kind: Kind | Literal[""]) -> ModuleType:
    try:
        module = package.load(f"{kind}.{path.stem}" if kind else path.stem)
    except (Exception, SystemExit) as error:
        raise module_failure(error, path, layout.root, package) from error
    if module.__file__ != str(path):
        raise ConfigError(
            f"{layout.shown(path)} is hidden by the package {layout.shown(path.with_suffix(''))}/.",
            code="invalid_module",
            hint="Rename one of them.",
        )
    return module


def _app(package: PrivatePackage, layout: Layout) -> Callable[..., Any] | None:
    if layout.app is None:
        return None
    app = getattr(_import(package, layout, layout.app, ""), "app", None)
    if not callable(app):
        raise ConfigError(
            f"{layout.shown(layout.app)}: must define `app`, an ASGI application.",
            code="invalid_module",
            hint="Write `app = flue.asgi()`, or mount flue.asgi() in an application of your own.",
        )
    return app  # type: ignore[no-any-return]


def _pick(modules: Mapping[str, M], name: str, noun: str) -> M:
    if name in modules:
        return modules[name]
    close = get_close_matches(name.replace("_", "-").lower(), modules, n=1)
    known = ", ".join(sorted(modules)) or "none"
    hint = f'Did you mean "{close[0]}"? There are: {known}.' if close else f"There are: {known}."
    raise ConfigError(f'Unknown {noun} "{name}".', code=f"{noun}_not_found", hint=hint)

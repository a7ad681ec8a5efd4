"""The Durable Object classes and bindings that a project's agents and workflows get on Cloudflare.

    agent `support-chat`       class SupportChat            binding SupportChat
    workflow `daily-report`    class DailyReportWorkflow    binding FLUE_WORKFLOW_DAILY_REPORT
    registry of runs           class FlueRegistry           binding FLUE_REGISTRY

Deployed objects are found by these names: changing how they are made would lose what projects have stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from flue.errors import ConfigError

ClassKind = Literal["agent", "workflow", "registry"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
# Python's own words, and what a Worker's entry module means by these names: `Default` handles requests, the others are
# the bases that the runtime tells its classes by.
_RESERVED = {"None", "True", "False", "Default", "DurableObject", "WorkerEntrypoint", "WorkflowEntrypoint"}


@dataclass(frozen=True, slots=True)
class DurableClass:
    """A generated Durable Object class. `name` is the agent's or the workflow's; the registry's is `default`."""

    kind: ClassKind
    name: str
    class_name: str
    binding: str


REGISTRY = DurableClass("registry", "default", "FlueRegistry", "FLUE_REGISTRY")


def agent_class(name: str) -> DurableClass:
    """Return the class of an agent; its objects are named by the instance id of the URL."""
    class_name = _pascal(name)
    return DurableClass("agent", name, class_name, class_name)


def workflow_class(name: str) -> DurableClass:
    """Return the class of a workflow; each of its runs is an object named by the run id."""
    screaming = re.sub(r"[-_]", "_", name).upper()
    return DurableClass("workflow", name, f"{_pascal(name)}Workflow", f"FLUE_WORKFLOW_{screaming}")


def durable_classes(agents: Mapping[str, str], workflows: Mapping[str, str]) -> tuple[DurableClass, ...]:
    """Return all classes of a project: agents and workflows by name, the registry last.

    Both arguments map names to their files, as messages show them. Raises `ConfigError`: `invalid_name` with every file
    whose name cannot become a class, `duplicate_name` with every group of files that would share one.
    """
    _check_names([*agents.items(), *workflows.items()])
    files = {agent_class(name): file for name, file in agents.items()}
    files |= {workflow_class(name): file for name, file in workflows.items()}
    _check_classes(files)
    return (*sorted(files, key=lambda found: (found.kind, found.name)), REGISTRY)


def _pascal(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[-_]", name))


def _check_names(named: list[tuple[str, str]]) -> None:
    wrong = [f'{file} ("{name}")' for name, file in named if not _NAME.match(name)]
    if wrong:
        raise ConfigError(
            f"{'This name' if len(wrong) == 1 else 'These names'} cannot be used on Cloudflare: {', '.join(wrong)}.",
            code="invalid_name",
            hint="Begin with a letter; use lower-case letters and digits, with single hyphens or underscores between.",
        )


def _check_classes(files: Mapping[DurableClass, str]) -> None:
    reserved = [f"{file} ({found.class_name})" for found, file in files.items() if found.class_name in _RESERVED]
    if reserved:
        raise ConfigError(
            f"The class of a Durable Object cannot have a name that a Worker uses itself: {', '.join(reserved)}.",
            code="invalid_name",
            hint="Rename the file.",
        )
    clashes = [f"{class_name} ({', '.join(shown)})" for class_name, shown in _clashes(files)]
    if clashes:
        raise ConfigError(
            f"On Cloudflare these would share one Durable Object class: {'; '.join(clashes)}.",
            code="duplicate_name",
            hint="Rename all but one of each group: hyphens vanish from class names, and workflows end in Workflow.",
        )


def _clashes(files: Mapping[DurableClass, str]) -> Iterator[tuple[str, list[str]]]:
    by_class: dict[str, list[str]] = {REGISTRY.class_name: ["Flue's own registry"]}
    for found, file in files.items():
        by_class.setdefault(found.class_name, []).append(file)
    yield from ((class_name, shown) for class_name, shown in by_class.items() if len(shown) > 1)

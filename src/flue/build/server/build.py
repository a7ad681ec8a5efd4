"""Builds a project for servers: sources, locked requirements, a Dockerfile, a manifest.

    dist/
      app/                the project's files
      wheels/             Flue itself, where it comes from no package index
      requirements.txt    every package with its hashes
      Dockerfile          an image that starts it
      manifest.json       what can be asked for, and how it is started

The same input gives the same bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flue.build.dependencies import find_uv
from flue.build.output import copy_file, earlier, write_output
from flue.build.server.dockerfile import dockerfile
from flue.build.server.requirements import WHEELS, Lock, lock_requirements
from flue.build.sources import Sources, find_sources
from flue.errors import ConfigError
from flue.messages import Json
from flue.project.config import Config, load_config
from flue.project.loader import Project

APP = "app"
_REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True, slots=True)
class Built:
    """What a build consists of."""

    sources: Sources
    lock: Lock


def build(project: Project, config: Config, *, without: Collection[Path] = (), uv: str | None = None) -> Built:
    """Build a loaded project into the output folder, which is replaced when all is there.

    `without` are files that must not go in, whatever their names. `uv` is the resolver to use, by default the one that
    is found, else pip. Raises `ConfigError`: `output_not_ours`,
    `cannot_write`, `lock_failed`, `not_installed`, `config_outside`.
    """
    uv = uv or find_uv()
    sources = find_sources(config.root, without=[config.output, *without])
    start = ["flue", "start", "--root", APP]
    packed = load_config(config.root)
    if packed.target != config.target:
        start += ["--target", config.target]
    if (packed.log, packed.keep) != (config.log, config.keep):
        raise ConfigError(
            f"The settings [log] and [keep] of {config.file} are not part of the build: the file lies elsewhere.",
            code="config_outside",
            hint=f"Put them into a flue.toml in {config.root}.",
        )
    locks: list[Lock] = []

    def write(folder: Path) -> None:
        for name, path in sources.files.items():
            copy_file(path, folder / APP / name)
        lock = lock_requirements(config.root, folder, before=earlier(config, _REQUIREMENTS), uv=uv)
        locks.append(lock)
        (folder / _REQUIREMENTS).write_text(lock.text, encoding="utf-8")
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        text = dockerfile(python, start, wheels=(folder / WHEELS).is_dir())
        (folder / "Dockerfile").write_text(text, encoding="utf-8")
        manifest = json.dumps({**manifest_of(project), "start": start, "python": python}, indent=2)
        (folder / "manifest.json").write_text(f"{manifest}\n", encoding="utf-8")

    write_output(config, write)
    return Built(sources, locks[0])


def manifest_of(project: Project) -> Json:
    """Return agents and workflows with the transports by which they are reached."""
    agents: list[Json] = []
    for name, agent in sorted(project.agents.items()):
        transports = _transports(agent, webhook=agent.webhook)
        agents.append({"name": name, "transports": transports, **({"created": True} if agent.agent else {})})
    workflows = [{"name": name, "transports": _transports(each)} for name, each in sorted(project.workflows.items())]
    return {"agents": agents, "workflows": workflows}


def _transports(module: Any, *, webhook: bool = False) -> Json:
    http, websocket = module.route is not None or webhook, module.websocket is not None
    return {**({"http": True} if http else {}), **({"websocket": True} if websocket else {})}

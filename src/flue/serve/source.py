"""Where a served project comes from: its configuration, its environment file, its modules; each can be read again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flue.errors import ConfigError
from flue.project.config import Config, load_config
from flue.project.env import EnvFile, load_env

if TYPE_CHECKING:
    from flue.project.loader import Project


@dataclass(slots=True)
class Environment:
    """The process's variables, under the environment file's: what the shell sets wins, `fixed` wins over both.

    The values are also set in `os.environ`, where the libraries of the user's modules look.
    """

    fixed: Mapping[str, str] = field(default_factory=dict)
    _shell: dict[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    _set: dict[str, str] = field(default_factory=dict, repr=False)

    def apply(self, file: EnvFile) -> dict[str, str]:
        """Set what the file says, take back what it does not say any more, and return all variables."""
        values = {name: value for name, value in file.values.items() if name not in self._shell} | dict(self.fixed)
        for name in self._set.keys() - values.keys():
            os.environ.pop(name, None)
            if name in self._shell:
                os.environ[name] = self._shell[name]
        os.environ.update(values)
        self._set = values
        return file.over(self._shell) | dict(self.fixed)

    def restore(self) -> None:
        """Take back everything."""
        self.fixed = {}
        self.apply(EnvFile(None, {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A project as the command line names it; None leaves the choice to the project."""

    cwd: Path
    root: str | None = None
    config: str | None = None
    env: str | None = None
    target: str | None = None
    output: str | None = None

    def read_config(self) -> Config:
        """Read the configuration. Raises `ConfigError`, also for a target that cannot run here."""
        config = load_config(self.cwd, config=self.config, root=self.root, target=self.target, output=self.output)
        if config.target != "server":
            raise ConfigError(
                f"This project's target is {config.target}; its bindings exist only in a Worker.",
                code="unsupported_target",
                hint="Add --target server to run it here without them.",
            )
        return config

    def read_env(self, config: Config) -> EnvFile:
        """Read the environment file. Raises `ConfigError`."""
        return load_env(config.env_directory, self.cwd / self.env if self.env is not None else None)

    def load(self, config: Config) -> Project:
        """Load the modules, and check the schemas of their tools. Raises `ConfigError`; nothing stays behind then."""
        from flue.project.loader import build_schemas, load_project  # a supervisor of workers loads none

        project = load_project(config=config)
        try:
            build_schemas(project)
        except BaseException:
            project.unload()
            raise
        return project

"""What commands do first: environment, configuration, log, store, and for those that run a project its modules."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flue.errors import ConfigError
from flue.project.config import Config, load_config
from flue.project.data import DATA_FILE, data_file
from flue.project.env import load_env
from flue.project.layout import shown
from flue.project.loader import Project, build_schemas, load_project
from flue.stores import store_from_env
from flue.stores.location import DATABASE_URL

if TYPE_CHECKING:
    from flue.durable.port import DurableStore
    from flue.engine.catalog import Catalog
    from flue.engine.service import Service


@dataclass(frozen=True, slots=True)
class Located:
    """Where a project is, and the environment it runs in."""

    config: Config
    env: Mapping[str, str]

    @property
    def data_file(self) -> Path:
        """Return the file that keeps conversations and work, unless `FLUE_DATABASE_URL` names another store."""
        return self.config.root / DATA_FILE

    @property
    def has_data(self) -> bool:
        """Say whether there may be anything in the store."""
        return self._elsewhere or self.data_file.exists()

    def open_store(self) -> DurableStore:
        """Return the project's store; nothing is opened before its first use. Raises `UsageError`."""
        return store_from_env(self.env, None if self._elsewhere else data_file(self.config.root))

    @property
    def _elsewhere(self) -> bool:
        return bool(self.env.get(DATABASE_URL, "").strip())


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded project and where it is."""

    project: Project
    located: Located

    @property
    def env(self) -> Mapping[str, str]:
        """Return the environment it runs in."""
        return self.located.env

    @asynccontextmanager
    async def service(
        self, catalog: Catalog | None = None, *, take_over: bool = False, log_failures: bool = False
    ) -> AsyncIterator[Service]:
        """Have the project work on its store for the length of the block.

        Without `take_over` it does what it is asked for in the block, and leaves what others have accepted to servers.
        `catalog` is what it offers: by default all agents and workflows of the project. `log_failures` logs the
        traceback of what fails.
        """
        from flue.engine.engine import EngineSettings
        from flue.host import open_service
        from flue.project.catalog import catalog_of

        project = self.project
        # In this order: the service still writes when it ends.
        async with (
            aclosing(self.located.open_store()) as store,
            open_service(
                catalog_of(project) if catalog is None else catalog,
                store=store,
                env=self.env,
                roles=project.roles.values(),
                registrations=project.registrations,
                settings=EngineSettings(take_over=take_over, log_failures=log_failures, keep=project.config.keep),
                log=project.config.log,
                project=project.root.name,
            ) as service,
        ):
            yield service


@contextmanager
def located(args: argparse.Namespace) -> Iterator[Located]:
    """Find the project that the options name, without loading it; inside the block its warnings go to stderr.

    The environment file's values are also set in `os.environ`, where the libraries of the user's modules look, for the
    time of the block. Raises `ConfigError`.
    """
    cwd = Path.cwd()
    config = load_config(cwd, config=args.config, root=args.root, target=args.target)
    if config.file is not None:
        say(f"Loaded config: {shown(config.file, cwd)}")
    with _environment(args, cwd, config) as env, _logging(debug=args.debug):
        yield Located(config, env)


@contextmanager
def opened(args: argparse.Namespace, *, elsewhere: str) -> Iterator[Opened]:
    """Load the project that the options name; inside the block `print` writes to stderr, so that stdout holds results.

    `elsewhere` says how to reach a project of the cloudflare target, which cannot run here. Otherwise as `located`.
    """
    with located(args) as found, contextlib.redirect_stdout(sys.stderr):
        if found.config.target != "server":
            raise ConfigError(
                f"This project's target is {found.config.target}; its bindings exist only in a Worker.",
                code="unsupported_target",
                hint=f"Add --target server to run it here without them, or {elsewhere}",
            )
        project = load_project(config=found.config)
        try:
            build_schemas(project)
            yield Opened(project, found)
        finally:
            project.unload()


def say(text: str) -> None:
    """Write a line of Flue's own to stderr."""
    print(f"[flue] {text}", file=sys.stderr, flush=True)


@contextmanager
def _environment(args: argparse.Namespace, cwd: Path, config: Config) -> Iterator[Mapping[str, str]]:
    file = load_env(config.env_directory, cwd / args.env if args.env is not None else None)
    if file.path is not None:
        say(f"Loading env from: {shown(file.path, cwd)}")
    before = dict(os.environ)
    file.apply(os.environ)
    try:
        yield file.over(before)
    finally:
        for name in file.values:
            if name not in before:
                os.environ.pop(name, None)


@contextmanager
def _logging(*, debug: bool) -> Iterator[None]:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(debug=debug))
    logger = logging.getLogger("flue")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _OneLine(logging.Formatter):
    def __init__(self, *, debug: bool) -> None:
        super().__init__("[flue] %(levelname)s: %(message)s")
        self._debug = debug

    def format(self, record: logging.LogRecord) -> str:
        if self._debug:
            return super().format(record)
        return f"[flue] {record.levelname.lower()}: {' '.join(record.getMessage().split())}"

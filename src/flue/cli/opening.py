"""What every command that runs a project does first: environment, configuration, modules, log, store."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flue.errors import ConfigError
from flue.project.config import Config, load_config
from flue.project.env import load_env
from flue.project.layout import shown
from flue.project.loader import Project, build_schemas, load_project

DATA_FOLDER = ".flue-data"


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded project, the environment it runs in, and the file that keeps its conversations."""

    project: Project
    env: Mapping[str, str]
    store: Path


@contextmanager
def opened(args: argparse.Namespace, *, elsewhere: str) -> Iterator[Opened]:
    """Load the project that the options name; inside the block `print` writes to stderr, so that stdout holds results.

    The environment file's values are also set in `os.environ`, where the libraries of the user's modules look, for
    the time of the block. `elsewhere` says how to reach a project of the cloudflare target, which cannot run here.
    Raises `ConfigError`.
    """
    cwd = Path.cwd()
    config = load_config(cwd, config=args.config, root=args.root, target=args.target)
    if config.file is not None:
        _say(f"Loaded config: {shown(config.file, cwd)}")
    if config.target != "server":
        raise ConfigError(
            f"This project's target is {config.target}; its bindings exist only in a Worker.",
            code="unsupported_target",
            hint=f"Add --target server to run it here without them, or {elsewhere}",
        )
    with _environment(args, cwd, config) as env, _logging(debug=args.debug), contextlib.redirect_stdout(sys.stderr):
        project = load_project(config=config)
        try:
            build_schemas(project)
            yield Opened(project, env, _data_folder(project.root) / "flue.db")
        finally:
            project.unload()


@contextmanager
def _environment(args: argparse.Namespace, cwd: Path, config: Config) -> Iterator[Mapping[str, str]]:
    file = load_env(config.env_directory, cwd / args.env if args.env is not None else None)
    if file.path is not None:
        _say(f"Loading env from: {shown(file.path, cwd)}")
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


def _data_folder(root: Path) -> Path:
    folder = root / DATA_FOLDER
    # Where this cannot be written, the store says so in its own words.
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("# Conversations; made by flue.\n*\n", encoding="utf-8")
    return folder


def _say(text: str) -> None:
    print(f"[flue] {text}", file=sys.stderr)

"""`flue build`: make of the project what a server, a container or a Worker starts."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from flue.build.output import check_output
from flue.cli.arguments import add_project_options
from flue.errors import ConfigError
from flue.project.config import load_config
from flue.project.layout import shown
from flue.serve.logs import logging_to_stderr, say
from flue.serve.source import Environment, Source


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--output", metavar="DIR", help="where the build goes (default: dist)")
    add_project_options(parser)


def execute(args: argparse.Namespace) -> int:
    """Load the project, which finds its mistakes, and build it."""
    cwd = Path.cwd()
    config = load_config(cwd, config=args.config, root=args.root, target=args.target, output=args.output)
    if config.target != "server":
        raise ConfigError(f"Building for {config.target} is not there yet.", code="unsupported_target")
    check_output(config)
    began = time.perf_counter()
    source = Source(cwd=cwd, root=args.root, config=args.config, env=args.env, target="server", output=args.output)
    environment = Environment()
    file = source.read_env(config)
    say(f"Building: {config.target}")
    try:
        environment.apply(file)
        with logging_to_stderr():
            _build(source, [] if file.path is None else [file.path])
    finally:
        environment.restore()
    folder = shown(config.output, cwd)
    say(f"Built {folder} in {round((time.perf_counter() - began) * 1000)} ms")
    say(f"Next: docker build -t my-agents {folder}")
    install = "pip install --require-hashes -r requirements.txt"
    say(f"Or, in a fresh environment: cd {folder} && {install} && flue start --root app")
    return 0


def _build(source: Source, without: list[Path]) -> None:
    from flue.build.server.build import build

    config = source.read_config()
    project = source.load(config)
    try:
        built = build(project, config, without=without)
    finally:
        project.unload()
    sources, lock = built.sources, built.lock
    say(f"Locked {lock.packages} packages with {lock.resolver}")
    for notice in lock.notices:
        say(f"warning: {notice}")
    say(f"Copied {len(sources.files)} files")
    for names, reason in (
        (sources.secrets, "their names say that they hold secrets"),
        (sources.links, "they are links to folders, or out of the project"),
    ):
        if names:
            say(f"warning: Left out, because {reason}: {', '.join(names)}")

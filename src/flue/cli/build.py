"""`flue build`: make of the project what a server, a container or a Worker starts."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from flue.build.output import check_output
from flue.cli.arguments import add_json_option, add_project_options
from flue.cli.output import write_json
from flue.messages import Json
from flue.project.config import load_config
from flue.project.layout import shown
from flue.serve.logs import logging_to_stderr, say
from flue.serve.source import Environment, Source


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--output", metavar="DIR", help="where the build goes (default: dist)")
    add_project_options(parser)
    add_json_option(parser, "print what was built as JSON")


def execute(args: argparse.Namespace) -> int:
    """Load the project, which finds its mistakes, and build it."""
    cwd = Path.cwd()
    config = load_config(cwd, config=args.config, root=args.root, target=args.target, output=args.output)
    check_output(config)
    began = time.perf_counter()
    source = Source(cwd=cwd, root=args.root, config=args.config, env=args.env, target="server", output=args.output)
    environment = Environment()
    file = source.read_env(config)
    say(f"Building: {config.target}")
    without = [] if file.path is None else [file.path]
    try:
        env = environment.apply(file)
        with logging_to_stderr():
            if config.target == "cloudflare":
                from flue.cli.build_worker import build_worker

                report = build_worker(source, config, env, without, cwd=cwd)
            else:
                report = _build_server(source, without, cwd=cwd)
    finally:
        environment.restore()
    milliseconds = round((time.perf_counter() - began) * 1000)
    folder = shown(config.output, cwd)
    say(f"Built {folder} in {milliseconds} ms")
    for number, line in enumerate(report["next"]):
        say(f"{'Or, ' if number else 'Next: '}{line}")
    if args.json:
        write_json({"target": config.target, "output": str(config.output), **report}, sys.stdout, pretty=True)
    return 0


def tell_left_out(secrets: Sequence[str], links: Sequence[str]) -> Json:
    """Say which files are not in the build although one would expect them, and return them as data."""
    reasons = (
        (secrets, "their names say that they hold secrets"),
        (links, "they are links to folders, or out of the project"),
    )
    for names, reason in reasons:
        if names:
            say(f"warning: Left out, because {reason}: {', '.join(names)}")
    return {"secrets": list(secrets), "links": list(links)}


def tell_notices(notices: Sequence[str]) -> list[str]:
    """Say what a user should know, and return it as data."""
    for notice in notices:
        say(f"warning: {notice}")
    return list(notices)


def _build_server(source: Source, without: list[Path], *, cwd: Path) -> Json:
    from flue.build.server.build import build

    config = source.read_config()
    project = source.load(config)
    try:
        built = build(project, config, without=without)
    finally:
        project.unload()
    sources, lock = built.sources, built.lock
    say(f"Locked {lock.packages} packages with {lock.resolver}")
    notices = tell_notices(lock.notices)
    say(f"Copied {len(sources.files)} files")
    left_out = tell_left_out(sources.secrets, sources.links)
    folder = shown(config.output, cwd)
    install = "pip install --require-hashes -r requirements.txt"
    return {
        "packages": lock.packages,
        "files": len(sources.files),
        "leftOut": left_out,
        "notices": notices,
        "next": [
            f"docker build -t my-agents {folder}",
            f"in a fresh environment: cd {folder} && {install} && flue start --root app",
        ],
    }

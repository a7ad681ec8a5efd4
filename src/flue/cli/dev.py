"""`flue dev`: serve the project, and go on with its newest code whenever a file changes."""

from __future__ import annotations

import argparse
from pathlib import Path

from flue.cli.arguments import add_project_options
from flue.cli.serving import check_port, source_of
from flue.errors import ConfigError
from flue.project.config import load_config
from flue.project.layout import find_layout, shown
from flue.serve.listening import listen, url_of
from flue.serve.source import Source

DEFAULT_PORT = 3583  # FLUE on a telephone's keypad


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, metavar="N", help=f"default: {DEFAULT_PORT}")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default: 127.0.0.1, this machine only")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="answer under this name, too (a tunnel's)"
    )
    parser.add_argument("--output", metavar="DIR", help="where builds go, which is not watched (default: dist)")
    add_project_options(parser)


def execute(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    if load_config(Path.cwd(), config=args.config, root=args.root, target=args.target).target == "cloudflare":
        return _develop_worker(args)
    source = source_of(args)
    config = source.read_config()
    find_layout(config.root)  # modules with mistakes are waited for; a folder without a project is the wrong one
    listening = listen(args.host, check_port(args.port))
    from flue.dev.server import develop
    from flue.serve.logs import logging_to_stderr, say
    from flue.serve.process import Stop

    say("Starting dev server")
    if config.file is not None:
        say(f"Loaded config: {shown(config.file, Path.cwd())}")
    with listening, logging_to_stderr():
        url = url_of(args.host, listening)
        code = Stop().run(
            lambda stop: develop(
                source, config, listening, stop, url=url, allowed=[args.host, *args.allow_host], debug=args.debug
            )
        )
    say("Stopped.")
    return code


def _develop_worker(args: argparse.Namespace) -> int:
    from flue.dev.cloudflare.server import develop_worker
    from flue.serve.logs import logging_to_stderr, say
    from flue.serve.process import Stop

    cwd = Path.cwd()
    config = load_config(cwd, config=args.config, root=args.root, target=args.target, output=args.output)
    find_layout(config.root)
    if args.allow_host:
        raise ConfigError("--allow-host is for the target server.", code="invalid_arguments")
    with listen(args.host, check_port(args.port)) as free:  # to say so now if it is taken
        port = free.getsockname()[1]
    source = Source(cwd=cwd, root=args.root, config=args.config, env=args.env, target=args.target, output=args.output)
    say("Starting dev server")
    if config.file is not None:
        say(f"Loaded config: {shown(config.file, cwd)}")
    with logging_to_stderr():
        code = Stop().run(
            lambda stop: develop_worker(source, config, stop, host=args.host, port=port, debug=args.debug)
        )
    say("Stopped.")
    return code

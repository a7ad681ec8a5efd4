"""`flue start`: serve a project, or what `flue build` made of one, until the process is told to end."""

from __future__ import annotations

import argparse

from flue.cli.arguments import add_project_options
from flue.cli.serving import check_port, source_of
from flue.errors import ConfigError
from flue.serve.listening import listen, url_of
from flue.serve.source import Environment

DEFAULT_PORT = 3000
DEFAULT_HOST = "0.0.0.0"  # noqa: S104 - a server is there to be reached


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--port", type=int, metavar="N", help=f"default: PORT of the environment, else {DEFAULT_PORT}")
    parser.add_argument("--host", metavar="ADDRESS", help="default: HOST of the environment, else all interfaces")
    add_project_options(parser)


def execute(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    source, environment = source_of(args), Environment()
    config = source.read_config()
    env = environment.apply(source.read_env(config))
    host = args.host or env.get("HOST", "").strip() or DEFAULT_HOST
    port = check_port(args.port if args.port is not None else _port(env.get("PORT", "")))
    with listen(host, port) as listening:
        from flue.serve.logs import logging_to_stderr, say
        from flue.serve.process import Stop
        from flue.serve.running import serve_until_stopped
        from flue.serve.site import Site

        async def serve(stop: Stop) -> None:
            async with Site() as site:
                version = await site.deploy(source.load(config), env)
                say(f"Server listening on {url_of(host, listening)}")
                if version.application.local:
                    say("Mode: local")
                for kind, names in (("Agents", version.project.agents), ("Workflows", version.project.workflows)):
                    if names:
                        say(f"{kind}: {', '.join(sorted(names))}")
                await serve_until_stopped(site, site, listening, stop, trust_proxy=True)

        with logging_to_stderr():
            code = Stop().run(serve)
        say("Stopped.")
        return code


def _port(text: str) -> int:
    if not text.strip():
        return DEFAULT_PORT
    if not (text.strip().isascii() and text.strip().isdigit()):
        raise ConfigError(f"PORT is {text!r}, which is no number.", code="invalid_arguments")
    return int(text)

"""`flue start`: serve a project, or what `flue build` made of one, until the process is told to end.

With several workers this process keeps them, and each of them is this command with `--worker`: it finds the environment
as the first process has read it, and the socket that listens.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flue.cli.arguments import add_project_options
from flue.cli.serving import check_port, source_of
from flue.errors import ConfigError
from flue.project.config import Config
from flue.serve.listening import listen, url_of
from flue.serve.source import Environment, Source

if TYPE_CHECKING:
    from flue.serve.process import Stop

DEFAULT_PORT = 3000
DEFAULT_HOST = "0.0.0.0"  # noqa: S104 - a server is there to be reached
MOST_WORKERS = 128


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--port", type=int, metavar="N", help=f"default: PORT of the environment, else {DEFAULT_PORT}")
    parser.add_argument("--host", metavar="ADDRESS", help="default: HOST of the environment, else all interfaces")
    parser.add_argument(
        "--workers", metavar="N", help="processes on the port; default: WEB_CONCURRENCY of the environment, else 1"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # see `flue.serve.worker`
    add_project_options(parser)


def execute(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    source, environment = source_of(args), Environment()
    config = source.read_config()
    if args.worker is not None:
        from flue.serve.worker import Channel

        channel = Channel.inherited(args.worker)
        with channel.listening() as listening:
            serving = _Serving(source, config, dict(os.environ), channel.answers)
            return serving.run(listening, supervisor=channel.descriptor)
    env = environment.apply(source.read_env(config))
    host = args.host or env.get("HOST", "").strip() or DEFAULT_HOST
    port = check_port(args.port if args.port is not None else _port(env.get("PORT", "")))
    workers = workers_of(args.workers, env)
    with listen(host, port) as listening:
        from flue.serve.logs import say

        url = url_of(host, listening)

        def served(lines: Sequence[str]) -> None:
            for line in (f"Server listening on {url}", *([f"Workers: {workers}"] if workers > 1 else []), *lines):
                say(line)

        if workers > 1:
            from flue.serve.supervisor import Supervisor, command_of

            return Supervisor(command_of(_arguments_of_worker(args)), workers, listening, served).run()
        code = _Serving(source, config, env, served).run(listening)
        say("Stopped.")
        return code


def _arguments_of_worker(args: argparse.Namespace) -> list[str]:
    arguments = ["start"]
    for name in ("root", "config", "target"):  # not `env`: it is read, and may have been a pipe
        if getattr(args, name) is not None:
            arguments += [f"--{name}={getattr(args, name)}"]
    return [*arguments, *(["--debug"] if args.debug else []), "--worker"]


@dataclass(frozen=True, slots=True)
class _Serving:
    """What one process does; `served` gets what is to be said of the project, when it answers."""

    source: Source
    config: Config
    env: Mapping[str, str]
    served: Callable[[Sequence[str]], None]

    def run(self, listening: socket.socket, *, supervisor: int | None = None) -> int:
        from flue.serve.logs import logging_to_stderr
        from flue.serve.process import Stop

        with logging_to_stderr():
            return Stop(supervisor).run(lambda stop: self._serve(listening, stop))

    async def _serve(self, listening: socket.socket, stop: Stop) -> None:
        from flue.serve.running import serve_until_stopped
        from flue.serve.site import Site

        async with Site() as site:
            version = await site.deploy(self.source.load(self.config), self.env)
            lines = ["Mode: local"] if version.application.local else []
            for kind, names in (("Agents", version.project.agents), ("Workflows", version.project.workflows)):
                if names:
                    lines.append(f"{kind}: {', '.join(sorted(names))}")
            self.served(lines)
            await serve_until_stopped(site, site, listening, stop, trust_proxy=True)


def workers_of(option: str | None, env: Mapping[str, str]) -> int:
    """Return how many processes are to serve: what the option says, else WEB_CONCURRENCY, else 1.

    Raises `ConfigError`: `invalid_arguments` for what is no such number, `workers_unavailable` where the store or the
    platform allows one process only.
    """
    name, text = ("--workers", option) if option is not None else ("WEB_CONCURRENCY", env.get("WEB_CONCURRENCY", ""))
    if option is None and not text.strip():
        return 1
    count = int(text) if re.fullmatch(r"\s*[0-9]{1,9}\s*", text) else 0
    if not 1 <= count <= MOST_WORKERS:
        raise ConfigError(
            f"{name} is {text!r}; it is how many processes serve, from 1 to {MOST_WORKERS}.", code="invalid_arguments"
        )
    if count > 1:
        _check_workers_possible(f"{name} asks for {count} processes", env)
    return count


def _check_workers_possible(asked: str, env: Mapping[str, str]) -> None:
    from flue.serve import supervisor
    from flue.stores.location import DATABASE_URL, is_memory

    if not supervisor.SUPPORTED:
        reason, hint = "this platform cannot hand a socket down to them", "Start one process on each port."
    elif is_memory(env.get(DATABASE_URL, "")):
        reason = f"{DATABASE_URL} keeps everything in the memory of one"
        hint = "Let it name a file or a Postgres, or serve with one process."
    else:
        return
    raise ConfigError(f"{asked}, but {reason}.", code="workers_unavailable", hint=hint)


def _port(text: str) -> int:
    if not text.strip():
        return DEFAULT_PORT
    if not (text.strip().isascii() and text.strip().isdigit()):
        raise ConfigError(f"PORT is {text!r}, which is no number.", code="invalid_arguments")
    return int(text)

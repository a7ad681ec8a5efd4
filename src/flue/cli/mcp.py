"""`flue mcp`: the project's workflows and agents as tools of an MCP server, over stdio or on a loopback port.

A workflow is a tool of its own name; an agent is `agent_<name>` with the arguments `id`, `message` and `session`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from flue.cli.arguments import add_project_options
from flue.cli.interrupts import Interrupts
from flue.cli.mcp_tools import served_tools
from flue.cli.opening import Opened, opened, say
from flue.cli.raised import Raised
from flue.cli.stdin import Lines
from flue.errors import ConfigError
from flue.mcp.failure import require_sdk

DEFAULT_PORT = 8000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--transport", choices=("stdio", "http"), default="stdio", help="how clients connect (default: stdio)"
    )
    parser.add_argument(
        "--port",
        type=int,
        metavar="N",
        help=f"port on 127.0.0.1 for http; 0 takes a free one (default: {DEFAULT_PORT})",
    )
    add_project_options(parser)


def execute(args: argparse.Namespace) -> int:
    """Serve until the client closes stdin, or until Ctrl-C."""
    require_sdk()
    if args.port is not None and (args.transport != "http" or not 0 <= args.port < 65536):
        raise ConfigError("--port takes a number up to 65535 and goes with --transport http.", code="invalid_arguments")
    interrupts = Interrupts()
    with (
        _claimed_streams() if args.transport == "stdio" else nullcontext((-1, -1)) as streams,
        opened(args, elsewhere="serve the Worker's routes to your clients.") as project,
    ):
        return interrupts.run(_serve(args, project, streams))


async def _serve(args: argparse.Namespace, opened_: Opened, streams: tuple[int, int]) -> int:
    from flue import __version__
    from flue.mcp.serving import ToolServer, listen_on_loopback
    from flue.project.catalog import catalog_of

    project, raised, http = opened_.project, Raised(), args.transport == "http"
    # Over stdio it is one client's, started and ended with it; over HTTP a server, which also takes up what was left.
    catalog = raised.watching(catalog_of(project))
    async with opened_.service(catalog, take_over=http, log_failures=args.debug) as service:
        tools = served_tools(opened_, service, raised, say)
        server = ToolServer(project.root.name or "flue", __version__, tools)
        names = ", ".join(tool.name for tool in tools)
        if not http:
            await service.start()
            say(f"MCP server on stdin and stdout: {names}")
            await server.over_stdio(Lines(streams[0]), streams[1])
            return 0
        port = DEFAULT_PORT if args.port is None else args.port
        try:
            listening = listen_on_loopback(port)
        except OSError as error:
            raise ConfigError(
                f"Cannot listen on 127.0.0.1:{port}: {error.strerror}.",
                code="port_unavailable",
                hint="Choose another one with --port, or 0 for any that is free.",
            ) from error
        with listening:
            await service.start()
            say(f"MCP server at http://127.0.0.1:{listening.getsockname()[1]}/mcp: {names}")
            await server.over_http(listening)
        return 0


@contextmanager
def _claimed_streams() -> Iterator[tuple[int, int]]:
    """Take stdin and stdout for messages; whatever else in this process or its children uses them gets neither."""
    reading, writing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    try:
        yield reading, writing
    finally:
        os.dup2(reading, 0)
        os.dup2(writing, 1)
        # `reading` stays open: a thread may still wait on it, and its number must not be given away.
        os.close(writing)

"""The development server: listens, loads, watches, and says what it does on stderr."""

from __future__ import annotations

import asyncio
import shlex
import socket
from collections.abc import Collection

from flue.dev.blocked import watching_the_loop
from flue.dev.front import Front
from flue.dev.live import Live
from flue.dev.page import page
from flue.project.config import Config
from flue.project.layout import shown, source_root_of
from flue.project.loader import Project
from flue.serve.logs import say
from flue.serve.process import Stop
from flue.serve.running import serve_until_stopped
from flue.serve.site import Site
from flue.serve.source import Environment, Source

_HELLO = '{"message": "Hello"}'


async def develop(
    source: Source,
    config: Config,
    listening: socket.socket,
    stop: Stop,
    *,
    url: str,
    allowed: Collection[str],
    debug: bool = False,
) -> None:
    """Serve the project that `source` names on a listening socket, and load it again whenever it changes.

    A project that cannot be loaded is waited for: its error is shown, and every request answered with it. `url` is what
    to type into a browser, `allowed` are names to answer under; `debug` shows tracebacks of modules.
    """
    environment = Environment(fixed={"FLUE_MODE": "local"})
    try:
        async with Site() as site:
            live = Live(site, source, environment, config, debug=debug)
            say(f"Watching {shown(source_root_of(config.root), source.cwd)}")
            await live.load()
            say(f"Server: {url}")
            if site.version is not None:
                say(hint_for(site.version.project, url))
            say("Press Ctrl+C to stop")
            watching = asyncio.create_task(live.watch())
            try:
                front = Front(live, listening.getsockname()[1], page(live), allowed=allowed)
                with watching_the_loop(config.root, say):
                    await serve_until_stopped(site, front, listening, stop, trust_proxy=False)
            finally:
                watching.cancel()
                await asyncio.wait({watching})
    finally:
        environment.restore()


def hint_for(project: Project, url: str) -> str:
    """Return a line that shows how to call a project."""
    if project.app is not None:
        return f"Try: curl {url}/"
    for workflow in project.workflows.values():
        if workflow.route is not None:
            return f"Try: {_curl(f'{url}/workflows/{workflow.name}?wait=result', '{}')}"
    for agent in project.agents.values():
        if agent.route is not None:
            return f"Try: {_curl(f'{url}/agents/{agent.name}/me', _HELLO)}"
    files = [module.path for module in project.workflows.values()] + [module.path for module in project.agents.values()]
    return f"Nothing can be called yet: add `route = True` to {project.layout.shown(files[0])}"


def _curl(address: str, body: str) -> str:
    return f"curl {shlex.quote(address)} -H 'content-type: application/json' -d {shlex.quote(body)}"

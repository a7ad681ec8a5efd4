"""The development server for Cloudflare: builds, has Wrangler serve, watches, and says what it does on stderr."""

from __future__ import annotations

import asyncio

from flue.dev.cloudflare.local import Local
from flue.dev.cloudflare.tools import find_tools
from flue.project.config import Config
from flue.project.layout import shown, source_root_of
from flue.serve.logs import say
from flue.serve.process import Stop
from flue.serve.source import Source


async def develop_worker(
    source: Source, config: Config, stop: Stop, *, host: str, port: int, debug: bool = False
) -> None:
    """Serve the project's Worker until the process is to end.

    A project that cannot be built is waited for. Raises `ConfigError`: `missing_node`, `missing_wrangler`,
    `no_python_bundle`.
    """
    local = Local(source, config, find_tools(config.root), host=host, port=port, debug=debug)
    say(f"Watching {shown(source_root_of(config.root), source.cwd)}")
    serving = asyncio.create_task(_serve(local, f"http://localhost:{port}"))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
    finally:
        for task in (serving, stopping):
            task.cancel()
        await asyncio.wait({serving, stopping})
        await local.stop()


async def _serve(local: Local, url: str) -> None:
    say("Building")
    if await local.update():
        say(f"Server: {url}")
        if local.hint:
            say(local.hint)
    say("Press Ctrl+C to stop")
    await local.watch()

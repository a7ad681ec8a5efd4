"""This machine's bash in the place of a remote one."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path


class BashShell:
    """Implements `RemoteShell`. Keeps the scripts and the paths it was given.

    `before` is called with a script, in a thread, before it runs; `heard` makes something else of what was printed.
    """

    title = 'Place "here"'

    def __init__(self) -> None:
        self.scripts: list[str] = []
        self.uploaded: list[str] = []
        self.downloaded: list[str] = []
        self._calls: list[asyncio.Future[str]] = []
        self.before: Callable[[str], object] = lambda script: None
        self.heard: Callable[[str], str] = lambda printed: printed

    async def run(self, script: str, *, env: Mapping[str, str] | None = None, brief: bool = True) -> str:
        assert len(script.encode()) <= 100 * 1024
        self.scripts.append(script)
        # As elsewhere: a call that is cancelled goes on over there.
        call = asyncio.ensure_future(asyncio.to_thread(self._run, script, env or {}))
        self._calls.append(call)
        return self.heard(await asyncio.shield(call))

    async def settled(self) -> None:
        """Wait until all that was begun has ended, also what nobody waits for."""
        await asyncio.gather(*self._calls)

    async def download(self, path: str) -> bytes:
        self.downloaded.append(path)
        return Path(path).read_bytes()

    async def upload(self, path: str, content: bytes) -> None:
        self.uploaded.append(path)
        Path(path).write_bytes(content)

    def _run(self, script: str, env: Mapping[str, str]) -> str:
        self.before(script)
        done = subprocess.run(
            ["bash", "-c", script],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            start_new_session=True,
            check=False,
        )
        return done.stdout.decode("ascii")

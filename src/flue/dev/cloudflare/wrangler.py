"""Wrangler as a process: started, listened to, and ended with everything that it started."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flue.dev.cloudflare import guard
from flue.errors import ConfigError

READY_SECONDS = 180.0
"""The first start downloads Python, some 25 MB; a download that hangs is not waited for."""
RELOAD_SECONDS = 60.0

_ENDED = "[flue] error: Wrangler has ended. A change of the project starts it again. [worker_not_served]"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_READY = ("Ready on http", "Local server updated and ready")
# Tables of modules and bindings, and what it does anyway.
_NOISE = re.compile(
    r"^\s*$|^[┌├└│]|^⎔|^🪵|^(?:Attaching additional modules|Your Worker has access to|Binding +Resource|env\.|Using )"
    r"|^\[wrangler:info\] Ready on "
)
_NO_BUNDLE = re.compile(
    r"(?:Request for Pyodide bundle failed|Failed to get Pyodide bundle|Pyodide bundle [^;]*)[^\n]*"
)


class Wrangler:
    """One run of `wrangler dev` after the other. `tell` gets each line that a user should see.

    `ready_seconds` is how long a start may take, `term_seconds` how long an end before it is forced.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        *,
        ready_seconds: float = READY_SECONDS,
        term_seconds: float = guard.TERM_SECONDS,
    ) -> None:
        self._tell = tell
        self._ready_seconds = ready_seconds
        self._term_seconds = term_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._lines: list[str] = []
        self._changed = asyncio.Event()
        self._readies = 0
        self._stopping = False

    @property
    def alive(self) -> bool:
        """Say whether it runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        """Start it, and wait until it serves. Raises `ConfigError`: `no_python_bundle`, `worker_not_served`."""
        pipe = asyncio.subprocess.PIPE
        self._lines, self._readies, self._stopping = [], 0, False
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", guard.__file__, str(self._term_seconds), *command),
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.STDOUT,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
            limit=2**24,
        )
        self._reading = asyncio.create_task(self._read(self._process))
        await self.ready(0, self._ready_seconds)

    async def ready(self, after: int, seconds: float) -> int:
        """Wait until it has been ready more than `after` times; return how often. Raises as `start`."""
        try:
            async with asyncio.timeout(seconds):
                while self._readies <= after:
                    if not self.alive:
                        raise self._failure("it ended")
                    await self._changed.wait()
        except TimeoutError:
            raise self._failure(f"it was not ready after {seconds:g} s") from None
        return self._readies

    @property
    def readies(self) -> int:
        """Return how often it has been ready."""
        return self._readies

    async def stop(self) -> None:
        """End it, and all that it started: when this returns, nothing of it runs."""
        process, reading = self._process, self._reading
        if process is None or reading is None:
            return
        assert process.stdin is not None
        self._stopping = True
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), self._term_seconds + 1)
        reading.cancel()
        await asyncio.wait({reading})
        self._process = None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            async for data in process.stdout:
                self._take(data.decode(errors="replace").rstrip())
        finally:
            await process.wait()
            if self._readies and not self._stopping:
                self._tell(_ENDED)
            self._note()

    def _take(self, line: str) -> None:
        plain = _COLOURS.sub("", line)
        if any(mark in plain for mark in _READY):
            self._readies += 1
            self._note()
        if _NOISE.search(plain):
            return
        if self._readies:
            self._tell(line)
        else:
            self._lines.append(plain)

    def _note(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _failure(self, what: str) -> ConfigError:
        said = "\n".join(self._lines)
        bundle = _NO_BUNDLE.search(said)
        if bundle:
            return ConfigError(
                f"Cloudflare's local runtime has no Python: {bundle[0].strip()}.",
                code="no_python_bundle",
                hint="It downloads it at the first start. On a machine without internet set FLUE_WORKERD_BUNDLE_DIR to"
                " a folder that has the file at the end of that address.",
            )
        text = " ".join(said.split())
        return ConfigError(
            f"Wrangler does not serve the Worker: {what}. {text[-1500:] or 'It said nothing.'}",
            code="worker_not_served",
            hint="Change the project to try again.",
        )

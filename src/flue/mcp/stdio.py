"""An MCP server as a child process that speaks over its stdin and stdout.

The SDK starts it in a process group of its own, with few variables of our environment (HOME, LOGNAME, PATH, SHELL,
TERM, USER), and ends it with the connection: stdin is closed, then after 2 s SIGTERM, after 2 more SIGKILL.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from flue.mcp.watched import Watched

logger = logging.getLogger("flue.mcp")
MAX_LINE = 8192
LAST_WORDS = 1.0
"""Seconds to wait for the end of stderr, which a child of the process may keep open."""


class StdioWire:
    """A command that is a server. `env` is added to the few inherited variables."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path | None) -> None:
        self._name = name
        self._command = tuple(command)
        self._env = dict(env)
        self._cwd = cwd
        self._said: deque[str] = deque(maxlen=3)

    @property
    def label(self) -> str:
        """Return the program; its arguments may hold secrets."""
        return self._command[0]

    def last_words(self) -> str:
        """Return the last lines that the process wrote to stderr."""
        return " / ".join(self._said)

    @asynccontextmanager
    async def open(self, lost: Callable[[], None]) -> AsyncIterator[Any]:
        """Start the process."""
        from mcp import StdioServerParameters, stdio_client

        program, *arguments = self._command
        parameters = StdioServerParameters(command=program, args=arguments, env=self._env, cwd=self._cwd)
        self._said.clear()
        reading, writing = os.pipe()
        # A thread, because not every event loop can read a pipe; it ends when the last writer has gone.
        listener = threading.Thread(target=self._listen, args=(reading,), name=f"mcp {self._name}", daemon=True)
        listener.start()
        try:
            with os.fdopen(writing, "w") as errors:
                async with stdio_client(parameters, errlog=errors) as (read, write):
                    errors.close()
                    yield Watched(read, lost), write
        finally:
            # The process is gone; what it said last is still on its way through the thread.
            await asyncio.to_thread(listener.join, LAST_WORDS)

    def _listen(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as stream:
            while line := stream.readline(MAX_LINE):
                if text := line.strip():
                    self._said.append(text[:500])
                    logger.info("%s: %s", self._name, text)

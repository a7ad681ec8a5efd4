"""Servers of the office as the tests hold them: started, killed, ended in good order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.faults.office import Setting

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0


@dataclass(eq=False)
class Server:
    """A server's process."""

    pid: int
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def kill(self) -> None:
        """End it without a word."""
        os.kill(self.pid, signal.SIGKILL)

    def workers(self) -> list[int]:
        """Return the process ids of its workers, where it has some."""
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in found.stdout.split()]

    async def stop(self) -> int:
        """End it in good order; return its exit status."""
        os.kill(self.pid, signal.SIGTERM)
        return await asyncio.wait_for(self.ended, PATIENCE)

    async def answers(self) -> None:
        """Wait until it answers."""
        self.ended.add_done_callback(lambda _: self.ready.set())
        await asyncio.wait_for(self.ready.wait(), PATIENCE)
        assert not self.ended.done(), f"the server ended with status {self.ended.result()} before it answered"


class Fleet:
    """Servers that share one listening socket: who asks while there is none waits for the next."""

    def __init__(self, setting: Setting, errors: Path, workers: int = 1) -> None:
        self.setting = setting
        self.workers = workers
        self.errors = errors
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(512)
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._servers: dict[int, Server] = {}
        self._starting: asyncio.Queue[Server] = asyncio.Queue()
        self._nursery: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start the nursery."""
        with self.errors.open("ab") as errors:
            self._nursery = await asyncio.create_subprocess_exec(
                *(sys.executable, "-X", "faulthandler", "-m", "tests.faults.nursery"),
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                cwd=ROOT,
                pass_fds=[self._listening.fileno()],
            )
        assert self._nursery.stdout is not None
        said = await asyncio.wait_for(self._nursery.stdout.readline(), PATIENCE)
        assert said.startswith(b"nursery"), self.errors.read_text()
        self._reading = asyncio.create_task(self._read(self._nursery.stdout))

    async def start(self) -> Server:
        """Start a server; it may not answer yet."""
        assert self._nursery is not None
        assert self._nursery.stdin is not None
        order = {"listen": self._listening.fileno(), "workers": self.workers, **asdict(self.setting)}
        self._nursery.stdin.write(json.dumps(order).encode() + b"\n")
        return await asyncio.wait_for(self._starting.get(), PATIENCE)

    async def close(self) -> None:
        """Kill what still runs, and end the nursery."""
        assert self._nursery is not None
        assert self._nursery.stdin is not None
        assert self._reading is not None
        for server in self._servers.values():
            if not server.ended.done():
                server.kill()
        await asyncio.gather(*(server.ended for server in self._servers.values()))
        self._nursery.stdin.close()
        await asyncio.wait_for(self._nursery.wait(), PATIENCE)
        await self._reading
        self._listening.close()

    async def _read(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            match line.decode().split():
                case ["started", pid]:
                    # A server may answer before its nursery has said that it is there.
                    self._starting.put_nowait(self._server(pid))
                case ["ready", pid]:
                    self._server(pid).ready.set()
                case ["ended", pid, status]:
                    self._server(pid).ended.set_result(int(status))

    def _server(self, pid: str) -> Server:
        number = int(pid)
        known = self._servers.get(number)
        if known is None or known.ended.done():
            known = self._servers[number] = Server(number)
        return known


@asynccontextmanager
async def fleet(setting: Setting, errors: Path, workers: int = 1) -> AsyncIterator[Fleet]:
    """Open a fleet; what its servers complain of goes to the file `errors`."""
    opened = Fleet(setting, errors, workers)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()

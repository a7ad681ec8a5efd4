"""A process of the host, run to its end: in a session of its own, with its output collected and its time limited."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Literal

DRAIN = 0.25
"""Seconds to wait for the rest of the output after the process has ended, when something it started holds it open."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended. `status` is negative for a signal; `stopped_by` says why it was killed, if it was."""

    stdout: bytes
    stderr: bytes
    status: int
    stopped_by: Literal["", "timeout", "output"] = ""


async def run_process(
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    stdin: IO[Any] | None,
    timeout: float | None,
    output_limit: int,
) -> Ended:
    """Run a process and return how it ended.

    After `timeout` seconds, or more than `output_limit` bytes on one stream, it and everything in its session is
    killed. Cancelling the awaiting task does the same and waits until the process is gone. Raises `OSError`.
    """
    # Pipes of our own: those of asyncio's subprocess would make `wait` last until the last holder closes them.
    async with _Stream.opened(output_limit) as stdout, _Stream.opened(output_limit) as stderr:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=env,
            stdin=DEVNULL if stdin is None else stdin,
            stdout=stdout.write_end,
            stderr=stderr.write_end,
            start_new_session=True,
        )
        stdout.close_write_end()
        stderr.close_write_end()
        timed_out = await _wait(process, (stdout, stderr), timeout)
        await asyncio.wait({stdout.closed, stderr.closed}, timeout=DRAIN)
        over = stdout.full.done() or stderr.full.done()
        status = process.returncode
        assert status is not None
        return Ended(
            bytes(stdout.content), bytes(stderr.content), status, "output" if over else "timeout" if timed_out else ""
        )


async def _wait(process: Process, streams: tuple[_Stream, _Stream], timeout: float | None) -> bool:
    """Wait for the end of the process, bring it about where it must be, and say whether time ran out."""
    exited = asyncio.ensure_future(process.wait())
    try:
        ends: set[asyncio.Future[Any]] = {exited, *(stream.full for stream in streams)}
        done, _ = await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not exited.done():
            _kill_session(process)
            await exited
    return not done


def _kill_session(process: Process) -> None:
    # The process leads its session and is not reaped yet, so its number is still its own.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class _Stream(asyncio.Protocol):
    """One output stream: a pipe whose read end fills `content` up to a limit."""

    def __init__(self, limit: int, write_end: int) -> None:
        loop = asyncio.get_running_loop()
        self.content = bytearray()
        self.write_end = write_end
        self.full: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._limit = limit

    @classmethod
    @asynccontextmanager
    async def opened(cls, limit: int) -> AsyncIterator[_Stream]:
        """Open a stream for a block."""
        read_end, write_end = os.pipe()
        stream = cls(limit, write_end)
        reader = os.fdopen(read_end, "rb", buffering=0)
        try:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: stream, reader)
            try:
                yield stream
            finally:
                transport.close()
        finally:
            stream.close_write_end()

    def close_write_end(self) -> None:
        """Close our copy of the end that the process writes to."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def data_received(self, data: bytes) -> None:
        """Keep what arrives, up to the limit."""
        room = self._limit - len(self.content)
        self.content += data[:room]
        if len(data) > room and not self.full.done():
            self.full.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more will arrive."""
        if not self.closed.done():
            self.closed.set_result(None)

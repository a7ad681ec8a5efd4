"""The program's side of one worker process."""

from __future__ import annotations

import asyncio
import signal
import weakref
from collections.abc import Callable

from flue.errors import SandboxError
from flue.sandboxes.bashkit_shell import OUTPUT_LIMIT
from flue.sandboxes.channel import Channel
from flue.sandboxes.fork_server import ForkServer
from flue.sandboxes.journal import Journal
from flue.sandboxes.worker.frames import FrameError, Frames, encode

_KILLED = 137  # 128 and SIGKILL
START = 10.0
"""Seconds that a process may take to start."""


class WorkerEndedError(Exception):
    """The worker has ended. `exit_code` is 128 and the number of the signal, as a shell says it."""

    def __init__(self, exit_code: int, reason: str) -> None:
        super().__init__(reason)
        self.exit_code = exit_code
        self.reason = reason


class Worker:
    """One worker process, for one sandbox. Opening one raises `OSError` when the fork server has ended."""

    def __init__(self, server: ForkServer) -> None:
        self._server = server
        self._frames = Frames()
        self._calls: dict[int, asyncio.Future[list[bytes]]] = {}
        self._printed: dict[int, tuple[bytearray, bytearray]] = {}
        self._last = 0
        self._pid = 0
        self._ready: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self._calls[0] = self._ready
        self._ready.add_done_callback(_seen)
        self._began: dict[int, float] = {}
        self._why = ""
        self._failing: asyncio.Task[None] | None = None
        self._ended: WorkerEndedError | None = None
        self.filled: asyncio.Future[list[bytes]] | None = None
        """The answer that says that the worker has what its sandbox consists of."""
        self.journal: Journal | None = None
        self.saved = 0
        """The newest call whose changes to files are in the journal."""
        self.size = 0
        """Bytes that the sandbox's files would take in a journal."""
        end = server.fork(self._ready)
        self._channel = Channel(end, self._hear, self._lose)
        self._late = asyncio.get_running_loop().call_later(START, self.end, f"it did not start in {START:g} seconds")
        weakref.finalize(self, end.close)

    @property
    def alive(self) -> bool:
        """Say whether the worker can be asked."""
        return not self._channel.closed

    @property
    def ended_here(self) -> bool:
        """Say whether it was ended by this side."""
        return bool(self._why)

    async def started(self) -> None:
        """Return once the worker serves, for whom nothing is to be sent before. Raises `SandboxError`."""
        try:
            await asyncio.shield(self._ready)
        except WorkerEndedError as ended:
            raise SandboxError(f"The process of a sandbox did not start: {ended.reason}.") from ended

    def when_started(self, then: Callable[[], object]) -> None:
        """Have something called once the worker serves, or has ended before it did."""
        self._ready.add_done_callback(lambda _: then())

    def send(self, *fields: bytes, more: bool = False) -> None:
        """Send what is not answered. With `more`, something else follows at once."""
        self._channel.send(encode(0, *fields), more=more)

    def call(self, *fields: bytes, more: bool = False) -> tuple[int, asyncio.Future[list[bytes]]]:
        """Ask the worker; return the call's number and its answer. With `more`, another call follows at once.

        That is fields, or one of `OSError`, `SandboxError` and `WorkerEndedError`.
        """
        self._last += 1
        answer: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_seen)
        self._calls[self._last] = answer
        if self._channel.closed:
            self._lose()
        else:
            self._channel.send(encode(self._last, *fields), more=more)
        return self._last, answer

    def cancel(self, call: int) -> None:
        """Tell a command to stop."""
        self._channel.send(encode(call, b"cancel"))

    def printed(self, call: int) -> tuple[bytes, bytes]:
        """Return what a command has printed so far, as far as is known here (SBX-03)."""
        stdout, stderr = self._printed.get(call, (b"", b""))
        return bytes(stdout), bytes(stderr)

    def began(self, call: int) -> float | None:
        """Return the event loop's time at which a command began, None when it waits for its turn."""
        return self._began.get(call)

    def forget(self, call: int) -> None:
        """Drop what is kept of a call."""
        self._calls.pop(call, None)
        self._began.pop(call, None)
        self._printed.pop(call, None)

    async def drained(self) -> None:
        """Return once more can be sent."""
        await self._channel.drained()

    def end(self, why: str = "its sandbox was closed") -> None:
        """Kill the worker. Calls that wait end with `WorkerEndedError`, which says `why`."""
        self._why = self._why or why
        if self._pid:
            self._server.kill(self._pid)
        self._channel.close()
        self._lose()

    def _hear(self, data: bytes) -> None:
        try:
            for call, fields in self._frames.feed(data):
                self._take(call, fields[0], fields[1:])
        except (FrameError, ValueError, IndexError) as error:
            self.end(f"it sent something odd: {error}")

    def _take(self, call: int, what: bytes, fields: list[bytes]) -> None:
        if what == b"change" and self.journal is not None:
            self.journal.add(fields[0])
        elif what == b"saved" and self.journal is not None:
            self.journal.commit()
            self.saved, self.size = (int(field) for field in fields)
        elif what == b"all" and self.journal is not None:
            self.journal.start_over()
        elif what == b"printed":
            printed = self._printed.setdefault(call, (bytearray(), bytearray())) if call in self._calls else ()
            for stream, piece in zip(printed, fields, strict=False):
                stream.extend(piece[: OUTPUT_LIMIT - len(stream)])
        elif what == b"began":
            if call in self._calls:
                self._began[call] = asyncio.get_running_loop().time()
        elif what == b"ready" and not self._pid:
            self._pid = int(fields[0])
            self._late.cancel()
            self._settle(0, fields)
        elif what in (b"ok", b"oserror", b"failed"):
            self._settle(call, fields, what)
        else:
            raise ValueError(what)

    def _settle(self, call: int, fields: list[bytes], what: bytes = b"ok") -> None:
        error = _error(what, fields)
        answer = self._calls.pop(call, None)
        if answer is None or answer.done():
            return
        if error is None:
            answer.set_result(fields)
        else:
            answer.set_exception(error)

    def _lose(self) -> None:
        self._late.cancel()
        if self.journal is not None:
            self.journal.roll_back()
            self.journal = None
        if self._calls and (self._failing is None or self._failing.done()):
            self._failing = asyncio.get_running_loop().create_task(self._fail_all())

    async def _fail_all(self) -> None:
        if self._ended is None:
            code = await self._server.ended(self._pid) if self._pid and not self._why else None
            self._ended = self._end_error(code)
        while self._calls:
            _, answer = self._calls.popitem()
            if not answer.done():
                answer.set_exception(self._ended)

    def _end_error(self, code: int | None) -> WorkerEndedError:
        if self._why or code is None:
            return WorkerEndedError(_KILLED, self._why or "its process has ended")
        if code >= 0:
            return WorkerEndedError(code or 1, f"its process ended with status {code}")
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return WorkerEndedError(128 - code, _REASONS.get(name, f"its process was ended by signal {name}"))


def _error(what: bytes, fields: list[bytes]) -> Exception | None:
    """Return the error that an answer tells of (SBX-09). Raises `ValueError` when it makes no sense."""
    if what == b"ok":
        return None
    texts = [field.decode(errors="replace") for field in fields]
    if what == b"failed":
        return SandboxError(f"The virtual sandbox failed: {texts[0]}.")
    code, name, text = texts
    return OSError(int(code), text, name or None)


def _seen(answer: asyncio.Future[list[bytes]]) -> None:
    """Look at an answer: whoever asked may be gone when it comes."""
    if not answer.cancelled():
        answer.exception()


_REASONS = {
    "SIGSEGV": "it was nested too deeply for its stack",
    "SIGBUS": "it was nested too deeply for its stack",
    "SIGABRT": "it ran out of memory",
    "SIGXCPU": "it used up its processor time",
    "SIGKILL": "its process was killed, as happens when the machine runs out of memory",
}

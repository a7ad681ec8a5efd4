"""The virtual sandbox's engine in a worker process: a script can end its worker, and nothing else (SBX-02, SBX-12).

The worker holds the files and runs the commands. This side keeps a journal of changes, so a sandbox outlives its
worker: a new one gets the files it was opened with and replays the journal. That is what happens after a crash, after
a command that had to be killed, and after a rest.
"""

from __future__ import annotations

import asyncio
import errno
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from flue.errors import FlueError, SandboxError
from flue.ports import FileStat
from flue.sandboxes.bashkit_files import file_error
from flue.sandboxes.engine import Command, EngineOptions, Outcome, as_outcome, as_stat
from flue.sandboxes.given_files import GivenFiles
from flue.sandboxes.journal import Journal
from flue.sandboxes.places import kept_in
from flue.sandboxes.worker.frames import MAX_FRAME, number
from flue.sandboxes.worker_pool import WorkerPool
from flue.sandboxes.worker_process import Worker, WorkerEndedError

GRACE = 1.0
"""Seconds that a command may go on after its time, before its worker is killed."""
_ABORT_GRACE = 0.2
_SAVE = 1.0  # seconds that a worker gets to send changes before it is killed
_ANSWER = 60.0  # seconds within which whatever is not a command must be answered
_COMMANDS = 8  # at a time in one sandbox: each has a stack of its own
_CHANGING = (b"write", b"mkdir", b"rm")
_SLACK = 8 * 1024 * 1024
_TOO_LARGE = MAX_FRAME // 2

KILLED_NOTE = "It did not react and was killed."
KEPT_NOTE = "The sandbox was started again: its files are as they were when the command ended."
CRASHED_NOTE = (
    "The sandbox was started again: its files are as they were before this command, whose own changes are lost."
)
STALE_NOTE = "The sandbox was started again: the latest changes to its files are lost. Look before you go on."


@dataclass
class _Held:
    """What an engine must give back, apart from the engine so that it can be given back after its end."""

    pool: WorkerPool
    journal: Journal = field(default_factory=Journal)
    worker: Worker | None = None
    closed: bool = False

    def let_go(self, why: str = "its sandbox was closed") -> None:
        """End the worker, if there is one."""
        worker, self.worker = self.worker, None
        if worker is not None:
            self.pool.give_back(worker, why)


async def open_isolated(options: EngineOptions, pool: WorkerPool) -> IsolatedEngine:
    """Return an engine that gets a worker of its own, which holds the given files, when something is to be done.

    Raises `SandboxError` when workers cannot be started here, `OSError` (EFBIG) for a file that is too large. What else
    keeps a worker from having the files is met by whoever needs it first.
    """
    pool.prepare()
    for path, content in options.files.items():
        if len(content) > _TOO_LARGE:
            raise file_error(errno.EFBIG, path)
    return IsolatedEngine(options, pool)


class IsolatedEngine:
    """Implements `Engine` in a worker process."""

    about = ""

    def __init__(self, options: EngineOptions, pool: WorkerPool) -> None:
        self._options = options
        self._pool = pool
        self._held = _Held(pool)
        self._given: GivenFiles | None = GivenFiles(options.files)
        """What the files are until a worker has them."""
        self._users = 0
        self._attaching = asyncio.Lock()
        self._commands = asyncio.Semaphore(_COMMANDS)
        self._tidying = False
        self._changed = 0  # the last call that may have changed files and was answered
        weakref.finalize(self, _give_back, self._held, asyncio.get_running_loop())

    async def read_file(self, path: str) -> bytes:
        """Return the whole file; symlinks are followed."""
        if (given := self._still_given(path)) is not None:
            return given.read_file(path)
        return (await self._ask(b"read", path.encode()))[0]

    async def write_file(self, path: str, content: bytes) -> None:
        """Write the whole file and create missing parent directories."""
        if len(content) > _TOO_LARGE:
            raise file_error(errno.EFBIG, path)
        await self._ask(b"write", path.encode(), content)

    async def stat(self, path: str) -> FileStat:
        """Describe a path without following a final symlink."""
        if (given := self._still_given(path)) is not None:
            return given.stat(path)
        kind, size, modified = await self._ask(b"stat", path.encode())
        return as_stat(kind.decode(), int(size), float(modified))

    async def readdir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        if (given := self._still_given(path)) is not None:
            return given.readdir(path)
        return [name.decode() for name in await self._ask(b"readdir", path.encode())]

    async def exists(self, path: str) -> bool:
        """Say whether the path leads to something; never raises."""
        if (given := self._still_given(path)) is not None:
            return given.exists(path)
        try:
            return bool((await self._ask(b"exists", path.encode()))[0])
        except (OSError, FlueError):
            return False

    async def mkdir(self, path: str, *, recursive: bool) -> None:
        """Create a directory."""
        await self._ask(b"mkdir", path.encode(), _flag(recursive))

    async def rm(self, path: str, *, recursive: bool, force: bool) -> None:
        """Remove a file or a tree."""
        await self._ask(b"rm", path.encode(), _flag(recursive), _flag(force))

    async def run(self, command: Command) -> Outcome:
        """Run a command. Cancelling the awaiting task ends it. Raises `OSError` when its directory is missing."""
        seconds = min(command.seconds, self._options.limits.seconds)
        self._pool.usual = self._options.limits, seconds
        variables = [text.encode() for pair in command.env.items() for text in pair]
        stdin = b"" if command.stdin is None else b" " + command.stdin
        fields = (command.script.encode(), command.cwd.encode(), number(seconds), stdin, *variables)
        if sum(map(len, fields)) > _TOO_LARGE:
            what = "standard input" if len(stdin) > _TOO_LARGE // 2 else "command"
            raise file_error(errno.EFBIG, what)
        async with self._commands:
            # A worker that died before the command began did not die of it.
            for _ in range(2):
                outcome = await self._run(seconds, fields)
                if outcome is not None:
                    return outcome
        raise SandboxError("The sandbox's process ended twice before a command began.")

    async def park(self) -> None:
        """Give the worker back, unless it is in use. The files are kept, and the next use gets another worker."""
        async with self._attaching:
            if self._users or self._held.worker is None:
                return
            await self._save(self._held.worker, _ANSWER)
            self._held.let_go()

    async def close(self) -> None:
        """Give everything back: the files are gone. Closing twice is fine."""
        self._given = None
        self._pool.wake(self)
        _release(self._held)

    def _still_given(self, path: str) -> GivenFiles | None:
        """Return what knows a path without a worker, as long as none has changed anything."""
        return self._given if kept_in(path) else None

    # --------------------------------------------------------------------------------------------- commands

    async def _run(self, seconds: float, fields: tuple[bytes, ...]) -> Outcome | None:
        """Run a command in the worker and return how it ended, None when it never began."""
        async with self._worker() as worker:
            call, answer = worker.call(b"run", *fields)
            try:
                outcome = await self._outcome(worker, call, answer, seconds)
                if outcome.ending == "crashed" and worker.began(call) is None:
                    _check_filled(worker)
                    return None
                return outcome
            finally:
                worker.forget(call)
                self._tidy(worker)

    async def _outcome(self, worker: Worker, call: int, answer: asyncio.Future[list[bytes]], seconds: float) -> Outcome:
        try:
            await _wait(worker, call, answer, seconds + GRACE)
        except asyncio.CancelledError:
            await self._abort(worker, call, answer)
            raise
        if not answer.done():
            stdout, stderr = worker.printed(call)
            note = f"{KILLED_NOTE} {KEPT_NOTE if await self._kill(worker) else STALE_NOTE}"
            return Outcome(stdout, stderr, 137, "timeout", f"execution timeout ({seconds:g}s)", note)
        try:
            out, err, code, *texts = answer.result()
            ending, detail, note = (text.decode() for text in texts)
            self._changed = max(self._changed, call)
            return as_outcome((out, err, int(code), ending, detail, note))
        except WorkerEndedError as ended:
            survives = self._what_survives(worker)
            self._lost(worker)
            return Outcome(*worker.printed(call), ended.exit_code, "crashed", ended.reason, survives)
        except ValueError as error:
            self._lost(worker)
            raise SandboxError(f"A worker sent something odd: {error}.") from error

    def _what_survives(self, worker: Worker) -> str:
        if worker.saved < self._changed:
            return STALE_NOTE
        return KEPT_NOTE if worker.ended_here else CRASHED_NOTE

    async def _abort(self, worker: Worker, call: int, answer: asyncio.Future[list[bytes]]) -> None:
        """End a command; if it does not obey, with its worker (SBX-05)."""
        worker.cancel(call)
        await asyncio.wait({answer}, timeout=_ABORT_GRACE)
        if not answer.done():
            await self._kill(worker)

    async def _kill(self, worker: Worker) -> bool:
        """Kill a worker that runs a command which does not end, and say whether what it has written was saved first."""
        saved = await self._save(worker, _SAVE)
        self._lost(worker, "another command of this sandbox had to be killed")
        return saved

    def _lost(self, worker: Worker, why: str = "it has ended") -> None:
        if self._held.worker is worker:
            self._held.let_go(why)

    # ----------------------------------------------------------------------------------------------- workers

    async def _ask(self, *fields: bytes) -> list[bytes]:
        """Return a worker's answer. One that dies meanwhile, which is not the question's fault, is replaced once."""
        for last in (False, True):
            async with self._worker() as worker:
                try:
                    return await self._answer(worker, *fields)
                except WorkerEndedError as ended:
                    self._lost(worker)
                    _check_filled(worker)
                    if last:
                        raise SandboxError(f"The sandbox's process ended: {ended.reason}.") from ended
        raise AssertionError

    async def _answer(self, worker: Worker, *fields: bytes) -> list[bytes]:
        call, answer = worker.call(*fields)
        try:
            answered = await asyncio.wait_for(answer, _ANSWER)
            if fields[0] in _CHANGING:
                self._changed = max(self._changed, call)
            return answered
        except TimeoutError:
            self._lost(worker, "it did not answer")
            raise SandboxError("The sandbox's process does not answer.") from None
        finally:
            worker.forget(call)

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[Worker]:
        """Hold the worker for a block; it gets one if there is none."""
        self._users += 1
        self._pool.wake(self)
        try:
            async with self._attaching:
                if self._held.worker is None or not self._held.worker.alive:
                    await self._attach()
                worker = self._held.worker
            assert worker is not None
            yield worker
        finally:
            self._users -= 1
            if not self._users and self._held.worker is not None:
                self._pool.rest(self)

    async def _attach(self) -> None:
        self._check_open()
        self._held.let_go()
        worker = await self._pool.take()
        self._held.worker, self._changed = worker, 0
        try:
            self._check_open()  # it may have waited long for the worker
            await self._fill(worker)
        except BaseException:
            self._held.let_go()
            raise
        self._given = None

    def _check_open(self) -> None:
        if self._held.closed:
            raise SandboxError("The sandbox is closed.")

    async def _fill(self, worker: Worker) -> None:
        """Send a worker its limits and files. The call that follows goes along; what hinders these is its answer."""
        limits, journal = self._options.limits, self._held.journal
        counts = number(limits.commands), number(limits.loop_iterations), number(self._pool.memory)
        worker.send(b"open", *counts, *_network(self._options), more=True)
        if not journal.complete:
            for path, content in self._options.files.items():
                worker.send(b"put", path.encode(), content, more=True)
                await worker.drained()
        for piece in journal.pieces():
            worker.send(b"replay", piece, more=True)
            await worker.drained()
        _, worker.filled = worker.call(b"begin", more=True)
        worker.filled.add_done_callback(lambda _: self._leave_unfilled(worker))
        worker.journal = journal

    def _leave_unfilled(self, worker: Worker) -> None:
        if worker.filled is not None and worker.filled.exception() is not None:
            self._lost(worker)

    def _tidy(self, worker: Worker) -> None:
        """Have the journal written anew when most of it is of no use any more."""
        if worker.journal is not None and worker.journal.size > 2 * worker.size + _SLACK and not self._tidying:
            self._tidying = True
            _, answer = worker.call(b"dump")
            answer.add_done_callback(lambda _: setattr(self, "_tidying", False))

    async def _save(self, worker: Worker, seconds: float) -> bool:
        """Give a worker time to send what has changed, and say whether it did (SBX-04)."""
        call, answer = worker.call(b"save")
        await asyncio.wait({answer}, timeout=seconds)
        worker.forget(call)
        return answer.done() and answer.exception() is None


def _check_filled(worker: Worker) -> None:
    """Raise what kept a worker that has ended from having what its sandbox consists of, if something did."""
    error = worker.filled.exception() if worker.filled is not None and worker.filled.done() else None
    if isinstance(error, WorkerEndedError):
        raise SandboxError(f"The sandbox could not be opened: {error.reason}.") from error
    if error is not None:
        raise error


async def _wait(worker: Worker, call: int, answer: asyncio.Future[list[bytes]], seconds: float) -> None:
    """Wait for a command's end, `seconds` at most from its beginning: it may have to wait for its turn."""
    await asyncio.wait({answer}, timeout=seconds)
    if answer.done():
        return
    if worker.began(call) is None:
        await asyncio.wait({answer}, timeout=_ANSWER)
    began = worker.began(call)
    left = 0.0 if began is None else began + seconds - asyncio.get_running_loop().time()
    if left > 0 and not answer.done():
        await asyncio.wait({answer}, timeout=left)


def _give_back(held: _Held, loop: asyncio.AbstractEventLoop) -> None:
    """Release what an engine held that nobody has any more; this may be any thread."""
    if held.closed:
        return
    try:
        loop.call_soon_threadsafe(_release, held)
    except RuntimeError:
        # The loop is closed, and its pool has ended.
        held.journal.close()


def _release(held: _Held) -> None:
    held.closed = True
    held.let_go()
    held.journal.close()


def _network(options: EngineOptions) -> list[bytes]:
    network = options.network
    if network is None:
        return [b""]
    private = b"+" if network.private else b""
    return [b"a" + private] if network.allow is None else [b"p" + private, *(item.encode() for item in network.allow)]


def _flag(value: bool) -> bytes:
    return b"y" if value else b""

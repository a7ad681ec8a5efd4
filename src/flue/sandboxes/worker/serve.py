"""One worker: holds the files of one sandbox and runs its commands, for the program at the other end of a socket.

The main thread alone reads and writes the socket and looks at the files' changes; commands have threads of their own.
So it answers whatever a command does, short of the end of the process.

When files may have changed, the changes are sent, as a rule before the answer, and before the next command: a worker
that dies takes along only what the command that killed it has written. Where there are so many files that looking for
changes takes long, they are sent later.
"""

from __future__ import annotations

import _thread
import posix
import select
import time

from flue.sandboxes.bashkit_files import BashkitFiles
from flue.sandboxes.bashkit_shell import Printed, ended, with_stdin
from flue.sandboxes.places import WORKSPACE
from flue.sandboxes.worker.background import in_background
from flue.sandboxes.worker.changes import Changes
from flue.sandboxes.worker.confine import allow_processor_time, confine, confine_further
from flue.sandboxes.worker.frames import Frames, encode, number
from flue.sandboxes.worker.shells import Shells

TYPE_CHECKING = False  # see bashkit_files.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TICK_MS = 10  # how often what commands have printed is passed on
_PIECE = 1 << 18
_STACK = 32 << 20
_FILLING = (b"open", b"put", b"replay", b"begin")
# Looking for changes takes as long as `find` does, which in bashkit 0.20.1 is files times directories. Its share of
# the time is at most one tenth; answers wait for it only while it is quick, commands while it is not costly.
_LOOK_SHARE, _QUICK_LOOK, _COSTLY_LOOK, _LONGEST_LOOK = 10, 0.002, 0.1, 60.0


def serve_sandbox(connection: int) -> None:
    """Serve until the other end of the socket is closed. Does not return."""
    confine()
    _Worker(connection).serve()


def warm_up() -> None:
    """Run a command that does nothing: the first one of a process takes milliseconds longer.

    It has a thread of its own, to which the random seeds belong that it draws.
    """

    def work() -> None:
        shells = Shells(BashkitFiles())
        shells.limits = (10, 10)
        shells.open(WORKSPACE, {}, 1.0).execute_sync(":", on_output=Printed())

    in_background(work)()


class _Running:
    """A command at work."""

    def __init__(self, call: int, shell: Any, seconds: float) -> None:
        self.call = call
        self.shell = shell
        self.seconds = seconds
        self.printed = Printed()
        self.shown = 0  # pieces of `printed` that were passed on
        self.cancelled = False
        self.result: Any = None


class _Worker:
    def __init__(self, connection: int) -> None:
        self._connection = connection
        self._woken, self._waker = posix.pipe()
        self._ended: list[_Running] = []
        self._running: dict[int, _Running] = {}
        self._unsaved = False  # whether something may have changed files since changes were sent
        self._newest = 0  # the last call that may have
        self._save_at = 0.0
        self._files = BashkitFiles()
        self._changes = Changes(self._files)
        self._shells = Shells(self._files)
        self._unfilled: Exception | None = None  # what keeps it from having what its sandbox consists of
        self._unsent: list[bytes] = []
        self._unsent_size = 0
        self._given = False  # whether it got files that are no changes
        self._calls: dict[bytes, Callable[..., list[bytes] | None]] = {
            b"prepare": self._prepare,
            b"open": self._open,
            b"put": self._put,
            b"replay": self._replay,
            b"begin": self._begin,
            b"read": self._read,
            b"write": self._write,
            b"stat": self._stat,
            b"readdir": self._readdir,
            b"exists": self._exists,
            b"mkdir": self._mkdir,
            b"rm": self._rm,
            b"run": self._run,
            b"cancel": self._cancel,
            b"save": self._save_now,
            b"dump": self._dump,
        }

    def serve(self) -> None:
        frames, poller = Frames(), select.poll()
        poller.register(self._connection, select.POLLIN)
        poller.register(self._woken, select.POLLIN)
        self._send(0, b"ready", number(posix.getpid()))
        if not poller.poll(0):
            # Nobody waits yet for more than this.
            self._flush()
        while True:
            for descriptor, _ in poller.poll(self._patience()):
                data = posix.read(descriptor, _PIECE)
                if descriptor == self._connection:
                    if not data:
                        # The program has ended, or wants no more of this sandbox.
                        posix._exit(0)
                    for call, fields in frames.feed(data):
                        self._answer(call, fields)
            while self._ended:
                self._finish(self._ended.pop(0))
            self._flush()
            if self._unsaved and time.monotonic() >= self._save_at:
                self._save()
            self._show()
            self._flush()
            if not self._running and not poller.poll(0):
                self._shells.open_ahead()

    def _patience(self) -> float | None:
        """Return how many milliseconds there is nothing to do for; None when only a frame can change that."""
        if self._unsaved:
            return max(0.0, (self._save_at - time.monotonic()) * 1000)
        return _TICK_MS if self._running else None

    def _changed(self, call: int) -> None:
        """Note that files may have changed. They are looked at soon, but not so often that little else is done."""
        self._newest = max(self._newest, call)
        if not self._unsaved:
            self._unsaved = True
            self._save_at = time.monotonic() + _LOOK_SHARE * self._changes.look_seconds

    # ------------------------------------------------------------------------------------------------- calls

    def _answer(self, call: int, fields: list[bytes]) -> None:
        if self._unfilled is not None:
            # It came along with what failed, and is not for half a sandbox, or one without walls.
            self._refuse(call, self._unfilled)
            return
        try:
            answer = self._calls[fields[0]](call, *fields[1:])
        except Exception as error:  # noqa: BLE001 - told to the program
            if fields[0] in _FILLING:
                self._unfilled = error
            self._refuse(call, error)
        else:
            self._save_if_quick()
            if answer is not None:
                self._send(call, b"ok", *answer)

    def _refuse(self, call: int, error: Exception) -> None:
        if isinstance(error, OSError):
            name = str(error.filename or "").encode(errors="replace")
            self._send(call, b"oserror", number(error.errno or 0), name, str(error.strerror).encode(errors="replace"))
        else:
            self._send(call, b"failed", f"{type(error).__name__}: {error}".encode(errors="replace"))

    def _prepare(self, call: int, commands: bytes, iterations: bytes, cwd: bytes, seconds: bytes) -> None:
        """Get ready for a sandbox that comes later, and as a rule will want this."""
        self._files.prepare()
        self._shells.limits = int(commands), int(iterations)
        self._shells.expect(cwd.decode(), float(seconds))
        warm_up()

    def _open(
        self, call: int, commands: bytes, iterations: bytes, memory: bytes, network: bytes, *allow: bytes
    ) -> None:
        """Take limits and network. `network`: empty for none, or `a` (every address) or `p` (prefixes), `+` private.

        This and the next two are not answered: what is wrong with them is the answer to all that follows.
        """
        self._shells.limits = int(commands), int(iterations)
        if network:
            prefixes = tuple(prefix.decode() for prefix in allow) if network[:1] == b"p" else None
            self._shells.network = prefixes, network.endswith(b"+")
        confine_further(int(memory), network=bool(network))

    def _put(self, call: int, path: bytes, content: bytes) -> None:
        """Write a file that the sandbox starts with."""
        self._given = True
        self._files.write_file(path.decode(), content)

    def _replay(self, call: int, records: bytes) -> None:
        """Bring back changes of an earlier worker."""
        self._given = True
        self._changes.replay(records)

    def _begin(self, call: int) -> list[bytes]:
        if self._given:
            self._changes.look()
        return []

    def _read(self, call: int, path: bytes) -> list[bytes]:
        return [self._files.read_file(path.decode())]

    def _write(self, call: int, path: bytes, content: bytes) -> list[bytes]:
        self._changed(call)
        self._files.write_file(path.decode(), content)
        return []

    def _stat(self, call: int, path: bytes) -> list[bytes]:
        kind, size, modified = self._files.stat(path.decode())
        return [kind.encode(), number(size), number(modified)]

    def _readdir(self, call: int, path: bytes) -> list[bytes]:
        return [name.encode() for name in self._files.readdir(path.decode())]

    def _exists(self, call: int, path: bytes) -> list[bytes]:
        return [b"y" if self._files.exists(path.decode()) else b""]

    def _mkdir(self, call: int, path: bytes, recursive: bytes) -> list[bytes]:
        self._changed(call)
        self._files.mkdir(path.decode(), recursive=bool(recursive))
        return []

    def _rm(self, call: int, path: bytes, recursive: bytes, force: bytes) -> list[bytes]:
        self._changed(call)
        self._files.rm(path.decode(), recursive=bool(recursive), force=bool(force))
        return []

    def _run(self, call: int, script: bytes, cwd: bytes, seconds: bytes, stdin: bytes, *env: bytes) -> None:
        """Start a command. `stdin` is empty for none, else a space and the input; `env` names and values in turn."""
        if self._changes.look_seconds < _COSTLY_LOOK:
            self._save()
        self._send(call, b"began")
        variables = [text.decode() for text in env]
        environment = dict(zip(variables[::2], variables[1::2], strict=True))
        shell = self._shells.open(cwd.decode(), environment, float(seconds))
        line = with_stdin(shell, script.decode(), stdin[1:] if stdin else None)
        running = _Running(call, shell, float(seconds))
        allow_processor_time(running.seconds + sum(one.seconds for one in self._running.values()) + _LONGEST_LOOK)
        _thread.stack_size(_STACK)
        self._flush()  # what is known of a command that ends this process
        try:
            _thread.start_new_thread(self._work, (running, line))
        except RuntimeError:
            self._send(call, b"ok", b"", b"", b"1", b"limit", b"its memory is used up; remove files", b"")
            return
        self._running[call] = running

    def _cancel(self, call: int) -> None:
        running = self._running.get(call)
        if running is not None:
            running.cancelled = True
            running.shell.cancel()

    def _save_now(self, call: int) -> list[bytes]:
        # A command may still be writing.
        self._unsaved = True
        self._save()
        return []

    def _dump(self, call: int) -> list[bytes]:
        """Send everything there is as changes to nothing."""
        self._send(0, b"all")
        self._changes.forget()
        self._unsaved = True
        self._save()
        return []

    # ---------------------------------------------------------------------------------------------- commands

    def _work(self, running: _Running, line: str) -> None:
        try:
            running.result = running.shell.execute_sync(line, on_output=running.printed)
        except BaseException as error:  # noqa: BLE001 - told to the program
            running.result = error
        self._ended.append(running)
        posix.write(self._waker, b"!")

    def _finish(self, running: _Running) -> None:
        del self._running[running.call]
        self._changed(running.call)
        self._save_if_quick()
        if isinstance(running.result, BaseException):
            self._send(running.call, b"failed", f"{type(running.result).__name__}: {running.result}".encode())
            return
        stdout, stderr, exit_code, ending, detail, note = ended(running.result, running.printed)
        texts = (ending.encode(), detail.encode(errors="replace"), note.encode())
        self._send(running.call, b"ok", stdout, stderr, number(exit_code), *texts)

    def _show(self) -> None:
        """Pass on what has been printed: it is all that is left of a command that ends the process."""
        for running in self._running.values():
            stdout, stderr, seen = running.printed.taken(running.shown)
            if seen > running.shown:
                running.shown = seen
                self._send(running.call, b"printed", stdout, stderr)

    # ----------------------------------------------------------------------------------------------- changes

    def _save_if_quick(self) -> None:
        """Send what has changed before an answer, unless that would delay it much."""
        if self._changes.look_seconds < _QUICK_LOOK:
            self._save()

    def _save(self) -> None:
        """Send what has changed since the last time."""
        if not self._unsaved:
            return
        self._unsaved = False
        if self._changes.look_seconds >= _QUICK_LOOK:
            self._flush()
        allow_processor_time(_LONGEST_LOOK + sum(running.seconds for running in self._running.values()))
        for record in self._changes.records():
            self._send(0, b"change", record)
        self._send(0, b"saved", number(self._newest), number(self._changes.size))

    def _send(self, call: int, *fields: bytes) -> None:
        """Have something sent, together with what else there is before this thread waits or a command begins."""
        frame = encode(call, *fields)
        self._unsent.append(frame)
        self._unsent_size += len(frame)
        if self._unsent_size >= _PIECE:
            self._flush()

    def _flush(self) -> None:
        left = memoryview(b"".join(self._unsent))
        self._unsent.clear()
        self._unsent_size = 0
        while left:
            left = left[posix.write(self._connection, left) :]

"""Several processes that serve a project on one port, and the one that keeps them: it starts, replaces and ends them.

It loads neither the project nor a server, so that it is small and nothing of the project's can bring it down. Workers
are new interpreters and no forks of it: each loads the project as a single process would, with threads, connections and
locks of its own, on every platform that hands descriptors down. They accept from one socket, so whoever waits in its
queue is answered by another when a worker dies.

The first worker starts alone. If it cannot, the command ends as that process did, which has said why; else the others
follow. One that ends is replaced: at once, and after a growing pause where several in a row ended right after their
start. What it had accepted is in the store, and the others take it up (DUR-14).

Nothing is polled. The supervisor waits for signals, SIGCHLD among them, for its workers' channels, and for the end of a
pause. It is told to end by SIGTERM or SIGINT, which it hands on; after `KILL_SECONDS`, or at the second signal, what is
left is killed. A worker whose supervisor has died ends in good order by itself (`flue.serve.worker`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from flue.serve import logs

KILL_SECONDS = 4.7
"""From the first signal to the end of what is left; workers give themselves a little less (`process.EXIT_SECONDS`)."""

EARLY_SECONDS = 10.0
"""Who ends so soon after its start may well do so again."""

SUPPORTED = hasattr(os, "fork")
"""Whether this platform can hand a listening socket down to a new process."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_LAST_SECONDS = 0.2
"""How long what was killed is waited for: a disk that hangs may hold it."""

_ENDING = (signal.SIGINT, signal.SIGTERM)


def pause_after(early: int) -> float:
    """Return the seconds until a worker is replaced, when so many in a row ended right after their start."""
    return min(_FIRST_PAUSE * 2 ** min(early - 1, 10), _LONGEST_PAUSE) if early else 0.0


def command_of(arguments: Sequence[str]) -> list[str]:
    """Return the command that calls `flue` in a new interpreter that finds modules where this one does."""
    # Not `-m flue`: with it the working directory is searched first, and there lie the project's modules.
    code = f"import sys; sys.path[:] = {sys.path!r}; from flue.cli.main import main; sys.exit(main())"
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined] # as `multiprocessing` does it
    return [sys.executable, *flags, "-c", code, *arguments]


def reaped() -> Iterator[tuple[int, int]]:
    """Wait for the children that have ended, and for no other; yield each one's id and exit code."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, os.waitstatus_to_exitcode(status)


@dataclass(slots=True, eq=False)
class _Place:
    """One of the workers that there are to be: whether it is there, else when it is to start."""

    due: float = 0.0
    early: int = 0
    taken: bool = False


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    place: _Place
    began: float
    said: bytes = b""


class Supervisor:
    """Keeps `count` workers on a socket that listens; `command` starts one, with the descriptors it gets at its end.

    `served` is called once, when the first worker answers, with what that says of the project.
    """

    def __init__(
        self, command: Sequence[str], count: int, listening: socket.socket, served: Callable[[Sequence[str]], None]
    ) -> None:
        self._command = command
        self._count = count
        self._listening = listening
        self._served = served
        self._places = [_Place()]
        self._workers: dict[int, _Worker] = {}
        self._selector = selectors.DefaultSelector()
        self._received: int | None = None
        self._deadline = 0.0
        """When what is left is killed or, after that, left alone; counts once a signal has come."""
        self._killed = False
        self._answers = False
        """Whether the first worker has come so far, after which the others follow."""
        self._code: int | None = None

    def run(self) -> int:
        """Keep them until a signal comes; return the exit code: 128 plus the signal, or the first worker's own."""
        with self._selector, self._hearing() as signals:
            self._selector.register(signals, selectors.EVENT_READ)
            while self._code is None:
                self._start_who_is_due()
                for key, _ in self._selector.select(self._patience()):
                    if key.data is None:
                        self._hear(os.read(signals, 4096))
                    else:
                        self._read(key.data)
                if self._received is not None:
                    self._end()
        return self._code

    def _patience(self) -> float | None:
        ends = [place.due for place in self._places if not place.taken]
        if self._received is not None:
            ends = [self._deadline]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    # ------------------------------------------------------------------------------------------------ signals

    @contextlib.contextmanager
    def _hearing(self) -> Iterator[int]:
        """Yield a descriptor from which the numbers of the signals that come can be read."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        previous = {number: signal.signal(number, lambda *_: None) for number in (*_ENDING, signal.SIGCHLD)}
        woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in previous.items():
                signal.signal(number, handler)
            os.close(reading)
            os.close(writing)

    def _hear(self, numbers: bytes) -> None:
        for number in numbers:
            if number in _ENDING:
                self._told(number)
        self._reap()

    def _told(self, number: int) -> None:
        again, self._received = self._received is not None, number
        if again:
            self._kill()
            return
        logs.say_received(number)
        self._listening.close()  # once the workers have, too, nobody comes any more to wait for nothing
        self._deadline = time.monotonic() + KILL_SECONDS
        self._send(signal.SIGTERM)

    def _end(self) -> None:
        assert self._received is not None
        late = time.monotonic() >= self._deadline
        if not self._workers or (late and self._killed):
            _say("Stopped.")
            self._code = 128 + self._received
        elif late:
            self._kill()

    def _kill(self) -> None:
        if not self._killed:
            self._killed, self._deadline = True, time.monotonic() + _LAST_SECONDS
            self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        for pid in self._workers:  # none of them has been waited for, so that the number is still its own
            os.kill(pid, number)

    # ------------------------------------------------------------------------------------------------ workers

    def _start_who_is_due(self) -> None:
        for place in self._places:
            if self._received is None and not place.taken and place.due <= time.monotonic():
                try:
                    self._start(place)
                except OSError as error:
                    if not self._answers:
                        raise
                    self._again(place, f"No worker can be started: {error.strerror}", time.monotonic())

    def _start(self, place: _Place) -> None:
        ours, theirs = socket.socketpair()
        handed = (self._listening.fileno(), theirs.fileno())
        command = [*self._command, ",".join(map(str, handed))]
        with theirs, _held_back():
            process = subprocess.Popen(command, pass_fds=handed)  # noqa: S603 - this program
        worker = _Worker(process, ours, place, time.monotonic())
        self._workers[process.pid] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker)
        place.taken = True

    def _read(self, worker: _Worker) -> None:
        """Read what a worker says, which is one line, when it answers."""
        if worker.channel.fileno() < 0:  # it was there to be read together with the news of its end
            return
        data = worker.channel.recv(65536)
        worker.said += data
        if not data:
            self._selector.unregister(worker.channel)
        elif worker.said.endswith(b"\n") and not self._answers:
            self._answers = True
            self._served(json.loads(worker.said))
            self._places += [_Place() for _ in range(1, self._count)]

    def _reap(self) -> None:
        for pid, code in reaped():
            # What is no worker: process 1 of a container inherits what others leave.
            if worker := self._workers.pop(pid, None):
                worker.process.returncode = code
                self._ended(worker, code)

    def _ended(self, worker: _Worker, code: int) -> None:
        if worker.channel in self._selector.get_map():
            self._selector.unregister(worker.channel)
        worker.channel.close()
        if self._received is not None:
            return
        how = f"was killed by {_name(-code)}" if code < 0 else f"ended with exit code {code}"
        if not self._answers:
            if code < 0:
                _say(f"The first worker {how}.")
            self._code = 128 - code if code < 0 else code
        else:
            self._again(worker.place, f"Worker {worker.process.pid} {how}", worker.began)

    def _again(self, place: _Place, why: str, began: float) -> None:
        """Have a place taken again, now or after a pause."""
        now = time.monotonic()
        place.early = place.early + 1 if now - began < EARLY_SECONDS else 0
        pause = pause_after(place.early)
        place.taken, place.due = False, now + pause
        _say(f"{why}; the next one starts {f'in {pause:g} s' if pause else 'now'}.")


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Inside the block signals that end the process wait, for a process that is started there until it lets them come.

    It would else die of them, with a traceback, until it has handlers of its own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # that nobody reads what it says must not end a server
        logs.say(text)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

"""Who of the processes that share a file is alive, and how they wake each other: named pipes in a directory beside it.

Each owner has a pipe. It has a reader exactly as long as its owner's process lives, whatever ended it: opening it for
writing tells, and the kernel reports its end to those who hold it open. A line written to it wakes the owner. So nobody
polls, and a dead process is known at once (DUR-14), without trusting process ids, which are used again.

A process in which somebody follows logs has an *ear*, a pipe of its own, to which the others write the name of every
log that has grown. While nobody follows, there is none, and logs that grow cost nothing (DUR-40).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import select
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from flue.durable.records import Wake

SUPPORTED = hasattr(os, "mkfifo") and hasattr(select, "poll")
"""Whether this platform can; where not, leases alone tell that an owner is gone, and owners do not wake each other."""

_LINES = {"work": b"w\n", "cancel": b"c\n"}
_WAKES = {b"w": Wake("work"), b"c": Wake("cancel")}
_NEWCOMER = b"n\n"
_EAR = "ear-"
_EVENTS = b"e"
_LOOK_AT_ALL = b"e\n"
# Lines up to this long are never mixed with others (POSIX, PIPE_BUF).
_LONGEST_LINE = 512
_CAPACITY = 65536
# Of a pipe that is as full as this something may have been dropped.
_OVERFULL = _CAPACITY // 2
_AGAIN_MS = 1000
"""How long a pipe that could not be looked at stays so, at most: when a process has all the files open that it may."""


def _name(owner: str) -> str:
    return hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Presence:
    """The pipes of one file, as one of its processes sees them; `tell` gets what happens, in a thread."""

    def __init__(self, directory: Path, tell: Callable[[Iterable[Wake]], None]) -> None:
        self._directory = directory
        self._tell = tell
        self._lock = threading.Lock()
        self._own: dict[str, int] = {}
        """Pipes that are read here, by name; with the ear, while there is one."""
        self._others: dict[str, int] = {}
        """Pipes of other processes, open for writing."""
        self._dead: set[str] = set()
        """Owners' pipes that were dead when they were found, of which has been told."""
        self._unseen = False
        """Whether there may be pipes of others that are in none of these."""
        self._ear = ""
        self._followers = 0
        self._unread: dict[str, bytes] = {}
        self._self_pipe: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None
        self._closing = False

    def register(self, owner: str) -> None:
        """Show that an owner lives in this process. Raises `OSError`, `RuntimeError` without a thread."""
        name = _name(owner)
        if not SUPPORTED:
            return
        if name not in self._own:
            self._open(name)
        self._start()

    def unregister(self, owner: str) -> None:
        """End an owner in good order."""
        if self._end(_name(owner)):
            self._interrupt()

    def follow(self) -> Callable[[], None]:
        """Hear of logs that grow in other processes, with `events` for any of them to begin with; return what ends it.

        Does not wait: what others wrote before they knew is why there is that beginning.
        """
        with self._lock:
            self._followers += 1
        if SUPPORTED and self._ear not in self._own:
            self._start()
        return self._unfollow

    def _unfollow(self) -> None:
        # The pipe goes with the next line that comes for nothing: whoever follows next may well be there before.
        with self._lock:
            self._followers -= 1

    def gone(self, owners: Collection[str]) -> list[str]:
        """Return those whose process is known to be gone; forget pipes that belong to none of them."""
        if not SUPPORTED:
            return []
        by_name = {_name(owner): owner for owner in owners}
        dead = [name for name in self._names() if self._is_dead(name)]
        for name in dead:
            if name not in by_name:
                (self._directory / name).unlink(missing_ok=True)
        return [by_name[name] for name in dead if name in by_name]

    def ring(self, wakes: Iterable[Wake]) -> None:
        """Wake the owners in other processes whom something concerns."""
        if not SUPPORTED:
            return
        for wake in dict.fromkeys(wakes):
            if wake.kind == "events":
                self._tell_ears(_events_line(wake.key))
            elif wake.kind in _LINES:
                for name in [_name(wake.owner)] if wake.owner else self._owners():
                    self._write(name, _LINES[wake.kind])

    def close(self) -> None:
        """Close all pipes. Owners that are still registered look dead from then on."""
        self._closing = True
        self._interrupt()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            for descriptor in (*self._own.values(), *self._others.values(), *(self._self_pipe or ())):
                os.close(descriptor)
            self._own, self._others, self._self_pipe = {}, {}, None
        if self._ear:
            (self._directory / self._ear).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty while others, living or dead, have pipes in it
            self._directory.rmdir()

    # ---------------------------------------------------------------------------------------------- pipes

    def _open(self, name: str) -> None:
        """Make a pipe of this process, and show it to the owners in others."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        # Opened before it has its name: nobody may take it for a dead process's.
        unnamed = self._directory / f".{name}"
        unnamed.unlink(missing_ok=True)
        os.mkfifo(unnamed, 0o600)
        # For writing too, so that reading does not end when the last of the others has gone.
        descriptor = os.open(unnamed, os.O_RDWR | os.O_NONBLOCK)
        unnamed.rename(self._directory / name)
        with self._lock:
            self._own[name] = descriptor
        for other in self._owners():
            self._write(other, _NEWCOMER)

    def _end(self, name: str) -> bool:
        """Close a pipe of this process; say whether there was one."""
        with self._lock:
            descriptor = self._own.pop(name, None)
        if descriptor is None:
            return False
        self._unread.pop(name, None)
        (self._directory / name).unlink(missing_ok=True)
        os.close(descriptor)
        return True

    def _names(self) -> list[str]:
        try:
            return sorted(path.name for path in self._directory.iterdir() if not path.name.startswith("."))
        except FileNotFoundError:
            return []

    def _owners(self) -> list[str]:
        """Return the pipes to write to; none while they cannot be listed, as nobody's work may fail for that."""
        with contextlib.suppress(OSError):
            return [name for name in self._names() if not name.startswith(_EAR)]
        return []

    def _is_dead(self, name: str) -> bool:
        try:
            os.close(os.open(self._directory / name, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            return error.errno == errno.ENXIO
        return False

    def _tell_ears(self, line: bytes) -> None:
        # Through the pipes that are open already: logs grow with every other commit.
        with self._lock:
            for name, descriptor in self._others.items():
                if name.startswith(_EAR):
                    with contextlib.suppress(OSError):
                        os.write(descriptor, line)

    def _write(self, name: str, line: bytes) -> None:
        if name in self._own:
            return
        # A full pipe has woken its owner already; a missing or dead one has nobody to wake.
        with contextlib.suppress(OSError):
            descriptor = os.open(self._directory / name, os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)

    # ------------------------------------------------------------------------------------------ the thread

    def _start(self) -> None:
        with self._lock:  # owners are registered in another thread than followers
            if self._closing or self._thread is not None:
                self._interrupt()
                return
            self._self_pipe = self._self_pipe or os.pipe()
            thread = threading.Thread(target=self._watch, name="flue-store-presence", daemon=True)
            thread.start()
            self._thread = thread

    def _interrupt(self) -> None:
        if self._self_pipe is not None:
            os.write(self._self_pipe[1], b"x")

    def _watch(self) -> None:
        # Asked each time: what tells of the end may have been read together with what came just before.
        while not self._closing and (wakes := self._wait()) is not None:
            self._tell(wakes)

    def _wait(self) -> list[Wake] | None:
        """Wait until something happens; None when the store is being closed."""
        assert self._self_pipe is not None
        if self._followers and self._ear not in self._own and not self._closing:
            # Never the same name: others remove that of an ear that has ended, when they come to it.
            self._ear = f"{_EAR}{secrets.token_hex(8)}"
            with contextlib.suppress(OSError):  # as for owners; whoever follows looks again in a while
                self._open(self._ear)
        poll = select.poll()
        poll.register(self._self_pipe[0], select.POLLIN)
        with self._lock:
            if self._find_others():
                return [Wake("gone")]
            own, others = dict(self._own), dict(self._others)
            for descriptor in own.values():
                poll.register(descriptor, select.POLLIN)
            for descriptor in others.values():
                poll.register(descriptor, 0)  # its end is reported without being asked for
        ready = {descriptor for descriptor, _ in poll.poll(_AGAIN_MS if self._unseen else None)}
        return None if self._closing else self._read(ready, own, others)

    def _find_others(self) -> bool:
        """Open the pipes of other processes; say whether an owner had died before that, so that no end is reported."""
        self._unseen = False
        try:
            names = self._names()
        except OSError:
            self._unseen = True
            return False
        dead = {name for name in names if name not in self._own and name not in self._others and self._meets_dead(name)}
        news = not dead <= self._dead
        self._dead = dead
        return news

    def _meets_dead(self, name: str) -> bool:
        """Open the pipe of another process; say whether it is an owner's who has died."""
        try:
            descriptor = self._others[name] = os.open(self._directory / name, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            self._unseen = self._unseen or error.errno not in (errno.ENXIO, errno.ENOENT)
            return error.errno == errno.ENXIO and not name.startswith(_EAR)
        if name.startswith(_EAR):
            with contextlib.suppress(OSError):
                os.write(descriptor, _LOOK_AT_ALL)  # nobody has told it of what came meanwhile
        return False

    def _read(self, ready: set[int], own: dict[str, int], others: dict[str, int]) -> list[Wake]:
        wakes: dict[Wake, None] = {}
        assert self._self_pipe is not None
        if self._self_pipe[0] in ready:
            os.read(self._self_pipe[0], 4096)
        for name, descriptor in own.items():
            with self._lock:
                if descriptor in ready and name in self._own:
                    with contextlib.suppress(BlockingIOError):
                        wakes.update(dict.fromkeys(self._heard(name, os.read(descriptor, _CAPACITY))))
        if self._ear in own and own[self._ear] in ready and not self._followers:
            self._end(self._ear)
        for name, descriptor in others.items():
            if descriptor in ready:
                with self._lock:
                    os.close(self._others.pop(name))
                if name.startswith(_EAR):
                    (self._directory / name).unlink(missing_ok=True)
                else:
                    wakes[Wake("gone")] = None
        return list(wakes)

    def _heard(self, name: str, data: bytes) -> Iterator[Wake]:
        *lines, self._unread[name] = (self._unread.get(name, b"") + data).split(b"\n")
        for line in lines:
            if line in _WAKES:
                yield _WAKES[line]
            elif line.startswith(_EVENTS):
                yield Wake("events", key=line[len(_EVENTS) :].decode("utf-8", "surrogatepass"))
        if len(data) >= _OVERFULL:
            yield Wake("events")


def _events_line(log: str) -> bytes:
    line = _EVENTS + log.encode("utf-8", "surrogatepass") + b"\n"
    return line if len(line) <= _LONGEST_LINE and line.count(b"\n") == 1 else _LOOK_AT_ALL

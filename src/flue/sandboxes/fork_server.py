"""The program's side of the fork server, the process that worker processes are forked from."""

from __future__ import annotations

import asyncio
import importlib.util
import marshal
import os
import socket
import subprocess
import sys
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType

from flue.errors import SandboxError
from flue.sandboxes.channel import Channel
from flue.sandboxes.worker.fork_orders import ENDED_SIZE, order, read_ended

# What a fork server runs, in an order in which all that a module imports comes before it; first what loads bashkit's
# library, which takes as long as much of the rest, in the background.
_FIRST = ("__future__", "flue.sandboxes.worker.c_library", "flue.sandboxes.worker.background")
_LIBRARY = "bashkit._bashkit"
_THEN = (
    "flue.sandboxes.places",
    "flue.sandboxes.bashkit_files",
    "flue.sandboxes.bashkit_commands",
    "flue.sandboxes.bashkit_shell",
    "flue.sandboxes.worker.frames",
    "flue.sandboxes.worker.fork_orders",
    "flue.sandboxes.worker.changes",
    "flue.sandboxes.worker.shells",
    "bashkit",
    "contextvars",  # which bashkit imports when it runs its first command: by then a worker opens no file
    "flue.sandboxes.worker.confine",
    "flue.sandboxes.worker.serve",
    "flue.sandboxes.worker.fork_server",
)
_PROGRAM = str(Path(__file__).absolute().parent / "worker" / "__main__.py")
_START = 10.0  # seconds that the process may take to read its modules
_STATUS = 1.0  # seconds to wait for what a process died of
# macOS may lose a descriptor that is closed here before it has arrived there (github.com/nodejs/node/issues/7512).
_KEEPS_WHAT_IS_SENT = sys.platform != "darwin"
_REMEMBERED = 256  # ends of workers that nobody has asked about yet


class ForkServer:
    """The process that forks workers.

    Ends with this object, with `close`, and with the program however that ends (SBX-11).
    """

    def __init__(self) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise no_process(error) from error
        try:
            process = _start_process(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._end = weakref.finalize(self, _end_process, process, ours)
        try:
            # While the interpreter starts, which takes longer than everything here.
            _check_bashkit()
            _hand_over(_modules(), ours)
        except BaseException:
            self._end()
            raise
        self._heard = b""
        self._ends: OrderedDict[int, int] = OrderedDict()
        self._asked: dict[int, asyncio.Future[int]] = {}
        this = weakref.ref(self)
        self._channel = Channel(ours, lambda data: _tell(this, data), lambda: None)

    @property
    def alive(self) -> bool:
        """Say whether workers can be forked."""
        return not self._channel.closed

    def fork(self, served: asyncio.Future[list[bytes]]) -> socket.socket:
        """Ask for a worker and return the socket to it; `served` is done once the worker serves. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        try:
            self._channel.send_with(order(b"f"), theirs.fileno())
        except BaseException:
            ours.close()
            theirs.close()
            raise
        if _KEEPS_WHAT_IS_SENT:
            theirs.close()  # and so the end of a worker is seen here from the beginning
        else:
            served.add_done_callback(lambda _: theirs.close())
        return ours

    def kill(self, pid: int) -> None:
        """Kill a worker, if it still is one."""
        self._channel.send(order(b"k", pid))

    async def ended(self, pid: int) -> int | None:
        """Return a worker's exit code, negative for a signal, once it has ended; None when nobody says so in time."""
        if pid in self._ends:
            return self._ends.pop(pid)
        answer = self._asked[pid] = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(answer, _STATUS)
        except TimeoutError:
            return None
        finally:
            self._asked.pop(pid, None)

    def abandon(self) -> None:
        """Note that the process has ended."""
        self._channel.close()

    async def close(self) -> None:
        """End the process and all its workers, and wait until it has gone."""
        self._channel.close()
        await asyncio.to_thread(self._end)

    def hear(self, data: bytes) -> None:
        """Take what the process says: which workers have ended."""
        self._heard += data
        while len(self._heard) >= ENDED_SIZE:
            pid, code = read_ended(self._heard[:ENDED_SIZE])
            self._heard = self._heard[ENDED_SIZE:]
            asked = self._asked.get(pid)
            if asked is not None and not asked.done():
                asked.set_result(code)
                continue
            self._ends[pid] = code
            if len(self._ends) > _REMEMBERED:
                self._ends.popitem(last=False)


def _tell(server: weakref.ref[ForkServer], data: bytes) -> None:
    alive = server()
    if alive is not None:
        alive.hear(data)


def _start_process(stdin: socket.socket) -> subprocess.Popen[bytes]:
    if not (hasattr(os, "fork") and hasattr(socket, "send_fds") and sys.platform != "emscripten" and sys.executable):
        raise SandboxError(
            f"Isolated sandboxes need worker processes, which there are not on {sys.platform}.",
            code="sandbox_unavailable",
            hint="Use virtual(isolated=False), which runs commands in this process.",
        )
    try:
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", _PROGRAM],
            stdin=stdin.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            # Ctrl-C at a terminal is for the program, which then ends us.
            start_new_session=True,
        )
    except OSError as error:
        raise no_process(error) from error


def _check_bashkit() -> None:
    if importlib.util.find_spec("bashkit") is None:
        raise SandboxError(
            "The virtual sandbox cannot start: the package bashkit is missing.",
            code="sandbox_unavailable",
            hint="Install the package bashkit for this platform, or use local().",
        )


@cache
def _modules() -> bytes:
    """Return what a fork server reads before it serves, see `worker/__main__.py`."""
    library = _found(_LIBRARY, _found("bashkit").submodule_search_locations).origin
    assert library is not None
    parts = (
        marshal.dumps([*map(_module, _FIRST)]),
        marshal.dumps(str(Path(library).absolute())),
        marshal.dumps([*map(_module, _THEN)]),
    )
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def _module(name: str) -> tuple[str, list[str], CodeType | None]:
    """Return a module's name, the folders that make it a package, and its code."""
    package = name.rpartition(".")[0]
    spec = _found(name, importlib.import_module(package).__path__ if package else None)
    assert isinstance(spec.loader, InspectLoader)
    return name, [*map(os.path.abspath, spec.submodule_search_locations or ())], spec.loader.get_code(name)


def _found(name: str, folders: Sequence[str] | None = None) -> ModuleSpec:
    """Return where a module is. Import hooks are not asked: those of test runners make modules that need more."""
    spec = PathFinder.find_spec(name, folders)
    assert spec is not None, name
    return spec


def _hand_over(modules: bytes, to: socket.socket) -> None:
    """Send a new process its modules. As a rule they find room in the socket before it reads the first byte."""
    to.settimeout(_START)
    try:
        to.sendall(modules)
    except OSError as error:
        raise no_process(error) from error


def no_process(error: OSError) -> SandboxError:
    """Return the error for what the system does not let us start."""
    return SandboxError(f"No process could be started for sandboxes: {error}.")


def _end_process(process: subprocess.Popen[bytes], end: socket.socket) -> None:
    # It sees that, kills its workers and ends.
    end.close()
    try:
        process.wait(_STATUS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""The fork server: loads bashkit once and forks a worker whenever it is asked to.

A fork takes a millisecond and shares its memory, a new interpreter takes 25 ms and 20 MB. It runs no script itself and
has one thread, so that a forked copy is as good as new. It reaps its workers, so it alone can kill one without
meeting a stranger who got the same number, and it alone knows what they died of.

What it is told are messages of nine bytes: `f` with a socket attached (fork a worker that serves it) and `k` with a
number (kill that worker). It says numbers of workers that have ended, each with its exit code.
"""

from __future__ import annotations

# `socket` would import enum and selectors, which takes longer than bashkit.
import _socket
import _thread
import gc
import posix
import select
import sys

from flue.sandboxes.worker.confine import ready_to_confine
from flue.sandboxes.worker.fork_orders import ORDER_SIZE, ended, read_order
from flue.sandboxes.worker.serve import serve_sandbox, warm_up

_SIGKILL = 9
_MANY = 1 << 14  # descriptors: this process has one for each worker, and they get the lowest numbers that are free
_TICK_MS = 20  # where nothing tells that a process has ended


def serve(control: int) -> None:
    """Serve until the other end of the socket is closed. Does not return."""
    _prepare()
    connection = _socket.socket(fileno=posix.dup(control))
    workers: dict[int, int] = {}  # pid → descriptor that becomes readable when it has ended, or -1
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    warm = False
    while True:
        ticks = -1 in workers.values()
        events = poller.poll(0 if not warm else _TICK_MS if ticks else None)
        if not events and not warm:
            # Whoever waits for the first worker has it sooner when that warms up by itself, with its first command.
            warm = True
            warm_up()
            gc.freeze()
        for ready, _ in events:
            if ready == connection.fileno():
                _obey(connection, workers, poller)
        _reap(connection, workers, poller)


def _prepare() -> None:
    """Load everything that workers need."""
    # bashkit asks `inspect` whether output callbacks are plain functions, which they are. The real one takes 20 ms.
    plain = sys.modules["inspect"] = type(sys)("inspect")
    plain.iscoroutinefunction = plain.isawaitable = lambda _: False  # type: ignore[attr-defined]
    # And it takes from `threading` what that takes from `_thread`, with no need of the rest of it.
    threads = sys.modules["threading"] = type(sys)("threading")
    threads.get_ident = _thread.get_ident  # type: ignore[attr-defined]
    ready_to_confine()
    # Collecting in a worker would write to every page that it shares.
    gc.freeze()
    gc.enable()


def _obey(connection: _socket.socket, workers: dict[int, int], poller: select.poll) -> None:
    message, passed = _receive(connection)
    if not message:
        # The program has ended; what it left must not go on.
        for pid in workers:
            posix.kill(pid, _SIGKILL)
        for pid in workers:
            posix.waitpid(pid, 0)
        posix._exit(0)
    kind, pid = read_order(message)
    if kind == b"k" and pid in workers:
        posix.kill(pid, _SIGKILL)
    if kind == b"f" and passed is not None:
        _fork(passed, workers, poller)


def _receive(connection: _socket.socket) -> tuple[bytes, int | None]:
    """Return one order (empty at the end) and the descriptor that came with it."""
    order, passed = b"", None
    while len(order) < ORDER_SIZE:
        data, ancillary, _, _ = connection.recvmsg(ORDER_SIZE - len(order), _socket.CMSG_SPACE(4))
        if not data:
            return b"", None
        for level, kind, content in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                passed = int.from_bytes(content[:4], sys.byteorder)
        order += data
    return order, passed


def _fork(passed: int, workers: dict[int, int], poller: select.poll) -> None:
    try:
        pid = posix.fork()
    except OSError:
        # The program sees that its end is closed before anything was said.
        posix.close(passed)
        return
    if not pid:
        try:
            posix.dup2(passed, 0)
            posix.closerange(3, open_at_most())
            serve_sandbox(0)
        except MemoryError:
            posix.abort()  # which tells what it died of
        finally:
            posix._exit(1)
    posix.close(passed)
    workers[pid] = _watch(pid)
    if workers[pid] >= 0:
        poller.register(workers[pid], select.POLLIN)


def open_at_most() -> int:
    """Return a number that no descriptor of this process has, and none above it.

    What the system allows alone would not do: macOS may name no limit, and containers a thousand million, which some
    systems would close one by one.
    """
    allowed: int = posix.sysconf("SC_OPEN_MAX")
    return allowed if 0 <= allowed < _MANY else _MANY


def _watch(pid: int) -> int:
    if not hasattr(posix, "pidfd_open"):
        return -1
    try:
        return posix.pidfd_open(pid)
    except OSError:
        return -1


def _reap(connection: _socket.socket, workers: dict[int, int], poller: select.poll) -> None:
    while workers:
        pid, status = posix.waitpid(-1, posix.WNOHANG)
        if not pid:
            return
        descriptor = workers.pop(pid)
        if descriptor >= 0:
            poller.unregister(descriptor)
            posix.close(descriptor)
        connection.sendall(ended(pid, posix.waitstatus_to_exitcode(status)))

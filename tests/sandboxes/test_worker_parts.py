"""The parts of isolated sandboxes, each by itself: frames, journal, changes, confinement, processes."""

from __future__ import annotations

import asyncio
import marshal
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flue.errors import SandboxError
from flue.sandboxes import WorkerPool
from flue.sandboxes.bashkit_files import BashkitFiles
from flue.sandboxes.bashkit_shell import Printed
from flue.sandboxes.fork_server import ForkServer, _modules
from flue.sandboxes.journal import IN_MEMORY, Journal
from flue.sandboxes.places import KEPT, WORKSPACE
from flue.sandboxes.worker.changes import Changes
from flue.sandboxes.worker.fork_server import open_at_most
from flue.sandboxes.worker.frames import FrameError, Frames, encode
from flue.sandboxes.worker.shells import Shells
from flue.sandboxes.worker_process import Worker, WorkerEndedError
from tests.sandboxes.processes import alive

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a wall of Linux")
SOURCE = Path(__file__).resolve().parents[2] / "src"


class TestFrames:
    @given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.lists(st.binary()))), st.integers(1, 50))
    def test_frames_come_out_as_they_went_in_whatever_the_pieces(
        self, frames: list[tuple[int, list[bytes]]], piece: int
    ) -> None:
        data = b"".join(encode(call, *fields) for call, fields in frames)
        reader = Frames()
        seen = [frame for at in range(0, len(data), piece) for frame in reader.feed(data[at : at + piece])]
        assert seen == frames

    # SBX-09
    @given(st.binary(max_size=200))
    def test_what_is_no_frame_is_refused_or_waits_for_more(self, data: bytes) -> None:
        try:
            Frames().feed(data)
        except FrameError:
            return

    # SBX-09
    def test_a_giant_frame_is_refused_before_it_arrives(self) -> None:
        with pytest.raises(FrameError, match="4294967295 bytes"):
            Frames().feed(b"\xff" * 8)


class TestJournal:
    # SBX-04
    def test_only_what_was_committed_counts(self) -> None:
        journal = Journal()
        journal.add(b"one")
        journal.commit()
        journal.add(b"two")
        assert (b"".join(journal.pieces()), journal.size) == (b"one", 3)
        journal.roll_back()
        journal.add(b"three")
        journal.commit()
        assert b"".join(journal.pieces()) == b"onethree"
        journal.close()

    def test_starting_over_replaces_everything_once_it_is_committed(self) -> None:
        journal = Journal()
        journal.add(b"old")
        journal.commit()
        journal.start_over()
        journal.add(b"new")
        journal.roll_back()
        assert (b"".join(journal.pieces()), journal.complete) == (b"old", False)
        journal.start_over()
        journal.add(b"newer")
        assert journal.size == 3
        journal.commit()
        assert (b"".join(journal.pieces()), journal.complete) == (b"newer", True)
        journal.close()

    def test_much_goes_to_a_file_and_comes_back(self) -> None:
        journal = Journal()
        records = [bytes([number]) * (IN_MEMORY // 3) for number in range(12)]
        for record in records:
            journal.add(record)
            journal.commit()
        assert b"".join(journal.pieces()) == b"".join(records)
        journal.close()


def tree(files: BashkitFiles) -> dict[str, Any]:
    """Return everything that the files hold."""
    found: dict[str, Any] = {}

    def visit(path: str) -> None:
        for name in files.readdir(path):
            inner = f"{path}/{name}"
            kind = files.stat(inner)[0]
            found[inner] = kind if kind == "directory" else files.read_file(inner) if kind == "file" else "link"
            if kind == "directory":
                visit(inner)

    for point in KEPT:
        visit(point)
    return found


class TestChanges:
    # SBX-04
    @pytest.mark.parametrize("seed", range(10))
    def test_replaying_all_changes_gives_the_same_files(self, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - a test that can be repeated
        files, copy = BashkitFiles(), BashkitFiles()
        changes, replayed = Changes(files), Changes(copy)
        changes.look()
        for _ in range(15):
            for _ in range(chance.randrange(8)):
                self.change(files, chance)
            records = b"".join(changes.records())
            cut = chance.randrange(len(records) + 1)
            replayed.replay(records[:cut])
            replayed.replay(records[cut:])
            assert tree(copy) == tree(files), f"seed {seed}"
        assert b"".join(changes.records()) == b""

    def test_everything_is_one_way_to_say_it(self) -> None:
        files, copy = BashkitFiles(), BashkitFiles()
        files.write_file("/workspace/a/b", b"x")
        files.mkdir("/tmp/empty", recursive=False)
        changes = Changes(files)
        changes.look()
        assert b"".join(changes.records()) == b""
        changes.forget()
        Changes(copy).replay(b"".join(changes.records()))
        assert tree(copy) == tree(files)

    @staticmethod
    def change(files: BashkitFiles, chance: random.Random) -> None:
        path = chance.choice(KEPT) + "".join(f"/{chance.choice('abc')}" for _ in range(chance.randrange(1, 4)))
        try:
            match chance.randrange(4):
                case 0:
                    files.mkdir(path, recursive=True)
                case 1:
                    files.rm(path, recursive=True, force=True)
                case 2:
                    point, _, inner = path.lstrip("/").partition("/")
                    files.kept(KEPT[0]).symlink("/workspace", f"/{inner or point}")
                case _:
                    files.write_file(path, chance.randbytes(chance.randrange(50)))
        except (OSError, RuntimeError):
            return


CONFINED = """
import os, sys
sys.path.insert(0, {source!r})
import ctypes, socket, threading
from flue.sandboxes.worker import confine
confine.ready_to_confine()
confine.confine()
confine.confine_further(256 << 20, network={network})

def attempt(name, work):
    try:
        work()
    except (OSError, RuntimeError, MemoryError) as error:
        print(name, type(error).__name__)
    else:
        print(name, "done")

attempt("fork", os.fork)
attempt("exec", lambda: os.execv("/bin/true", ["true"]))
attempt("kill", lambda: os.kill({pid}, 0))
attempt("unlink", lambda: os.unlink("/nowhere"))
attempt("read", lambda: os.open("/etc/hostname", os.O_RDONLY))
attempt("write", lambda: os.open("/dev/null", os.O_WRONLY))
attempt("socket", socket.socket)
attempt("memory", lambda: bytearray(512 << 20))
attempt("mkdir", lambda: os.mkdir({folder!r}))

def thread():
    work = threading.Thread(target=print, args=("in a thread",))
    work.start()
    work.join()

attempt("thread", thread)
"""


# SBX-07
@linux
@pytest.mark.parametrize("network", [False, True])
def test_a_confined_process_starts_nothing_opens_nothing_and_signals_nobody(tmp_path: Path, network: bool) -> None:
    folder = str(tmp_path / "folder")
    program = CONFINED.format(source=str(SOURCE), network=network, pid=os.getpid(), folder=folder)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    seen = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    open_for_reading = "done" if network else "PermissionError"
    assert seen == {
        "fork": "PermissionError",
        "exec": "PermissionError",
        "kill": "PermissionError",
        "unlink": "PermissionError",
        "read": open_for_reading,
        "write": "PermissionError",
        "socket": open_for_reading,
        "memory": "MemoryError",
        "mkdir": "done",
        "in": "a thread",
        "thread": "done",
    }
    assert not Path(folder).exists()


class _Server:
    """In the place of a fork server: its worker is the other end of a socket, which the test holds."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()

    def fork(self, served: asyncio.Future[Any]) -> socket.socket:
        return self.ours

    def kill(self, pid: int) -> None:
        """Do nothing: there is no process."""

    async def ended(self, pid: int) -> int | None:
        return None


class TestSending:
    async def test_what_is_followed_at_once_goes_along_with_what_follows(self) -> None:
        server: Any = _Server()
        worker = Worker(server)
        server.theirs.setblocking(False)
        worker.send(b"one", more=True)
        with pytest.raises(BlockingIOError):
            server.theirs.recv(100)
        worker.send(b"two")
        assert server.theirs.recv(100) == encode(0, b"one") + encode(0, b"two")
        server.theirs.close()

    async def test_more_than_the_system_takes_arrives_whole_and_in_its_order(self) -> None:
        server: Any = _Server()
        worker = Worker(server)
        sent = [[b"%d" % number, bytes([number]) * (number % 7 * 30_000)] for number in range(200)]

        def receive() -> list[list[bytes]]:
            reader = Frames()
            seen: list[list[bytes]] = []
            while len(seen) < len(sent):
                seen += [fields for _, fields in reader.feed(server.theirs.recv(50_000))]
            return seen

        received = asyncio.ensure_future(asyncio.to_thread(receive))
        for fields in sent[:-1]:
            worker.send(*fields, more=True)
            await worker.drained()
        worker.send(*sent[-1])
        assert await asyncio.wait_for(received, 10) == sent
        server.theirs.close()


class TestBrokenWorker:
    """A worker that was taken over can say what it likes."""

    # SBX-09
    @pytest.mark.parametrize(
        "said",
        [b"\xff" * 100, encode(1), encode(1, b"what?"), encode(1, b"oserror", b"x"), encode(0, b"saved", b"-"), b""],
        ids=["no frame", "empty", "unknown", "no number", "no size", "nothing"],
    )
    async def test_what_makes_no_sense_ends_it_and_its_calls(self, said: bytes) -> None:
        server: Any = _Server()
        worker = Worker(server)
        worker.journal = journal = Journal()
        server.theirs.send(encode(0, b"ready", b"7"))
        await worker.started()
        _, answer = worker.call(b"read", b"/workspace/x")
        server.theirs.send(said)
        server.theirs.close()
        with pytest.raises(WorkerEndedError):
            await asyncio.wait_for(answer, 5)
        assert not worker.alive
        assert journal.size == 0
        journal.close()

    async def test_one_that_does_not_start_is_an_error(self) -> None:
        server: Any = _Server()
        worker = Worker(server)
        server.theirs.close()
        with pytest.raises(SandboxError, match="did not start"):
            await worker.started()

    async def test_one_that_says_nothing_for_too_long_ends_with_all_that_was_asked_of_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flue.sandboxes.worker_process.START", 0.01)
        server: Any = _Server()
        worker = Worker(server)
        _, answer = worker.call(b"read", b"/workspace/x")
        with pytest.raises(WorkerEndedError, match=r"did not start in 0\.01 seconds"):
            await asyncio.wait_for(answer, 5)
        with pytest.raises(SandboxError, match="did not start"):
            await worker.started()
        server.theirs.close()


def parts(handed: bytes) -> list[Any]:
    """Return what a fork server is handed."""
    found = []
    while handed:
        end = 8 + int.from_bytes(handed[:8], "little")
        found.append(marshal.loads(handed[8:end]))  # noqa: S302 - our own
        handed = handed[end:]
    return found


def _descriptors() -> int:
    return len([*Path("/dev/fd").iterdir()])


class TestForkServer:
    def test_it_starts_with_what_it_is_handed_and_little_else(self) -> None:
        seen = "import sys\ndef serve(control): print(*sys.modules)"
        seeing: list[Any] = [("flue.sandboxes.worker.fork_server", [], compile(seen, "seen", "exec"))]
        first, library, then = parts(_modules())
        content = [marshal.dumps(part) for part in (first, library, [*then[:-1], *seeing])]
        done = subprocess.run(
            [sys.executable, "-I", "-S", SOURCE / "flue/sandboxes/worker/__main__.py"],
            input=b"".join(len(part).to_bytes(8, "little") + part for part in content),
            capture_output=True,
            check=True,
            timeout=30,
        )
        loaded = set(done.stdout.decode().split())
        assert {name for name, _, _ in [*first, *then]} <= loaded
        assert not loaded & {"os", "struct", "typing", "enum", "ctypes", "dataclasses", "threading", "re"}

    @linux
    def test_what_is_done_in_the_background_is_waited_for_until_its_thread_has_gone(self) -> None:
        program = f"""
import os, sys, time
sys.path.insert(0, {str(SOURCE)!r})
from flue.sandboxes.worker.background import in_background
done = []
wait = in_background(lambda: (time.sleep(0.2), done.append("done")))
print(done, len(os.listdir("/proc/self/task")))
wait()
print(done, len(os.listdir("/proc/self/task")))
"""
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
        assert ran.stdout == "[] 2\n['done'] 1\n"

    async def test_where_what_is_sent_may_get_lost_it_is_kept_until_it_has_arrived(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on macOS: one descriptor is ours, the other one the worker's."""
        monkeypatch.setattr("flue.sandboxes.fork_server._KEEPS_WHAT_IS_SENT", False)
        server = ForkServer()
        before = _descriptors()
        worker = Worker(server)
        asked = _descriptors()
        await worker.started()
        begun = _descriptors()
        worker.end()
        await server.close()
        assert (asked - before, begun - before) == (2, 1)

    @pytest.mark.parametrize(("allowed", "closed"), [(256, 256), (-1, 1 << 14), (1 << 30, 1 << 14)])
    def test_a_new_worker_closes_what_there_may_be_and_not_all_that_is_allowed(
        self, allowed: int, closed: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("posix.sysconf", lambda _: allowed)
        assert open_at_most() == closed

    async def test_one_that_dies_at_once_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(SandboxError):
            async with WorkerPool(spare=0) as pool:
                await pool.start()


ORPHANS = """
import asyncio, os, time
from flue.sandboxes import WorkerPool, virtual
from tests.sandboxes.processes import fork_servers, workers

async def main():
    async with WorkerPool(spare=1) as pool:
        env = await virtual(isolated=pool).create_session_env(id="x")
        stuck = asyncio.ensure_future(env.exec("echo > mark; seq 9 > f; uniq -f 99999999999 f"))
        while not await env.exists("mark"):
            await asyncio.sleep(0.01)
        print(*fork_servers(), *workers(), flush=True)
        await stuck

asyncio.run(main())
"""


# SBX-11
@linux
@pytest.mark.parametrize("signal", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
@pytest.mark.faults
def test_no_process_outlives_the_program_however_that_ends(signal: signal.Signals) -> None:
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True, cwd=root) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) >= 2
        program.send_signal(signal)
    deadline = time.monotonic() + 10
    while [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline, "they go on"
        time.sleep(0.01)


class TestShells:
    """A shell made ahead is as one that is made when its command comes."""

    def ahead(self) -> tuple[BashkitFiles, Shells]:
        files = BashkitFiles()
        shells = Shells(files)
        shells.limits = (100, 100)
        shells.expect(WORKSPACE, 10.0)
        shells.open_ahead()
        return files, shells

    def run(self, shells: Shells, line: str, cwd: str = WORKSPACE, **env: str) -> str:
        shell = shells.open(cwd, env, 10.0)
        printed = str(shell.execute_sync(line, on_output=Printed()).stdout)
        shells.open_ahead()
        return printed

    def test_it_sees_the_files_as_they_are_when_its_command_begins(self) -> None:
        files, shells = self.ahead()
        files.write_file(f"{WORKSPACE}/a.txt", b"later\n")
        assert self.run(shells, "cat a.txt; rm -rf /workspace") == "later\n"
        assert self.run(shells, "echo new > b.txt; ls") == "b.txt\n"
        assert files.read_file(f"{WORKSPACE}/b.txt") == b"new\n"

    def test_nothing_of_one_command_reaches_the_next(self) -> None:
        _, shells = self.ahead()
        assert self.run(shells, "x=1; f() { echo f; }; set -u; cd /tmp; alias g=ls; export y=2; echo $x$y") == "12\n"
        assert self.run(shells, 'echo "$PWD ${x-} ${y-} $(type f g 2>/dev/null)"') == f"{WORKSPACE}   \n"

    def test_a_command_that_wants_something_else_gets_that(self) -> None:
        files, shells = self.ahead()
        files.mkdir(f"{WORKSPACE}/sub", recursive=True)
        assert self.run(shells, "echo $PWD $KEY", f"{WORKSPACE}/sub", KEY="k") == f"{WORKSPACE}/sub k\n"
        assert self.run(shells, "echo $PWD $KEY") == f"{WORKSPACE}\n"
        shells.limits = (100, 3)
        assert self.run(shells, "for i in 1 2 3 4 5; do echo $i; done; echo all") != "1\n2\n3\n4\n5\nall\n"

    def test_a_directory_that_has_gone_is_an_error(self) -> None:
        files, shells = self.ahead()
        files.mkdir(f"{WORKSPACE}/sub", recursive=True)
        self.run(shells, "true", f"{WORKSPACE}/sub")
        files.rm(f"{WORKSPACE}/sub", recursive=True, force=False)
        with pytest.raises(FileNotFoundError):
            self.run(shells, "true", f"{WORKSPACE}/sub")

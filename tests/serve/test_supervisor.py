"""The process that keeps workers, over workers that are a few lines each."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from flue.serve import supervisor
from flue.serve.process import EXIT_SECONDS
from flue.serve.supervisor import KILL_SECONDS, Supervisor, pause_after

WORKER = """
import json, os, pathlib, signal, sys, time
listening, channel = map(int, sys.argv[2].split(","))
place = pathlib.Path(sys.argv[1])
parent = os.getppid()

def note(what):
    with open(place / "notes", "a") as notes:
        notes.write(what + "\\n")

def noted(what):
    return (place / "notes").read_text().split("\\n").count(what)

def wait_until(what, times=1):
    while noted(what) < times:
        time.sleep(0.002)

def answers(*lines):
    os.write(channel, json.dumps(lines).encode() + b"\\n")

def let_signals_come():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])

note("began")
number = noted("began")
"""


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


class Kept:
    """Two workers that run a script, until one of them ends the supervisor."""

    def __init__(self, folder: Path, listening: socket.socket) -> None:
        self._folder = folder
        self._listening = listening
        self.served: list[Sequence[str]] = []

    def run(self, script: str) -> int:
        """Keep them; return the exit code."""
        command = [sys.executable, "-S", "-E", "-c", WORKER + script, str(self._folder)]
        return Supervisor(command, 2, self._listening, self.served.append).run()

    def notes(self) -> list[str]:
        """Return what the workers have noted."""
        return (self._folder / "notes").read_text().split()


@pytest.fixture
def kept(tmp_path: Path, listening: socket.socket) -> Kept:
    return Kept(tmp_path, listening)


def test_pauses_grow_from_none_to_a_bound() -> None:
    pauses = [pause_after(early) for early in range(9)]
    assert pauses[:4] == [0, 0.5, 1, 2]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pause_after(1_000_000) == 15


def test_workers_may_take_as_long_as_a_single_process_and_the_whole_less_than_five_seconds() -> None:
    assert EXIT_SECONDS < KILL_SECONDS < 4.9


def test_the_first_worker_comes_alone_and_says_once_what_is_served(kept: Kept) -> None:
    code = kept.run("""
let_signals_come()
if number == 1:
    time.sleep(0.1)
    note(f"alone:{noted('began')}")
answers(f"Worker {number}")
note("answers")
wait_until("answers", 2)
if number == 2:
    os.kill(parent, signal.SIGTERM)
signal.pause()
""")
    assert code == 143
    assert kept.notes() == ["began", "alone:1", "answers", "began", "answers"]
    assert kept.served == [["Worker 1"]]


THE_SECOND_DIES = """
let_signals_come()
answers()
if number == 2:
    os.kill(os.getpid(), signal.SIGKILL)
if number == 3:
    os.kill(parent, signal.SIGTERM)
"""
"""A worker that answers; the second dies, and who takes its place has all of them ended."""


@pytest.mark.parametrize(("script", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", 137)])
def test_a_first_worker_that_cannot_start_ends_the_command_with_its_code(kept: Kept, script: str, code: int) -> None:
    assert kept.run(script) == code
    assert kept.notes() == ["began"]
    assert kept.served == []


def test_a_worker_that_dies_is_named_and_replaced_and_the_other_stays(
    kept: Kept, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "EARLY_SECONDS", 0.0)
    code = kept.run(
        THE_SECOND_DIES
        + """signal.signal(signal.SIGTERM, lambda *_: (note(f"told:{number}"), sys.exit()))
while True:
    signal.pause()
"""
    )
    assert code == 143
    assert "was killed by SIGKILL; the next one starts now." in capsys.readouterr().err
    assert {note for note in kept.notes() if note.startswith("told")} <= {"told:1", "told:3"}
    assert "told:1" in kept.notes()


class Gone(io.StringIO):
    """Standard error whose reader has gone."""

    def write(self, text: str) -> int:
        """Fail as a pipe does."""
        raise BrokenPipeError(text)


def test_nobody_needs_to_read_what_the_supervisor_says(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setattr(supervisor, "EARLY_SECONDS", 0.0)
    code = kept.run(THE_SECOND_DIES + "signal.pause()")
    assert code == 143


def test_signals_wait_until_a_worker_lets_them_come(kept: Kept) -> None:
    """One that still imports would die with a traceback."""
    code = kept.run("""
signal.signal(signal.SIGTERM, lambda *_: (note(f"told:{number}"), sys.exit()))
answers()
if number == 2:
    os.kill(parent, signal.SIGINT)
    time.sleep(0.1)
    note("imported")
let_signals_come()
time.sleep(10)
""")
    assert code == 130
    assert [note for note in kept.notes() if note != "told:1"] == ["began", "began", "imported", "told:2"]


def test_the_second_signal_kills_what_is_left(kept: Kept) -> None:
    began = time.monotonic()
    code = kept.run("""
answers()
if number == 2:
    os.kill(parent, signal.SIGTERM)
    time.sleep(0.1)
    os.kill(parent, signal.SIGINT)
time.sleep(10)
""")
    assert code == 130
    assert time.monotonic() - began < 3


def test_nothing_is_left_of_workers_and_of_what_they_leave(kept: Kept) -> None:
    kept.run("""
let_signals_come()
answers()
if number == 1:
    os.kill(parent, signal.SIGTERM)
signal.pause()
""")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_new_connections_are_refused_once_the_last_worker_has_closed(kept: Kept, listening: socket.socket) -> None:
    address = listening.getsockname()
    kept.run("""
answers()
if number == 2:
    os.kill(parent, signal.SIGTERM)
signal.sigwait([signal.SIGTERM])
""")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_the_supervisor_loads_neither_a_server_nor_a_project() -> None:
    code = "import sys, flue.cli.start, flue.serve.supervisor; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"asyncio", "uvicorn", "starlette", "pydantic", "flue.project.loader"} & set(done.stdout.split())

"""Wrangler as a process, played by a few lines of Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from flue.dev.cloudflare import guard
from flue.dev.cloudflare.wrangler import Wrangler
from flue.errors import ConfigError

READY = "print('[wrangler:info] Ready on http://127.0.0.1:1', flush=True)"


class Told:
    """A Wrangler, and what it has told."""

    def __init__(self, ready_seconds: float = 15.0) -> None:
        self.lines: list[str] = []
        self.wrangler = Wrangler(self.lines.append, ready_seconds=ready_seconds, term_seconds=0.3)

    async def start(self, *lines: str) -> None:
        program = "\n".join(["import os, signal, subprocess, sys, time", *lines])
        await self.wrangler.start([sys.executable, "-c", program], cwd=Path.cwd(), env=os.environ)


class Child:
    """A process that Wrangler starts and that ignores SIGTERM: it holds a pipe open as long as it lives."""

    def __init__(self, pipe: Path) -> None:
        os.mkfifo(pipe)
        self.reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
        deaf += f"; held = open({str(pipe)!r}, 'w'); print(1, flush=True); time.sleep(60)"
        self.program = f"subprocess.Popen([sys.executable, '-c', {deaf!r}], stdout=subprocess.PIPE).stdout.readline()"

    @property
    def lives(self) -> bool:
        try:
            return os.read(self.reading, 1) != b""
        except BlockingIOError:  # somebody may still write
            return True


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    made = Child(tmp_path / "alive")
    yield made
    os.close(made.reading)


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    made = Told()
    yield made
    await made.wrangler.stop()


async def test_it_is_waited_for_and_what_the_worker_says_is_told_without_the_tables(told: Told) -> None:
    await told.start(
        "print('Attaching additional modules:')",
        "print('│ flue_bundle.py │ python │ 0.46 KiB │')",
        READY,
        "print('hello from the Worker')",
        "print('⎔ Reloading local server...')",
        "print('⎔ Local server updated and ready', flush=True)",
        "time.sleep(60)",
    )
    assert await told.wrangler.ready(1, 10) == 2
    assert told.lines == ["hello from the Worker"]
    assert told.wrangler.alive


@pytest.mark.parametrize(
    "said",
    [
        "failed: Request for Pyodide bundle failed; url = https://cdn.example/pyodide_1.capnp.bin; no address",
        "failed: Pyodide bundle integrity check failed: the bundle does not match the expected checksum.",
    ],
)
async def test_a_runtime_without_python_is_recognised(told: Told, said: str) -> None:
    with pytest.raises(ConfigError, match=r"Cloudflare's local runtime has no Python: .*bundle") as caught:
        await told.start(f"print({said!r})", "sys.exit(1)")
    assert caught.value.code == "no_python_bundle"
    assert "FLUE_WORKERD_BUNDLE_DIR" in caught.value.hint


async def test_what_it_said_is_quoted_when_it_ends_before_it_serves(told: Told) -> None:
    with pytest.raises(ConfigError, match=r"it ended\. ✘ Address already in use") as caught:
        await told.start("print('\\x1b[31m✘ Address already in use\\x1b[0m')")
    assert caught.value.code == "worker_not_served"


async def test_a_start_that_hangs_has_a_deadline() -> None:
    told = Told(ready_seconds=0.5)
    with pytest.raises(ConfigError, match=r"not ready after 0\.5 s\. downloading") as caught:
        await told.start("print('downloading', flush=True)", "time.sleep(60)")
    assert caught.value.code == "worker_not_served"
    await told.wrangler.stop()


# What Wrangler does with SIGTERM: nothing, or what programs do.
_DEAF, _HEARS = "signal.signal(signal.SIGTERM, signal.SIG_IGN)", "pass"


# BLD-04
@pytest.mark.parametrize("itself", [_DEAF, _HEARS], ids=["deaf", "hears"])
async def test_the_end_takes_what_it_started_along_also_what_ignores_sigterm(
    told: Told, child: Child, itself: str
) -> None:
    await told.start(child.program, itself, READY, "time.sleep(60)")
    assert child.lives
    await told.wrangler.stop()
    assert not child.lives


# BLD-04
async def test_nothing_that_it_started_outlives_a_crash(told: Told, child: Child) -> None:
    await told.start(child.program, READY, "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(ConfigError, match="it ended"):
        await told.wrangler.ready(1, 10)
    assert not child.lives
    assert told.lines == [
        "[flue] error: Wrangler has ended. A change of the project starts it again. [worker_not_served]"
    ]


# BLD-04
def test_it_ends_when_the_process_that_started_it_is_killed() -> None:
    program = f"""
import subprocess, sys, time
command = [sys.executable, "-c", "print(1, flush=True); import time; time.sleep(60)"]
guarded = [sys.executable, "-P", {guard.__file__!r}, "0.3", *command]
subprocess.Popen(guarded, stdin=subprocess.PIPE, stdout=sys.stdout, start_new_session=True)
time.sleep(60)
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdout=pipe) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"1\n"
        parent.send_signal(signal.SIGKILL)
        # The pipe ends when nobody holds it any more.
        assert parent.stdout.read() == b""

"""Wrangler as a process, played by a few lines of Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
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
        self.wrangler = Wrangler(self.lines.append, ready_seconds=ready_seconds)

    async def start(self, *lines: str) -> None:
        program = "\n".join(["import os, subprocess, sys, time", *lines])
        await self.wrangler.start([sys.executable, "-c", program], cwd=Path.cwd(), env=os.environ)


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


# BLD-04
async def test_the_end_takes_what_it_started_along_also_what_ignores_sigterm(told: Told, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    reading = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    deaf = f"import signal, time; held = open({str(alive)!r}, 'w'); signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    await told.start(
        f"child = [sys.executable, '-c', {deaf!r} + '; print(1, flush=True); time.sleep(60)']",
        "subprocess.Popen(child, stdout=subprocess.PIPE).stdout.readline()",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        READY,
        "time.sleep(60)",
    )
    with pytest.raises(BlockingIOError):  # somebody may still write
        os.read(reading, 1)
    await told.wrangler.stop()
    assert os.read(reading, 1) == b""
    os.close(reading)


# BLD-04
def test_it_ends_when_the_process_that_started_it_is_killed() -> None:
    program = f"""
import subprocess, sys, time
command = [sys.executable, "-c", "print(1, flush=True); import time; time.sleep(60)"]
guarded = [sys.executable, "-P", {guard.__file__!r}, *command]
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

"""The virtual sandbox of a Worker, apart from what it has in common with the others: see test_virtual.py."""

from __future__ import annotations

import asyncio
import time

import pytest

from flue.errors import SandboxError
from flue.harness.env import SessionEnv
from flue.sandboxes import Limits, virtual
from flue.sandboxes.engine import EngineOptions, Network
from flue.sandboxes.synchronous_engine import SKIPPED_NOTE, SMALL_FILE, open_synchronous
from tests.sandboxes.synchronous import open_synchronous_env

MB = 1_000_000


def description(env: SessionEnv) -> str:
    text: str = getattr(env.sandbox, "description", "")
    return text


# ----------------------------------------------------------------------------------------------- what is missing


# SBX-14
async def test_a_network_is_refused_when_the_sandbox_is_opened() -> None:
    """In WebAssembly there is none; requests belong into tools."""
    with pytest.raises(SandboxError, match="no network in a Worker") as caught:
        await open_synchronous(EngineOptions(network=Network()))
    assert caught.value.code == "sandbox_unavailable"


# SBX-14
async def test_isolation_is_refused_where_there_are_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for as a protection must not silently be less."""
    monkeypatch.setattr("flue.sandboxes.virtual_sandbox._HAS_THREADS", False)
    with pytest.raises(SandboxError, match="isolated sandbox needs processes") as caught:
        await virtual(isolated=True).create_session_env(id="x")
    assert caught.value.code == "sandbox_unavailable"


async def test_a_model_is_told_what_is_different() -> None:
    """It would try otherwise."""
    about = description(await open_synchronous_env())
    assert all(part in about for part in ("no background processes", "network", "no sqlite3", "no time passes", "2 MB"))


@pytest.mark.parametrize(
    "command", ["curl -sS https://example.com", "wget https://example.com", "sqlite3 :memory: .help"]
)
async def test_what_is_missing_says_so_itself(command: str) -> None:
    """With an ordinary error."""
    result = await (await open_synchronous_env()).exec(command)
    assert result.exit_code != 0
    assert result.stderr


# -------------------------------------------------------------------------------------------------------- time


# SBX-13
async def test_sleep_returns_at_once_and_says_so() -> None:
    """Waiting would stop everything else, and in a Worker for ever."""
    began = time.monotonic()
    result = await (await open_synchronous_env()).exec("sleep 1m 2.5; sleep .5; echo done")
    assert time.monotonic() - began < 5
    assert (result.stdout, result.stderr, result.exit_code) == ("done\n", f"[flue] {SKIPPED_NOTE}\n", 0)


@pytest.mark.parametrize("command", ["sleep", "sleep soon", "sleep -1", "sleep 1 x"])
async def test_sleep_refuses_what_is_no_time(command: str) -> None:
    """As elsewhere."""
    result = await (await open_synchronous_env()).exec(command)
    assert result.exit_code == 1
    assert result.stderr.startswith("sleep: ")
    assert SKIPPED_NOTE not in result.stderr


async def test_what_is_slept_counts_towards_the_timeout() -> None:
    """A script that waits for something in vain ends as it would elsewhere, with what it had printed and written."""
    env = await open_synchronous_env()
    result = await env.exec("echo before; echo x > f; while [ ! -e g ]; do sleep 5; done; echo after", timeout=60)
    assert (result.stdout, result.exit_code) == ("before\n", 124)
    assert result.stderr.startswith("[flue] Command timed out after 60 seconds.\n")
    assert await env.read_file("f") == "x\n"


# SBX-13
@pytest.mark.parametrize(
    "command",
    ["while :; do :; done", "for ((;;)); do x=1; done", "until false; do echo y; done", "yes | while :; do :; done"],
)
async def test_what_loops_ends_without_a_clock(command: str) -> None:
    """By its commands or its iterations: nobody looks at the time that it takes."""
    env = await open_synchronous_env(limits=Limits(commands=2000, loop_iterations=5000, seconds=3600))
    result = await env.exec(f"echo started; {command}")
    assert (result.stdout[:8], result.exit_code) == ("started\n", 1)
    assert "[flue] The command was stopped: maximum " in result.stderr


async def test_others_have_their_turn_between_commands() -> None:
    """An agent that runs one command after the other does not starve the sockets of its object."""
    env = await open_synchronous_env()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    for _ in range(10):
        await env.exec("echo x")
    counting.cancel()
    assert turns >= 10


# ------------------------------------------------------------------------------------------------------ memory


async def test_output_is_cut_at_one_mebibyte() -> None:
    """The isolate holds it several times while it is handed on."""
    env = await open_synchronous_env({"/workspace/lines": b"0123456789abcde\n" * 100_000})
    result = await env.exec("cat lines")
    assert len(result.stdout) == 1024 * 1024
    assert result.stderr == "[flue] stdout ended here after 1 MiB; the rest was dropped.\n"


# SBX-13
async def test_files_cannot_fill_the_isolate() -> None:
    """All directories share one room, and so does what is written elsewhere while a command runs."""
    env = await open_synchronous_env()
    fill = "i=0; while head -c 1000000 /dev/zero > {}/f$i; do i=$((i+1)); done; echo $i"
    first = await env.exec(fill.format("/workspace"))
    assert 20 <= int(first.stdout) <= 25
    assert "filesystem full" in first.stderr
    assert (await env.exec(fill.format("/tmp"))).stdout == "0\n"
    assert (await env.exec(f"mkdir /data; {fill.format('/data')}")).stdout == "0\n"
    with pytest.raises(OSError, match="filesystem full"):
        await env.write_file("more", "x" * MB)
    await env.exec("rm /workspace/f*")
    assert int((await env.exec(f"mkdir /data; {fill.format('/data')}")).stdout) >= 20
    assert int((await env.exec(fill.format("/home/user"))).stdout) >= 20, "what was written elsewhere is gone"


# SBX-13
async def test_many_small_files_cannot_either() -> None:
    """Each costs more than its bytes."""
    result = await (await open_synchronous_env()).exec("i=0; while echo > f$i; do i=$((i+1)); done; echo $i")
    assert int(result.stdout) < 2500
    assert "too many files" in result.stderr


async def test_a_large_file_from_outside_gets_a_larger_room() -> None:
    """Nothing is lost on the way there: links, modes, empty directories, the other places that last."""
    env = await open_synchronous_env({"/home/user/.rc": b"h", "/tmp/t": b"t"})
    setup = "mkdir -p a/empty; echo x > a/f; chmod 700 a/f; ln -s a/f link; ln -s nowhere dangling; ls -lR . | md5sum"
    before = (await env.exec(f"{setup}; rm -rf /workspace/../data")).stdout
    await env.write_file("large.bin", b"x" * (3 * MB))
    assert (await env.exec("rm large.bin; ls -lR . | md5sum; cat ~/.rc /tmp/t")).stdout == f"{before}ht"
    assert (await env.stat("link")).is_symbolic_link
    await env.write_file("large.bin", b"x" * (3 * MB))
    assert (await env.exec("cat large.bin large.bin > larger; wc -c < larger")).stdout.strip() == str(6 * MB)
    with pytest.raises(OSError, match="file too large"):
        await env.write_file("too-large", b"x" * (11 * MB))


async def test_commands_alone_stay_in_the_small_room() -> None:
    """What a script writes is bounded whatever it does."""
    env = await open_synchronous_env({"/workspace/f": b"x" * (SMALL_FILE // 2)})
    result = await env.exec("cat f f f > g")
    assert "file too large" in result.stderr
    assert result.exit_code != 0


@pytest.mark.parametrize(
    "command", ["rm -rf /", "rm -rf /*", "rm -rf /home", "cd / && rm -rf workspace tmp home etc bin usr dev"]
)
async def test_a_sandbox_that_removes_everything_goes_on(command: str) -> None:
    """There is no other file system beside it."""
    env = await open_synchronous_env({"/workspace/f": b"x"})
    await env.exec(command)
    result = await env.exec("echo y > g; cat g; echo z > ~/h; echo w > /tmp/t; grep -c y g; ls g", timeout=5)
    assert result.stdout == "y\n1\ng\n"
    assert await env.readdir("/home/user") == ["h"]

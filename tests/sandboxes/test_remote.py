"""What scripts make of a remote bash, beyond the contract; tests/cloudflare/containers runs that."""

from __future__ import annotations

import asyncio
import base64
import errno
import shlex
import threading
import time
from pathlib import Path

import pytest

from flue.errors import SandboxError, UsageError
from flue.harness.env import SessionEnv
from flue.sandboxes import remote_command, remote_files
from flue.sandboxes.remote_command import OUTPUT_LIMIT
from flue.sandboxes.remote_sandbox import RemoteSandbox
from flue.sandboxes.remote_shell import LARGE
from tests.sandboxes.bash_shell import BashShell


@pytest.fixture
def shell() -> BashShell:
    return BashShell()


@pytest.fixture
def env(shell: BashShell, tmp_path: Path) -> SessionEnv:
    return SessionEnv(RemoteSandbox(shell, "A place."), str(tmp_path))


def left_behind(shell: BashShell) -> list[Path]:
    """Return what the commands' own files have become."""
    tokens = [script.partition("token=")[2][:16] for script in shell.scripts if "token=" in script]
    assert tokens
    return [path for token in tokens for path in Path("/tmp").glob(f".flue-{token}*")]


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1, 3 * LARGE])
async def test_content_around_the_size_that_travels_as_a_file(env: SessionEnv, shell: BashShell, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    await env.write_file("file", content)
    assert await env.read_file_buffer("file") == content
    assert (len(shell.uploaded), len(shell.downloaded)) == ((1, 1) if size > LARGE else (0, 0))


@pytest.mark.parametrize("size", [LARGE, LARGE + 1])
async def test_output_around_the_size_that_travels_as_a_file(env: SessionEnv, shell: BashShell, size: int) -> None:
    result = await env.exec(f"head -c {size} /dev/zero | tr '\\0' x; echo err >&2")
    assert (result.stdout, result.stderr, result.exit_code) == ("x" * size, "err\n", 0)
    assert len(shell.downloaded) == (size > LARGE)
    assert left_behind(shell) == []


async def test_a_small_file_costs_one_call_to_read_and_one_to_write(env: SessionEnv, shell: BashShell) -> None:
    await env.write_file("a/b/file", "x")
    assert await env.read_file("a/b/file") == "x"
    assert len(shell.scripts) == 2


@pytest.mark.parametrize("size", [LARGE, LARGE + 1])
async def test_a_new_file_is_there_with_all_its_content(env: SessionEnv, shell: BashShell, size: int) -> None:
    watch = "for i in 0 1 2 3 4 5; do until [ -e new$i ]; do :; done; read -rn 1 c < new$i; echo $c; done"
    watching = asyncio.ensure_future(env.exec(f"echo > began; {watch}", timeout=10))
    await env.exec("until [ -e began ]; do sleep 0.01; done", timeout=10)
    for number in range(6):
        await env.write_file(f"new{number}", "x" * size)
    assert (await watching).stdout == "x\n" * 6


async def test_of_a_file_that_exists_links_and_rights_stay(env: SessionEnv) -> None:
    await env.exec("echo old > file; chmod 751 file; ln file other; ln -s file link; ln -s new dangling")
    await env.write_file("link", "content\n")
    await env.write_file("dangling", "more\n")
    shown = await env.exec("cat other new; stat -c %a file; readlink link dangling")
    assert shown.stdout == "content\nmore\n751\nfile\nnew\n"


async def test_a_file_that_is_too_large_is_an_error_before_it_travels(
    env: SessionEnv, shell: BashShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_files, "LARGEST", LARGE)
    await env.exec(f"head -c {LARGE + 1} /dev/zero > large")
    for work in (env.read_file("large"), env.write_file("other", b"x" * (LARGE + 1))):
        with pytest.raises(OSError, match=r"large|other") as caught:
            await work
        assert caught.value.errno == errno.EFBIG
    assert shell.uploaded == shell.downloaded == []


async def test_files_without_a_size_are_read_and_devices_are_not(env: SessionEnv) -> None:
    assert (await env.read_file("/proc/self/status")).startswith("Name:")
    with pytest.raises(OSError, match="/dev/zero") as caught:
        await env.read_file("/dev/zero")
    assert caught.value.errno == errno.EINVAL


async def test_large_commands_variables_and_inputs_arrive(env: SessionEnv, shell: BashShell) -> None:
    long = "y" * 100_000
    result = await env.exec(f"cat; echo; echo ${{#LONG}}; : {long}", env={"LONG": long}, stdin=long)
    assert result.stdout == f"{long}\n100000\n"
    assert len(shell.uploaded) == 3
    assert left_behind(shell) == []


async def test_a_command_of_quotes_only_is_not_too_long_for_its_script(env: SessionEnv) -> None:
    word = "'" * 20_000
    assert (await env.exec(f"printf %s {shlex.quote(word)} | wc -c")).stdout.strip() == "20000"


async def test_values_of_variables_stand_in_no_script(env: SessionEnv, shell: BashShell) -> None:
    result = await env.exec('printf %s "$SECRET"; env | grep -c ^FLUE_', env={"SECRET": "canary-1"})
    assert result.stdout == "canary-10\n"
    assert not [script for script in shell.scripts if "canary-1" in script]


@pytest.mark.parametrize("name", ["with.dot", "-x", "1"])
async def test_variables_may_have_names_that_bash_does_not_know(env: SessionEnv, name: str) -> None:
    assert f"{name}=value" in (await env.exec("env", env={name: "value"})).stdout.splitlines()


async def test_an_impossible_variable_is_refused(env: SessionEnv, shell: BashShell) -> None:
    with pytest.raises(UsageError, match="cannot be set"):
        await env.exec("true", env={"a=b": "c"})
    assert shell.scripts == []


async def test_what_is_left_running_keeps_nobody_waiting(env: SessionEnv, shell: BashShell) -> None:
    started = time.monotonic()
    result = await env.exec("(sleep 0.5; echo later; touch done) & echo now")
    assert (result.stdout, result.exit_code) == ("now\n", 0)
    assert time.monotonic() - started < 0.5
    assert left_behind(shell) == []
    assert (await env.exec("until [ -e done ]; do sleep 0.02; done", timeout=5)).exit_code == 0


# SBX-17
async def test_a_timeout_ends_everything_that_the_command_started(env: SessionEnv, shell: BashShell) -> None:
    result = await env.exec("(sleep 0.6; touch late) & (sleep 0.6; touch late) | sleep 30", timeout=0.2)
    assert (result.exit_code, "timed out" in result.stderr) == (124, True)
    await env.exec("sleep 0.6")
    assert not await env.exists("late")
    assert left_behind(shell) == []


async def test_a_command_that_is_killed_has_the_status_of_its_signal(env: SessionEnv) -> None:
    assert (await env.exec("kill -9 $$")).exit_code == 137
    assert (await env.exec("kill -15 $$", timeout=30)).exit_code == 143


async def test_a_command_that_kills_its_guardian_is_ended_and_its_output_kept(
    env: SessionEnv, shell: BashShell
) -> None:
    result = await env.exec("echo before; kill -9 $PPID; sleep 30; echo after")
    assert (result.stdout, result.exit_code) == ("before\n", 137)
    assert "was killed" in result.stderr
    assert left_behind(shell) == []


async def test_output_beyond_the_limit_is_cut_off(env: SessionEnv) -> None:
    result = await env.exec(f"head -c {OUTPUT_LIMIT + 1} /dev/zero | tr '\\0' x")
    assert (len(result.stdout), result.exit_code) == (OUTPUT_LIMIT, 0)
    assert f"cut off after {OUTPUT_LIMIT:,} bytes" in result.stderr


# SBX-17
async def test_an_abort_before_the_place_has_begun_runs_nothing(
    env: SessionEnv, shell: BashShell, tmp_path: Path
) -> None:
    started = threading.Event()  # a container that is still starting
    shell.before = lambda script: started.wait(10) if "touch ran" in script else None
    task = asyncio.ensure_future(env.exec("touch ran; sleep 30"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    started.set()
    await shell.settled()
    assert not (tmp_path / "ran").exists()
    assert left_behind(shell) == []


async def test_an_abort_while_output_is_fetched_leaves_nothing_behind(
    env: SessionEnv, shell: BashShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetching = asyncio.Event()

    async def download(path: str) -> bytes:
        fetching.set()
        await asyncio.sleep(60)
        return b""

    monkeypatch.setattr(shell, "download", download)
    task = asyncio.ensure_future(env.exec(f"head -c {LARGE + 1} /dev/zero"))
    await fetching.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left_behind(shell) == []


async def test_an_abort_that_is_not_confirmed_waits_for_a_while_only(
    env: SessionEnv, shell: BashShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_command, "ABORT_SECONDS", 0.05)
    never = asyncio.Event()

    async def run(script: str, *, env: object = None, brief: bool = True) -> str:
        shell.scripts.append(script)
        await never.wait()
        raise SandboxError("gone")

    monkeypatch.setattr(shell, "run", run)
    task = asyncio.ensure_future(env.exec("sleep 30"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(shell.scripts) == 2
    never.set()
    await asyncio.sleep(0)


async def test_an_answer_that_cannot_be_understood_is_the_places_fault(env: SessionEnv, shell: BashShell) -> None:
    shell.heard = lambda printed: "bash: base64: command not found\n"
    with pytest.raises(SandboxError, match=r'Place "here".*base64: command not found') as caught:
        await env.read_file("file")
    assert caught.value.code == "sandbox_no_answer"
    with pytest.raises(SandboxError) as caught:
        await env.exec("true")
    assert caught.value.code == "sandbox_no_answer"


async def test_an_answer_is_found_among_what_else_was_printed(env: SessionEnv, shell: BashShell) -> None:
    shell.heard = lambda printed: f"Welcome\nflue:0:\n{printed}Bye\n"
    assert (await env.exec("echo said")).stdout == "said\n"
    await env.write_file("file", "x")
    assert await env.readdir(".") == ["file"]


async def test_an_error_that_nobody_has_heard_of_is_told_in_its_own_words(env: SessionEnv, shell: BashShell) -> None:
    said = base64.b64encode(b"stat: The disk sings").decode()
    shell.heard = lambda printed: f"{printed[:22]}{said}:1:\n"
    with pytest.raises(OSError, match=r"The disk sings.*/file") as caught:
        await env.stat("/file")
    assert caught.value.errno == errno.EIO

"""The session environment: paths, files, commands and locks."""

from __future__ import annotations

import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flue.errors import DefinitionError, UsageError
from flue.harness.env import FlueFs, SessionEnv
from flue.harness.sandbox import create_sandbox_session_env
from flue.ports import ExecResult, Sandbox
from tests.harness.memory_sandbox import Command, MemorySandbox


def env_of(sandbox: MemorySandbox | None = None, cwd: str = "/workspace") -> SessionEnv:
    return SessionEnv(sandbox or MemorySandbox(), cwd)


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("a.txt", "/workspace/a.txt"),
        ("./a//b/", "/workspace/a/b"),
        ("/etc/passwd", "/etc/passwd"),
        ("..", "/"),
        ("../../../x", "/x"),
        ("/../..", "/"),
        ("a/../../b", "/b"),
        (".", "/workspace"),
        ("//a", "/a"),
        ("a\\..\\b", "/workspace/a\\..\\b"),
        (" ", "/workspace/ "),
        ("...", "/workspace/..."),
    ],
)
def test_a_path_becomes_absolute_and_normalised(path: str, resolved: str) -> None:
    assert env_of().resolve_path(path) == resolved


@given(st.text(st.sampled_from("./a"), min_size=1))
def test_no_path_leaves_the_root_and_resolving_twice_changes_nothing(path: str) -> None:
    env = env_of()
    resolved = env.resolve_path(path)
    assert resolved.startswith("/")
    assert "/../" not in f"{resolved}/"
    assert "//" not in resolved
    assert env.resolve_path(resolved) == resolved


@pytest.mark.parametrize("path", ["", "a\0b", "\ud800", 5, None])
def test_a_path_that_no_sandbox_could_take_is_refused(path: str) -> None:
    with pytest.raises(UsageError) as raised:
        env_of().resolve_path(path)
    assert raised.value.code == "invalid_path"


def test_the_working_directory_must_be_absolute() -> None:
    with pytest.raises(UsageError, match="absolute"):
        env_of(cwd="workspace")
    assert env_of(cwd="/a/../b/").cwd == "/b"


async def test_files_are_read_and_written_relative_to_the_working_directory() -> None:
    sandbox = MemorySandbox()
    fs: FlueFs = env_of(sandbox)
    await fs.write_file("notes/a.txt", "grün")
    await fs.write_file("/b.bin", b"\xff\x00")
    assert sandbox.files == {"/workspace/notes/a.txt": "grün".encode(), "/b.bin": b"\xff\x00"}
    assert await fs.read_file("notes/a.txt") == "grün"
    assert await fs.read_file("/b.bin") == "\ufffd\0"
    assert await fs.read_file_buffer("/b.bin") == b"\xff\x00"
    assert await fs.readdir("notes") == ["a.txt"]
    assert (await fs.stat("notes/a.txt")).size == 5
    await fs.mkdir("deep/er", recursive=True)
    assert await fs.exists("deep/er")
    await fs.rm("notes", recursive=True)
    assert not await fs.exists("notes/a.txt")
    await fs.rm("notes", force=True)
    with pytest.raises(FileNotFoundError):
        await fs.rm("notes")


async def test_content_that_cannot_be_written_is_refused() -> None:
    sandbox = MemorySandbox()
    with pytest.raises(UsageError, match="character 3"):
        await env_of(sandbox).write_file("a", "ab\ud83d")
    with pytest.raises(UsageError, match="must be text or bytes, got int"):
        await env_of(sandbox).write_file("a", 5)  # type: ignore[arg-type]
    assert sandbox.files == {}


async def test_commands_run_in_the_working_directory_unless_told_otherwise() -> None:
    sandbox = MemorySandbox(script=lambda command: ExecResult(command.cwd, "", 3))
    env = env_of(sandbox)
    assert await env.exec("pwd") == ExecResult("/workspace", "", 3)
    assert (await env.exec("pwd", cwd="sub/..//x")).stdout == "/workspace/x"
    await env.exec("cat", env={"A": "1"}, stdin=b"x", timeout=2)
    assert sandbox.commands[-1] == Command("cat", "/workspace", {"A": "1"}, b"x", 2)


async def test_a_timeout_that_a_provider_raises_becomes_exit_code_124() -> None:
    def time_out(command: Command) -> ExecResult:
        raise TimeoutError

    env = env_of(MemorySandbox(script=time_out))
    result = await env.exec("sleep 9", timeout=0.5)
    assert result.exit_code == 124
    assert result.stderr == "[flue] Command timed out after 0.5 seconds."
    with pytest.raises(TimeoutError):
        await env.exec("sleep 9")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "5"])
async def test_a_timeout_that_is_no_positive_number_is_refused(timeout: float) -> None:
    with pytest.raises(UsageError, match="positive number of seconds"):
        await env_of().exec("true", timeout=timeout)


async def test_commands_and_variables_must_be_text() -> None:
    with pytest.raises(UsageError, match="NUL"):
        await env_of().exec("echo \0")
    with pytest.raises(UsageError, match="'PORT'"):
        await env_of().exec("true", env={"PORT": 80})  # type: ignore[dict-item]


async def test_a_scoped_environment_shares_files_and_locks() -> None:
    env = env_of()
    scoped = env.scoped("sub").scoped("../other")
    assert scoped.cwd == "/workspace/other"
    assert scoped.sandbox is env.sandbox
    await scoped.write_file("a.txt", "x")
    assert await env.read_file("other/a.txt") == "x"
    async with env.lock("other/a.txt"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), scoped.lock("a.txt"):
                raise AssertionError("two holders of one lock")
    async with scoped.lock("a.txt"):
        pass


async def test_parallel_changes_under_the_lock_lose_nothing() -> None:
    env = env_of(MemorySandbox({"/workspace/n": "0"}))

    async def increment() -> None:
        async with env.lock("./n"):
            await env.write_file("n", str(int(await env.read_file("n")) + 1))

    await asyncio.gather(*(increment() for _ in range(20)))
    assert await env.read_file("n") == "20"


async def test_locks_of_different_files_are_independent_and_leave_nothing_behind() -> None:
    env = env_of()
    async with env.lock("a"), env.lock("b"):
        assert len(env._locks) == 2
    gc.collect()
    assert len(env._locks) == 0


def test_a_connector_is_told_which_methods_are_missing() -> None:
    class Half:
        async def read_file(self, path: str) -> bytes:
            return b""

    with pytest.raises(DefinitionError, match="Half is not a sandbox: it has no write_file, stat"):
        create_sandbox_session_env(Half(), "/")  # type: ignore[arg-type]
    sandbox: Sandbox = MemorySandbox()
    assert create_sandbox_session_env(sandbox, "/home").cwd == "/home"

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from flue.errors import DefinitionError, SandboxError, UsageError
from flue.harness.env import SessionEnv
from flue.sandboxes import local
from flue.sandboxes.local_sandbox import LocalSandbox


async def open_env(directory: Path, **options: Any) -> SessionEnv:
    return await local(directory, **options).create_session_env(id="test")


async def is_gone(pid: int) -> bool:
    """Say whether a process ended within a few seconds; a zombie has ended."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        await asyncio.sleep(0.01)
    return False


async def read_when_written(path: Path) -> str:
    deadline = time.monotonic() + 5
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{path} was never written"
        await asyncio.sleep(0.01)
    return path.read_text().strip()


class TestEnvironment:
    async def test_only_named_variables_of_the_process_are_passed_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "canary")
        monkeypatch.setenv("TZ", "UTC")
        shown = (await (await open_env(tmp_path)).exec("env")).stdout
        assert "canary" not in shown
        assert "TZ=UTC\n" in shown
        assert f"PATH={os.environ['PATH']}\n" in shown

    async def test_own_variables_come_on_top_and_none_removes_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LANG", "C")
        monkeypatch.setenv("LOGNAME", "me")
        env = await open_env(tmp_path, env={"TOKEN": "given", "LANG": "C.UTF-8", "LOGNAME": None})
        script = 'echo "$TOKEN,$LANG,${LOGNAME-unset}"'
        assert (await env.exec(script)).stdout == "given,C.UTF-8,unset\n"
        assert (await env.exec(script, env={"TOKEN": "called", "LOGNAME": "x"})).stdout == "called,C.UTF-8,x\n"

    async def test_the_environment_is_that_of_the_moment_of_definition(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TZ", "UTC")
        factory = local(tmp_path)
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        env = await factory.create_session_env(id="test")
        assert (await env.exec("echo $TZ")).stdout == "UTC\n"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"env": ["A=1"]}, "env must map names to text, got list"),
            ({"env": {"A": 1}}, "'A' of env must be text"),
            ({"env": {1: "A"}}, "1 of env must be text"),
            ({"cwd": 5}, "cwd must be a path"),
        ],
    )
    def test_wrong_arguments_are_named(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(DefinitionError, match=message):
            local(**options)

    async def test_impossible_variables_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="environment variable"):
            local(env={"A=B": "x"})
        with pytest.raises(UsageError, match="environment variable"):
            await (await open_env(tmp_path)).exec("true", env={"A": "\0"})


class TestDirectory:
    async def test_the_option_comes_before_the_agents_and_the_process_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("option", "agent", "process"):
            (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / "process")
        create = local(tmp_path / "option").create_session_env
        assert (await create(id="x", cwd=str(tmp_path / "agent"))).cwd == str(tmp_path / "option")
        create = local().create_session_env
        assert (await create(id="x", cwd=str(tmp_path / "agent"))).cwd == str(tmp_path / "agent")
        assert (await create(id="x")).cwd == str(tmp_path / "process")

    async def test_a_missing_directory_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(SandboxError, match="missing is not a directory") as caught:
            await open_env(tmp_path / "missing")
        assert caught.value.code == "missing_directory"

    async def test_absolute_paths_are_not_confined(self, tmp_path: Path) -> None:
        (tmp_path / "work").mkdir()
        (tmp_path / "outside").write_text("seen")
        env = await open_env(tmp_path / "work")
        assert await env.read_file("../outside") == "seen"
        assert await env.read_file(str(tmp_path / "outside")) == "seen"


class TestProcesses:
    async def test_a_timeout_kills_everything_the_command_started(self, tmp_path: Path) -> None:
        env = await open_env(tmp_path)
        started = time.monotonic()
        result = await env.exec("sleep 100 & echo $! > child; (sleep 100; true) | cat", timeout=0.2)
        assert result.exit_code == 124
        assert time.monotonic() - started < 3
        assert await is_gone(int((tmp_path / "child").read_text()))

    async def test_a_command_that_ignores_signals_is_killed_all_the_same(self, tmp_path: Path) -> None:
        env = await open_env(tmp_path)
        result = await env.exec("trap '' TERM INT HUP; echo on; while :; do sleep 1; done", timeout=0.2)
        assert (result.stdout, result.exit_code) == ("on\n", 124)

    async def test_an_abort_kills_everything_the_command_started(self, tmp_path: Path) -> None:
        env = await open_env(tmp_path)
        task = asyncio.ensure_future(env.exec("sleep 100 & echo $! > child; wait"))
        child = int(await read_when_written(tmp_path / "child"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await is_gone(child)

    async def test_a_background_process_that_holds_the_output_open_does_not_hold_the_command(
        self, tmp_path: Path
    ) -> None:
        env = await open_env(tmp_path)
        started = time.monotonic()
        result = await env.exec("sleep 100 & echo $! > child; echo done")
        assert time.monotonic() - started < 3
        assert (result.stdout, result.exit_code) == ("done\n", 0)
        child = int((tmp_path / "child").read_text())
        os.kill(child, 9)  # it was left alone
        assert await is_gone(child)

    async def test_endless_output_is_stopped(self, tmp_path: Path) -> None:
        sandbox = LocalSandbox({"PATH": os.environ["PATH"]}, output_limit=100_000)
        for command in ("yes", "yes >&2"):
            result = await asyncio.wait_for(sandbox.exec(command, cwd=str(tmp_path)), 10)
            assert result.exit_code == 1
            assert len(result.stdout) in (0, 100_000)
            assert result.stderr.endswith("[flue] Command killed: it printed more than 100,000 bytes.\n")

    async def test_output_of_just_the_limit_is_fine(self, tmp_path: Path) -> None:
        sandbox = LocalSandbox({"PATH": os.environ["PATH"]}, output_limit=100_000)
        result = await sandbox.exec("head -c 100000 /dev/zero | tr '\\0' a", cwd=str(tmp_path))
        assert (result.stdout, result.stderr, result.exit_code) == ("a" * 100_000, "", 0)

    async def test_a_killed_command_has_status_one_and_says_so(self, tmp_path: Path) -> None:
        result = await (await open_env(tmp_path)).exec("echo so far; kill -9 $$")
        assert (result.stdout, result.exit_code) == ("so far\n", 1)
        assert "killed by signal 9" in result.stderr

    async def test_large_input_and_output_do_not_block_each_other(self, tmp_path: Path) -> None:
        text = "0123456789abcde\n" * 200_000
        result = await asyncio.wait_for((await open_env(tmp_path)).exec("cat", stdin=text), 15)
        assert result.stdout == text

    async def test_input_that_nobody_reads_is_no_error(self, tmp_path: Path) -> None:
        result = await (await open_env(tmp_path)).exec("echo done", stdin="x" * 1_000_000)
        assert (result.stdout, result.stderr, result.exit_code) == ("done\n", "", 0)

    async def test_the_event_loop_runs_on_while_a_command_runs(self, tmp_path: Path) -> None:
        env = await open_env(tmp_path)
        task = asyncio.ensure_future(env.exec("until [ -e go ]; do sleep 0.01; done; echo went"))
        await env.write_file("go", "")
        assert (await asyncio.wait_for(task, 10)).stdout == "went\n"

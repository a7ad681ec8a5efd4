"""Our client against servers that are child processes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path

import pytest

from flue.definitions.tool import ToolResult
from flue.mcp import McpError, McpServer, connect_mcp_server
from flue.mcp.connect import Connecting
from flue.messages import TextContent
from tests.mcp.conftest import Call, patient

HERE = Path(__file__).parent


def plain(mode: str = "", **options: object) -> Connecting:
    return connect_mcp_server("plain", command=[sys.executable, str(HERE / "plain.py"), mode], **options)  # type: ignore[arg-type]


def text_of(result: ToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


async def pid_of(call: Call, server: McpServer) -> int:
    return int(text_of(await call(server, "pid")))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.e2e
async def test_a_server_made_with_the_official_sdk_works_over_stdio(call: Call) -> None:
    command = [sys.executable, str(HERE / "office.py")]
    async with connect_mcp_server("office", command=command, cwd=HERE.parents[1]) as server:
        assert server.instructions == "Ask politely."
        assert text_of(await call(server, "echo", text="Grüße")) == "Grüße"
        assert len(text_of(await call(server, "echo", text="x" * 3_000_000))) == 3_000_000


async def test_the_process_ends_with_the_connection(call: Call) -> None:
    async with plain() as server:
        pid = await pid_of(call, server)
        assert is_running(pid)
    assert not is_running(pid)


@pytest.mark.faults
async def test_a_process_that_ignores_the_end_of_stdin_is_killed(call: Call) -> None:
    async with plain("stubborn") as server:
        pid = await pid_of(call, server)
    assert not is_running(pid)


async def test_the_process_sees_few_variables_and_its_folder(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    async with plain(env={"TOKEN": "given"}, cwd=tmp_path) as server:
        seen = json.loads(text_of(await call(server, "environment")))
    assert seen["TOKEN"] == "given"
    assert seen["cwd"] == str(tmp_path.resolve())
    assert set(seen) <= {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "TOKEN", "cwd", "LC_CTYPE", "PWD"}


async def test_a_crash_fails_the_call_and_the_next_one_starts_a_new_process(call: Call) -> None:
    async with plain() as server:
        first = await pid_of(call, server)
        with pytest.raises(McpError, match="may have been executed") as caught:
            await call(server, "die")
        assert caught.value.code == "mcp_connection_lost"
        assert await pid_of(call, server) != first


async def test_a_process_that_died_between_calls_is_replaced_before_the_next(call: Call) -> None:
    async with plain() as server:
        first = await pid_of(call, server)
        os.kill(first, 9)
        connection = server._connection
        assert connection is not None
        while connection.is_open:  # noqa: ASYNC110 - nobody is told before the next call
            await asyncio.sleep(0)
        assert await pid_of(call, server) != first


@pytest.mark.faults
async def test_a_process_that_hangs_is_replaced_after_the_timeout(call: Call) -> None:
    async with plain(timeout=1.0) as server:
        first = await pid_of(call, server)
        with pytest.raises(McpError, match="got no answer"):
            await call(server, "hang")
        patient(server)
        assert await pid_of(call, server) != first


@pytest.mark.faults
async def test_a_process_that_says_nothing_times_out_with_its_last_words() -> None:
    # Long enough for a busy machine to start it.
    with pytest.raises(McpError, match=r"No answer .* within 5 s; its stderr ended with: plain: secret-free"):
        await plain("silent", connect_timeout=5.0)


async def test_a_process_that_ends_at_once_is_an_error_with_its_last_words() -> None:
    with pytest.raises(McpError, match="stderr ended with: plain: secret-free last words") as caught:
        await plain("gone")
    assert caught.value.code == "mcp_connect_failed"


async def test_a_program_that_does_not_exist_is_an_error_that_names_it() -> None:
    with pytest.raises(McpError, match="no-such-program") as caught:
        await connect_mcp_server("x", command=["no-such-program", "--key=secret"])
    assert caught.value.code == "mcp_connect_failed"
    assert "secret" not in str(caught.value)


async def test_lines_that_are_no_messages_do_no_harm(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL, "mcp"):
        async with plain("noisy") as server:
            assert text_of(await call(server, "echo", text="hi")) == "hi"


async def test_what_a_process_writes_to_stderr_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "flue.mcp"):
        async with plain():
            pass
    assert "plain: plain: secret-free last words" in caplog.messages


def test_the_process_ends_with_the_event_loop_when_nobody_closes_it() -> None:
    async def forget() -> int:
        server = await plain()
        (tool,) = (tool for tool in server.tools if tool.name.endswith("pid"))
        return int(text_of(await tool.run({}, None)))  # type: ignore[arg-type]

    assert not is_running(asyncio.run(forget()))

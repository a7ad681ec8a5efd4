from __future__ import annotations

import asyncio

import pytest

from flue.errors import UsageError
from flue.harness.env import SessionEnv
from flue.messages import TextContent
from tests.harness.tools.use import use


async def test_a_file_is_written_with_its_directories_and_its_size_is_told(env: SessionEnv) -> None:
    result = await use(env, "write", path="a/b/c.txt", content="grün\n")
    assert result.content == (TextContent("Successfully wrote 6 bytes to a/b/c.txt"),)
    assert result.details == {"path": env.resolve_path("a/b/c.txt"), "size": 6}
    assert await env.read_file_buffer("a/b/c.txt") == "grün\n".encode()


async def test_an_existing_file_is_replaced(env: SessionEnv) -> None:
    await env.write_file("f", "a long text")
    await use(env, "write", path="f", content="")
    assert await env.read_file("f") == ""


async def test_a_directory_or_half_a_character_is_an_error_and_nothing_is_written(env: SessionEnv) -> None:
    await env.mkdir("d")
    with pytest.raises(OSError, match="d"):
        await use(env, "write", path="d", content="x")
    with pytest.raises(UsageError, match="half a surrogate pair"):
        await use(env, "write", path="f", content="\ud83d")
    assert await env.readdir(".") == ["d"]


async def test_writing_waits_for_whoever_holds_the_file(env: SessionEnv) -> None:
    async with env.lock("f"):
        writing = asyncio.create_task(use(env, "write", path="f", content="tool"))
        await asyncio.sleep(0)
        await env.write_file("f", "holder")
        assert await env.read_file("f") == "holder"
        assert not writing.done()
    await writing
    assert await env.read_file("f") == "tool"

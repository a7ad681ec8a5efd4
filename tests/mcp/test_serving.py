"""Our tools over our own server, called by our own client over HTTP on loopback."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from flue.mcp import McpServer, connect_mcp_server
from flue.mcp.serving import Answer, Progress, ServedTool, ToolServer, listen_on_loopback
from flue.messages import Json, TextContent
from tests.mcp.conftest import Call

Run = Callable[[Json, Progress], Awaitable[Answer]]
NUMBER: Json = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@asynccontextmanager
async def offered(run: Run, parameters: Json | None = None) -> AsyncIterator[tuple[McpServer, str]]:
    """Serve one tool called `work`; yield a connected client and the address."""
    tool = ServedTool("work", "Works.", {"type": "object"} if parameters is None else parameters, run)
    with listen_on_loopback(0) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        serving = asyncio.create_task(ToolServer("ours", "1", [tool]).over_http(listening))
        try:
            async with connect_mcp_server("ours", url=url, timeout=10) as server:
                yield server, url
        finally:
            serving.cancel()
            await asyncio.wait([serving])


def shown(result: Any) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


async def test_a_tool_gets_checked_arguments_and_gives_structured_content(call: Call) -> None:
    async def double(arguments: Json, _: Progress) -> Answer:
        return Answer.of({"twice": arguments["n"] * 2})

    async with offered(double, NUMBER) as (server, _url):
        (tool,) = server.tools
        assert tool.parameters == NUMBER
        assert tool.description.endswith("Works.")
        assert (await call(server, "work", n="21")).details["structuredContent"] == {"twice": 42}
        wrong = await call(server, "work", n="many")
        assert wrong.is_error
        assert "n: must be integer" in shown(wrong)


TOGETHER = """
import importlib, sys, threading, time

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "mcp.client":
            begun.set()
            time.sleep(0.5)

begun = threading.Event()
from flue.mcp.serving import ToolServer
sys.meta_path.insert(0, Finder())
thread = threading.Thread(target=importlib.import_module, args=("mcp",))
thread.start()
begun.wait()
ToolServer("ours", "1", [])._server()
thread.join()
"""


@pytest.mark.e2e
def test_a_server_that_begins_while_a_client_loads_the_sdk_in_a_thread_waits_for_that() -> None:
    """Each would else hold what the other needs, and get half a module."""
    done = subprocess.run([sys.executable, "-c", TOGETHER], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("value", "text"), [(None, "null"), ("hi", "hi"), ([1, "é"], '[1, "é"]')])
def test_what_is_not_an_object_stands_under_result(value: Any, text: str) -> None:
    assert Answer.of(value) == Answer(text, {"result": value})


async def test_what_a_tool_raises_is_an_error_result_and_the_server_goes_on(call: Call) -> None:
    calls = 0

    async def fail_once(_: Json, __: Progress) -> Answer:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("out of paper")
        return Answer("fine")

    async with offered(fail_once) as (server, _url):
        failed = await call(server, "work")
        assert (failed.is_error, shown(failed)) == (True, "out of paper")
        assert shown(await call(server, "work")) == "fine"


async def test_cancelling_a_call_lets_the_tool_put_things_in_order(call: Call) -> None:
    started, cleaned = asyncio.Event(), asyncio.Event()

    async def work(_: Json, __: Progress) -> Answer:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            # Several awaits on the way out: anyio's scopes would interrupt the first.
            for _turn in range(5):
                await asyncio.sleep(0)
            cleaned.set()
        raise AssertionError

    async with offered(work) as (server, _url):
        waiting = asyncio.create_task(call(server, "work"))
        await started.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await cleaned.wait()


async def test_ending_the_server_ends_the_calls_under_way(call: Call) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def work(_: Json, __: Progress) -> Answer:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    async with offered(work) as (server, _url):
        waiting = asyncio.create_task(call(server, "work"))
        await started.wait()
    assert ended.is_set()
    await asyncio.wait([waiting])
    assert waiting.exception() is not None


async def test_progress_reaches_a_client_that_asks_for_it() -> None:
    from mcp import Client

    async def work(_: Json, progress: Progress) -> Answer:
        progress("tool grep")
        progress("x" * 1000)
        return Answer("done")

    seen: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, message))

    async with offered(work) as (_server, url), Client(url) as client:
        await client.call_tool("work", {}, progress_callback=note)
    assert seen == [(1, "tool grep"), (2, "x" * 500)]


async def test_a_page_of_another_site_cannot_reach_the_server() -> None:
    async def work(_: Json, __: Progress) -> Answer:
        raise AssertionError

    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    async with offered(work) as (_server, url), httpx2.AsyncClient() as browser:
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            answer = await browser.post(url, json=request, headers=headers)
            assert answer.status_code in (403, 421)

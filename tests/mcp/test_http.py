"""Our client against real servers over HTTP on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from flue.definitions.tool import ToolResult
from flue.mcp import McpError, connect_mcp_server
from flue.mcp.server import McpServer
from flue.messages import ImageContent, TextContent
from tests.lazily import Lazily
from tests.mcp.conftest import Call, patient, served
from tests.mcp.office import PNG, Office, usual

if TYPE_CHECKING:
    from mcp import types
else:
    types = Lazily("mcp.types")

TRANSPORTS = pytest.mark.parametrize("transport", ["streamable-http", "sse"])


def text_of(result: ToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


@TRANSPORTS
async def test_the_tools_of_a_server_can_be_called(transport: Any, call: Call) -> None:
    async with (
        served(usual(), transport) as site,
        connect_mcp_server("office", url=site.url, transport=transport) as server,
    ):
        assert [tool.name for tool in server.tools][:2] == ["mcp__office__echo", "mcp__office__wait"]
        assert server.instructions == "Ask politely."
        assert text_of(await call(server, "echo", text="Grüße")) == "Grüße"


async def test_all_pages_of_the_list_are_read(call: Call) -> None:
    office = Office(pages=[[types.Tool(name=f"t{page}", input_schema={"type": "object"})] for page in range(5)])
    async with served(office) as site, connect_mcp_server("o", url=site.url) as server:
        assert [tool.name for tool in server.tools] == [f"mcp__o__t{page}" for page in range(5)]


async def test_a_cursor_that_comes_back_is_an_error_and_no_endless_loop() -> None:
    office = Office(pages=[[], [], []], next_cursors=["1", "2", "1"])
    async with served(office) as site:
        with pytest.raises(McpError, match="comes back to the page '1'") as caught:
            await connect_mcp_server("office", url=site.url)
    assert caught.value.code == "mcp_bad_listing"


async def test_images_structured_content_and_errors_are_passed_on(call: Call) -> None:
    office = Office()
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    office.offer("picture", types.TextContent(text="Look:"), types.ImageContent(data=PNG, mime_type="image/png"))
    office.offer("data", types.TextContent(text='{"n": 1}'), structured_content={"n": 1}, output_schema=schema)
    office.offer("fail", types.TextContent(text="No such order."), is_error=True)
    async with served(office) as site, connect_mcp_server("o", url=site.url) as server:
        picture, data, fail = [await call(server, name) for name in ("picture", "data", "fail")]
    assert picture.content == (TextContent("Look:"), ImageContent(PNG, "image/png"))
    assert data.content == (TextContent('{"n": 1}'),)
    assert data.details == {"server": "o", "tool": "data", "structuredContent": {"n": 1}, "outputSchema": schema}
    assert (fail.is_error, text_of(fail)) == (True, "No such order.")


async def test_a_result_of_several_megabytes_arrives_whole(call: Call) -> None:
    office = Office()
    office.offer("huge", types.TextContent(text="x" * 3_000_000))
    async with served(office) as site, connect_mcp_server("o", url=site.url) as server:
        assert len(text_of(await call(server, "huge"))) == 3_000_000


async def test_over_sse_a_result_beyond_the_limit_of_the_sdk_says_so_and_the_next_call_works(call: Call) -> None:
    office = usual()
    office.offer("huge", types.TextContent(text="x" * 1_100_000))
    async with served(office, "sse") as site, connect_mcp_server("o", url=site.url, transport="sse") as server:
        with pytest.raises(McpError, match="exceeded the 1048576 byte limit"):
            await call(server, "huge")
        assert text_of(await call(server, "echo", text="back")) == "back"
    assert office.count("huge") == 1


@TRANSPORTS
async def test_a_call_without_an_answer_times_out_and_later_calls_work(transport: Any, call: Call) -> None:
    office = usual()
    async with (
        served(office, transport) as site,
        connect_mcp_server("o", url=site.url, transport=transport, timeout=0.5) as server,
    ):
        with pytest.raises(McpError, match=r'call of "wait" got no answer .* within 0\.5 s') as caught:
            await call(server, "wait")
        assert caught.value.code == "mcp_timeout"
        patient(server)
        assert text_of(await call(server, "echo", text="next")) == "next"
        await office.gave_up.wait()
    assert (office.count("wait"), office.cancelled) == (1, 1)


@TRANSPORTS
async def test_cancelling_a_call_tells_the_server_and_keeps_the_connection(transport: Any, call: Call) -> None:
    office = usual()
    async with (
        served(office, transport) as site,
        connect_mcp_server("o", url=site.url, transport=transport) as server,
    ):
        waiting = asyncio.create_task(call(server, "wait"))
        await office.started.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert text_of(await call(server, "echo", text="still here")) == "still here"
        await office.gave_up.wait()
        assert office.cancelled == 1


@TRANSPORTS
async def test_after_a_restart_of_the_server_the_next_call_connects_anew(transport: Any, call: Call) -> None:
    office = usual()
    async with (
        served(office, transport) as site,
        connect_mcp_server("o", url=site.url, transport=transport) as server,
    ):
        await call(server, "echo", text="before")
        await site.stop()
        await site.start()
        assert text_of(await call(server, "echo", text="after")) == "after"
    assert office.count("echo") == 2


async def test_a_session_that_the_server_has_forgotten_is_replaced_and_the_call_sent(call: Call) -> None:
    office = usual()
    async with served(office, sessions=True) as site, connect_mcp_server("o", url=site.url) as server:
        await call(server, "echo", text="before")
        first = {headers.get("mcp-session-id") for headers in site.headers} - {None}
        await site.stop()
        await site.start()
        assert text_of(await call(server, "echo", text="after")) == "after"
        assert len({headers.get("mcp-session-id") for headers in site.headers} - {None} - first) == 1
    assert office.count("echo") == 2


async def test_a_call_that_times_out_in_a_session_is_cancelled_at_the_server(call: Call) -> None:
    office = usual()
    async with served(office, sessions=True) as site, connect_mcp_server("o", url=site.url, timeout=0.5) as server:
        with pytest.raises(McpError, match="got no answer"):
            await call(server, "wait")
        patient(server)
        assert text_of(await call(server, "echo", text="next")) == "next"
        await office.gave_up.wait()
    assert office.cancelled == 1


@TRANSPORTS
async def test_a_call_under_way_when_the_server_goes_down_fails_and_is_never_repeated(
    transport: Any, call: Call
) -> None:
    office = usual()
    async with (
        served(office, transport) as site,
        connect_mcp_server("o", url=site.url, transport=transport) as server,
    ):
        waiting = asyncio.create_task(call(server, "wait"))
        await office.started.wait()
        await site.stop()
        with pytest.raises(McpError, match="may have been executed") as caught:
            await waiting
        assert caught.value.code == "mcp_connection_lost"
        await site.start()
        assert text_of(await call(server, "echo", text="after")) == "after"
    assert office.count("wait") == 1


@TRANSPORTS
async def test_while_the_server_is_down_calls_say_so(transport: Any, call: Call) -> None:
    async with served(usual(), transport) as site:
        server = await connect_mcp_server("office", url=site.url, transport=transport)
        await site.stop()
        with pytest.raises(McpError, match='Cannot reach the MCP server "office"') as caught:
            await call(server, "echo", text="?")
        assert caught.value.code == "mcp_connect_failed"
        await server.close()
        await site.start()


@TRANSPORTS
async def test_the_auth_hook_is_asked_again_when_its_token_is_refused(transport: Any, call: Call) -> None:
    tokens = iter(["old", "new", "newer"])

    async def hook() -> dict[str, str]:
        return {"Authorization": f"Bearer {next(tokens)}"}

    async with served(usual(), transport) as site:
        site.token = "new"
        async with connect_mcp_server("o", url=site.url, transport=transport, auth=hook) as server:
            assert text_of(await call(server, "echo", text="1")) == "1"
            site.token = "newer"
            assert await asyncio.gather(*(call(server, "echo", text="2") for _ in range(3)))
    assert next(tokens, None) is None


async def test_a_refused_token_is_an_error_that_names_the_server() -> None:
    async with served(usual()) as site:
        site.token = "right"
        with pytest.raises(McpError, match=r'"office" .* was refused \(HTTP 401\)') as caught:
            await connect_mcp_server("office", url=f"{site.url}?key=secret", auth=lambda: {"Authorization": "wrong"})
    assert caught.value.code == "mcp_unauthorized"
    assert "secret" not in str(caught.value)


async def test_an_auth_hook_that_fails_is_an_error_with_its_message() -> None:
    def hook() -> dict[str, str]:
        raise RuntimeError("the vault is locked")

    async with served(usual()) as site:
        with pytest.raises(McpError, match="the vault is locked"):
            await connect_mcp_server("office", url=site.url, auth=hook)


async def test_headers_and_an_httpx2_auth_go_with_every_request(call: Call) -> None:
    async with served(usual()) as site:
        auth = httpx2.BasicAuth("ada", "secret")
        async with connect_mcp_server("o", url=site.url, headers={"X-Team": "support"}, auth=auth) as server:
            await call(server, "echo", text="hi")
    assert site.headers
    assert all(headers["x-team"] == "support" for headers in site.headers)
    assert all(headers["authorization"].startswith("Basic ") for headers in site.headers)


async def test_an_address_where_nobody_listens_is_an_error() -> None:
    with pytest.raises(McpError, match="Cannot reach") as caught:
        await connect_mcp_server("office", url="http://127.0.0.1:1/mcp")
    assert caught.value.code == "mcp_connect_failed"


async def test_an_address_that_is_no_mcp_server_is_an_error() -> None:
    async with served(usual()) as site:
        with pytest.raises(McpError, match="HTTP 404"):
            await connect_mcp_server("office", url=site.url.replace("/mcp", "/elsewhere"))


async def test_a_server_that_accepts_and_never_answers_times_out() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(McpError, match=r"No answer from .* within 0\.2 s"):
            await connect_mcp_server("office", url=f"http://127.0.0.1:{port}/mcp", connect_timeout=0.2)


async def test_a_server_may_be_opened_in_one_task_and_closed_in_another_in_any_order(call: Call) -> None:
    async with served(usual()) as one, served(usual()) as two:
        first = await asyncio.create_task(connect_mcp_server("a", url=one.url)._open())
        second = await asyncio.create_task(connect_mcp_server("b", url=two.url)._open())
        await asyncio.create_task(first.close())
        assert text_of(await call(second, "echo", text="still open")) == "still open"
        await second.close()
        await second.close()
        with pytest.raises(McpError, match="has been closed"):
            await call(second, "echo", text="?")


async def test_cancelling_the_connecting_task_leaves_nothing_behind() -> None:
    async with served(usual()) as site:
        before = asyncio.all_tasks()
        connecting = asyncio.create_task(connect_mcp_server("o", url=site.url)._open())
        await site.asked.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        left = {task for task in asyncio.all_tasks() - before if "mcp server" in task.get_name()}
        assert not left


async def test_closing_while_a_call_is_under_way_fails_the_call() -> None:
    office = usual()
    async with served(office) as site:
        server = await connect_mcp_server("o", url=site.url)
        waiting = asyncio.create_task(server.tools[1].run({}, None))  # type: ignore[arg-type]
        await office.started.wait()
        await server.close()
        with pytest.raises(McpError):
            await waiting


class Silent:
    """A way to a server that never lets itself be reached."""

    label = "silent"

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    @asynccontextmanager
    async def open(self, lost: Callable[[], None]) -> AsyncIterator[Any]:
        self.asked.set()
        await asyncio.Event().wait()
        yield

    def last_words(self) -> str:
        return ""


@pytest.mark.parametrize("begun", [True, False])
async def test_closing_does_not_wait_for_a_connection_that_is_being_opened(begun: bool) -> None:
    wire = Silent()
    server = McpServer("o", wire, timeout=None, connect_timeout=None)
    opening = asyncio.create_task(server.open())
    await asyncio.sleep(0)
    if begun:
        await wire.asked.wait()
    async with asyncio.timeout(5):
        await server.close()
        with pytest.raises(McpError, match="has been closed"):
            await opening

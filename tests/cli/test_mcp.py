"""`flue mcp`: a project's workflows and agents as tools."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import flue as package
from flue.cli.mcp_tools import served_tools
from flue.cli.opening import Located, Opened
from flue.cli.raised import Raised
from flue.definitions.tool import ToolContext, ToolResult
from flue.durable.records import Outcome, RunQuery
from flue.engine.admissions import session_lane
from flue.engine.service import Service
from flue.errors import ConfigError, OperationError
from flue.mcp import McpServer, connect_mcp_server
from flue.mcp.serving import BY_CLIENT, Answer, ServedTool
from flue.messages import Json, TextContent
from flue.project.catalog import catalog_of
from flue.project.config import load_config
from flue.project.loader import load_project
from flue.stores import SqliteStore
from tests.cli.conftest import Child, Flue, Write

CONTEXT = ToolContext(tool_call_id="call_1", session="default", sandbox=None, env={})
ADD = """
    \"\"\"Adds two numbers.\"\"\"
    import os
    from pydantic import BaseModel

    class Payload(BaseModel):
        a: int
        b: int = 2

    async def run(ctx):
        print("noise on stdout")
        os.system("echo noise of a child")
        ctx.log.info("adding")
        return {"sum": ctx.payload["a"] + ctx.payload.get("b", 2)}
"""
WAIT = """
    import asyncio, pathlib

    async def run(ctx):
        pathlib.Path("started").touch()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            pathlib.Path("cancelled").touch()
"""
HELPER = """
    \"\"\"Remembers names.\"\"\"
    from flue import create_agent
    agent = create_agent(model="demo/librarian")
"""
SHOP = """
    from flue import create_agent, tool

    @tool(approval=True)
    def refund(order_id: str) -> str:
        "Refund an order."
        return f"Order {order_id} is refunded."

    agent = create_agent(model="demo/librarian", tools=[refund])
"""
OFFICE = {"workflows/add.py": ADD, "workflows/wait.py": WAIT, "agents/helper.py": HELPER}


class Tools:
    """The tools of the project in the working directory, called without a transport."""

    def __init__(self, opened: Opened, service: Service, raised: Raised) -> None:
        self.said: list[str] = []
        self.told: list[str] = []
        self.service = service
        tools = served_tools(opened, service, raised, self.said.append)
        self.by_name: dict[str, ServedTool] = {tool.name: tool for tool in tools}

    async def call(self, name: str, **arguments: Any) -> Answer:
        """Call a tool."""
        return await self.by_name[name].run(arguments, self.told.append)


@asynccontextmanager
async def serving(root: Path) -> AsyncIterator[Tools]:
    """Serve a project's tools."""
    config = load_config(root)
    project = load_project(config=config)
    opened, raised = Opened(project, Located(config, {})), Raised()
    try:
        async with opened.service(raised.watching(catalog_of(project))) as service:
            yield Tools(opened, service, raised)
    finally:
        project.unload()


async def test_a_workflow_is_a_tool_with_the_schema_of_its_payload(write: Write) -> None:
    async with serving(write(OFFICE)) as served:
        tools = served.by_name
    assert list(tools) == ["add", "wait", "agent_helper"]
    assert tools["add"].description == "Adds two numbers."
    assert tools["add"].parameters["required"] == ["a"]
    assert tools["wait"].description == "Runs the workflow wait."
    assert tools["wait"].parameters == {"type": "object", "additionalProperties": True}


async def test_a_call_runs_the_workflow_and_reports_its_log(write: Write) -> None:
    async with serving(write(OFFICE)) as tools:
        assert (await tools.call("add", a=40)).structured == {"sum": 42}
    assert tools.told == ["adding"]
    assert tools.said == ["add: called", "add: done"]


async def test_an_agent_remembers_by_instance_and_session(write: Write) -> None:
    async with serving(write(OFFICE)) as tools:

        async def say(text: str, **where: str) -> str:
            return (await tools.call("agent_helper", message=text, **where)).text

        await say("My name is Ada.", id="one")
        assert "Ada" in await say("What is my name?", id="one")
        assert "Ada" not in await say("What is my name?", id="one", session="other")
        assert "Ada" not in await say("What is my name?", id="two")


async def test_messages_to_one_instance_at_once_are_answered_one_after_the_other(write: Write) -> None:
    async with serving(write(OFFICE)) as tools:
        answers = await asyncio.gather(
            *(tools.call("agent_helper", id="one", message=f"My number is {number}.") for number in range(4))
        )
    assert all(answer.text.startswith("Noted") for answer in answers)


async def test_a_failing_workflow_is_reported_with_its_line(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    async with serving(write({"workflows/bad.py": "def run(ctx):\n    raise ValueError('no paper')\n"})) as tools:
        with pytest.raises(ValueError, match="no paper"):
            await tools.call("bad")
    assert "no paper (workflows/bad.py:2)" in capfd.readouterr().err


@pytest.mark.parametrize("payload", ["int", "__import__('typing').Callable[[], int]"])
async def test_a_payload_that_is_no_object_is_refused_with_the_file(payload: str, write: Write) -> None:
    root = write({"workflows/bad.py": f"Payload = {payload}\ndef run(ctx): ...\n"})
    with pytest.raises(ConfigError, match=r"workflows/bad\.py: `Payload`") as caught:
        async with serving(root):
            pass
    assert caught.value.code == "invalid_module"


async def test_a_payload_may_be_a_typed_dictionary(write: Write) -> None:
    payload = "from typing import TypedDict\nclass Payload(TypedDict):\n    sheets: int\n"
    async with serving(write({"workflows/copy.py": f"{payload}def run(ctx):\n    return ctx.payload\n"})) as served:
        assert served.by_name["copy"].parameters["properties"]["sheets"]["type"] == "integer"


async def test_an_agent_without_conversations_is_left_out_and_named(write: Write) -> None:
    async with serving(write({"agents/hook.py": "async def run(ctx): ...\ntriggers = {'webhook': True}\n"})) as tools:
        assert not tools.by_name
    assert tools.said == ["agent hook defines run(ctx), which holds no conversation; it is not served."]


async def test_only_a_client_that_cancels_its_call_aborts_the_run(
    write: Write,
) -> None:
    root = write(OFFICE)
    async with serving(root) as tools:
        given_up, cancelled = (asyncio.create_task(tools.call("wait")) for _ in range(2))
        await until(root / "started")
        given_up.cancel()
        await asyncio.wait([given_up])
        cancelled.cancel(BY_CLIENT)
        await asyncio.wait([cancelled])
        assert (root / "cancelled").exists()
        first, second = await tools.service.list_runs(RunQuery())
        assert {first.status, second.status} == {"active", "errored"}
        for run in (first, second):
            await tools.service.abort(run.run_id)
            await tools.service.engine.outcome(run.run_id)
    assert sorted(tools.said) == [
        "wait: called",
        "wait: called",
        "wait: cancelled",
        "wait: left, as the server ends",
    ]


async def test_a_prompt_that_waits_for_a_person_is_told_so_and_so_is_what_comes_after(write: Write) -> None:
    async with serving(write({"agents/shop.py": SHOP})) as tools:
        for message in ("Refund order A-1", "Hello?"):
            with pytest.raises(OperationError, match="waits for approval of the tool call") as caught:
                await tools.call("agent_shop", id="ann", message=message)
            assert caught.value.code == "waits_for_person"
        [waiting] = await tools.service.store.list_lane(session_lane("shop", "ann", "default"))
        await tools.service.decide("shop", "ann", waiting.waiting_for[0].partition(":")[2], approved=True)
        outcome = await tools.service.engine.outcome(waiting.id)
        assert isinstance(outcome, Outcome)
        assert outcome.kind == "completed"
        assert "Noted" in (await tools.call("agent_shop", id="ann", message="My name is Ann.")).text


@pytest.mark.parametrize("arguments", [["--port", "1"], ["--transport", "http", "--port", "70000"]])
def test_a_port_that_makes_no_sense_is_refused(arguments: list[str], flue: Flue) -> None:
    outcome = flue("mcp", *arguments)
    assert outcome.code == 1
    assert "[invalid_arguments]" in outcome.err or "--port takes" in outcome.err


def test_a_port_that_is_taken_is_an_error(write: Write, flue: Flue) -> None:
    write(OFFICE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = flue("mcp", "--transport", "http", "--port", str(taken.getsockname()[1]))
    assert outcome.code == 1
    assert "[port_unavailable]" in outcome.err


def command(root: Path) -> list[str]:
    source = str(Path(package.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {source!r}); from flue.cli.main import main; sys.exit(main())"
    return [sys.executable, "-c", code, "mcp", "--root", str(root)]


async def called(server: McpServer, name: str, **arguments: Any) -> ToolResult:
    tool = next(tool for tool in server.tools if tool.name == f"mcp__office__{name}")
    result = await tool.run(arguments, CONTEXT)
    assert isinstance(result, ToolResult)
    return result


async def until(path: Path) -> None:
    while not path.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)


@pytest.mark.e2e
async def test_over_stdio_stdout_carries_only_messages_and_a_cancelled_call_ends_its_run(write: Write) -> None:
    root = write(OFFICE)
    async with connect_mcp_server("office", command=command(root), cwd=root) as server:
        added = await called(server, "add", a=40)
        assert added.details["structuredContent"] == {"sum": 42}
        waiting = asyncio.create_task(called(server, "wait"))
        await until(root / "started")
        waiting.cancel()
        await asyncio.wait([waiting])
        await until(root / "cancelled")
        helped = await called(server, "agent_helper", id="one", message="My name is Ada.")
        assert isinstance(helped.content[0], TextContent)
        assert helped.content[0].text.startswith("Noted")


SLOW = """
    import asyncio, pathlib

    async def run(ctx):
        pathlib.Path("started").touch()
        while not pathlib.Path("go").exists():
            await asyncio.sleep(0.01)
        pathlib.Path("finished").touch()
"""


def begin_call(child: Child) -> None:
    """Speak the protocol by hand as far as a call of the workflow `slow`."""
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    for message in (
        {"id": 1, "method": "initialize", "params": about},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "slow", "arguments": {}}},
    ):
        child.type(json.dumps({"jsonrpc": "2.0", **message}) + "\n")


@pytest.mark.e2e
@pytest.mark.parametrize("ended", [False, True], ids=["left alone", "terminated"])
async def test_what_a_client_has_called_outlives_the_client(
    write: Write, spawn: Callable[..., Child], ended: bool
) -> None:
    root = write({"workflows/slow.py": SLOW})
    child = spawn("mcp")
    begin_call(child)
    await until(root / "started")
    assert child.process.stdin is not None
    child.process.stdin.close()
    child.process.stdin = None
    if ended:
        child.process.send_signal(signal.SIGTERM)
    else:
        (root / "go").touch()
    outcome = await asyncio.to_thread(child.finish)
    assert outcome.code == (143 if ended else 0)
    assert (root / "finished").exists() is not ended
    async with aclosing(SqliteStore(root / ".flue-data/flue.db")) as store:
        [run] = await store.list_runs(RunQuery())
    assert run.status == ("active" if ended else "completed"), "a server goes on with it"


@pytest.mark.e2e
async def test_over_http_it_serves_until_ctrl_c(write: Write, spawn: Callable[..., Any]) -> None:
    write(OFFICE)
    child = spawn("mcp", "--transport", "http", "--port", "0")
    await asyncio.to_thread(child.until, "/mcp: add, wait, agent_helper\n")
    url = next(word for word in child.seen.decode().split() if word.startswith("http"))
    async with connect_mcp_server("office", url=url.rstrip(":")) as server:
        assert (await called(server, "add", a=1, b=1)).details["structuredContent"] == {"sum": 2}
    os.kill(child.process.pid, signal.SIGINT)
    outcome = await asyncio.to_thread(child.finish)
    assert outcome.code == 130


def test_the_arguments_of_an_agent_have_descriptions_for_models() -> None:
    from flue.cli.mcp_tools import AGENT_ARGUMENTS

    properties: Json = AGENT_ARGUMENTS["properties"]
    assert all(json.dumps(argument["description"]) for argument in properties.values())

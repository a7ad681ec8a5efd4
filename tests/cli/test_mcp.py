"""`flue mcp`: a project's workflows and agents as tools."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import flue as package
from flue.cli.mcp_tools import served_tools
from flue.cli.opening import Located, Opened
from flue.cli.raised import Raised
from flue.definitions.tool import ToolContext, ToolResult
from flue.engine.service import Service
from flue.errors import ConfigError
from flue.mcp import McpServer, connect_mcp_server
from flue.mcp.serving import Answer, ServedTool
from flue.messages import Json, TextContent
from flue.project.catalog import catalog_of
from flue.project.config import load_config
from flue.project.loader import load_project
from tests.cli.conftest import Flue, Write

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


async def test_an_agent_without_conversations_is_left_out_and_named(write: Write) -> None:
    async with serving(write({"agents/hook.py": "async def run(ctx): ...\ntriggers = {'webhook': True}\n"})) as tools:
        assert not tools.by_name
    assert tools.said == ["agent hook defines run(ctx), which holds no conversation; it is not served."]


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

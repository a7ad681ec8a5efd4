"""`flue dev` as a process: what stays while the code is swapped, and how quickly that goes."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from tests.serve.server_process import CODE, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]
AGENT = """
import asyncio, pathlib, sys
import flue
from flue import tool
from flue.testing import ScriptedModel, call

route = websocket = True

@tool
async def wait() -> str:
    '''Wait.'''
    print("waiting", file=sys.stderr, flush=True)
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.02)
    return "{version}"

steps = ["I am {version}."]
if "{version}" == "one":
    steps.insert(0, call("wait", {{}}, id="c1"))
agent = flue.create_agent(model=ScriptedModel(steps), tools=[wait])
"""
WORKFLOW = "route = True\nasync def run(ctx):\n    return '{version}'\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("agents", "workflows"):
        (tmp_path / "src" / name).mkdir(parents=True)
    save(tmp_path, "one")
    return tmp_path


def save(root: Path, version: str) -> None:
    (root / "src" / "agents" / "clerk.py").write_text(AGENT.format(version=version))
    (root / "src" / "workflows" / "which.py").write_text(WORKFLOW.format(version=version))


def which(connection: http.client.HTTPConnection) -> Any:
    connection.request("POST", "/workflows/which?wait=result", "{}", {"content-type": "application/json"})
    answer = connection.getresponse()
    return json.loads(answer.read()).get("result")


def last(socket: Connection, request: str) -> Any:
    """Return the answer to a request."""
    while True:
        frame = json.loads(socket.recv(timeout=15))
        if frame.get("requestId") == request and frame["type"] in ("result", "error"):
            return frame


def prompt(socket: Connection, request: str, session: str) -> None:
    asked = {"version": 1, "type": "prompt", "requestId": request, "message": "Who?", "session": session}
    socket.send(json.dumps(asked))


def test_connections_stay_open_and_a_running_turn_ends_with_the_code_it_began_with(root: Path) -> None:
    with serving(root, "dev") as server, connect(f"ws://127.0.0.1:{server.port}/agents/clerk/ann") as socket:
        kept = server.connect()
        assert which(kept) == "one"
        prompt(socket, "r1", "first")
        server.until("waiting")
        stream = server.send("/agents/clerk/ann/stream").getresponse()
        save(root, "two")
        server.until("Reloaded in")
        prompt(socket, "r2", "second")
        assert last(socket, "r2")["result"]["text"] == "I am two."
        used = kept.sock
        assert which(kept) == "two"
        assert kept.sock is used
        (root / "go").touch()
        assert last(socket, "r1")["result"]["text"] == "I am one."
        seen = ""
        while "I am one." not in seen:
            seen += stream.readline().decode()
        assert "I am two." in seen
        end = server.stop()
    assert (end.code, "Traceback" in end.stderr) == (143, False)


def test_a_saved_file_answers_in_less_than_half_a_second_over_http(root: Path) -> None:
    with serving(root, "dev") as server:
        connection = server.connect()
        took = []
        for number in range(5):
            began = time.monotonic()
            save(root, f"version {number}")
            while which(connection) != f"version {number}":
                assert time.monotonic() < began + 10
            took.append(time.monotonic() - began)
    assert min(took) < 0.5, took


def test_a_mistake_is_in_the_terminal_and_on_the_page_while_the_old_code_answers(root: Path) -> None:
    with serving(root, "dev") as server:
        (root / "src" / "workflows" / "which.py").write_text("async def run(ctx):\n    return mistake(\n")
        line = server.until("error: src/workflows/which.py:2: SyntaxError")
        assert line.endswith("[module_syntax] The code before it goes on serving.")
        connection = server.connect()
        assert which(connection) == "one"
        save(root, "two")
        server.until("Reloaded in")
        assert which(connection) == "two"


def test_a_port_that_is_taken_and_wrong_options_are_one_line_and_exit_code_1(root: Path) -> None:
    def fails(*options: str) -> str:
        command = [sys.executable, "-c", CODE, "dev", *options]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 1
        [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        return line

    with serving(root, "dev") as server:
        assert "[port_unavailable]" in fails("--port", str(server.port))
    assert "[invalid_arguments]" in fails("--port", "70000")
    assert "[invalid_root]" in fails("--root", "nowhere")
